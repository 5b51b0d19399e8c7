//! What a card has to show before it runs a model: that it gives the processor's bits, on the first
//! tokens of the work itself.

use super::OnDevice;
use super::choose::Computes;
use super::text::LEAST;
use crate::base::error::{Error, Result};
use crate::model::HookPoint;
use crate::model::sample;
use crate::model::tensor::with_f32;
use crate::model::tokens::Tokens;
use crate::model::transformer::Cache;

/// Tokens that both a card and the processor are given: of one sequence, more than attention takes at
/// a time.
const PROOF: usize = 96;

/// Tokens of a text that both write: more than a softmax has lanes.
const STEPS: usize = 24;

impl OnDevice {
    /// Sends the first tokens of these through the device and through the processor, to some hooks.
    ///
    /// # Errors
    /// [`Error::Config`] if anything that comes out differs by a bit; what the device says.
    pub fn prove(&self, first: &Tokens, hooks: &[HookPoint]) -> Result<()> {
        let tokens = start_of(first)?;
        let here =
            Computes::Processor(self.model.clone()).run_to_many(&tokens, hooks, &|| false)?;
        let there = self.run_to_many(&tokens, hooks, &|| false)?;
        let all = hooks.iter().zip(there.iter().zip(&here));
        all.into_iter().try_for_each(|(hook, (there, here))| {
            self.compare(&hook.to_string(), [there, here], tokens.len())
        })
    }

    /// As [`prove`](OnDevice::prove), by way of a hook to the logits.
    ///
    /// # Errors
    /// The same.
    pub fn prove_logits(&self, first: &Tokens, hook: HookPoint) -> Result<()> {
        let tokens = start_of(first)?;
        let here = self.model.run_with(&tokens, hook, |value| Ok(value.clone()))?;
        let there = self.run_with(&tokens, hook, |value| Ok(value.clone()))?;
        with_f32(&here, |here| self.compare("a logit", [&there, here], tokens.len()))?
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
            with_f32(&here, |here| self.compare("a logit", [&there, here], n_seq * length))??;
            Ok(here)
        };
        sample::write(both, &[self.model.bos()], 0..n_seq, length, 0, &|| false)?;
        Ok(())
    }

    fn compare(&self, what: &str, [there, here]: [&[f32]; 2], n: usize) -> Result<()> {
        let differ = there.iter().zip(here).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
        if differ == 0 {
            return Ok(());
        }
        let why = format!(
            "{} does not give the processor's bits: for the first {n} tokens, {what} differs in {differ} of {} places. Use the CPU (device = cpu), and please report it with the card and its driver",
            self.device.name(),
            here.len()
        );
        Err(Error::config("device", why))
    }
}

/// The first sequences, or the beginning of the first.
fn start_of(tokens: &Tokens) -> Result<Tokens> {
    match tokens.n_ctx() {
        n_ctx if n_ctx <= PROOF => Ok(tokens.rows(0, PROOF / n_ctx)),
        _ => Tokens::new(tokens.ids()[..tokens.len().min(PROOF)].to_vec(), PROOF),
    }
}
