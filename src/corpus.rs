//! Text to token sequences, split into training and held-out text before anything else is done with
//! it.
//!
//! | file | documents |
//! | --- | --- |
//! | `.txt`, `.md` | the file is one |
//! | `.jsonl`, `.ndjson`, `.json` | one a line: the field `text` of a JSON object, or another [`column`](TextCorpus::column); or one an element, if the file is one array of texts or of objects |
//! | `.csv`, `.tsv` | one a row: the column `text`, or another, by the names in the first line |
//! | `.parquet` | one a row: the string column `text`, or another |
//! | each of them but the last with `.gz` or `.zst` behind it | as without |
//!
//! - **Formats.** A file of any other ending is read as plain text if it is named or matches a
//!   glob, and refused if it looks like something else, as JSON lines, a table or HTML: nothing is
//!   guessed. [`format`](TextCorpus::format) says what it is, or insists. Of a folder, the files
//!   with known endings are taken, without `.json`, `.csv` and `.tsv`, which lie beside texts for
//!   other reasons. Text is UTF-8, or UTF-16 with a byte-order mark.
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

mod chunks;
mod dataset;
mod documents;
mod encode;
mod encode_batches;
mod find;
mod form;
mod memory_budget;
mod reading;
mod remote;
mod sampled;
mod sides;
mod source_file;
mod split;
mod stop;
mod stream;
mod text_files;
mod text_record;
mod view;
mod words;

pub(crate) use chunks::{Chunk, Cursor};
pub use documents::Documents;
pub use encode::Encoder;
pub(crate) use form::TextFormat;
pub use stream::TokenStream;
pub use text_files::TextCorpus;
pub(crate) use text_record::TextRecord;

use std::path::Path;

use crate::base::error::{Error, Result};
use crate::hub::Hub;
use crate::model::Model;
use crate::model::tokens::Tokens;

/// The context length unless another is asked for, if the model reads that much: the paper's.
pub(crate) const DEFAULT_N_CTX: usize = 256;

/// Sequences to train on, and sequences of other text to judge by.
///
/// A `Corpus` has all of them in memory. [`TextCorpus::stream`] makes a `Corpus<TokenStream>`, whose
/// training side is read and tokenised as the model comes to it.
#[derive(Clone, PartialEq, Eq)]
pub struct Corpus<T = Tokens> {
    /// The sequences that activations are harvested from.
    pub train: T,
    /// Held-out sequences: no token of `train` came from their documents.
    pub valid: Tokens,
    /// Where the text came from, in words.
    pub source: String,
    /// The documents of each side; empty where there are none, as in a sampled corpus, and of the
    /// training side of a stream.
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
            return Err(Error::Shape {
                what: "the held-out side of a corpus".to_owned(),
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
        Ok(TextCorpus::new(encoder, pattern, find::find(pattern)?))
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

/// Checks that the files that `pattern` means are still those of the activations in `dir`, as far as
/// that is known: not of a data set on the hub, nor where the text is gone.
///
/// # Errors
/// [`Error::Changed`] with what is another; [`Error::Io`].
pub(crate) fn is_unchanged(pattern: &str, seed: u64, dir: &Path) -> Result<()> {
    if pattern.starts_with(dataset::PREFIX) {
        return Ok(());
    }
    let Ok(mut files) = find::find(pattern) else { return Ok(()) };
    source_file::order(&mut files, seed);
    TextRecord::check(dir, &files)
}

/// The first `most` of many names.
fn few<T: ToString>(names: impl IntoIterator<Item = T>, most: usize) -> String {
    let names: Vec<String> = names.into_iter().map(|name| name.to_string()).collect();
    let more = match names.len().saturating_sub(most) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    names[..names.len().min(most)].join(", ") + &more
}
