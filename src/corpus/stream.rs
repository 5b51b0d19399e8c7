//! A corpus that is read while the model runs: its tokens are never in memory all at once.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::documents::{LONGEST, Place};
use super::encode::Encoder;
use super::encode_batches::{EncodeBatches, Encoded};
use super::reading::{DocumentFilter, HeldOut, Reading, Seen, Stop};
use super::source_file::SourceFile;
use super::{Side, TextCorpus, Tokenised};
use crate::base::error::{Error, Result};
use crate::base::files::hex;
use crate::base::format;
use crate::model::tokens::Tokens;

/// The most held-out tokens that are kept: they are in memory, and an evaluation is exact long
/// before so many.
const MOST_HELD_OUT: usize = 1 << 22;

/// A text that every tokenizer turns into ids of its own, to tell one from another.
const PROBE: &str = "It's 1999, isn't it?\nThe na\u{ef}ve quick brown fox (aged 37) jumps over the lazy dog's back;\n\n    def f(x): return x ** 2  # \u{201c}why\u{201d}\nCamelCaseWords, UPPERCASE, hyphen-ated & under_scored: \u{4f60}\u{597d}, \u{43f}\u{440}\u{438}\u{432}\u{435}\u{442} \u{1f600}\n";

/// A corpus of which only the held-out side is in memory; [`TextCorpus::stream`] makes it.
#[derive(Clone)]
pub struct StreamedCorpus {
    /// What activations are harvested from, read and tokenised as the model comes to it.
    pub train: TokenStream,
    /// Held-out sequences: no token of `train` comes from their documents.
    pub valid: Tokens,
    /// Where the text comes from, in words.
    pub source: String,
    /// The documents of `valid`.
    pub valid_documents: Vec<String>,
}

/// Sequences that are made as they are wanted: the same in every run, on any number of threads,
/// from the beginning or from any place on.
#[derive(Clone)]
pub struct TokenStream {
    files: Arc<[SourceFile]>,
    wanted: DocumentFilter,
    held: HeldOut,
    /// Documents that are held out as files, copies of which may lie among the others.
    held_out: Arc<Seen>,
    encoder: Encoder,
    piecewise: Option<bool>,
    n_ctx: usize,
    n_seq: usize,
    made_of: BTreeMap<String, String>,
}

/// How far a stream has been read: so many ids of a document have been taken, the end-of-text token
/// before it counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// The place of the document's file among all.
    pub file: usize,
    /// Where it begins in the file.
    pub place: Place,
    /// How many ids have been taken; 0 at the beginning of the stream, and nowhere else.
    pub used: u64,
}

/// All it takes to go on with a stream.
#[derive(Clone)]
pub struct StreamPlace {
    pub cursor: Cursor,
    /// The documents up to there.
    pub seen: Seen,
    /// How many of them have begun.
    pub begun: u64,
}

impl StreamPlace {
    /// Passes the place after some sequences, in which documents with such marks begin.
    pub fn pass(&mut self, after: Cursor, marks: &[u64]) {
        self.cursor = after;
        self.begun += marks.len() as u64;
        for &text_hash in marks {
            self.seen.is_new(text_hash);
        }
    }
}

/// Some sequences of a stream.
pub struct Chunk {
    pub tokens: Tokens,
    /// How far the stream has been read after them.
    pub after: Cursor,
    /// The marks of the documents that begin in them.
    pub marks: Vec<u64>,
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
    pub fn stream(self, valid_share: f64) -> Result<StreamedCorpus> {
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
        let held = self.held(valid_share);
        let kept = valid_limit.min((MOST_HELD_OUT / self.n_ctx).max(1));
        let (valid, (piecewise, held_out)) = match valid_share {
            0.0 => (Side::empty(self.n_ctx)?, (None, Seen::default())),
            _ => {
                let mut tokenised = Tokenised::new(&self, Some(kept));
                let valid = tokenised.side(&held, true, Some(kept))?;
                self.enough(&valid, "held-out")?;
                (valid, tokenised.finish())
            }
        };
        let piecewise = piecewise
            .map_or_else(|| self.encoder.encodes_piecewise(PROBE), |known| Ok(Some(known)))?;
        let made_of = self.made_of(valid_share, n_seq)?;
        let TextCorpus { pattern, files, encoder, n_ctx, wanted, .. } = self;
        let train = TokenStream {
            files: files.into(),
            wanted,
            held,
            held_out: Arc::new(held_out),
            encoder,
            piecewise,
            n_ctx,
            n_seq,
            made_of,
        };
        Ok(StreamedCorpus {
            train,
            valid: valid.tokens,
            source: pattern,
            valid_documents: valid.documents,
        })
    }

    /// All that decides which sequences come.
    fn made_of(&self, share: f64, n_seq: usize) -> Result<BTreeMap<String, String>> {
        let DocumentFilter { column, min_chars, max_chars } = &self.wanted;
        let most =
            if *max_chars == usize::MAX { "any number".to_owned() } else { max_chars.to_string() };
        let encoder = &self.encoder;
        let ids =
            Sha256::new().chain_update(bytemuck::cast_slice::<u32, u8>(&(encoder.encode)(PROBE)?));
        let facts = [
            ("files", format!("{} ({})", self.files_in_words(), fingerprint(&self.files)?)),
            ("column", column.clone()),
            ("characters of a document", format!("{min_chars} to {most}")),
            ("held-out share", format!("{share}, seed {}", self.seed)),
            (
                "tokenizer",
                format!(
                    "{} ids, BOS {}, EOS {}, {}",
                    encoder.d_vocab,
                    encoder.bos,
                    encoder.eos,
                    hex(ids.finalize())
                ),
            ),
            ("length", format!("at most {n_seq} sequences of {}", self.n_ctx)),
        ];
        Ok(facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
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
            hash.update(format!("{}\0{}\0", file.name, remote.commit));
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
        crate::base::files::sha256(format!("{:?}", self.made_of).as_bytes())
    }

    /// Number of token ids.
    pub(crate) fn d_vocab(&self) -> usize {
        self.encoder.d_vocab
    }

    /// All that decides which sequences come, by name.
    pub fn made_of(&self) -> &BTreeMap<String, String> {
        &self.made_of
    }

    /// The beginning.
    pub(crate) fn start(&self) -> StreamPlace {
        StreamPlace { cursor: Cursor::default(), seen: self.held_out.as_ref().clone(), begun: 0 }
    }

    /// The sequences after those before `from`, `n_seq` at a time and at most `most` in all; `stop`
    /// says whether to stop.
    pub(crate) fn chunks<'a>(
        &'a self,
        from: StreamPlace,
        n_seq: usize,
        most: usize,
        stop: Stop<'a>,
    ) -> Result<Chunks<'a>> {
        let StreamPlace { cursor, seen, begun } = from;
        let goes_on = cursor.used > 0;
        let reading = Reading::new(&self.files, &self.wanted, &self.held, false, stop).after(seen);
        let reading = reading.from(cursor.file, cursor.place, goes_on)?;
        Ok(Chunks {
            encode_batches: EncodeBatches::new(&self.encoder, reading, self.piecewise),
            stream: self,
            size: n_seq * self.n_ctx,
            left: most * self.n_ctx,
            ids: Vec::new(),
            after: cursor,
            skip: cursor.used,
            // The document that continues is the first of all if no other began before it.
            first: begun <= u64::from(goes_on),
            eos_due: false,
            marks: Vec::new(),
            ready: Default::default(),
            ended: false,
        })
    }
}

/// A stream under way.
pub(crate) struct Chunks<'a> {
    encode_batches: EncodeBatches<'a, Reading<'a>>,
    stream: &'a TokenStream,
    /// Ids in a chunk, and in all that are still wanted.
    size: usize,
    left: usize,
    ids: Vec<u32>,
    after: Cursor,
    /// Ids of the first document that were taken before.
    skip: u64,
    /// Whether the next document is the first of all.
    first: bool,
    eos_due: bool,
    marks: Vec<u64>,
    ready: std::collections::VecDeque<Chunk>,
    ended: bool,
}

impl Chunks<'_> {
    /// The next sequences; fewer than were asked for at the end of the text, and then none.
    ///
    /// # Errors
    /// What reading and encoding say; [`Error::Interrupted`].
    pub fn next(&mut self) -> Result<Option<Chunk>> {
        while self.ready.is_empty() && !self.ended {
            let wave = self.encode_batches.next(Some(self.left.saturating_sub(self.ids.len())))?;
            if wave.is_empty() {
                self.ids.truncate(self.ids.len() / self.stream.n_ctx * self.stream.n_ctx);
                self.emit()?;
                self.ended = true;
            }
            for piece in wave {
                self.pack(&piece)?;
            }
        }
        Ok(self.ready.pop_front())
    }

    /// As [`Packer`](super::pack::Packer) does it, and the same test holds both to it.
    fn pack(&mut self, piece: &Encoded) -> Result<()> {
        if self.ended {
            return Ok(());
        }
        if piece.begins {
            let text = self.encode_batches.text(piece.text);
            self.eos_due = !std::mem::take(&mut self.first);
            self.after = Cursor { file: text.file, place: text.place, used: 0 };
            // One that continues began before.
            if self.skip == 0 {
                self.marks.push(text.text_hash);
            }
        }
        let eos = (!piece.ids.is_empty() && std::mem::take(&mut self.eos_due))
            .then_some(self.stream.encoder.eos);
        for &id in eos.iter().chain(&piece.ids) {
            self.after.used += 1;
            if self.skip > 0 {
                self.skip -= 1;
                continue;
            }
            if self.ids.len().is_multiple_of(self.stream.n_ctx) {
                self.ids.push(self.stream.encoder.bos);
            }
            self.ids.push(id);
            if self.ids.len() == self.size.min(self.left) {
                self.emit()?;
                if self.left == 0 {
                    self.ended = true;
                    break;
                }
            }
        }
        Ok(())
    }

    fn emit(&mut self) -> Result<()> {
        if !self.ids.is_empty() {
            self.left -= self.ids.len();
            let tokens = Tokens::new(std::mem::take(&mut self.ids), self.stream.n_ctx)?;
            self.ready.push_back(Chunk {
                tokens,
                after: self.after,
                marks: std::mem::take(&mut self.marks),
            });
        }
        Ok(())
    }
}
