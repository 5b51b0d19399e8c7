//! What a training reads its batches from: a store of activations, or a stream of synthetic rows.

use serde_json::{Map, Value, json};

use super::TrainConfig;
use crate::activations::{ActivationStore, Batch, Shuffle, Waiting, scale_of};
use crate::base::error::{Error, Result};
use crate::base::format;
use crate::model::HookPoint;
use crate::sae::{Index, Keys, Lookup, Origin, Sae, SaeConfig};
use crate::synthetic::{SyntheticBatch, SyntheticModel};

/// Rows of synthetic activations of which the scale is taken, as of a store's.
const SAMPLED: u64 = 8_192;

/// Where rows come from. A row has a number in either case, by which its batch is read and its keys
/// are found.
pub(super) enum Material {
    /// Activations of this hook, in an order that the seed decides.
    Stored(ActivationStore, HookPoint),
    /// Rows of the stream of that seed, in order, each once.
    Synthetic(SyntheticModel),
}

impl Material {
    pub(super) fn d_model(&self) -> usize {
        match self {
            Material::Stored(acts, _) => acts.d_model(),
            Material::Synthetic(model) => model.d_model(),
        }
    }

    pub(super) fn d_vocab(&self) -> usize {
        match self {
            Material::Stored(acts, _) => acts.d_vocab(),
            Material::Synthetic(model) => model.d_vocab(),
        }
    }

    /// What it is, in a title.
    pub(super) fn name(&self) -> String {
        match self {
            Material::Stored(acts, hook) => format!("{}, {hook}", acts.model_name()),
            Material::Synthetic(model) => format!("synthetic rows, {}", model.describe()),
        }
    }

    /// Where in a model it is from.
    pub(super) fn place(&self) -> String {
        match self {
            Material::Stored(_, hook) => hook.to_string(),
            Material::Synthetic(_) => self.name(),
        }
    }

    /// The store and the hook, if it is one.
    ///
    /// # Errors
    /// [`Error::Config`] saying that there is none.
    pub(super) fn stored(&self) -> Result<(&ActivationStore, HookPoint)> {
        match self {
            Material::Stored(acts, hook) => Ok((acts, *hook)),
            Material::Synthetic(_) => {
                let why = "synthetic rows come from no model and no text: train on an ActivationStore for that";
                Err(Error::config("activations", why))
            }
        }
    }

    /// What an SAE says of where its activations came from.
    pub(super) fn origin(&self) -> Origin {
        match self {
            Material::Stored(acts, hook) => Origin {
                model: Some(acts.model_name().to_owned()),
                revision: acts.model_revision().map(str::to_owned),
                hook: Some(*hook),
                processing: Some(acts.processing().to_string()),
                n_ctx: Some(acts.n_ctx()),
                place: None,
            },
            Material::Synthetic(_) => {
                Origin { model: Some("synthetic".to_owned()), ..Origin::default() }
            }
        }
    }

    /// Checks that an SAE's table can be indexed here.
    pub(super) fn check_lookup(&self, sae: &SaeConfig) -> Result<()> {
        match (self, sae.lookup.as_ref().map(Lookup::index)) {
            (Material::Stored(acts, _), Some(Index::Latents(preceding))) => {
                acts.check_hook(preceding.own_hook()?)
            }
            (Material::Synthetic(model), Some(index)) => model.keys(index, &[], &[]).map(|_| ()),
            _ => Ok(()),
        }
    }

    /// What of it determines a run's result, among its settings.
    pub(super) fn settings(&self, settings: &mut Map<String, Value>) {
        let (fingerprint, hook) = match self {
            Material::Stored(acts, hook) => (acts.fingerprint().to_owned(), json!(hook)),
            Material::Synthetic(model) => (model.fingerprint(), Value::Null),
        };
        settings.insert("activations".to_owned(), json!(fingerprint));
        settings.insert("hook".to_owned(), hook);
    }

    /// Facts for a model card.
    pub(super) fn facts(&self) -> Vec<(String, String)> {
        let fact = |name: &str, value: String| (name.to_owned(), value);
        match self {
            Material::Stored(acts, _) => {
                let store = format!(
                    "{} rows, sequences of {} tokens, stored as {}",
                    format::count(acts.n_rows() as u64),
                    acts.n_ctx(),
                    acts.dtype()
                );
                vec![
                    fact("activations", store),
                    fact("SHA-256 of the tokens", acts.corpus_fingerprint().to_owned()),
                ]
            }
            Material::Synthetic(model) => vec![
                fact("activations", self.name()),
                fact("SHA-256 of the synthetic model", model.fingerprint()),
            ],
        }
    }

    /// How many positions at the start of each sequence are left out.
    pub(super) fn skipped(&self, config: &TrainConfig) -> usize {
        match self {
            Material::Stored(acts, _) => config.skip_first.unwrap_or_else(|| acts.skip_first()),
            Material::Synthetic(_) => 0,
        }
    }

    /// How many medians long an activation may be that is trained on.
    pub(super) fn max_norm_multiple(&self, config: &TrainConfig) -> f64 {
        match self {
            Material::Stored(acts, _) => {
                config.max_norm_multiple.unwrap_or_else(|| acts.max_norm_multiple())
            }
            Material::Synthetic(_) => f64::INFINITY,
        }
    }

    /// How long that is.
    pub(super) fn longest(&self, config: &TrainConfig) -> Result<f32> {
        match self {
            Material::Stored(acts, hook) => acts.longest(*hook, config.max_norm_multiple),
            Material::Synthetic(_) => Ok(f32::INFINITY),
        }
    }

    /// The scale of the activations: [`ActivationStore::scale`].
    pub(super) fn scale(&self, config: &TrainConfig) -> Result<f32> {
        match self {
            Material::Stored(acts, hook) => acts.scale(*hook),
            Material::Synthetic(model) => {
                let mut batch = SyntheticBatch::default();
                model.fill(config.seed, 0..SAMPLED, &mut batch);
                Ok(scale_of(&batch.x, model.d_model()))
            }
        }
    }

    /// The rows of a step.
    pub(super) fn rows(&self, config: &TrainConfig, step: u64) -> Vec<u64> {
        let first = step * config.batch as u64;
        let acts = match self {
            Material::Stored(acts, _) => acts,
            Material::Synthetic(_) => return (first..first + config.batch as u64).collect(),
        };
        let kept = Kept::new(acts, self.skipped(config));
        let mut rows = kept.shuffle(config).fill(first, config.batch);
        rows.iter_mut().for_each(|row| *row = kept.row(*row));
        rows
    }

    /// Asks the system to read ahead what comes some steps later, if the order of the rows is one
    /// that is read ahead; all that comes soon if the step is the `first` of this process.
    pub(super) fn read_ahead(&self, config: &TrainConfig, step: u64, first: bool) -> Result<()> {
        let Material::Stored(acts, hook) = self else { return Ok(()) };
        let kept = Kept::new(acts, self.skipped(config));
        let start = step * config.batch as u64;
        for rows in kept.shuffle(config).ahead(start, config.batch, first) {
            acts.will_need(*hook, kept.row(rows.start)..kept.row(rows.end - 1) + 1)?;
        }
        Ok(())
    }

    /// Reads the rows of a step.
    pub(super) fn gather(
        &self,
        config: &TrainConfig,
        waiting: Waiting<'_>,
        rows: &[u64],
        batch: &mut Batch,
    ) -> Result<()> {
        match self {
            Material::Stored(acts, hook) => acts.gather_for(waiting, *hook, rows, batch),
            Material::Synthetic(model) => {
                let Batch { x, tokens, positions } = std::mem::take(batch);
                let mut made = SyntheticBatch { x, tokens, ..SyntheticBatch::default() };
                model.fill(config.seed, span(rows), &mut made);
                let SyntheticBatch { x, tokens, .. } = made;
                *batch = Batch { x, tokens, positions };
                batch.positions.clear();
                batch.positions.resize(rows.len(), 0);
                Ok(())
            }
        }
    }

    /// What an SAE's table is indexed by on these rows.
    pub(super) fn keys(
        &self,
        config: &TrainConfig,
        waiting: Waiting<'_>,
        sae: &Sae,
        rows: &[u64],
    ) -> Result<Keys<'static>> {
        match self {
            Material::Stored(acts, _) => acts.keys_for(waiting, sae, rows),
            Material::Synthetic(model) => {
                let pairs = model.tokens_of(config.seed, span(rows));
                let (before, tokens): (Vec<u32>, Vec<u32>) =
                    pairs.into_iter().map(|[before, token]| (before, token)).unzip();
                model.keys(&sae.index, &tokens, &before)
            }
        }
    }
}

/// The rows of a store without the first of each sequence, numbered anew.
struct Kept {
    n: u64,
    n_ctx: u64,
    skipped: u64,
}

impl Kept {
    fn new(acts: &ActivationStore, skipped: usize) -> Kept {
        let (n_rows, n_ctx, skipped) = (acts.n_rows() as u64, acts.n_ctx() as u64, skipped as u64);
        Kept { n: n_rows - n_rows / n_ctx * skipped, n_ctx, skipped }
    }

    fn shuffle(&self, config: &TrainConfig) -> Shuffle {
        Shuffle::ordered(self.n, config.seed, config.order)
    }

    /// The number in the store of the row of that number here.
    fn row(&self, row: u64) -> u64 {
        let kept = self.n_ctx - self.skipped;
        row / kept * self.n_ctx + self.skipped + row % kept
    }
}

/// Rows of a stream, which follow each other.
fn span(rows: &[u64]) -> std::ops::Range<u64> {
    rows.first().map_or(0..0, |&first| first..first + rows.len() as u64)
}
