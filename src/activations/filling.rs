//! Filling a store: one pass of the model for a batch of sequences after another, while another
//! thread appends the rows of the pass before to the shard in hand, syncs complete shards to the
//! disk, and enters them in the manifest.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender};

use super::harvest::ForwardOf;
use super::manifest::Manifest;
use super::sequences::{After, Feed, Next};
use super::shard::ShardWriter;
use crate::base::error::{Error, Result};
use crate::base::format;
use crate::corpus::Chunk;
use crate::display::{Progress, interrupt};
use crate::model::tokens::Tokens;

/// How much may wait for the writer: what a slow disk keeps in memory.
pub const WORK_WAITING: usize = 1;

/// A message to the writer.
pub enum Work {
    /// Begin a shard of such tokens.
    Shard(usize, Next),
    /// Append the values of a pass, for each hook.
    Pass(Vec<Vec<f32>>),
    /// There is no more text, for the shard of that place either.
    End(usize),
}

/// Runs the model for one shard after another and hands each pass to the writer. `true` if it was
/// stopped by hand.
pub fn compute(
    manifest: &Manifest,
    todo: &[usize],
    mut feed: Feed<'_>,
    batch: usize,
    forward: ForwardOf<'_>,
    work: SyncSender<Work>,
    progress: &mut Progress,
) -> Result<bool> {
    let rows_to_do: usize = todo.iter().map(|&index| manifest.rows_of(index)).sum();
    let mut done = manifest.all_rows() - rows_to_do;
    // A writer that no longer listens has failed, and says why when it is joined.
    for &index in todo {
        let next = feed.next(manifest, index)?;
        let tokens = match &next {
            Next::Stopped => return Ok(true),
            Next::End => {
                let _ = work.send(Work::End(index));
                break;
            }
            Next::Tokens(tokens) | Next::Chunk(Chunk { tokens, .. }) => tokens.clone(),
        };
        let first = index * manifest.shard_rows / manifest.corpus.n_ctx;
        if work.send(Work::Shard(index, next)).is_err() {
            return Ok(false);
        }
        for from in (0..tokens.n_seq()).step_by(batch) {
            if interrupt::requested() {
                return Ok(true);
            }
            let pass = tokens.rows(from, from + batch);
            let of = first + from..first + from + pass.n_seq();
            let values = match forward(of, &pass, &manifest.hooks) {
                Err(Error::Interrupted { .. }) if interrupt::requested() => return Ok(true),
                values => values?,
            };
            let (want, got) = (
                pass.len() * manifest.model.d_model,
                values.iter().map(Vec::len).collect::<Vec<_>>(),
            );
            if got.len() != manifest.hooks.len() || got.iter().any(|&len| len != want) {
                return Err(Error::Shape {
                    what: "what the model gave for a pass".into(),
                    want: vec![want; manifest.hooks.len()],
                    got,
                });
            }
            if work.send(Work::Pass(values)).is_err() {
                return Ok(false);
            }
            done += pass.len();
            progress.set(done as u64);
        }
    }
    let waited = feed.waited().as_secs_f64();
    if waited > 1.0 {
        progress.note(&format!("waited {} for text", format::duration(waited)));
    }
    Ok(false)
}

/// Writes one shard after another from the passes that come, and enters each in the manifest when
/// it has its name: a process killed between the two makes it once more. Of a shard whose passes
/// cease to come nothing is left.
pub fn write_shards(dir: &Path, manifest: &mut Manifest, work: &Receiver<Work>) -> Result<()> {
    while let Ok(told) = work.recv() {
        match told {
            Work::Shard(index, Next::Tokens(tokens)) => {
                if !write_shard(dir, manifest, index, &tokens, None, work)? {
                    return Ok(());
                }
            }
            Work::Shard(index, Next::Chunk(chunk)) => {
                let after = After::write(dir, index, &chunk)?;
                same_text(dir, manifest, index, &after)?;
                if chunk.tokens.len() < manifest.rows_of(index) {
                    ends_at(manifest, index * manifest.shard_rows + chunk.tokens.len());
                }
                if !write_shard(dir, manifest, index, &chunk.tokens, Some(after), work)? {
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
            Work::Shard(..) | Work::Pass(_) => {}
        }
    }
    Ok(())
}

/// The text gives this many rows, not as many as were requested.
fn ends_at(manifest: &mut Manifest, rows: usize) {
    manifest.corpus.n_seq = rows / manifest.corpus.n_ctx;
}

/// Of a shard that is made once more, the text has to be what it was.
fn same_text(dir: &Path, manifest: &Manifest, index: usize, after: &After) -> Result<()> {
    let before = manifest.shards.get(index).and_then(|shard| shard.after.as_ref());
    if before.is_some_and(|before| before != after) { Err(changed(dir, index)) } else { Ok(()) }
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
    tokens: &Tokens,
    after: Option<After>,
    work: &Receiver<Work>,
) -> Result<bool> {
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
