//! Filling a store: one pass of the model for a batch of sequences after another, while another
//! thread appends the rows of the pass before to the shard in hand, syncs complete shards to the
//! disk, and enters them in the manifest.

use std::ops::Range;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender};

use super::after::After;
use super::feed::{Feed, stopped};
use super::manifest::Manifest;
use super::shard::ShardWriter;
use crate::base::error::{Error, Result};
use crate::base::format;
use crate::corpus::Chunk;
use crate::display::{Progress, interrupt};
use crate::model::HookPoint;
use crate::model::tokens::Tokens;

/// How much may wait for the writer: what a slow disk keeps in memory.
pub const WORK_WAITING: usize = 1;

/// Computes the activations of some hooks for some sequences, told which of all sequences they are:
/// for each hook in turn, `[n_seq · n_ctx · d_model]` numbers, row after row.
pub type ForwardOf<'a> = &'a dyn Fn(Range<usize>, &Tokens, &[HookPoint]) -> Result<Vec<Vec<f32>>>;

/// A message to the writer.
pub enum Work {
    /// Begin a shard of such sequences.
    Shard(usize, Chunk),
    /// Append the values of a pass, for each hook.
    Pass(Vec<Vec<f32>>),
    /// There is no more text, for the shard of that place either.
    End(usize),
}

/// Runs the model for one shard after another and hands each pass to the writer.
///
/// # Errors
/// [`Error::Interrupted`] if it was stopped by hand; what the model and the text say.
pub fn compute(
    manifest: &Manifest,
    todo: &[usize],
    mut feed: Feed,
    batch: usize,
    forward: ForwardOf<'_>,
    work: SyncSender<Work>,
    progress: &mut Progress,
) -> Result<()> {
    let rows_to_do: usize = todo.iter().map(|&index| manifest.rows_of(index)).sum();
    let mut done = manifest.all_rows() - rows_to_do;
    // A writer that no longer listens has failed, and says why when it is joined.
    for &index in todo {
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
            let values = forward(of, &pass, &manifest.hooks)?;
            let want = vec![pass.len() * manifest.model.d_model; manifest.hooks.len()];
            let got: Vec<usize> = values.iter().map(Vec::len).collect();
            if got != want {
                let what = "what the model gave for a pass".into();
                return Err(Error::Shape { what, want, got });
            }
            if work.send(Work::Pass(values)).is_err() {
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

/// Writes one shard after another from the passes that come, and enters each in the manifest when
/// it has its name: a process killed between the two makes it once more. Of a shard whose passes
/// cease to come nothing is left.
pub fn write_shards(dir: &Path, manifest: &mut Manifest, work: &Receiver<Work>) -> Result<()> {
    while let Ok(told) = work.recv() {
        match told {
            Work::Shard(index, chunk) => {
                if !write_shard(dir, manifest, index, &chunk, work)? {
                    return Ok(());
                }
            }
            Work::End(index) if index < manifest.shards.len() => return Err(changed(dir, index)),
            Work::End(_) if manifest.shards.is_empty() => {
                return Err(Error::EmptyCorpus {
                    why: "the training text does not fill a single sequence: give more text, or a shorter context".into(),
                });
            }
            Work::End(_) => {
                ends_at(manifest, manifest.shards.iter().map(|shard| shard.rows).sum());
                manifest.complete = true;
                manifest.write(dir)?;
            }
            Work::Pass(_) => {}
        }
    }
    Ok(())
}

/// The text gives this many rows, not as many as were requested.
fn ends_at(manifest: &mut Manifest, rows: usize) {
    manifest.corpus.n_seq = rows / manifest.corpus.n_ctx;
}

fn changed(dir: &Path, index: usize) -> Error {
    let why = "cannot be made again: its text has changed; harvest into another folder";
    Error::format(dir.join(Manifest::shard_name(index)), why)
}

/// Writes one shard; `false` if its passes ceased to come.
fn write_shard(
    dir: &Path,
    manifest: &mut Manifest,
    index: usize,
    chunk: &Chunk,
    work: &Receiver<Work>,
) -> Result<bool> {
    let tokens = &chunk.tokens;
    let mut after = None;
    if manifest.corpus.stream.is_some() {
        after = Some(After::write(dir, index, chunk)?);
        // Of a shard that is made once more, the text has to be what it was.
        if manifest.shards.get(index).is_some_and(|before| before.after != after) {
            return Err(changed(dir, index));
        }
        if tokens.len() < manifest.rows_of(index) {
            ends_at(manifest, index * manifest.shard_rows + tokens.len());
        }
    }
    let mut writer = ShardWriter::create(dir, manifest, index, tokens.ids())?;
    let mut rows = 0;
    while rows < tokens.len() {
        let Ok(Work::Pass(pass)) = work.recv() else { return Ok(false) };
        rows += pass.first().map_or(0, Vec::len) / manifest.model.d_model;
        for (hook, values) in pass.iter().enumerate() {
            writer.append(hook, values)?;
        }
    }
    let mut shard = writer.finish()?;
    shard.after = after;
    match manifest.shards.get_mut(index) {
        Some(entry) => *entry = shard,
        None => manifest.shards.push(shard),
    }
    manifest.complete = manifest.shards.len() == manifest.all_shards();
    manifest.write(dir)?;
    Ok(true)
}
