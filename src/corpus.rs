//! Text to token sequences, split into training and held-out text before anything else is done with
//! it.
//!
//! | file | documents |
//! | --- | --- |
//! | `.txt`, `.md` | the file is one |
//! | `.jsonl`, `.ndjson`, `.json` | one a line: the field `text` of a JSON object, or another [`column`](TextCorpus::column) |
//! | `.parquet` | one a row: the string column `text`, or another |
//! | each of the first two with `.gz` or `.zst` behind it | as without |
//!
//! - **Documents.** Files are taken in the order of a hash of their names, so that the first few
//!   are a fair sample; the documents of a file in their own order. A document with the same
//!   content as an earlier one is left out, and so is one of white space alone.
//! - **Split.** Of plain-text files whole ones are held out, about `valid_share` of the text
//!   (measured in bytes, so that the same documents are held out for every model and every
//!   `max_tokens`), and at least one; a single document is cut in two at a paragraph border near
//!   its end, and its tail is held out. Of a data set (JSON lines, parquet) each document is held
//!   out by a hash of its text and the [`seed`](TextCorpus::seed), so that its side does not depend
//!   on any other.
//! - **Packing.** The documents of one side are joined by EOS to a stream. A sequence is BOS and
//!   then the next `n_ctx − 1` tokens of it; an incomplete sequence at the end is dropped.
//!
//! [`split`](TextCorpus::split) keeps all tokens in memory. [`stream`](TextCorpus::stream) gives
//! the same sequences and keeps none: text is read and tokenised on all cores while the model runs,
//! and an activation store remembers how far it has come, so that a harvest that was stopped goes
//! on from there.
//!
//! Text that spells a special token, such as `<|endoftext|>`, becomes that token, as in other
//! tokenizing tools.

mod dataset;
mod documents;
mod encode;
mod encode_batches;
mod form;
mod memory_budget;
mod pack;
mod reading;
mod sampled;
mod source_file;
mod split;
mod stream;
mod view;
mod words;

pub use documents::Documents;
pub use encode::{Encode, Encoder};
pub(crate) use stream::{Chunk, Cursor};
pub use stream::{StreamedCorpus, TokenStream};

use crate::base::error::{Error, Result};
use crate::display::{Progress, interrupt};
use crate::hub::Hub;
use crate::model::Model;
use crate::model::tokens::Tokens;
use encode_batches::EncodeBatches;
use pack::Packer;
use reading::{DocumentFilter, HeldOut, Reading, Seen};
use source_file::SourceFile;

/// The context length unless another is asked for, if the model reads that much: the paper's.
pub(crate) const DEFAULT_N_CTX: usize = 256;

/// Sequences to train on, and sequences of other text to judge by.
#[derive(Clone, PartialEq, Eq)]
pub struct Corpus {
    /// The sequences that activations are harvested from.
    pub train: Tokens,
    /// Held-out sequences: no token of `train` came from their documents.
    pub valid: Tokens,
    /// Where the text came from, in words.
    pub source: String,
    /// The documents of each side; empty where there are none, as in a sampled corpus.
    pub train_documents: Vec<String>,
    /// As `train_documents`.
    pub valid_documents: Vec<String>,
}

impl Corpus {
    /// A corpus of sequences that were made elsewhere.
    ///
    /// # Errors
    /// [`Error::Shape`] if the two sides have sequences of different lengths.
    pub fn new(train: Tokens, valid: Tokens) -> Result<Corpus> {
        if train.n_ctx() != valid.n_ctx() {
            let what = "the held-out side of a corpus".to_owned();
            return Err(Error::Shape {
                what,
                want: vec![valid.n_seq(), train.n_ctx()],
                got: vec![valid.n_seq(), valid.n_ctx()],
            });
        }
        Ok(Corpus {
            train,
            valid,
            source: "given sequences".into(),
            train_documents: Vec::new(),
            valid_documents: Vec::new(),
        })
    }

    /// Finds the files with text that `pattern` means: a file, a folder (all files of the kinds
    /// that are read, at any depth), a glob such as `"books/*.txt"`, or a data set of the hub such
    /// as `"hub:org/name"`. What [`TextCorpus::split`] or [`TextCorpus::stream`] returns is the
    /// corpus.
    ///
    /// ```no_run
    /// use tokenized_sae::prelude::*;
    /// let model = Model::load("tiny-gpt2")?;
    /// let corpus = Corpus::text_files(&model, "books/*.txt")?.context(256).max_tokens(4_000_000).split(0.02)?;
    /// println!("{corpus}");
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NoTokenizer`] if the model has none, [`Error::EmptyCorpus`] if there is no such
    /// file, [`Error::Config`] if `pattern` is not a pattern, [`Error::Format`] if it names a file
    /// of a kind that is not read; for a data set, as [`Corpus::dataset`].
    pub fn text_files(model: &Model, pattern: &str) -> Result<TextCorpus> {
        Corpus::text_files_with(Corpus::encoder(model)?, pattern)
    }

    /// As [`Corpus::text_files`], for a tokenizer that belongs to no model of this crate's.
    ///
    /// # Errors
    /// As [`Corpus::text_files`].
    pub fn text_files_with(encoder: Encoder, pattern: &str) -> Result<TextCorpus> {
        if pattern.starts_with(dataset::PREFIX) {
            return Corpus::dataset_with(encoder, pattern, &Hub::from_env());
        }
        Ok(TextCorpus::new(encoder, pattern, source_file::find(pattern)?))
    }

    /// Finds the files of a data set of the Hugging Face hub: `org/name`, with `@revision`,
    /// `:configuration` and `:split` behind it where they are not `main`, the only one and `train`,
    /// as in `"wikimedia/wikipedia:20231101.en"`.
    ///
    /// Its parquet files are read, or its JSON lines; if it has neither, the hub's own parquet
    /// copy. Each file is fetched into the hub's cache when the corpus comes to it, and stays
    /// there. With `HF_HUB_OFFLINE` set, the data set is what lies in the cache.
    ///
    /// ```no_run
    /// use tokenized_sae::prelude::*;
    /// let model = Model::load("gpt2")?;
    /// let corpus = Corpus::dataset(&model, "NeelNanda/pile-10k")?.max_tokens(10_000_000).stream(0.02)?;
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NoTokenizer`] if the model has none; [`Error::Hub`] if the hub cannot be reached or
    /// has no such data set; [`Error::Config`] with the configurations, if there are several and
    /// none is named; [`Error::EmptyCorpus`] if no file of it is read.
    pub fn dataset(model: &Model, name: &str) -> Result<TextCorpus> {
        Corpus::dataset_with(Corpus::encoder(model)?, name, &Hub::from_env())
    }

    /// As [`Corpus::dataset`], for any tokenizer and from any hub.
    ///
    /// # Errors
    /// As [`Corpus::dataset`].
    pub fn dataset_with(encoder: Encoder, name: &str, hub: &Hub) -> Result<TextCorpus> {
        Ok(TextCorpus::new(encoder, name, dataset::find(name, hub)?))
    }

    fn encoder(model: &Model) -> Result<Encoder> {
        let config = model.config();
        Encoder::of_tokenizer(
            model.name(),
            model.tokenizer()?,
            config.bos,
            config.eos,
            config.n_ctx,
            config.d_vocab,
        )
    }

    /// Tokens in a sequence.
    pub fn n_ctx(&self) -> usize {
        self.train.n_ctx()
    }
}

/// Files with text that have been found but not read; [`split`](TextCorpus::split) makes the
/// corpus.
#[derive(Clone)]
pub struct TextCorpus {
    pattern: String,
    files: Vec<SourceFile>,
    encoder: Encoder,
    n_ctx: usize,
    max_tokens: Option<usize>,
    wanted: DocumentFilter,
    seed: u64,
}

impl TextCorpus {
    fn new(encoder: Encoder, pattern: &str, files: Vec<SourceFile>) -> TextCorpus {
        let n_ctx = encoder.n_ctx.min(DEFAULT_N_CTX);
        let wanted = DocumentFilter {
            column: documents::COLUMN.to_owned(),
            min_chars: 0,
            max_chars: usize::MAX,
        };
        TextCorpus {
            files,
            pattern: pattern.to_owned(),
            encoder,
            n_ctx,
            max_tokens: None,
            wanted,
            seed: 0,
        }
    }

    /// Asks for sequences of `n_ctx` tokens, BOS included. Default: what the model reads, but at
    /// most 256.
    pub fn context(self, n_ctx: usize) -> TextCorpus {
        TextCorpus { n_ctx, ..self }
    }

    /// Asks for at most this many tokens to train on, and for held-out ones in proportion. No more
    /// files are read than that takes.
    pub fn max_tokens(self, max_tokens: usize) -> TextCorpus {
        TextCorpus { max_tokens: Some(max_tokens), ..self }
    }

    /// Names the field of JSON lines, or the column of parquet files, that holds the text. Default:
    /// `text`. One within a struct is named with a point, `page.text`.
    pub fn column(self, column: &str) -> TextCorpus {
        TextCorpus { wanted: DocumentFilter { column: column.to_owned(), ..self.wanted }, ..self }
    }

    /// Leaves out documents of fewer than this many characters. Default: none but blank ones.
    pub fn min_chars(self, min_chars: usize) -> TextCorpus {
        TextCorpus { wanted: DocumentFilter { min_chars, ..self.wanted }, ..self }
    }

    /// Leaves out documents of more than this many characters. Default: none.
    pub fn max_chars(self, max_chars: usize) -> TextCorpus {
        TextCorpus { wanted: DocumentFilter { max_chars, ..self.wanted }, ..self }
    }

    /// Another order of the files, and of data sets another choice of held-out documents. Default: 0.
    pub fn seed(mut self, seed: u64) -> TextCorpus {
        source_file::order(&mut self.files, seed);
        TextCorpus { seed, ..self }
    }

    /// How many files were found; one of plain text is one document.
    pub fn n_files(&self) -> usize {
        self.files.len()
    }

    /// Reads and tokenises the documents and holds `valid_share` of the text out (0 holds nothing
    /// out), as the [module](self) says.
    ///
    /// # Errors
    /// [`Error::Config`] for a context that the model cannot read or a share outside `0..1`;
    /// [`Error::Memory`] for more text than there is room for; [`Error::Format`] if a file is not
    /// UTF-8, damaged, or has no such column; [`Error::EmptyCorpus`] if a side has too little text
    /// for a sequence; [`Error::Tokenizer`]; [`Error::Io`]; [`Error::Interrupted`].
    pub fn split(self, valid_share: f64) -> Result<Corpus> {
        let (train_limit, valid_limit) = self.limits(valid_share)?;
        let held = self.held(valid_share);
        let mut tokenised =
            Tokenised::new(&self, train_limit.zip(valid_limit).map(|(train, valid)| train + valid));
        let valid = match valid_share {
            0.0 => Side::empty(self.n_ctx)?,
            _ => tokenised.side(&held, true, valid_limit)?,
        };
        let train = tokenised.side(&held, false, train_limit)?;
        tokenised.finish();
        self.enough(&train, "training")?;
        if valid_share > 0.0 {
            self.enough(&valid, "held-out")?;
        }
        Ok(Corpus {
            train: train.tokens,
            valid: valid.tokens,
            source: self.pattern.clone(),
            train_documents: train.documents,
            valid_documents: valid.documents,
        })
    }

    fn enough(&self, side: &Side, what: &str) -> Result<()> {
        if !side.tokens.is_empty() {
            return Ok(());
        }
        let why = format!(
            "the {what} text has {} tokens, and a sequence takes {}: give more text, a shorter context, or another share",
            side.n_tokens, self.n_ctx
        );
        Err(Error::EmptyCorpus { why })
    }

    /// How it is decided which documents are held out.
    fn held(&self, share: f64) -> HeldOut {
        // Six bytes to a token is on the safe side of any tokenizer: enough text for one held-out
        // sequence.
        let wanted = 6 * self.n_ctx;
        if self.files.iter().any(|file| file.form.holds_many()) {
            return HeldOut::Contents { share, seed: self.seed };
        }
        if self.files.len() == 1 {
            return HeldOut::Tail { share, wanted };
        }
        let bytes: Vec<u64> = self.files.iter().map(|file| file.bytes).collect();
        HeldOut::Files(split::held_out(&bytes, share, wanted as u64))
    }

    /// The most sequences of the training and of the held-out side; checks the settings.
    fn limits(&self, valid_share: f64) -> Result<(Option<usize>, Option<usize>)> {
        if !(0.0..1.0).contains(&valid_share) {
            return Err(Error::config(
                "split",
                format!(
                    "a share of {valid_share} cannot be held out; give 0 or more and less than 1"
                ),
            ));
        }
        if self.n_ctx < 2 || self.n_ctx > self.encoder.n_ctx {
            let why = format!(
                "sequences of {} tokens were requested, but {} reads 2 to {}",
                self.n_ctx, self.encoder.name, self.encoder.n_ctx
            );
            return Err(Error::config("context", why));
        }
        for (field, id) in [("bos_token_id", self.encoder.bos), ("eos_token_id", self.encoder.eos)]
        {
            if id as usize >= self.encoder.d_vocab {
                let why = format!(
                    "is {id} or not given, and {} has {} tokens: set it in config.json",
                    self.encoder.name, self.encoder.d_vocab
                );
                return Err(Error::config(field, why));
            }
        }
        let Some(max_tokens) = self.max_tokens else { return Ok((None, None)) };
        let train = max_tokens / self.n_ctx;
        if train == 0 {
            return Err(Error::config(
                "max_tokens",
                format!("{max_tokens} tokens are less than one sequence of {}", self.n_ctx),
            ));
        }
        let valid = (train as f64 * valid_share / (1.0 - valid_share)).round() as usize;
        Ok((Some(train), Some(if valid_share > 0.0 { valid.max(1) } else { 0 })))
    }
}

/// One side of a corpus.
struct Side {
    tokens: Tokens,
    /// Tokens found, those of an incomplete last sequence included.
    n_tokens: usize,
    documents: Vec<String>,
}

impl Side {
    fn empty(n_ctx: usize) -> Result<Side> {
        Ok(Side { tokens: Tokens::new(Vec::new(), n_ctx)?, n_tokens: 0, documents: Vec::new() })
    }
}

/// Turns the documents of one side after the other into sequences in memory.
struct Tokenised<'a> {
    corpus: &'a TextCorpus,
    piecewise: Option<bool>,
    /// The documents of the side before that this one must not have.
    seen: Seen,
    progress: Progress,
    /// Tokens packed if both sides are limited, or else bytes encoded, and whether it is tokens.
    done: u64,
    in_tokens: bool,
}

impl<'a> Tokenised<'a> {
    fn new(corpus: &'a TextCorpus, sequences: Option<usize>) -> Tokenised<'a> {
        // Nobody knows what a packed file unpacks to.
        let plain = corpus.files.iter().all(|file| file.form.is_plain_text());
        let (total, unit) = match sequences {
            Some(sequences) => ((sequences * corpus.n_ctx) as u64, "tokens"),
            None => (if plain { corpus.files.iter().map(|file| file.bytes).sum() } else { 0 }, "B"),
        };
        interrupt::watch();
        interrupt::clear();
        let progress = Progress::new("tokenise", total, unit);
        Tokenised {
            corpus,
            piecewise: None,
            seen: Seen::default(),
            progress,
            done: 0,
            in_tokens: sequences.is_some(),
        }
    }

    /// Packs the documents of a side until there are `limit` sequences.
    fn side(&mut self, held: &HeldOut, held_out: bool, limit: Option<usize>) -> Result<Side> {
        let TextCorpus { encoder, files, wanted, .. } = self.corpus;
        let mut packer = Packer::new(self.corpus.n_ctx, encoder.bos, encoder.eos, limit);
        let mut documents: Vec<String> = Vec::new();
        let reading = Reading::new(files, wanted, held, held_out, &interrupt::requested)
            .after(std::mem::take(&mut self.seen));
        let mut encode_batches = EncodeBatches::new(encoder, reading, self.piecewise);
        let mut memory = memory_budget::MemoryBudget::new();
        while !packer.is_full() {
            let wave = encode_batches.next(packer.wanted()).inspect_err(|_| interrupt::clear())?;
            if wave.is_empty() {
                break;
            }
            let before = packer.len();
            let mut bytes = 0;
            for piece in wave {
                bytes += piece.bytes;
                if packer.is_full() {
                    continue;
                }
                if piece.begins {
                    packer.begin();
                    documents.push(encode_batches.text(piece.text).name.clone());
                }
                packer.push(&piece.ids);
            }
            memory.check(packer.len())?;
            self.done += (if self.in_tokens { packer.len() - before } else { bytes }) as u64;
            self.progress.set(self.done);
        }
        let (reading, piecewise) = encode_batches.end();
        (self.seen, self.piecewise) = (reading.seen(), piecewise);
        let n_tokens = packer.len();
        Ok(Side { tokens: Tokens::new(packer.finish(), self.corpus.n_ctx)?, n_tokens, documents })
    }

    /// Ends the bar; says what has been found of encoding in pieces, and what the next side must
    /// not have.
    fn finish(self) -> (Option<bool>, Seen) {
        self.progress.finish();
        (self.piecewise, self.seen)
    }
}
