//! Whole experiments: one described in a file ([`recipe`]), an SAE and a TSAE side by side
//! ([`compare`](mod@compare)), both beside [`controls`], a grid of runs ([`sweep`]), and what the
//! [`paper`] reports.

pub mod compare;
pub mod controls;
pub mod paper;
pub mod recipe;
pub mod sweep;
pub mod synth;

use std::path::Path;

use crate::base::error::{Error, Result};
use crate::corpus::Corpus;
use crate::model::Model;

/// Tokens that a model samples where no text is given.
const SAMPLED: usize = 500_000;

/// The share of a text that is held out.
const HELD_OUT: f64 = 0.02;

/// Held-out tokens of an evaluation, at most, unless asked otherwise.
const EVALUATED: usize = 65_536;

/// The longest context that is used unless another is asked for: the authors'.
const N_CTX: usize = 256;

/// The text of an experiment: of files, or the model's own samples.
struct Text<'a> {
    /// A file, a folder, a glob, or a data set.
    pattern: Option<&'a str>,
    format: Option<&'a str>,
    column: Option<&'a str>,
    context: Option<usize>,
    /// Train on at most this many tokens of files.
    tokens: u64,
    /// Tokens that the model samples where there are no files.
    sampled: usize,
    seed: u64,
}

impl Text<'_> {
    /// The corpus; what is sampled is kept in `dir`.
    fn corpus(&self, model: &Model, dir: &Path) -> Result<Corpus> {
        match self.pattern {
            Some(pattern) => Corpus::text_files(model, pattern)?
                .read_as(self.format, self.column)?
                .context(self.context.unwrap_or(N_CTX.min(model.config().n_ctx)))
                .max_tokens(usize::try_from(self.tokens).unwrap_or(usize::MAX))
                .split(HELD_OUT),
            None => {
                Error::at_least_1("sampled", self.sampled as u64)?;
                Corpus::sampled_in(model, self.sampled, self.seed, dir.join("corpus"))
            }
        }
    }
}

/// What is said where text is to be cut short and there is none.
fn no_text_to_cut() -> Error {
    let why = "max_tokens is for text: `sampled` says how many tokens the model samples";
    Error::config("max_tokens", why)
}
