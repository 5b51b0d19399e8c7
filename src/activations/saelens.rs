//! SAELens' activation caches: read into a store, and written from one.
//!
//! A cache is a folder that Hugging Face `datasets` saved, `state.json`, `dataset_info.json` and
//! `data-00000-of-0000N.arrow`, with a sequence in each row: a column named by the hook,
//! `[context_size, d_in]` in float32 or float16, and `token_ids` `[context_size]`.

mod cache;
mod export;

use std::path::Path;

use cache::Cache;

use super::filling::Pass;
use super::{ActivationStore, HarvestConfig, Source};
use crate::base::error::{Error, Result};
use crate::model::tokens::Tokens;
use crate::model::{HookPoint, Model};

/// The column of the tokens.
const TOKEN_IDS: &str = "token_ids";

/// How far a row of a cache may be from what the model gives, by its length: float16 rounds by
/// 2⁻¹¹, a GPU's TF32 by about as much. The same weights processed otherwise, and other weights all
/// the more, are further off.
const TOLERANCE: f32 = 0.004;

impl ActivationStore {
    /// Makes a store of the activations that SAELens' `CacheActivationsRunner` wrote to the folder
    /// `from`, so that they need not be computed again.
    ///
    /// Every hook that the cache has is taken, each row with its token. The first and the last
    /// sequence are run through `model` and compared, so that an SAE is not trained on one model
    /// and evaluated on another. SAELens loads models unprocessed: load this one by
    /// [`Model::load_with`] with [`Processing::Raw`](crate::model::Processing::Raw). What
    /// [`harvest`](ActivationStore::harvest) says of folders that are there already, of going on
    /// and of the stop button holds here too; numbers are stored as `config` says, so
    /// [`Dtype::F32`](super::Dtype::F32) keeps those of a float32 cache as they are.
    ///
    /// ```no_run
    /// # use tokenized_sae::prelude::*;
    /// let model = Model::load_with("gpt2", Processing::Raw)?;
    /// let acts = ActivationStore::import_saelens(&model, "cached_activations/gpt2", "cache/gpt2", HarvestConfig::default())?;
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Format`] if `from` is not such a cache, is damaged, has no `token_ids` or holds
    /// another model's activations, or such as cannot be this model's; and those of
    /// [`harvest`](ActivationStore::harvest).
    pub fn import_saelens(
        model: &Model,
        from: impl AsRef<Path>,
        dir: impl AsRef<Path>,
        config: HarvestConfig,
    ) -> Result<ActivationStore> {
        let (source, from) = (Source::of(model), from.as_ref());
        let cache = Cache::of(&source, from)?;
        let last = cache.tokens().n_seq() - 1;
        for sequence in if last == 0 { vec![0] } else { vec![0, last] } {
            check_sequence(model, &cache, from, sequence)?;
        }
        cache.fill(&source, from, dir.as_ref(), config)
    }

    /// As [`import_saelens`](ActivationStore::import_saelens), for a model that this crate does not
    /// have: only the shape of what is given is checked.
    ///
    /// An SAE can be trained on such a store, also one with a table of
    /// [means](crate::sae::Lookup::means); what runs the model, as spliced losses do, is not to be
    /// had.
    ///
    /// # Errors
    /// As [`import_saelens`](ActivationStore::import_saelens).
    pub fn import_saelens_with(
        source: &Source,
        from: impl AsRef<Path>,
        dir: impl AsRef<Path>,
        config: HarvestConfig,
    ) -> Result<ActivationStore> {
        Cache::of(source, from.as_ref())?.fill(source, from.as_ref(), dir.as_ref(), config)
    }
}

/// Compares one sequence of a cache with what the model makes of its tokens.
fn check_sequence(model: &Model, cache: &Cache, from: &Path, sequence: usize) -> Result<()> {
    let tokens: Tokens = cache.tokens().rows(sequence, sequence + 1);
    for &hook in cache.hooks() {
        model.check_hook(hook)?;
        let computed = model.run_to(&tokens, hook)?.flatten_all()?.to_vec1::<f32>()?;
        let cached = cache.read(hook, sequence..sequence + 1)?;
        let off = furthest(&cached, &computed, model.config().d_model);
        if off.is_nan() || off > TOLERANCE {
            let (name, processing) = (model.name(), model.processing());
            let why = format!(
                "holds activations of a model other than {name} ({processing}): at {hook} a row of sequence {sequence} is {:.1} % of its length off, and {:.1} % \
                 is allowed. SAELens loads models unprocessed, as Model::load_with({name:?}, Processing::Raw) does; caches of bfloat16 or int8, of some positions only \
                 (seqpos_slice) or of other weights can be read by import_saelens_with",
                100.0 * off,
                100.0 * TOLERANCE
            );
            return Err(Error::format(from, why));
        }
    }
    Ok(())
}

/// The greatest distance of two rows of width `d`, by the length of the second.
fn furthest(a: &[f32], b: &[f32], d: usize) -> f32 {
    let length = |row: &mut dyn Iterator<Item = f32>| row.map(|x| x * x).sum::<f32>().sqrt();
    let off = |(a, b): (&[f32], &[f32])| {
        length(&mut a.iter().zip(b).map(|(a, b)| a - b))
            / length(&mut b.iter().copied()).max(f32::MIN_POSITIVE)
    };
    a.chunks_exact(d)
        .zip(b.chunks_exact(d))
        .map(off)
        .fold(0.0, |most, off| if off.is_nan() { off } else { off.max(most) })
}

impl Cache {
    /// The cache in `from`, if its shapes and tokens can be those of the model.
    fn of(source: &Source, from: &Path) -> Result<Cache> {
        let checked = Cache::open(from, source.d_model)
            .and_then(|cache| cache.tokens().check(source.d_vocab).map(|()| cache));
        checked.map_err(|error| error.read_from(from))
    }

    fn fill(
        &self,
        source: &Source,
        from: &Path,
        dir: &Path,
        config: HarvestConfig,
    ) -> Result<ActivationStore> {
        let read = |sequences: std::ops::Range<usize>, _: &Tokens, hooks: &[HookPoint]| {
            let read = hooks.iter().map(|&hook| self.read(hook, sequences.clone()));
            read.collect::<Result<_>>().map(Pass::of)
        };
        ActivationStore::fill(
            "import",
            source,
            self.hooks(),
            self.tokens().into(),
            dir,
            &config,
            &read,
        )
        .map_err(|error| match error {
            error @ Error::NotFinite { .. } => error.read_from(from),
            other => other,
        })
    }
}
