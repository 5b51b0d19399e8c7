//! Activations with their tokens, whole sequences at a time, from a store or from a model that runs
//! on a text.

use crate::activations::{ActivationStore, Batch};
use crate::base::error::{Error, Result};
use crate::display::interrupt;
use crate::model::tokens::Tokens;
use crate::model::{HookPoint, Model};

/// Where activations come from: a store, or a text that the model runs on.
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
    model: &'a Model,
    hook: HookPoint,
    source: &'a ActivationSource,
    n_seq: usize,
    n_ctx: usize,
}

impl ActivationSource {
    /// Checks the source.
    pub(super) fn reader<'a>(&'a self, model: &'a Model, hook: HookPoint) -> Result<Reader<'a>> {
        model.check_hook(hook)?;
        let (n_seq, n_ctx) = match self {
            ActivationSource::Store(store) => {
                store.check_hook(hook)?;
                if store.model_fingerprint() != model.fingerprint() {
                    let why = format!(
                        "the store in {} was made with {} ({}), other weights or another processing than those of {} ({}): load the \
                         model it was made with",
                        store.dir().display(),
                        store.model_name(),
                        store.processing(),
                        model.name(),
                        model.processing()
                    );
                    return Err(Error::config("model", why));
                }
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
    pub(super) fn model(&self) -> &Model {
        self.model
    }

    pub(super) fn n_seq(&self) -> usize {
        self.n_seq
    }

    pub(super) fn n_ctx(&self) -> usize {
        self.n_ctx
    }

    /// How many rows there are to count, position 0 left out.
    pub(super) fn n_rows(&self) -> usize {
        self.n_seq * (self.n_ctx - 1)
    }

    /// Fills `batch` with the whole of these sequences, one after the other.
    pub(super) fn read(&self, sequences: &[u64], batch: &mut Batch) -> Result<()> {
        match self.source {
            ActivationSource::Store(store) => {
                let n_ctx = self.n_ctx as u64;
                let rows: Vec<u64> =
                    sequences.iter().flat_map(|&i| i * n_ctx..(i + 1) * n_ctx).collect();
                store.gather(self.hook, &rows, batch)
            }
            ActivationSource::Tokens(tokens) => {
                batch.tokens.clear();
                sequences
                    .iter()
                    .for_each(|&i| batch.tokens.extend_from_slice(tokens.row(i as usize)));
                let rows = Tokens::new(batch.tokens.clone(), self.n_ctx)?;
                let value = self
                    .model
                    .run_to_many_unless(&rows, &[self.hook], &interrupt::requested)?
                    .swap_remove(0);
                batch.x = value.flatten_all()?.to_vec1::<f32>()?;
                batch.positions = (0..rows.len()).map(|i| (i % self.n_ctx) as u32).collect();
                Ok(())
            }
        }
    }
}
