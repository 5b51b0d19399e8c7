//! Files with text, and what is to be made of them.

use rayon::prelude::*;

use super::documents::{COLUMN, Place};
use super::encode::Encoder;
use super::form::{Form, TextFormat};
use super::reading::{DocumentFilter, HeldOut};
use super::source_file::{SourceFile, order};
use super::text_record::TextRecord;
use super::{DEFAULT_N_CTX, split};
use crate::base::error::{Error, Result};

/// Files with text that have been found but not read; [`split`](TextCorpus::split) makes the
/// corpus.
#[derive(Clone)]
pub struct TextCorpus {
    pub(super) pattern: String,
    pub(super) files: Vec<SourceFile>,
    pub(super) encoder: Encoder,
    pub(super) n_ctx: usize,
    pub(super) max_tokens: Option<usize>,
    pub(super) wanted: DocumentFilter,
    pub(super) seed: u64,
    /// The format of all files, if it was said.
    pub(super) format: Option<TextFormat>,
}

impl TextCorpus {
    pub(super) fn new(encoder: Encoder, pattern: &str, files: Vec<SourceFile>) -> TextCorpus {
        let n_ctx = encoder.n_ctx.min(DEFAULT_N_CTX);
        let wanted =
            DocumentFilter { column: COLUMN.to_owned(), min_chars: 0, max_chars: usize::MAX };
        TextCorpus {
            files,
            pattern: pattern.to_owned(),
            encoder,
            n_ctx,
            max_tokens: None,
            wanted,
            seed: 0,
            format: None,
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

    /// As [`format`](TextCorpus::format) and [`column`](TextCorpus::column), where they are said.
    pub fn read_as(self, format: Option<&str>, column: Option<&str>) -> Result<TextCorpus> {
        let text = match format {
            Some(format) => self.format(format)?,
            None => self,
        };
        Ok(column.into_iter().fold(text, TextCorpus::column))
    }

    /// Names the field of JSON objects, or the column of a table, that holds the text. Default:
    /// `text`. One within a struct of a parquet file is named with a point, `page.text`.
    pub fn column(self, column: &str) -> TextCorpus {
        TextCorpus { wanted: DocumentFilter { column: column.to_owned(), ..self.wanted }, ..self }
    }

    /// Says in what format all files are, whatever their names are and whatever they look like:
    /// `"text"`, `"json"`, `"csv"`, `"tsv"` or `"parquet"`.
    ///
    /// # Errors
    /// [`Error::Config`] for another format.
    pub fn format(mut self, format: &str) -> Result<TextCorpus> {
        let format = format.parse()?;
        for file in &mut self.files {
            file.form = Form::said(&file.path, format);
        }
        Ok(TextCorpus { format: Some(format), ..self })
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
        order(&mut self.files, seed);
        TextCorpus { seed, ..self }
    }

    /// How many files were found; one of plain text is one document.
    pub fn n_files(&self) -> usize {
        self.files.len()
    }

    /// How it is decided which documents are held out.
    pub(super) fn held(&self, share: f64) -> HeldOut {
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

    /// What its files are, so that others are noticed.
    pub(crate) fn record(&self) -> Result<Option<TextRecord>> {
        TextRecord::of(&self.files)
    }

    /// Checks that what is taken for plain text looks like it, before anything is made of it.
    pub(super) fn check_looks(&self) -> Result<()> {
        let taken = |file: &&SourceFile| {
            file.form.kind == TextFormat::Text && !file.form.said && file.bytes > 0
        };
        let looks = |file: &SourceFile| {
            let opened = file.open(&self.wanted.column, Place::default(), &|| false);
            opened.err()
        };
        match self.files.par_iter().filter(taken).find_map_first(looks) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// The most sequences of the training and of the held-out side; checks the settings.
    pub(super) fn limits(&self, valid_share: f64) -> Result<(Option<usize>, Option<usize>)> {
        if !(0.0..1.0).contains(&valid_share) {
            let why = format!(
                "a share of {valid_share} cannot be held out; give 0 or more and less than 1"
            );
            return Err(Error::config("split", why));
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
            let why = format!("{max_tokens} tokens are less than one sequence of {}", self.n_ctx);
            return Err(Error::config("max_tokens", why));
        }
        let valid = (train as f64 * valid_share / (1.0 - valid_share)).round() as usize;
        Ok((Some(train), Some(if valid_share > 0.0 { valid.max(1) } else { 0 })))
    }
}
