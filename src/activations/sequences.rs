//! Where a harvest's sequences come from: memory, or a stream that is tokenised while the model
//! runs.

use std::path::Path;

use super::manifest::CorpusId;
use crate::base::error::{Error, Result};
use crate::corpus::{TextRecord, TokenStream};
use crate::model::tokens::Tokens;

/// What a harvest runs through the model: `&Tokens` from memory, or a `&TokenStream`.
#[doc(hidden)] // only ever made by `into`
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

    /// Keeps in `dir` what the files of a stream are, so that others are noticed. (Of tokens in
    /// memory, their fingerprint tells.)
    pub(super) fn remember(&self, dir: &Path) -> Result<()> {
        match self {
            Sequences::InMemory(_) => Ok(()),
            Sequences::Stream(stream) => match TextRecord::of(stream.files())? {
                Some(record) => record.write(dir),
                None => Ok(()),
            },
        }
    }

    /// Checks that the files of a stream are what they were when the store in `dir` was begun.
    pub(super) fn are_unchanged(&self, dir: &Path) -> Result<()> {
        match self {
            Sequences::InMemory(_) => Ok(()),
            Sequences::Stream(stream) => TextRecord::check(dir, stream.files()),
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
            Sequences::Stream(stream) => Ok(CorpusId {
                fingerprint: stream.fingerprint(),
                n_seq: stream.n_seq(),
                n_ctx: stream.n_ctx(),
                stream: Some(stream.made_of().clone()),
            }),
        }
    }
}
