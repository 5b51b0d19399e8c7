//! What a card has to show before it runs a model, on the first tokens of the work itself: in f32 that
//! it gives the processor's bits, in bf16 that it comes close.
//!
//! # How close
//!
//! A matrix unit rounds its sums as no processor does: they differ by some 10⁻⁶ of their size. That
//! little pushes one in some thousand of the numbers that the next product reads over the edge between
//! two bf16, 2⁻⁸ apart, and those push others: after many blocks as many are rounded otherwise as would
//! be by chance. Two passes are then as far apart as two roundings that know nothing of each other are:
//! √2 times as far as either is from the pass in f32. So a card may be [`CLOSE`] times as far from the
//! processor in bf16 as that is from itself in f32, on the same tokens. The tests' emulated unit, as
//! coarse as any that is known, is off by a quarter of that distance at most on models of up to four
//! blocks, and by 0.8 of it on the thirty of SmolLM2-135M, where bf16 moves the hooks of a sentence by
//! 0.1 to 1.3 %. What is done wrongly, a mask, a norm, a turn, is off by much of what the values are.

use super::OnDevice;
use super::choose::Computes;
use super::text::LEAST;
use crate::base::error::{Error, Result};
use crate::model::tensor::with_f32;
use crate::model::tokens::Tokens;
use crate::model::transformer::Cache;
use crate::model::{Compute, HookPoint, Model, draw};

/// Tokens that both a card and the processor are given: of one sequence, more than attention takes at
/// a time.
const PROOF: usize = 96;

/// Tokens of a text that both write: more than a softmax has lanes.
const STEPS: usize = 24;

/// How far a pass in bf16 may be from the processor's, in distances of that from the one in f32.
const CLOSE: f64 = 2.0;

impl OnDevice {
    /// Sends the first tokens of these through the device and through the processor, to some hooks.
    ///
    /// # Errors
    /// [`Error::Config`] if anything that comes out differs by a bit, or in bf16 by too much; what the
    /// device says.
    pub fn prove(&self, first: &Tokens, hooks: &[HookPoint]) -> Result<()> {
        self.distance(first, hooks).map(|_| ())
    }

    /// As [`prove`](OnDevice::prove), and how far from the processor's the hooks' values are, at most:
    /// 0 in f32.
    ///
    /// # Errors
    /// The same.
    pub fn distance(&self, first: &Tokens, hooks: &[HookPoint]) -> Result<f64> {
        let tokens = start_of(first)?;
        let there = self.run_to_many(&tokens, hooks, &|| false)?;
        let here = |model: Model| Computes::Processor(model).run_to_many(&tokens, hooks, &|| false);
        let (here, exact) = (here(self.model.clone())?, self.exact().map(here).transpose()?);
        (0..hooks.len()).try_fold(0f64, |most, i| {
            let exact = exact.as_ref().map(|exact| &exact[i][..]);
            let what = hooks[i].to_string();
            Ok(most.max(self.compare(&what, [&there[i], &here[i]], exact, tokens.len())?))
        })
    }

    /// As [`prove`](OnDevice::prove), by way of a hook to the logits.
    ///
    /// # Errors
    /// The same.
    pub fn prove_logits(&self, first: &Tokens, hook: HookPoint) -> Result<()> {
        let tokens = start_of(first)?;
        let there = self.run_with(&tokens, hook, |value| Ok(value.clone()))?;
        let here = |model: Model| {
            let logits = model.run_with(&tokens, hook, |value| Ok(value.clone()))?;
            with_f32(&logits, <[f32]>::to_vec)
        };
        let (here, exact) = (here(self.model.clone())?, self.exact().map(here).transpose()?);
        self.compare("a logit", [&there, &here], exact.as_deref(), tokens.len()).map(|_| ())
    }

    /// Has the device and the processor write the beginning of some texts, each token by both.
    ///
    /// # Errors
    /// The same.
    pub fn prove_text(&self, n_ctx: usize) -> Result<()> {
        let (n_seq, length) = (LEAST, STEPS.min(n_ctx - 1));
        let mut there = self.texts(n_seq, length)?;
        let mut cache = Cache::new(self.model.config(), length);
        let both = |ids: &[u32]| {
            let here = self.model.read_next(ids, n_seq, &mut cache, None)?;
            let there = there.read(ids)?;
            with_f32(&here, |here| self.compare("a logit", [&there, here], None, n_seq * length))??;
            Ok(here)
        };
        draw::tokens(both, &[self.model.bos()], 0..n_seq, length, 0, &|| false)?;
        Ok(())
    }

    /// The model in f32, if it is in bf16.
    fn exact(&self) -> Option<Model> {
        (self.model.compute() == Compute::Bf16).then(|| self.model.computing(Compute::F32))
    }

    /// How far two values are apart, if that is not too far.
    fn compare(
        &self,
        what: &str,
        [there, here]: [&[f32]; 2],
        exact: Option<&[f32]>,
        n: usize,
    ) -> Result<f64> {
        let why = match exact {
            None => {
                let pairs = there.iter().zip(here);
                let differ = pairs.filter(|(a, b)| a.to_bits() != b.to_bits()).count();
                if differ == 0 {
                    return Ok(0.0);
                }
                format!(
                    "does not give the processor's bits: for the first {n} tokens, {what} differs in {differ} of {} places",
                    here.len()
                )
            }
            Some(exact) => {
                let (distance, rounding) = (apart(there, here), apart(here, exact));
                if distance <= CLOSE * rounding {
                    return Ok(distance);
                }
                format!(
                    "does not come close to the processor in bf16: for the first {n} tokens, {what} differs by {distance:.1e} of its size, where bf16 itself makes a difference of {rounding:.1e}"
                )
            }
        };
        let name = self.device.name();
        let why = format!(
            "{name} {why}. Use the CPU (device = cpu), and please report it with the card and its driver"
        );
        Err(Error::config("device", why))
    }
}

/// The size of the difference, as a share of the second's: roots of summed squares.
fn apart(there: &[f32], here: &[f32]) -> f64 {
    let size = |of: &dyn Fn(f64, f64) -> f64| {
        let pairs = there.iter().zip(here);
        pairs.map(|(a, b)| of(f64::from(*a), f64::from(*b)).powi(2)).sum::<f64>().sqrt()
    };
    match size(&|a, b| a - b) {
        0.0 => 0.0,
        difference => difference / size(&|_, b| b),
    }
}

/// The first sequences, or the beginning of the first.
fn start_of(tokens: &Tokens) -> Result<Tokens> {
    match tokens.n_ctx() {
        n_ctx if n_ctx <= PROOF => Ok(tokens.rows(0, PROOF / n_ctx)),
        _ => Tokens::new(tokens.ids()[..tokens.len().min(PROOF)].to_vec(), PROOF),
    }
}
