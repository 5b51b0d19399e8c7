//! A harvest that many processes share, on any number of machines: planned, done by shares,
//! collected.
//!
//! Nobody holds a lock while shards are made. Every shard belongs to one share; it and what is put
//! down of it appear by a rename, whole; and whoever makes one a second time, because an engine took
//! the first process for dead, writes the same bytes.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender};

use super::filling::{Task, Work, write_shard};
use super::forecast::{check_hooks, check_memory};
use super::harvest::{planned, refuse_stray_shards, with_forward};
use super::manifest::{Manifest, ShardId};
use super::plan::Plan;
use super::products::Products;
use super::sequences::Sequences;
use super::shard::Shard;
use super::verify::{Waiting, verify};
use super::{ActivationStore, Dtype, HarvestConfig, Source, sidecar};
use crate::base::error::{Error, Result};
use crate::base::files::{FolderLock, create_folder, remove_stale_files};
use crate::base::share::Share;
use crate::corpus::Chunk;
use crate::display::{Progress, interrupt};
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
        remove_stale_files(dir, Manifest::writes)?;
        refuse_stray_shards(dir)?;
        tokens.remember(dir)?;
        let (hooks, compute) = (manifest.hooks.clone(), manifest.compute);
        let plan = Plan::make(dir, manifest, config.batch, tokens, |pass| {
            with_forward(model, compute, |forward| Products::of(pass, &hooks, compute, forward))
        })?;
        Ok(HarvestPlan::of_store(&plan.store))
    }

    /// Makes the shards of one share of the [plan](ActivationStore::plan) in `dir`, but those that
    /// are there: shards `i`, `i + n`, `i + 2n`, … for the `i`th share of `n`.
    ///
    /// It needs no lock, and may be killed at any moment and called again, also while a process that
    /// is taken for dead still does the same. When it returns, the share is complete. There is
    /// nothing to do once all is collected.
    ///
    /// # Errors
    /// [`Error::Format`] if there is no plan; [`Error::Changed`] if the model is not the plan's, or
    /// this processor gives other last bits; and as [`harvest`](ActivationStore::harvest).
    pub fn harvest_share(model: &Model, dir: impl AsRef<Path>, share: Share) -> Result<()> {
        let dir = dir.as_ref();
        let Some(plan) = Plan::read(dir)? else { return collected(dir).map(|_| ()) };
        let now = Manifest { model: Source::of(model), ..plan.store.clone() };
        plan.store.same_as(&now, dir)?;
        if is_collected(dir)? {
            return Ok(());
        }
        interrupt::watch();
        interrupt::clear();
        let todo = left(dir, &plan, share)?;
        if todo.is_empty() {
            return Ok(());
        }
        let Manifest { hooks, compute, .. } = &plan.store;
        let config = HarvestConfig {
            batch: plan.batch,
            compute: *compute,
            dtype: plan.store.dtype,
            shard_tokens: plan.store.shard_rows,
        };
        check_memory(model, hooks, plan.store.corpus.n_ctx, &config)?;
        with_forward(model, *compute, |forward| {
            Products::of(&plan.first_pass(dir)?, hooks, *compute, forward)?.same_as(
                &plan.products,
                dir,
                &plan.store.model,
            )?;
            let task = Task {
                dir,
                manifest: &plan.store,
                shards: &todo,
                batch: plan.batch,
                forward,
                done: 0,
            };
            let rows: usize = todo.iter().map(|&index| plan.store.rows_of(index)).sum();
            let mut progress = Progress::new(&format!("harvest {share}"), rows as u64, "tokens");
            let done = task.run(
                &mut progress,
                |chunks, stop| feed(dir, &plan, &todo, &chunks, stop),
                |work| write(dir, &plan, work),
            );
            match done {
                Err(Error::Interrupted { .. }) => {
                    interrupt::clear();
                    let remedy =
                        "its complete shards are kept, and the same call continues from there";
                    let remedy = remedy.to_owned();
                    Err(Error::Interrupted { what: "a share of the harvest", remedy })
                }
                Ok(()) => {
                    progress.finish();
                    Ok(())
                }
                Err(e) => Err(e),
            }
        })
    }

    /// Makes one store of the shards that the shares of a [plan](ActivationStore::plan) have made,
    /// and opens it: it then has the files and the bytes that one process would have written.
    ///
    /// # Errors
    /// [`Error::Incomplete`] with the first missing shards, and which shares they are of;
    /// [`Error::Format`] if there is no plan, or a shard is cut short; [`Error::Checksum`];
    /// [`Error::Locked`] while another process collects; [`Error::Io`].
    pub fn collect(dir: impl AsRef<Path>) -> Result<ActivationStore> {
        let dir = dir.as_ref();
        let Some(plan) = Plan::read(dir)? else { return collected(dir) };
        if is_collected(dir)? {
            // By a process that was killed before it had tidied up.
            let _lock = FolderLock::acquire(dir)?;
            return tidied(dir);
        }
        let mut manifest = plan.store.clone();
        let mut missing = Vec::new();
        for index in 0..plan.parts.len() {
            match there(dir, &plan, index)? {
                Some(shard) => manifest.shards.push(shard),
                None => missing.push(index),
            }
        }
        if !missing.is_empty() {
            return Err(incomplete(dir, plan.parts.len(), &missing));
        }
        let _lock = FolderLock::acquire(dir)?;
        manifest.complete = true;
        for index in 0..manifest.shards.len() {
            Shard::open(dir, &manifest, index)?;
        }
        manifest.write(dir)?;
        tidied(dir)
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
        let row = 8 + store.hooks.len() * store.model.d_model * Dtype::bytes(store.dtype);
        HarvestPlan {
            shards: store.all_shards(),
            tokens: store.all_rows(),
            bytes: (store.all_rows() * row) as u64,
        }
    }
}

/// Whether all shards are in the manifest.
fn is_collected(dir: &Path) -> Result<bool> {
    Ok(Manifest::read_if_there(dir)?.is_some_and(|manifest| manifest.complete))
}

/// The store of a folder whose plan is gone because it has been collected.
fn collected(dir: &Path) -> Result<ActivationStore> {
    match is_collected(dir)? {
        true => ActivationStore::open(dir),
        false => Err(Error::format(
            dir,
            "holds no plan of a harvest (there is no plan.json): make one first (tsae harvest … --plan)",
        )),
    }
}

/// The store of a locked folder in which all is collected, once nothing else is left in it.
fn tidied(dir: &Path) -> Result<ActivationStore> {
    sidecar::remove_all(dir)?;
    remove_stale_files(dir, Manifest::writes)?;
    Plan::remove(dir)?;
    ActivationStore::open(dir)
}

/// What was put down of a shard, if it is there.
fn there(dir: &Path, plan: &Plan, index: usize) -> Result<Option<ShardId>> {
    let path = dir.join(Manifest::shard_name(index));
    match path.try_exists().map_err(Error::io("read", &path))? {
        true => sidecar::read(dir, &plan.store, index),
        false => Ok(None),
    }
}

/// The shards of a share that are still to be made, once those that are there are found whole.
fn left(dir: &Path, plan: &Plan, share: Share) -> Result<Vec<usize>> {
    let mut left = Vec::new();
    let mut known = plan.store.clone();
    let mut kept = Vec::new();
    for index in 0..plan.parts.len() {
        let mine = index % share.of() == share.number() - 1;
        let shard = if mine { there(dir, plan, index)? } else { None };
        match (mine, &shard) {
            (true, None) => left.push(index),
            (true, Some(_)) => kept.push(index),
            _ => {}
        }
        known.shards.push(shard.unwrap_or_default());
    }
    // Only so much of them is mapped at a time.
    const AT_ONCE: usize = 256;
    let hooks: Vec<usize> = (0..plan.store.hooks.len()).collect();
    for some in kept.chunks(AT_ONCE) {
        let open = |index: &usize| Shard::open(dir, &known, *index);
        let shards = some.iter().map(open).collect::<Result<Vec<_>>>()?;
        verify(&shards.iter().collect::<Vec<_>>(), &hooks, Waiting::Cell)?;
    }
    Ok(left)
}

/// Brings what shards are made from, until nobody listens.
fn feed(
    dir: &Path,
    plan: &Plan,
    todo: &[usize],
    chunks: &SyncSender<Result<Chunk>>,
    stop: &dyn Fn() -> bool,
) {
    for &index in todo {
        let chunk = plan.tokens(dir, index).map(Chunk::of);
        let failed = chunk.is_err();
        if stop() || chunks.send(chunk).is_err() || failed {
            return;
        }
    }
}

/// Writes shards from the passes that come, and puts down each beside it.
fn write(dir: &Path, plan: &Plan, work: &Receiver<Work>) -> Result<()> {
    while let Ok(told) = work.recv() {
        let Work::Shard(index, chunk) = told else { continue };
        let Some(shard) = write_shard(dir, &plan.store, index, &chunk.tokens, work)? else {
            return Ok(());
        };
        let shard = ShardId { after: plan.parts[index].after.clone(), ..shard };
        sidecar::write(dir, &plan.store, index, &shard)?;
    }
    Ok(())
}

fn incomplete(dir: &Path, all: usize, missing: &[usize]) -> Error {
    /// Shards that are named.
    const NAMED: usize = 8;
    let mut names: Vec<String> =
        missing.iter().take(NAMED).map(|&index| Manifest::shard_name(index)).collect();
    if missing.len() > NAMED {
        names.push("…".to_owned());
    }
    Error::Incomplete {
        what: format!("the harvest in {}", dir.display()),
        left: format!("{} of {all} shards are missing ({})", missing.len(), names.join(", ")),
        remedy: "run its shares again, and then this".to_owned(),
    }
}
