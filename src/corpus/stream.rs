//! A corpus that is read while the model runs: its tokens are never in memory all at once.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::chunks::{Chunks, Cursor};
use super::documents::LONGEST;
use super::encode::Encoder;
use super::encode_batches::EncodeBatches;
use super::reading::{DocumentFilter, HeldOut, Reading, Seen};
use super::sides::Sides;
use super::source_file::SourceFile;
use super::stop::Stop;
use super::{Corpus, TextCorpus};
use crate::base::error::{Error, Result};
use crate::base::files::{hex, sha256};
use crate::base::format;
use crate::model::tokens::Tokens;

/// The most held-out tokens that are kept: they are in memory, and an evaluation is exact long
/// before so many.
const MOST_HELD_OUT: usize = 1 << 22;

/// A text that every tokenizer turns into ids of its own, to tell one from another.
const PROBE: &str = "It's 1999, isn't it?\nThe na\u{ef}ve quick brown fox (aged 37) jumps over the lazy dog's back;\n\n    def f(x): return x ** 2  # \u{201c}why\u{201d}\nCamelCaseWords, UPPERCASE, hyphen-ated & under_scored: \u{4f60}\u{597d}, \u{43f}\u{440}\u{438}\u{432}\u{435}\u{442} \u{1f600}\n";

/// Sequences that are made as they are wanted, from text that is read and tokenised as the model
/// comes to it: the same in every run, on any number of threads, from the beginning or from any
/// place on.
#[derive(Clone)]
pub struct TokenStream {
    files: Arc<[SourceFile]>,
    wanted: DocumentFilter,
    held: HeldOut,
    /// Documents that are held out as files, copies of which may lie among the others.
    held_out: Arc<Seen>,
    encoder: Encoder,
    n_ctx: usize,
    n_seq: usize,
    made_of: BTreeMap<String, String>,
}

/// All it takes to go on with a stream.
#[derive(Clone)]
pub struct StreamPlace {
    cursor: Cursor,
    /// The documents up to there.
    seen: Seen,
    /// How many of them have begun.
    begun: u64,
}

impl StreamPlace {
    /// Passes the place after some sequences, in which documents with such marks begin.
    pub fn pass(&mut self, after: Cursor, marks: impl Iterator<Item = u64>) {
        self.cursor = after;
        for mark in marks {
            self.begun += 1;
            self.seen.is_new(mark);
        }
    }
}

impl TextCorpus {
    /// As [`split`](TextCorpus::split), for text of any size: the held-out side is tokenised now,
    /// the other while the model runs, in memory that does not grow with it.
    /// [`max_tokens`](TextCorpus::max_tokens) says where it ends.
    ///
    /// The sequences are those of [`split`](TextCorpus::split); but of the held-out ones at most
    /// four million tokens are kept, and a copy of a document is left out if it is among the three
    /// million read before it.
    ///
    /// ```no_run
    /// use tokenized_sae::prelude::*;
    /// let model = Model::load("gpt2")?;
    /// let corpus = Corpus::text_files(&model, "pile/*.jsonl.zst")?.max_tokens(500_000_000).stream(0.01)?;
    /// let hook: HookPoint = "blocks.8.hook_resid_pre".parse()?;
    /// let acts = ActivationStore::harvest(&model, &[hook], &corpus.train, "cache/pile", HarvestConfig::default())?;
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`split`](TextCorpus::split), and [`Error::Config`] without `max_tokens`.
    pub fn stream(self, valid_share: f64) -> Result<Corpus<TokenStream>> {
        let (Some(n_seq), Some(valid_limit)) = self.limits(valid_share)? else {
            return Err(Error::config(
                "max_tokens",
                "is not given, and a stream has to end somewhere: call max_tokens(…) before stream(…)",
            ));
        };
        if let Some(long) =
            self.files.iter().find(|file| file.form.is_plain_text() && file.bytes > LONGEST as u64)
        {
            let why = format!(
                "is one document of {}, and the longest that can be streamed is {} MiB: split it, or make it a .jsonl with one document per line",
                format::bytes(long.bytes),
                LONGEST >> 20
            );
            return Err(Error::format(&long.path, why));
        }
        self.check_looks()?;
        let held = self.held(valid_share);
        let kept = valid_limit.min((MOST_HELD_OUT / self.n_ctx).max(1));
        let (valid, valid_documents, held_out) = match valid_share {
            0.0 => (Tokens::new(Vec::new(), self.n_ctx)?, Vec::new(), Seen::default()),
            _ => {
                let mut sides = Sides::new(&self, &held, Some(kept));
                let side = sides.side(true, Some(kept))?;
                let seen = sides.finish();
                let (valid, documents) = side.enough("held-out")?;
                (valid, documents, seen)
            }
        };
        let made_of = self.made_of(valid_share, n_seq)?;
        let TextCorpus { pattern, files, encoder, n_ctx, wanted, .. } = self;
        let (files, held_out) = (files.into(), Arc::new(held_out));
        let train = TokenStream { files, wanted, held, held_out, encoder, n_ctx, n_seq, made_of };
        let train_documents = Vec::new();
        Ok(Corpus { train, valid, source: pattern, train_documents, valid_documents })
    }

    /// All that decides which sequences come.
    fn made_of(&self, share: f64, n_seq: usize) -> Result<BTreeMap<String, String>> {
        let DocumentFilter { column, min_chars, max_chars } = &self.wanted;
        let most = match *max_chars {
            usize::MAX => "any number".to_owned(),
            most => most.to_string(),
        };
        let Encoder { d_vocab, bos, eos, encode, .. } = &self.encoder;
        let ids = sha256(bytemuck::cast_slice(&encode(PROBE)?));
        let facts = [
            ("files", format!("{} ({})", self.files_in_words(), fingerprint(&self.files)?)),
            ("column", column.clone()),
            ("characters of a document", format!("{min_chars} to {most}")),
            ("held-out share", format!("{share}, seed {}", self.seed)),
            ("tokenizer", format!("{d_vocab} ids, BOS {bos}, EOS {eos}, {ids}")),
            ("length", format!("at most {n_seq} sequences of {}", self.n_ctx)),
        ];
        // Streams from before there was a choice have no such fact.
        let format = self.format.map(|format| ("format", format.to_string()));
        let facts = facts.into_iter().chain(format);
        Ok(facts.map(|(name, value)| (name.to_owned(), value)).collect())
    }
}

/// What tells these files from others without reading all of them: their names in order, their
/// sizes, and how each begins and ends.
fn fingerprint(files: &[SourceFile]) -> Result<String> {
    /// Bytes at either end.
    const END: u64 = 64 << 10;
    let mut hash = Sha256::new();
    for file in files {
        if let Some(remote) = &file.remote {
            // A commit has all of a file's bytes.
            hash.update(format!("{}\0{}\0", file.name, remote.snapshot.commit));
            continue;
        }
        hash.update(format!("{}\0{}\0", file.name, file.bytes));
        let ends = || {
            let mut open = File::open(&file.path)?;
            let mut bytes = Vec::new();
            (&mut open).take(END).read_to_end(&mut bytes)?;
            open.seek(SeekFrom::Start(file.bytes.saturating_sub(END).max(END.min(file.bytes))))?;
            open.take(END).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        hash.update(ends().map_err(Error::io("read", &file.path))?);
    }
    Ok(hex(hash.finalize()))
}

impl TokenStream {
    /// How many sequences there are, if the text gives that many.
    pub fn n_seq(&self) -> usize {
        self.n_seq
    }

    /// How many tokens a sequence has.
    pub fn n_ctx(&self) -> usize {
        self.n_ctx
    }

    /// What tells these sequences from any others: the SHA-256, in hex, of all that decides which
    /// they are, among it the names, sizes and both ends of all files.
    pub fn fingerprint(&self) -> String {
        sha256(format!("{:?}", self.made_of).as_bytes())
    }

    /// Number of token ids.
    pub(crate) fn d_vocab(&self) -> usize {
        self.encoder.d_vocab
    }

    /// All that decides which sequences come, by name.
    pub fn made_of(&self) -> &BTreeMap<String, String> {
        &self.made_of
    }

    /// The files that it is read from.
    pub(crate) fn files(&self) -> &[SourceFile] {
        &self.files
    }

    /// The beginning.
    pub(crate) fn start(&self) -> StreamPlace {
        StreamPlace { cursor: Cursor::default(), seen: self.held_out.as_ref().clone(), begun: 0 }
    }

    /// The sequences from a place on, so many at a time and at most so many in all; `stop` says
    /// whether to stop.
    pub(crate) fn chunks<'a>(
        &'a self,
        from: StreamPlace,
        at_a_time_and_in_all: (usize, usize),
        stop: Stop<'a>,
    ) -> Result<Chunks<'a, Reading<'a>>> {
        let StreamPlace { cursor, seen, begun } = from;
        let goes_on = cursor.used > 0;
        let reading = Reading::new(&self.files, &self.wanted, &self.held, false, seen, stop).from(
            cursor.file,
            cursor.place,
            goes_on,
        )?;
        let batches = EncodeBatches::new(&self.encoder, reading);
        // The document that continues is the first of all if no other began before it.
        let first = begun <= u64::from(goes_on);
        Ok(Chunks::new(batches, self.n_ctx, at_a_time_and_in_all, (cursor, first)))
    }
}
