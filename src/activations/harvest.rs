//! Harvesting: which shards a store needs, which it has, and making the rest.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::after::marks_path;
use super::feed::Feeder;
use super::filling::{ForwardOf, Pass, Task, with_forward, write_shards};
use super::forecast::{check_hooks, check_memory, no_hook};
use super::manifest::{Manifest, is_shard};
use super::own_files::is_own;
use super::sequences::Sequences;
use super::shard::Shard;
use super::verify::{Part, Waiting, verify};
use super::{ActivationStore, HarvestConfig, Source};
use super::{plan, sidecar};
use crate::base::error::{Error, Result};
use crate::base::files::{FolderLock, create_folder, remove_stale_files};
use crate::display::{Progress, interrupt};
use crate::model::tokens::Tokens;
use crate::model::{HookPoint, Model};

/// Shards that a store may have: opening it looks at each, and its manifest has 400 bytes of each.
/// Of the default size, so many hold 1.6 · 10¹⁰ tokens.
const MOST_SHARDS: usize = 250_000;

type Forward<'a> = &'a dyn Fn(&Tokens, &[HookPoint]) -> Result<Vec<Vec<f32>>>;

impl ActivationStore {
    /// Computes the activations of `hooks` for every token, in one pass of the model for all hooks
    /// together, into the folder `dir`.
    ///
    /// `tokens` are a `&Tokens`, or a [`&TokenStream`](crate::corpus::TokenStream), which is
    /// tokenised while the model runs and of which the store remembers how far it has come.
    ///
    /// A finished harvest of the same things is used again at once, and one that was stopped or
    /// killed continues at the first missing file, after a check of those that are there. Stopped
    /// by hand, it returns the store of what it has, if that is anything.
    ///
    /// ```no_run
    /// use tokenized_sae::prelude::*;
    /// use tokenized_sae::activations::Batch;
    /// let model = Model::load("tiny-gpt2")?;
    /// let corpus = Corpus::sampled(&model, 2_000_000, 0)?;
    /// let hook: HookPoint = "blocks.2.hook_resid_pre".parse()?;
    /// let acts = ActivationStore::harvest(&model, &[hook], &corpus.train, "cache/tiny-gpt2", HarvestConfig::default())?;
    ///
    /// let mut batch = Batch::default();
    /// acts.gather(hook, &acts.shuffled(0, 0..4096), &mut batch)?;
    /// assert_eq!((batch.x.len(), batch.tokens.len()), (4096 * acts.d_model(), 4096));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Changed`] if `dir` holds activations of another model, processing, corpus, set of
    /// hooks, dtype, compute or shard size, or a part of them in bf16 that a card has made and a
    /// processor would go on with, or the reverse; nothing of it is touched. [`Error::Locked`] while
    /// another process harvests into it; [`Error::UnknownHook`]; [`Error::NotFinite`] for a number
    /// that the dtype cannot hold; [`Error::Checksum`] or [`Error::Format`] if a file that is there
    /// is damaged; [`Error::Interrupted`]; [`Error::Config`]; [`Error::Memory`]; [`Error::Io`], for
    /// example if the disk is full: the shards that were complete by then stay.
    pub fn harvest<'a>(
        model: &Model,
        hooks: &[HookPoint],
        tokens: impl Into<Sequences<'a>>,
        dir: impl AsRef<Path>,
        config: HarvestConfig,
    ) -> Result<ActivationStore> {
        let tokens = tokens.into();
        check_hooks(model, hooks)?;
        check_memory(model, hooks, tokens.n_ctx(), &config)?;
        let (source, dir) = (Source::of(model), dir.as_ref());
        let begun = || Ok(Manifest::read_if_there(dir)?.and_then(|stored| stored.begun(dir)));
        with_forward(model, &config, &begun, |forward| {
            ActivationStore::fill("harvest", &source, hooks, tokens, dir, &config, forward)
        })
    }

    /// As [`harvest`](ActivationStore::harvest), from any `forward` pass rather than a model of
    /// this crate's.
    ///
    /// For each hook in turn, `forward` gives `[n_seq · n_ctx · d_model]` numbers, row after row. It gets at most [`HarvestConfig::batch`] sequences at a time, and the hooks in the
    /// order of the model, each once. While it computes, another thread writes what it gave before.
    /// It may end early with [`Error::Interrupted`] after a press of the stop button.
    ///
    /// # Errors
    /// As [`harvest`](ActivationStore::harvest), and whatever `forward` returns; the shards that
    /// were complete by then stay.
    pub fn harvest_with<'a>(
        source: &Source,
        hooks: &[HookPoint],
        tokens: impl Into<Sequences<'a>>,
        dir: impl AsRef<Path>,
        config: HarvestConfig,
        forward: Forward<'_>,
    ) -> Result<ActivationStore> {
        let forward = |_: Range<usize>, pass: &Tokens, hooks: &[HookPoint]| {
            forward(pass, hooks).map(Pass::of)
        };
        let tokens = tokens.into();
        ActivationStore::fill("harvest", source, hooks, tokens, dir.as_ref(), &config, &forward)
    }

    /// As [`harvest_with`](ActivationStore::harvest_with), told also which of all sequences are
    /// asked for. The bar says `what` it is.
    pub(super) fn fill(
        what: &str,
        source: &Source,
        hooks: &[HookPoint],
        tokens: Sequences<'_>,
        dir: &Path,
        config: &HarvestConfig,
        forward: ForwardOf<'_>,
    ) -> Result<ActivationStore> {
        let manifest = planned(source, hooks, tokens, config)?;
        // A complete store is only read, so it needs neither the lock nor a folder that can be
        // written.
        if let Some(stored) = Manifest::read_if_there(dir)? {
            stored.same_as(&manifest, dir)?;
            tokens.are_unchanged(dir)?;
            if stored.complete && missing(dir, &stored)?.is_empty() {
                // Left by a process that was killed at its end; and where nothing can be removed,
                // nothing is lost.
                let _ = sidecar::remove_all(dir);
                return ActivationStore::open(dir);
            }
        }
        plan::refuse(dir)?;
        create_folder(dir)?;
        let lock = FolderLock::acquire(dir)?;
        interrupt::watch();
        interrupt::clear();
        let mut harvest = Harvest::begin(dir, manifest, tokens)?;
        harvest.run(what, tokens, config.batch, forward)?;
        drop(lock);
        ActivationStore::open(dir)
    }
}

/// The manifest of the requested store, with no shards yet.
pub(super) fn planned(
    source: &Source,
    hooks: &[HookPoint],
    tokens: Sequences<'_>,
    config: &HarvestConfig,
) -> Result<Manifest> {
    if config.batch == 0 {
        let why = "is 0; at least one sequence has to go through the model at a time";
        return Err(Error::config("batch", why));
    }
    if config.shard_tokens == 0 {
        return Err(Error::config("shard_tokens", "is 0; a shard holds at least one sequence"));
    }
    let mut hooks = hooks.to_vec();
    hooks.sort_unstable();
    hooks.dedup();
    if hooks.is_empty() {
        return Err(no_hook());
    }
    let manifest = Manifest::new(source.clone(), tokens.id(source.d_vocab)?, hooks, config);
    match manifest.all_shards() {
        n if n > MOST_SHARDS => {
            let enough = manifest.all_rows().div_ceil(MOST_SHARDS).next_power_of_two();
            let why = format!(
                "shard_tokens = {}, which makes {n} shards of {} tokens; a store has at most {MOST_SHARDS}: take {enough}",
                config.shard_tokens,
                manifest.all_rows(),
            );
            Err(Error::config("shard_tokens", why))
        }
        _ => Ok(manifest),
    }
}

/// Whether the store in `dir` is finished and lacks no file.
///
/// # Errors
/// As [`ActivationStore::open`] has them of the manifest; [`Error::Io`].
pub(crate) fn is_whole(dir: &Path) -> Result<bool> {
    let manifest = Manifest::read(dir)?;
    Ok(manifest.complete && missing(dir, &manifest)?.is_empty())
}

/// The shards that the manifest lists and the folder lacks.
fn missing(dir: &Path, manifest: &Manifest) -> Result<Vec<usize>> {
    let mut missing = Vec::new();
    for index in 0..manifest.shards.len() {
        let there = |path: PathBuf| path.try_exists().map_err(Error::io("read", &path));
        let marks = manifest.shards[index].after.is_none() || there(marks_path(dir, index))?;
        if !marks || !there(dir.join(Manifest::shard_name(index)))? {
            missing.push(index);
        }
    }
    Ok(missing)
}

/// A harvest under way in a locked folder.
struct Harvest<'a> {
    dir: &'a Path,
    manifest: Manifest,
    /// The shards to be made, in order.
    todo: Vec<usize>,
}

impl<'a> Harvest<'a> {
    /// Continues what is in `dir`, or starts from nothing.
    fn begin(dir: &'a Path, planned: Manifest, tokens: Sequences<'_>) -> Result<Harvest<'a>> {
        remove_stale_files(dir, is_own)?;
        let manifest = match Manifest::read_if_there(dir)? {
            Some(stored) => stored.same_as(&planned, dir).map(|()| stored)?,
            None => {
                refuse_stray_shards(dir)?;
                tokens.remember(dir)?;
                planned.write(dir)?;
                planned
            }
        };
        let mut todo = missing(dir, &manifest)?;
        // What is kept has to be what was written: going on from a damaged shard would only hide
        // the damage until training.
        let kept = (0..manifest.shards.len()).filter(|index| todo.binary_search(index).is_err());
        let maps = Arc::default();
        let open = |index| Shard::open(dir, &manifest, index, &maps);
        let kept = kept.map(open).collect::<Result<Vec<_>>>()?;
        let hooks: Vec<usize> = (0..manifest.hooks.len()).collect();
        verify(kept.iter().map(Part::Whole).collect(), &hooks, Waiting::Cell)?;
        todo.extend(manifest.shards.len()..manifest.all_shards());
        Ok(Harvest { dir, manifest, todo })
    }

    fn run(
        &mut self,
        what: &str,
        tokens: Sequences<'_>,
        batch: usize,
        forward: ForwardOf<'_>,
    ) -> Result<()> {
        let todo = std::mem::take(&mut self.todo);
        let rows_to_do: usize = todo.iter().map(|&index| self.manifest.rows_of(index)).sum();
        let all_rows = self.manifest.all_rows();
        let mut progress = Progress::new(what, all_rows as u64, "tokens")
            .resumed_at((all_rows - rows_to_do) as u64);
        let planned = self.manifest.clone();
        let (dir, manifest) = (self.dir, &mut self.manifest);
        let task = Task {
            dir,
            manifest: &planned,
            shards: &todo,
            batch,
            forward,
            done: all_rows - rows_to_do,
        };
        let (planned, shards) = (&planned, &todo);
        let computed = task.run(
            &mut progress,
            move |chunks, stop| {
                Feeder { dir, manifest: planned, todo: shards, chunks }.run(tokens, stop);
            },
            move |work| write_shards(dir, manifest, work),
        );
        match computed {
            Ok(()) => {}
            Err(Error::Interrupted { .. }) => self.stopped(&mut progress)?,
            Err(e) => return Err(e),
        }
        progress.finish();
        Ok(())
    }

    /// After a stop by hand: an error, unless there is something to return.
    fn stopped(&self, progress: &mut Progress) -> Result<()> {
        interrupt::clear();
        self.manifest.write(self.dir)?;
        sidecar::remove_all(self.dir)?;
        let (kept, all) = (self.manifest.shards.len(), self.manifest.all_shards());
        // Shards before a gap are of no use to a reader, and without any shard there is nothing to
        // return.
        if kept == 0 || missing(self.dir, &self.manifest)?.iter().any(|&index| index < kept) {
            let remedy =
                format!("{kept} of {all} shards are kept, and the same call continues from there");
            return Err(Error::Interrupted { what: "the harvest", remedy });
        }
        progress.set((kept * self.manifest.shard_rows).min(self.manifest.all_rows()) as u64);
        progress.note(&format!(
            "stopped by hand, {kept} of {all} shards kept; the same call continues from there"
        ));
        Ok(())
    }
}

/// A folder with shards and no manifest holds someone's data of unknown origin: it is neither used
/// nor overwritten.
pub(super) fn refuse_stray_shards(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(Error::io("read", dir))? {
        let entry = entry.map_err(Error::io("read", dir))?;
        if is_shard(&entry.file_name().to_string_lossy()) {
            let why = "is a shard without a manifest, so nobody can say what it was made from: move it away, or harvest into another folder";
            return Err(Error::format(entry.path(), why));
        }
    }
    Ok(())
}
