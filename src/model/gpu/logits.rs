//! From a hook to the logits on a device, with another value in the hook's place.

use candle_core::{Device, Tensor};

use super::OnDevice;
use crate::base::error::Result;
use crate::model::run::{Paused, expect_shape};
use crate::model::tensor::with_f32;
use crate::model::tokens::Tokens;
use crate::model::{HookPoint, Site};

impl OnDevice {
    /// As `Model::pause_at`.
    pub(super) fn pause_at(&self, tokens: &Tokens, hook: HookPoint) -> Result<Paused> {
        let at = |site| HookPoint { site, ..hook };
        let parallel = self.model.config().parallel;
        // The hooks whose sum is what else the rest of the block needs.
        let base: &[HookPoint] = match hook.site {
            Site::AttnOut => &[at(Site::ResidPre)],
            Site::MlpOut if parallel => &[at(Site::ResidPre), at(Site::AttnOut)],
            Site::MlpOut => &[at(Site::ResidMid)],
            Site::ResidPre | Site::ResidMid | Site::ResidPost => &[],
        };
        let mut values = self.run_to_many(tokens, &[&[hook], base].concat(), &|| false)?;
        let value = values.remove(0);
        let base = values.into_iter().reduce(|mut sum, more| {
            sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
            sum
        });
        let shape = (tokens.n_seq(), tokens.n_ctx(), self.model.config().d_model);
        let tensor = |numbers| Tensor::from_vec(numbers, shape, &Device::Cpu);
        Ok(Paused { value: tensor(value)?, hook, base: base.map(tensor).transpose()? })
    }

    /// As `Model::resume`.
    pub(super) fn resume(&self, paused: &Paused, value: &Tensor) -> Result<Vec<f32>> {
        expect_shape(&format!("the value for {}", paused.hook), value, paused.value.dims())?;
        let (n_seq, n_ctx, _) = value.dims3()?;
        with_f32(value, |value| match &paused.base {
            None => self.logits_from(paused.hook, value, None, [n_seq, n_ctx]),
            Some(base) => with_f32(base, |base| {
                self.logits_from(paused.hook, value, Some(base), [n_seq, n_ctx])
            })?,
        })?
    }

    /// As [`Model::run_with`](crate::model::Model::run_with), on a device that has
    /// [all](OnDevice::whole) weights: `[n_seq · n_ctx · d_vocab]`.
    ///
    /// # Errors
    /// Those of that; what the device says.
    pub fn run_with(
        &self,
        tokens: &Tokens,
        hook: HookPoint,
        change: impl FnOnce(&Tensor) -> Result<Tensor>,
    ) -> Result<Vec<f32>> {
        let paused = self.pause_at(tokens, hook)?;
        self.resume(&paused, &change(&paused.value)?)
    }

    /// The logits `[n_seq, n_ctx, d_vocab]` with `value` `[n_seq, n_ctx, d_model]` in place of what a
    /// hook holds. `base` is what else the rest of the block needs: at `hook_attn_out` the block's
    /// input, at `hook_mlp_out` what that is added to.
    ///
    /// # Errors
    /// [`Error::Config`] if the weights are not [all](OnDevice::whole) there; what the device says.
    fn logits_from(
        &self,
        HookPoint { layer, site }: HookPoint,
        value: &[f32],
        base: Option<&[f32]>,
        shape: [usize; 2],
    ) -> Result<Vec<f32>> {
        self.in_room(shape, |room| {
            let mut pass = self.pass(room, shape);
            match base {
                None => room.resid.write(value)?,
                Some(base) => {
                    room.resid.write(base)?;
                    if site == Site::AttnOut && self.model.config().parallel {
                        pass.normalise(&self.weights.blocks[layer].ln2, &room.resid, &room.second)?;
                    }
                    room.apart.write(value)?;
                    pass.add_apart()?;
                }
            }
            if matches!(site, Site::AttnOut | Site::ResidMid) {
                pass.mlp(layer)?;
            }
            pass.blocks(layer + usize::from(site > Site::ResidPre), &|| false)?;
            pass.logits()
        })
    }
}
