//! Where activations are read from: a store, or a text that is run through the model.

use crate::activations::{ActivationStore, Batch};
use crate::base::error::{Error, Result};
use crate::display::interrupt;
use crate::model::tokens::Tokens;
use crate::model::{HookPoint, Model};

/// Activations of whole sequences, each row beside its token.
pub(super) enum Source<'a> {
    /// Harvested before.
    Store(&'a ActivationStore),
    /// Computed as they are asked for.
    Text(&'a Model, &'a Tokens),
}

impl Source<'_> {
    pub fn n_ctx(&self) -> usize {
        match self {
            Source::Store(acts) => acts.n_ctx(),
            Source::Text(_, tokens) => tokens.n_ctx(),
        }
    }

    pub fn n_seq(&self) -> usize {
        match self {
            Source::Store(acts) => acts.n_rows() / acts.n_ctx(),
            Source::Text(_, tokens) => tokens.n_seq(),
        }
    }

    /// Checks that it holds something of this hook, from this model.
    pub fn check(&self, model: &Model, hook: HookPoint) -> Result<()> {
        model.check_hook(hook)?;
        if let Source::Store(acts) = self {
            acts.check_hook(hook)?;
            if acts.model_fingerprint() != model.fingerprint() {
                return Err(Error::Changed {
                    path: acts.dir().to_owned(),
                    what: "the model of the activations",
                    stored: format!("{} ({})", acts.model_fingerprint(), acts.model_name()),
                    now: format!("{} ({})", model.fingerprint(), model.name()),
                    remedy: "take the model and processing that the activations came from"
                        .to_owned(),
                });
            }
        }
        if self.n_seq() == 0 || self.n_ctx() < 2 {
            let why = format!(
                "{} sequences of {} tokens; at least one of two tokens is needed",
                self.n_seq(),
                self.n_ctx()
            );
            return Err(Error::EmptyCorpus { why });
        }
        Ok(())
    }

    /// Reads some sequences, one after the other, into `batch`.
    pub fn read(&self, hook: HookPoint, sequences: &[usize], batch: &mut Batch) -> Result<()> {
        let n_ctx = self.n_ctx();
        match self {
            Source::Store(acts) => {
                let rows: Vec<u64> = sequences
                    .iter()
                    .flat_map(|&i| (i * n_ctx) as u64..((i + 1) * n_ctx) as u64)
                    .collect();
                acts.gather(hook, &rows, batch)
            }
            Source::Text(model, tokens) => {
                let ids: Vec<u32> =
                    sequences.iter().flat_map(|&i| tokens.row(i).iter().copied()).collect();
                let stop = || interrupt::requested();
                let value = model
                    .run_to_many_unless(&Tokens::new(ids.clone(), n_ctx)?, &[hook], &stop)?
                    .swap_remove(0);
                batch.x = value.flatten_all()?.to_vec1::<f32>()?;
                batch.positions = (0..ids.len()).map(|i| (i % n_ctx) as u32).collect();
                batch.tokens = ids;
                Ok(())
            }
        }
    }
}
