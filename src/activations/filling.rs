//! Filling a store: one pass of the model for a batch of sequences after another, while another
//! thread appends the rows of the pass before to the shard in hand, syncs complete shards to the
//! disk, and puts down what they are.

use std::cell::OnceCell;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::after::After;
use super::feed::{Feed, stopped};
use super::manifest::{Manifest, ShardId};
use super::shard_writer::ShardWriter;
use super::{HarvestConfig, sidecar};
use crate::base::error::{Error, Result};
use crate::base::format;
use crate::corpus::Chunk;
use crate::device::Device;
use crate::display::{self, Progress, interrupt};
use crate::model::gpu::{Bits, Computes, Wanted, choose};
use crate::model::tokens::Tokens;
use crate::model::{Compute, HookPoint, Model};

/// How much may wait for the writer: what a slow disk keeps in memory.
const WORK_WAITING: usize = 1;

/// Computes the activations of some hooks for some sequences, told which of all sequences they are:
/// for each hook in turn, `[n_seq · n_ctx · d_model]` numbers, row after row.
pub type ForwardOf<'a> = &'a dyn Fn(Range<usize>, &Tokens, &[HookPoint]) -> Result<Pass>;

/// What the model gives for a pass.
pub struct Pass {
    /// For each hook.
    pub values: Vec<Vec<f32>>,
    pub bits: Bits,
}

impl Pass {
    /// Of which nobody says that a card gave it.
    pub fn of(values: Vec<Vec<f32>>) -> Pass {
        Pass { values, bits: Bits::Processor }
    }
}

/// Does something with what the model gives as `config` says. Where it runs is decided at the first
/// pass: a store that is whole needs no card. If that is in bf16 and goes on with the bits that
/// `begun` finds in a file, it has to give the same.
pub fn with_forward<T>(
    model: &Model,
    config: &HarvestConfig,
    begun: &dyn Fn() -> Result<Option<(PathBuf, Bits)>>,
    work: impl FnOnce(ForwardOf<'_>) -> Result<T>,
) -> Result<T> {
    let model = model.computing(config.compute);
    let chosen = OnceCell::new();
    work(&|_: Range<usize>, pass: &Tokens, hooks: &[HookPoint]| {
        let computes: &Computes = match chosen.get() {
            Some(computes) => computes,
            None => {
                let begun = if config.compute == Compute::Bf16 { begun()? } else { None };
                let computes = chosen_for(begun, &model, config, hooks, pass)?;
                chosen.get_or_init(|| computes)
            }
        };
        let values = computes.run_to_many(pass, hooks, &interrupt::requested)?;
        Ok(Pass { values, bits: computes.bits() })
    })
}

/// What runs the model, and gives the bits with which something was begun.
///
/// # Errors
/// [`Error::Changed`] if that is not here, or something else was asked for.
fn chosen_for(
    begun: Option<(PathBuf, Bits)>,
    model: &Model,
    config: &HarvestConfig,
    hooks: &[HookPoint],
    pass: &Tokens,
) -> Result<Computes> {
    let device = match (&begun, config.device.meant()?) {
        (Some((_, Bits::Processor)), Device::Auto) => Device::Cpu,
        (_, meant) => meant,
    };
    let (computes, remark) = choose(device, model, Wanted::Harvest(hooks), config.batch, pass)?;
    remark.iter().for_each(|remark| display::remark(remark));
    let now = computes.bits();
    match begun {
        Some((path, bits)) if bits != now => Err(Error::Changed {
            path,
            what: "rounding of sums in bf16",
            stored: bits.whose().to_owned(),
            now: now.whose().to_owned(),
            remedy: format!(
                "go on as it was begun ({}), or harvest into another folder",
                bits.setting()
            ),
        }),
        _ => Ok(computes),
    }
}

/// A message to the writer.
pub enum Work {
    /// Begin a shard of such sequences.
    Shard(usize, Chunk),
    /// Append the values of a pass.
    Pass(Pass),
    /// There is no more text, for the shard of that place either.
    End(usize),
}

/// The shards to be made, in order, and what by.
pub struct Task<'a> {
    pub dir: &'a Path,
    pub manifest: &'a Manifest,
    pub shards: &'a [usize],
    /// Sequences in a pass.
    pub batch: usize,
    pub forward: ForwardOf<'a>,
    /// Rows that were made before, for the bar.
    pub done: usize,
}

impl Task<'_> {
    /// Runs the model on this thread, while one brings what the shards are made from and another
    /// writes. What brings it is told by its second argument when to stop.
    ///
    /// # Errors
    /// What one of the three says; [`Error::Interrupted`] if it was stopped by hand.
    pub fn run(
        &self,
        progress: &mut Progress,
        feed: impl FnOnce(SyncSender<Result<Chunk>>, &dyn Fn() -> bool) + Send,
        write: impl FnOnce(&Receiver<Work>) -> Result<()> + Send,
    ) -> Result<()> {
        let enough = AtomicBool::new(false);
        let stop = || enough.load(Ordering::Relaxed) || interrupt::requested();
        std::thread::scope(|scope| {
            let (work, to_write) = sync_channel(WORK_WAITING);
            let (chunks, to_feed) = sync_channel(1);
            let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
            let writer = thread("tsae-harvest-writer")
                .spawn_scoped(scope, move || write(&to_write))
                .map_err(Error::io("start a thread for", self.dir))?;
            thread("tsae-harvest-text")
                .spawn_scoped(scope, || feed(chunks, &stop))
                .map_err(Error::io("start a thread for", self.dir))?;
            let computed = compute(self, Feed::new(to_feed), work, progress);
            enough.store(true, Ordering::Relaxed);
            // The writer ends once it has written what there is. What went wrong there comes first:
            // it may be why computing ended.
            writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            computed
        })
    }
}

/// Runs the model for one shard after another and hands each pass to the writer.
///
/// # Errors
/// [`Error::Interrupted`] if it was stopped by hand; what the model and the text say.
fn compute(
    task: &Task<'_>,
    mut feed: Feed,
    work: SyncSender<Work>,
    progress: &mut Progress,
) -> Result<()> {
    let Task { manifest, batch, forward, mut done, .. } = *task;
    // A writer that no longer listens has failed, and says why when it is joined.
    for &index in task.shards {
        let Some(chunk) = feed.next()? else {
            let _ = work.send(Work::End(index));
            break;
        };
        let tokens = chunk.tokens.clone();
        let first = index * manifest.shard_rows / manifest.corpus.n_ctx;
        if work.send(Work::Shard(index, chunk)).is_err() {
            return Ok(());
        }
        for from in (0..tokens.n_seq()).step_by(batch) {
            if interrupt::requested() {
                return Err(stopped());
            }
            let pass = tokens.rows(from, from + batch);
            let of = first + from..first + from + pass.n_seq();
            let given = forward(of, &pass, &manifest.hooks)?;
            let want = vec![pass.len() * manifest.model.d_model; manifest.hooks.len()];
            let got: Vec<usize> = given.values.iter().map(Vec::len).collect();
            if got != want {
                let what = "what the model gave for a pass".into();
                return Err(Error::Shape { what, want, got });
            }
            if work.send(Work::Pass(given)).is_err() {
                return Ok(());
            }
            done += pass.len();
            progress.set(done as u64);
        }
    }
    let waited = feed.waited.as_secs_f64();
    if waited > 1.0 {
        progress.note(&format!("waited {} for text", format::duration(waited)));
    }
    Ok(())
}

/// Writes one shard after another from the passes that come, and puts down what each is when it has
/// its name: a process killed between the two makes it once more. Of a shard whose passes cease to
/// come nothing is left.
pub fn write_shards(dir: &Path, manifest: &mut Manifest, work: &Receiver<Work>) -> Result<()> {
    while let Ok(told) = work.recv() {
        match told {
            Work::Shard(index, chunk) => {
                let after = write_marks(dir, manifest, index, &chunk)?;
                let Some(shard) = write_shard(dir, manifest, index, &chunk.tokens, work)? else {
                    return Ok(());
                };
                enter(dir, manifest, index, ShardId { after, ..shard })?;
            }
            Work::End(index) if index < manifest.shards.len() => return Err(changed(dir, index)),
            Work::End(_) if manifest.shards.is_empty() => {
                return Err(Error::EmptyCorpus {
                    why: "the training text does not fill a single sequence: give more text, or a shorter context".into(),
                });
            }
            Work::End(_) => {
                manifest.end_at(manifest.shards.iter().map(|shard| shard.rows).sum());
                manifest.complete = true;
                manifest.write(dir)?;
                sidecar::remove_all(dir)?;
            }
            Work::Pass(_) => {}
        }
    }
    Ok(())
}

fn changed(dir: &Path, index: usize) -> Error {
    let why = "cannot be made again: its text has changed; harvest into another folder";
    Error::format(dir.join(Manifest::shard_name(index)), why)
}

/// Of a stream, writes the marks of the documents that begin in a shard, and notes where the text
/// ends.
fn write_marks(
    dir: &Path,
    manifest: &mut Manifest,
    index: usize,
    chunk: &Chunk,
) -> Result<Option<After>> {
    if manifest.corpus.stream.is_none() {
        return Ok(None);
    }
    let after = Some(After::write(dir, index, chunk)?);
    // Of a shard that is made once more, the text has to be what it was.
    if manifest.shards.get(index).is_some_and(|before| before.after != after) {
        return Err(changed(dir, index));
    }
    if chunk.tokens.len() < manifest.rows_of(index) {
        manifest.end_at(index * manifest.shard_rows + chunk.tokens.len());
    }
    Ok(after)
}

/// Writes one shard of these tokens; `None` if its passes ceased to come.
pub fn write_shard(
    dir: &Path,
    manifest: &Manifest,
    index: usize,
    tokens: &Tokens,
    work: &Receiver<Work>,
) -> Result<Option<ShardId>> {
    let mut writer = ShardWriter::create(dir, manifest, index, tokens.ids())?;
    let (mut rows, mut bits) = (0, Bits::default());
    while rows < tokens.len() {
        let Ok(Work::Pass(pass)) = work.recv() else { return Ok(None) };
        rows += pass.values.first().map_or(0, Vec::len) / manifest.model.d_model;
        for (hook, values) in pass.values.iter().enumerate() {
            writer.append(hook, values)?;
        }
        bits = pass.bits;
    }
    Ok(Some(ShardId { bits, ..writer.finish()? }))
}

/// Puts down what a shard is: beside it; in the manifest when that is complete by it, or was.
fn enter(dir: &Path, manifest: &mut Manifest, index: usize, shard: ShardId) -> Result<()> {
    match manifest.shards.get_mut(index) {
        // It was made once more, as it was.
        Some(before) if *before == shard => return Ok(()),
        Some(before) => *before = shard,
        None => {
            manifest.shards.push(shard);
            manifest.complete = manifest.shards.len() == manifest.all_shards();
            if !manifest.complete {
                return sidecar::write(dir, manifest, index, &manifest.shards[index]);
            }
        }
    }
    manifest.write(dir)?;
    sidecar::remove_all(dir)
}
