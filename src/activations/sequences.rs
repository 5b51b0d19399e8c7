//! Where a harvest's sequences come from: memory, or a stream that is tokenised while the model
//! runs.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::manifest::{CorpusId, Manifest};
use crate::base::error::{Error, Result};
use crate::base::files::{sha256, write_atomic};
use crate::corpus::{Chunk, Cursor, TokenStream};
use crate::display::interrupt;
use crate::model::tokens::Tokens;

/// What a harvest runs through the model: `&Tokens` from memory, or a `&TokenStream`.
#[derive(Clone, Copy)]
pub enum Sequences<'a> {
    /// Sequences in memory.
    InMemory(&'a Tokens),
    /// Sequences that are made while the model runs.
    Stream(&'a TokenStream),
}

impl<'a> From<&'a Tokens> for Sequences<'a> {
    fn from(tokens: &'a Tokens) -> Sequences<'a> {
        Sequences::InMemory(tokens)
    }
}

impl<'a> From<&'a TokenStream> for Sequences<'a> {
    fn from(stream: &'a TokenStream) -> Sequences<'a> {
        Sequences::Stream(stream)
    }
}

impl Sequences<'_> {
    /// Tokens in a sequence.
    pub(super) fn n_ctx(&self) -> usize {
        match self {
            Sequences::InMemory(tokens) => tokens.n_ctx(),
            Sequences::Stream(stream) => stream.n_ctx(),
        }
    }

    /// What the manifest says of them. The number in a stream is not known before its end,
    /// so it says how many there are at most.
    ///
    /// # Errors
    /// [`Error::EmptyCorpus`], [`Error::TokenId`], [`Error::Config`] if they are not for a model
    /// of `d_vocab` tokens.
    pub(super) fn id(&self, d_vocab: usize) -> Result<CorpusId> {
        match self {
            Sequences::InMemory(tokens) if tokens.is_empty() => {
                Err(Error::EmptyCorpus { why: "there is no sequence to harvest".into() })
            }
            Sequences::InMemory(tokens) => {
                tokens.check(d_vocab)?;
                Ok(CorpusId {
                    fingerprint: tokens.fingerprint(),
                    n_seq: tokens.n_seq(),
                    n_ctx: tokens.n_ctx(),
                    stream: None,
                })
            }
            Sequences::Stream(stream) if stream.d_vocab() > d_vocab => {
                let why = format!(
                    "has {} ids, and the model has {d_vocab}: make the stream for this model",
                    stream.d_vocab()
                );
                Err(Error::config("tokenizer", why))
            }
            Sequences::Stream(stream) => {
                let made_of = stream.made_of().clone();
                Ok(CorpusId {
                    fingerprint: stream.fingerprint(),
                    n_seq: stream.n_seq(),
                    n_ctx: stream.n_ctx(),
                    stream: Some(made_of),
                })
            }
        }
    }
}

/// How far a stream has been read when a shard is full: what it takes to continue there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct After {
    pub cursor: Cursor,
    /// How many documents begin in the shard; their marks, by which copies are known, lie beside
    /// it.
    pub documents: usize,
    /// The SHA-256 of the marks.
    pub sha256: String,
}

impl After {
    /// Writes the marks of shard `index` beside it.
    pub fn write(dir: &Path, index: usize, chunk: &Chunk) -> Result<After> {
        let bytes: Vec<u8> = chunk.marks.iter().flat_map(|mark| mark.to_le_bytes()).collect();
        write_atomic(&marks_path(dir, index), |out| out.write_all(&bytes))?;
        Ok(After { cursor: chunk.after, documents: chunk.marks.len(), sha256: sha256(&bytes) })
    }

    /// Reads the marks of shard `index`.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Checksum`].
    fn marks(&self, dir: &Path, index: usize) -> Result<Vec<u64>> {
        let path = marks_path(dir, index);
        let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
        let got = sha256(&bytes);
        if got != self.sha256 || bytes.len() != 8 * self.documents {
            let remedy =
                "delete it and harvest into this folder again to recreate it and its shard"
                    .to_owned();
            return Err(Error::Checksum { path, want: self.sha256.clone(), got, remedy });
        }
        Ok(bytes.as_chunks().0.iter().map(|mark| u64::from_le_bytes(*mark)).collect())
    }
}

/// The file of the marks of shard `index`.
pub fn marks_path(dir: &Path, index: usize) -> PathBuf {
    dir.join(format!("documents-{index:05}.bin"))
}

/// Whether `name` is that of a file of marks.
pub fn is_marks(name: &str) -> bool {
    name.strip_prefix("documents-")
        .and_then(|rest| rest.strip_suffix(".bin"))
        .is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
}

/// Shards' tokens in the order of `todo`, to the end of the text.
pub enum Feed<'a> {
    InMemory(&'a Tokens),
    /// From another thread, which is ahead by one shard.
    Stream {
        chunks: Receiver<Result<Chunk>>,
        waited: Duration,
    },
}

/// What the next shard is made from.
pub enum Next {
    Tokens(Tokens),
    Chunk(Chunk),
    /// There is no more text.
    End,
    /// The stop button was pressed.
    Stopped,
}

impl Feed<'_> {
    /// The tokens of shard `index`, which is the next of those to be made.
    ///
    /// # Errors
    /// What reading the stream says.
    pub fn next(&mut self, manifest: &Manifest, index: usize) -> Result<Next> {
        match self {
            Feed::InMemory(tokens) => {
                let first = index * manifest.shard_rows / tokens.n_ctx();
                Ok(Next::Tokens(
                    tokens.rows(first, first + manifest.rows_of(index) / tokens.n_ctx()),
                ))
            }
            Feed::Stream { chunks, waited } => {
                let began = Instant::now();
                loop {
                    let chunk = match chunks.recv_timeout(Duration::from_millis(50)) {
                        Ok(chunk) => chunk,
                        Err(RecvTimeoutError::Disconnected) => return Ok(Next::End),
                        Err(RecvTimeoutError::Timeout) if interrupt::requested() => {
                            return Ok(Next::Stopped);
                        }
                        Err(RecvTimeoutError::Timeout) => continue,
                    };
                    *waited += began.elapsed();
                    return match chunk {
                        // A download that was stopped has spent the press.
                        Err(Error::Interrupted { .. }) => Ok(Next::Stopped),
                        chunk => chunk.map(Next::Chunk),
                    };
                }
            }
        }
    }

    /// How long the model had to wait for text.
    pub fn waited(&self) -> Duration {
        match self {
            Feed::InMemory(_) => Duration::ZERO,
            Feed::Stream { waited, .. } => *waited,
        }
    }
}

/// The far end of a [`Feed::Stream`]: reads and tokenises what the shards `todo` are made from,
/// until nobody listens or `stop` is set.
pub struct Feeder<'a> {
    dir: &'a Path,
    stream: &'a TokenStream,
    manifest: Manifest,
    todo: &'a [usize],
    stop: &'a AtomicBool,
    chunks: SyncSender<Result<Chunk>>,
}

impl<'a> Feeder<'a> {
    /// A feeder and the feed it gives to.
    pub fn new(
        dir: &'a Path,
        stream: &'a TokenStream,
        manifest: &Manifest,
        todo: &'a [usize],
        stop: &'a AtomicBool,
    ) -> (Feeder<'a>, Feed<'a>) {
        let (to, chunks) = sync_channel(1);
        (
            Feeder { dir, stream, manifest: manifest.clone(), todo, stop, chunks: to },
            Feed::Stream { chunks, waited: Duration::ZERO },
        )
    }

    pub fn run(self) {
        if let Err(e) = self.feed() {
            // Nobody listens: then nobody wants to know.
            let _ = self.chunks.send(Err(e));
        }
    }

    /// Shards that are there may lie between those that are not: then the stream is reopened
    /// after them.
    fn feed(&self) -> Result<()> {
        let stop = || self.stop.load(Ordering::Relaxed) || interrupt::requested();
        let per_shard = self.manifest.shard_rows / self.stream.n_ctx();
        let mut place = self.stream.start();
        let mut passed = 0;
        for run in self.todo.chunk_by(|a, b| a + 1 == *b) {
            let (first, end) = (run[0], run[0] + run.len());
            for index in passed..first {
                if let Some(after) = &self.manifest.shards[index].after {
                    place.pass(after.cursor, &after.marks(self.dir, index)?);
                }
            }
            passed = end;
            let most = (run.len() * per_shard).min(self.manifest.corpus.n_seq - first * per_shard);
            let mut chunks = self.stream.chunks(place.clone(), per_shard, most, &stop)?;
            while let Some(chunk) = chunks.next()? {
                if end < self.manifest.shards.len() {
                    place.pass(chunk.after, &chunk.marks);
                }
                if self.chunks.send(Ok(chunk)).is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
