//! The text of a description.

use std::path::Path;

use super::{RunRecipe, SAMPLED};
use crate::activations::Sequences;
use crate::base::error::Result;
use crate::corpus::{Corpus, TextCorpus, TextRecord, TokenStream};
use crate::model::Model;
use crate::model::tokens::Tokens;

/// The folder of the model's own samples in that of the activations.
const SAMPLES: &str = "corpus";

/// Text that was read, or begun to be.
pub(super) struct ReadText {
    train: Train,
    pub held_out: Tokens,
    /// What its files were, where the store does not keep that for itself.
    record: Option<TextRecord>,
}

/// The side that is trained on.
enum Train {
    InMemory(Tokens),
    Stream(Box<TokenStream>),
}

impl ReadText {
    /// What is harvested.
    pub fn sequences(&self) -> Sequences<'_> {
        match &self.train {
            Train::InMemory(tokens) => tokens.into(),
            Train::Stream(stream) => stream.as_ref().into(),
        }
    }

    /// What tells the sequences from any others.
    pub fn fingerprint(&self) -> String {
        match &self.train {
            Train::InMemory(tokens) => tokens.fingerprint(),
            Train::Stream(stream) => stream.fingerprint(),
        }
    }

    /// Keeps in the folder of the activations what the files were.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io).
    pub fn remember(&self, dir: &Path) -> Result<()> {
        self.record.as_ref().map_or(Ok(()), |record| record.write(dir))
    }
}

impl RunRecipe {
    /// Reads or samples the text of a resolved description; samples are kept in `dir`.
    pub(super) fn read_text(&self, model: &Model, dir: &Path) -> Result<ReadText> {
        let in_memory = |corpus: Corpus, record| ReadText {
            train: Train::InMemory(corpus.train),
            held_out: corpus.valid,
            record,
        };
        Ok(match &self.text {
            Some(pattern) if self.stream => {
                let corpus = self.text_corpus(model, pattern)?.stream(self.held_out_share)?;
                let train = Train::Stream(Box::new(corpus.train));
                ReadText { train, held_out: corpus.valid, record: None }
            }
            Some(pattern) => {
                let text = self.text_corpus(model, pattern)?;
                let record = text.record()?;
                in_memory(text.split(self.held_out_share)?, record)
            }
            None => {
                let n_tokens = self.sampled.unwrap_or(SAMPLED);
                let seed = self.sampling_seed;
                in_memory(Corpus::sampled_in(model, n_tokens, seed, dir.join(SAMPLES))?, None)
            }
        })
    }

    fn text_corpus(&self, model: &Model, pattern: &str) -> Result<TextCorpus> {
        let text = Corpus::text_files(model, pattern)?.seed(self.text_seed);
        let mut text = text.read_as(self.format.as_deref(), self.column.as_deref())?;
        if let Some(n_ctx) = self.context {
            text = text.context(n_ctx);
        }
        if let Some(least) = self.min_chars {
            text = text.min_chars(least);
        }
        if let Some(most) = self.max_chars {
            text = text.max_chars(most);
        }
        Ok(match self.max_tokens {
            Some(most) => text.max_tokens(most),
            None => text,
        })
    }
}
