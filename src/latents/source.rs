//! Activations with their tokens, whole sequences at a time, from a store or from a model that runs
//! on a text.

use crate::activations::{ActivationStore, Batch};
use crate::base::error::{Error, Result};
use crate::display::interrupt;
use crate::model::tokens::Tokens;
use crate::model::{HookPoint, Model};
use crate::sae::Codes;

/// Where activations come from: a store, or a text that the model runs on as it is read. A call
/// that asks for one takes `&acts` or `&tokens` as well.
#[derive(Clone, Debug)]
pub enum ActivationSource {
    /// Activations on disk.
    Store(ActivationStore),
    /// A text.
    Tokens(Tokens),
}

impl From<&ActivationStore> for ActivationSource {
    fn from(store: &ActivationStore) -> ActivationSource {
        ActivationSource::Store(store.clone())
    }
}

impl From<&Tokens> for ActivationSource {
    fn from(tokens: &Tokens) -> ActivationSource {
        ActivationSource::Tokens(tokens.clone())
    }
}

/// A source that was checked against the model and the hook.
pub(super) struct Reader<'a> {
    pub model: &'a Model,
    hook: HookPoint,
    source: &'a ActivationSource,
    pub n_seq: usize,
    pub n_ctx: usize,
}

impl ActivationSource {
    pub(super) fn reader<'a>(&'a self, model: &'a Model, hook: HookPoint) -> Result<Reader<'a>> {
        model.check_hook(hook)?;
        let (n_seq, n_ctx) = match self {
            ActivationSource::Store(store) => {
                store.check_hook(hook)?;
                store.check_model(
                    model,
                    "load the model it was made with, processed as it was then",
                )?;
                (store.n_rows() / store.n_ctx(), store.n_ctx())
            }
            ActivationSource::Tokens(tokens) => (tokens.n_seq(), tokens.n_ctx()),
        };
        if n_seq == 0 || n_ctx < 2 {
            let why = format!(
                "{n_seq} sequences of {n_ctx} tokens; position 0 is left out, so at least one of two tokens is needed"
            );
            return Err(Error::EmptyCorpus { why });
        }
        Ok(Reader { model, hook, source: self, n_seq, n_ctx })
    }
}

impl Reader<'_> {
    /// The tokens of all sequences `[n_seq, n_ctx]`.
    pub(super) fn tokens(&self) -> Result<Tokens> {
        match self.source {
            ActivationSource::Store(store) => Ok(store.tokens()?.rows(0, self.n_seq)),
            ActivationSource::Tokens(tokens) => Ok(tokens.clone()),
        }
    }

    /// Reads some sequences, in the order given: tokens, positions, and activations.
    pub(super) fn read(&self, sequences: &[usize], batch: &mut Batch) -> Result<()> {
        let n_ctx = self.n_ctx;
        match self.source {
            ActivationSource::Store(store) => {
                let rows: Vec<u64> = sequences
                    .iter()
                    .flat_map(|&i| (i * n_ctx) as u64..((i + 1) * n_ctx) as u64)
                    .collect();
                store.gather(self.hook, &rows, batch)
            }
            ActivationSource::Tokens(tokens) => {
                batch.tokens = sequences.iter().flat_map(|&i| tokens.row(i)).copied().collect();
                let rows = Tokens::new(batch.tokens.clone(), n_ctx)?;
                let value = self
                    .model
                    .run_to_many_unless(&rows, &[self.hook], &interrupt::requested)?
                    .swap_remove(0);
                batch.x = value.flatten_all()?.to_vec1::<f32>()?;
                batch.positions = (0..rows.len()).map(|i| (i % n_ctx) as u32).collect();
                Ok(())
            }
        }
    }
}

/// Calls `f` with the latent, the row and the value of every code above 0 that does not stand at
/// position 0.
pub(super) fn each_firing(codes: &Codes, n_ctx: usize, mut f: impl FnMut(usize, usize, f32)) {
    for row in (0..codes.n()).filter(|row| row % n_ctx != 0) {
        let (latents, values) = codes.row(row);
        for (&latent, &value) in latents.iter().zip(values).filter(|(_, value)| **value > 0.0) {
            f(latent as usize, row, value);
        }
    }
}
