//! Both sides of a corpus, in memory.

use super::chunks::{Chunk, Chunks, Cursor};
use super::encode_batches::EncodeBatches;
use super::memory_budget::MemoryBudget;
use super::reading::{HeldOut, Reading, Seen};
use super::{Corpus, TextCorpus};
use crate::base::error::{Error, Result};
use crate::display::{Progress, interrupt};
use crate::model::tokens::Tokens;

impl TextCorpus {
    /// Reads and tokenises the documents and holds `valid_share` of the text out (0 holds nothing
    /// out), as the [module](crate::corpus) says.
    ///
    /// # Errors
    /// [`Error::Config`] for a context that the model cannot read or a share outside `0..1`;
    /// [`Error::Memory`] for more text than there is room for; [`Error::Format`] if a file is not
    /// UTF-8, damaged, or has no such column; [`Error::EmptyCorpus`] if a side has too little text
    /// for a sequence; [`Error::Tokenizer`]; [`Error::Io`]; [`Error::Interrupted`].
    pub fn split(self, valid_share: f64) -> Result<Corpus> {
        let (train_limit, valid_limit) = self.limits(valid_share)?;
        self.check_looks()?;
        let held = self.held(valid_share);
        let both = train_limit.zip(valid_limit).map(|(train, valid)| train + valid);
        let mut sides = Sides::new(&self, &held, both);
        let valid = match valid_share {
            0.0 => None,
            _ => Some(sides.side(true, valid_limit)?),
        };
        let train = sides.side(false, train_limit)?;
        sides.finish();
        let (train, train_documents) = train.enough("training")?;
        let (valid, valid_documents) = match valid {
            Some(valid) => valid.enough("held-out")?,
            None => (Tokens::new(Vec::new(), self.n_ctx)?, Vec::new()),
        };
        Ok(Corpus { train, valid, source: self.pattern, train_documents, valid_documents })
    }
}

/// What was found on one side.
pub struct Side {
    found: Option<Chunk>,
    n_tokens: usize,
    n_ctx: usize,
}

impl Side {
    /// The sequences, and the names of their documents.
    ///
    /// # Errors
    /// [`Error::EmptyCorpus`] if the text, which is called `what`, does not fill a sequence.
    pub fn enough(self, what: &str) -> Result<(Tokens, Vec<String>)> {
        let Side { found, n_tokens, n_ctx } = self;
        let Some(Chunk { tokens, begun, .. }) = found else {
            let why = format!(
                "the {what} text has {n_tokens} tokens, and a sequence takes {n_ctx}: give more text, a shorter context, or another share"
            );
            return Err(Error::EmptyCorpus { why });
        };
        Ok((tokens, begun.into_iter().map(|document| document.name).collect()))
    }
}

/// Turns the documents of one side after the other into sequences in memory.
pub struct Sides<'a> {
    corpus: &'a TextCorpus,
    held: &'a HeldOut,
    /// The documents of the side before that this one must not have.
    seen: Seen,
    progress: Progress,
    /// Tokens packed if both sides are limited, or else bytes encoded, and whether it is tokens.
    done: u64,
    in_tokens: bool,
}

impl<'a> Sides<'a> {
    /// `sequences` is how many there will be on both sides, if that is limited.
    pub fn new(corpus: &'a TextCorpus, held: &'a HeldOut, sequences: Option<usize>) -> Sides<'a> {
        // Nobody knows what a packed file unpacks to.
        let plain = corpus.files.iter().all(|file| file.form.is_plain_text());
        let (total, unit) = match sequences {
            Some(sequences) => ((sequences * corpus.n_ctx) as u64, "tokens"),
            None => (if plain { corpus.files.iter().map(|file| file.bytes).sum() } else { 0 }, "B"),
        };
        interrupt::watch();
        interrupt::clear();
        let progress = Progress::new("tokenise", total, unit);
        let (seen, in_tokens) = (Seen::default(), sequences.is_some());
        Sides { corpus, held, seen, progress, done: 0, in_tokens }
    }

    /// Reads one side, at most `limit` sequences of it.
    pub fn side(&mut self, held_out: bool, limit: Option<usize>) -> Result<Side> {
        let TextCorpus { encoder, files, wanted, n_ctx, .. } = self.corpus;
        let (seen, stop) = (std::mem::take(&mut self.seen), &interrupt::requested);
        let reading = Reading::new(files, wanted, self.held, held_out, seen, stop);
        let batches = EncodeBatches::new(encoder, reading);
        let most = limit.unwrap_or(usize::MAX);
        let mut chunks = Chunks::new(batches, *n_ctx, (most, most), (Cursor::default(), true));
        let mut memory = MemoryBudget::new();
        let mut n_tokens = 0;
        while let Some(bytes) = chunks.wave().inspect_err(|_| interrupt::clear())? {
            memory.check(chunks.n_tokens())?;
            let new = chunks.n_tokens() - std::mem::replace(&mut n_tokens, chunks.n_tokens());
            self.done += (if self.in_tokens { new } else { bytes }) as u64;
            self.progress.set(self.done);
        }
        let found = chunks.next()?;
        self.seen = chunks.end().seen();
        Ok(Side { found, n_tokens, n_ctx: *n_ctx })
    }

    /// Ends the bar, and says what the next side must not have.
    pub fn finish(self) -> Seen {
        self.progress.finish();
        self.seen
    }
}
