//! What shards are made from, brought by another thread that is ahead by one shard.

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use super::manifest::Manifest;
use super::sequences::Sequences;
use crate::base::error::{Error, Result};
use crate::corpus::{Chunk, TokenStream};
use crate::display::interrupt;

/// Shards' sequences in the order in which they are to be made, to the end of the text.
pub struct Feed {
    chunks: Receiver<Result<Chunk>>,
    /// How long the model had to wait for text.
    pub waited: Duration,
}

impl Feed {
    pub fn new(chunks: Receiver<Result<Chunk>>) -> Feed {
        Feed { chunks, waited: Duration::ZERO }
    }

    /// The sequences of the next shard; `None` at the end of the text.
    ///
    /// # Errors
    /// What reading them says; [`Error::Interrupted`].
    pub fn next(&mut self) -> Result<Option<Chunk>> {
        let began = Instant::now();
        loop {
            match self.chunks.recv_timeout(Duration::from_millis(50)) {
                Ok(chunk) => {
                    self.waited += began.elapsed();
                    return chunk.map(Some);
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) if interrupt::requested() => return Err(stopped()),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

/// What is said of a stop by hand to whoever knows what is kept.
pub fn stopped() -> Error {
    Error::Interrupted { what: "the harvest", remedy: String::new() }
}

/// The far end of a [`Feed`]: reads what the shards `todo` are made from, until nobody listens or
/// `stop` says so.
pub struct Feeder<'a> {
    pub dir: &'a Path,
    pub manifest: &'a Manifest,
    pub todo: &'a [usize],
    pub chunks: SyncSender<Result<Chunk>>,
}

impl Feeder<'_> {
    pub fn run(self, sequences: Sequences<'_>, stop: &dyn Fn() -> bool) {
        let fed = match sequences {
            Sequences::InMemory(tokens) => {
                for &index in self.todo {
                    let first = index * self.manifest.shard_rows / tokens.n_ctx();
                    let end = first + self.manifest.rows_of(index) / tokens.n_ctx();
                    if !self.give(Chunk::of(tokens.rows(first, end))) {
                        return;
                    }
                }
                Ok(())
            }
            Sequences::Stream(stream) => self.stream(stream, stop),
        };
        if let Err(e) = fed {
            // Nobody listens: then nobody wants to know.
            let _ = self.chunks.send(Err(e));
        }
    }

    /// Whether anybody listens.
    fn give(&self, chunk: Chunk) -> bool {
        self.chunks.send(Ok(chunk)).is_ok()
    }

    /// Shards that are there may lie between those that are not: then the stream is reopened
    /// after them.
    fn stream(&self, stream: &TokenStream, stop: &dyn Fn() -> bool) -> Result<()> {
        let per_shard = self.manifest.shard_rows / stream.n_ctx();
        let mut place = stream.start();
        let mut passed = 0;
        for run in self.todo.chunk_by(|a, b| a + 1 == *b) {
            let (first, end) = (run[0], run[0] + run.len());
            for index in passed..first {
                if let Some(after) = &self.manifest.shards[index].after {
                    place.pass(after.cursor, after.marks(self.dir, index)?.into_iter());
                }
            }
            passed = end;
            let most = (run.len() * per_shard).min(self.manifest.corpus.n_seq - first * per_shard);
            let mut chunks = stream.chunks(place.clone(), (per_shard, most), stop)?;
            while let Some(chunk) = chunks.next()? {
                if end < self.manifest.shards.len() {
                    place.pass(chunk.after, chunk.begun.iter().map(|document| document.mark));
                }
                if !self.give(chunk) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
