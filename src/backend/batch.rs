//! A way to compute the training step, and a batch that was made ready for it.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use super::adam::Rates;
use super::cpu::screen::PackedRows;
use super::cpu::step::{Scratch, StepReport};
use super::ranks::Ranks;
use super::state::AdamState;
use crate::base::error::{Error, Result};
use crate::sae::{Codes, Keys, RowNorm, Sae};

/// A batch, made ready for a backend once and then given to every SAE that trains on it.
pub struct PreparedBatch<'a> {
    pub(super) x: &'a [f32],
    pub(super) keys: Keys<'a>,
    pub(super) d_model: usize,
    pub(super) packed: Option<Arc<PackedRows>>,
    /// What a backend that computes elsewhere holds of it.
    pub(super) elsewhere: Option<Sent>,
}

/// Rows on their way to where a backend computes, if that is not this processor.
#[derive(Clone)]
pub struct Sent(pub(super) Arc<dyn Any + Send + Sync>);

/// A way to compute the training step. All give the same codes, and the same parameters within
/// rounding.
pub trait Backend: Debug + Send + Sync {
    /// How it is called, as [`by_name`](super::by_name) takes it.
    fn name(&self) -> String;

    /// Makes a batch of rows `x` `[n, d_model]` and their `tokens` `[n]` ready.
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` is not a row of `d_model` numbers for every token.
    fn prepare<'a>(
        &self,
        x: &'a [f32],
        tokens: &'a [u32],
        d_model: usize,
    ) -> Result<PreparedBatch<'a>>;

    /// Sends rows `x` `[n, d_model]` ahead to where steps are computed, beside a step that is under
    /// way there, and does not wait until they have arrived; `None` if that is this processor.
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` is not whole rows; what the device says.
    fn send(&self, _x: &[f32], _d_model: usize) -> Result<Option<Sent>> {
        Ok(None)
    }

    /// As [`prepare`](Backend::prepare), of rows that were [sent](Backend::send) by this backend, if
    /// they were.
    ///
    /// # Errors
    /// Those of [`prepare`](Backend::prepare).
    fn prepare_sent<'a>(
        &self,
        x: &'a [f32],
        tokens: &'a [u32],
        d_model: usize,
        sent: Option<Sent>,
    ) -> Result<PreparedBatch<'a>> {
        match sent {
            None => self.prepare(x, tokens, d_model),
            elsewhere => Ok(PreparedBatch { elsewhere, ..PreparedBatch::new(x, tokens, d_model)? }),
        }
    }

    /// The codes of the rows `x` `[n, d_model]`, in the scale that the SAE reads, from which a
    /// table that is subtracted has been taken.
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` is not whole rows of the SAE's `d_model`. [`Error::NotFinite`]
    /// naming the first row that has fewer than k pre-activations that are numbers.
    fn encode(&self, sae: &Sae, x: &[f32]) -> Result<Codes>;

    /// Moves an SAE one Adam step down the gradient of its loss on a batch that this backend has
    /// prepared.
    ///
    /// With a state that is [`lazy`](AdamState::lazy), the rows of the table whose tokens do not
    /// occur stay behind.
    ///
    /// # Errors
    /// [`Error::NotFinite`] if the batch or the loss holds NaN or an infinity; the parameters have
    /// then not moved. [`Error::Shape`] or [`Error::TokenId`] if the tokens do not fit,
    /// [`Error::Config`] if the SAE [scales rows](Sae::row_norm).
    fn train_step(
        &self,
        sae: &mut Sae,
        state: &mut AdamState,
        batch: &PreparedBatch<'_>,
        rates: &Rates,
        scratch: &mut Scratch,
    ) -> Result<StepReport>;

    /// Brings an SAE and its optimiser up to date with the steps that were made, before anybody
    /// looks at them: a backend may keep them elsewhere meanwhile, and rows of the table may be
    /// behind.
    ///
    /// # Errors
    /// What the device says on which they are.
    fn settle(&self, sae: &mut Sae, state: &mut AdamState, scratch: &mut Scratch) -> Result<()>;

    /// The same of the table alone.
    ///
    /// # Errors
    /// Those of [`settle`](Backend::settle).
    fn settle_table(
        &self,
        sae: &mut Sae,
        state: &mut AdamState,
        scratch: &mut Scratch,
    ) -> Result<()> {
        self.settle(sae, state, scratch)
    }

    /// The same steps by several ranks together; none if this backend has no such step.
    fn over(&self, _: &Ranks) -> Option<Arc<dyn Backend>> {
        None
    }
}

impl<'a> PreparedBatch<'a> {
    /// The same rows, with keys for a table that is not indexed by token.
    ///
    /// # Errors
    /// [`Error::Shape`] if they are not for as many rows.
    pub fn with_keys<'b>(&'b self, keys: &'b Keys<'_>) -> Result<PreparedBatch<'b>> {
        if keys.n() != self.keys.n() {
            return Err(Error::Shape {
                what: "keys of a batch".to_owned(),
                want: vec![self.keys.n()],
                got: vec![keys.n()],
            });
        }
        Ok(PreparedBatch {
            x: self.x,
            keys: keys.into(),
            d_model: self.d_model,
            packed: self.packed.clone(),
            elsewhere: self.elsewhere.clone(),
        })
    }

    pub(super) fn new(
        x: &'a [f32],
        tokens: &'a [u32],
        d_model: usize,
    ) -> Result<PreparedBatch<'a>> {
        if d_model == 0 || x.len() != tokens.len() * d_model {
            return Err(Error::Shape {
                what: "a batch of activations".to_owned(),
                want: vec![tokens.len(), d_model],
                got: vec![x.len()],
            });
        }
        Ok(PreparedBatch { x, keys: tokens.into(), d_model, packed: None, elsewhere: None })
    }

    /// Whether an SAE can train on the batch.
    pub(super) fn check(&self, sae: &Sae) -> Result<()> {
        if sae.d_model() != self.d_model {
            return Err(Error::Shape {
                what: "the SAE's d_model".to_owned(),
                want: vec![self.d_model],
                got: vec![sae.d_model()],
            });
        }
        if sae.row_norm != RowNorm::None {
            let why = format!(
                "this SAE scales each row of activations by itself ({:?}): it can be read, but not trained",
                sae.row_norm
            );
            return Err(Error::config("row_norm", why));
        }
        sae.check_keys(&self.keys, self.keys.n())
    }
}
