//! A harvest that many processes share, on any number of machines: planned, done by shares,
//! collected.
//!
//! Nobody holds a lock while shards are made. Every shard belongs to one share; it and what is put
//! down of it appear by a rename, whole; and whoever makes one a second time, because an engine took
//! the first process for dead, writes the same bytes.

mod collect;
mod share;

use std::path::Path;

use super::forecast::{check_hooks, check_memory};
use super::harvest::{planned, refuse_stray_shards};
use super::manifest::Manifest;
use super::own_files::is_own;
use super::plan::Plan;
use super::products::Products;
use super::sequences::Sequences;
use super::{ActivationStore, HarvestConfig, Source, filling};
use crate::base::error::{Error, Result};
use crate::base::files::{FolderLock, create_folder, remove_stale_files};
use crate::display::interrupt;
use crate::model::{HookPoint, Model};

/// What [`ActivationStore::plan`] has laid out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HarvestPlan {
    /// How many shards there will be.
    pub shards: usize,
    /// How many tokens, and rows.
    pub tokens: usize,
    /// How many bytes.
    pub bytes: u64,
}

impl ActivationStore {
    /// Lays out a [`harvest`](ActivationStore::harvest) that many processes do together, on one
    /// machine or on many with one file system: reads the text, and writes which tokens go into
    /// which shard, so that the others need the model alone.
    ///
    /// Then each process does its [share](ActivationStore::harvest_share), at any time and as often
    /// as it takes, and one [collects](ActivationStore::collect) them. The store has the same bytes
    /// as if one process had made it.
    ///
    /// ```no_run
    /// use tokenized_sae::{Share, prelude::*};
    /// let model = Model::load("tiny-gpt2")?;
    /// let corpus = Corpus::sampled(&model, 2_000_000, 0)?;
    /// let hook: HookPoint = "blocks.2.hook_resid_pre".parse()?;
    /// let dir = "cache/tiny-gpt2";
    /// ActivationStore::plan(&model, &[hook], &corpus.train, dir, HarvestConfig::default())?;
    /// for i in 1..=3 {
    ///     ActivationStore::harvest_share(&model, dir, Share::new(i, 3)?)?; // each in a process of its own
    /// }
    /// let acts = ActivationStore::collect(dir)?;
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// The plan says what the first pass of the model gives here. A machine whose processor gives
    /// other last bits is refused, so plan on one of the kind that harvests.
    ///
    /// # Errors
    /// As [`harvest`](ActivationStore::harvest); [`Error::Format`] if one process has begun to
    /// harvest there alone.
    pub fn plan<'a>(
        model: &Model,
        hooks: &[HookPoint],
        tokens: impl Into<Sequences<'a>>,
        dir: impl AsRef<Path>,
        config: HarvestConfig,
    ) -> Result<HarvestPlan> {
        let (tokens, dir) = (tokens.into(), dir.as_ref());
        check_hooks(model, hooks)?;
        check_memory(model, hooks, tokens.n_ctx(), &config)?;
        let manifest = planned(&Source::of(model), hooks, tokens, &config)?;
        create_folder(dir)?;
        let _lock = FolderLock::acquire(dir)?;
        interrupt::watch();
        interrupt::clear();
        if let Some(there) = Manifest::read_if_there(dir)? {
            there.same_as(&manifest, dir)?;
            if there.complete {
                return Ok(HarvestPlan::of_store(&there));
            }
            let why = "is of a harvest by one process that is not complete: let it go on, or plan in another folder";
            return Err(Error::format(Manifest::path(dir), why));
        }
        if let Some(there) = Plan::read(dir)? {
            there.store.same_as(&manifest, dir)?;
            return Ok(HarvestPlan::of_store(&there.store));
        }
        remove_stale_files(dir, is_own)?;
        refuse_stray_shards(dir)?;
        tokens.remember(dir)?;
        let (hooks, compute) = (manifest.hooks.clone(), manifest.compute);
        let plan = Plan::make(dir, manifest, config.batch, tokens, |pass| {
            filling::with_forward(model, &config, &|| Ok(None), |forward| {
                Products::of(pass, &hooks, compute, forward)
            })
        })?;
        Ok(HarvestPlan::of_store(&plan.store))
    }
}

impl HarvestPlan {
    /// Of a store that is there.
    pub(crate) fn of(acts: &ActivationStore) -> HarvestPlan {
        HarvestPlan::of_store(&acts.inner.manifest)
    }

    /// The plan in `dir`, if there is one.
    ///
    /// # Errors
    /// [`Error::Format`] or [`Error::Checksum`] if it is damaged.
    pub(crate) fn read(dir: &Path) -> Result<Option<HarvestPlan>> {
        Ok(Plan::read(dir)?.map(|plan| HarvestPlan::of_store(&plan.store)))
    }

    fn of_store(store: &Manifest) -> HarvestPlan {
        let row = 8 + store.hooks.len() * store.dtype.row_bytes(store.model.d_model);
        HarvestPlan {
            shards: store.all_shards(),
            tokens: store.all_rows(),
            bytes: (store.all_rows() * row) as u64,
        }
    }
}
