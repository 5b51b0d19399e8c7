//! Whole experiments: one described in a file ([`recipe`]), an SAE and a TSAE side by side
//! ([`compare`](mod@compare)), a grid of runs ([`sweep`]), and what the [`paper`] reports.

pub mod compare;
pub mod paper;
pub mod recipe;
pub mod sweep;

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

/// As much of a text as is trained on, or samples of the model, which are kept in `dir`.
fn corpus(
    model: &Model,
    text: Option<&str>,
    context: Option<usize>,
    tokens: u64,
    sampled: usize,
    seed: u64,
    dir: &Path,
) -> Result<Corpus> {
    match text {
        Some(pattern) => Corpus::text_files(model, pattern)?
            .context(context.unwrap_or(N_CTX.min(model.config().n_ctx)))
            .max_tokens(usize::try_from(tokens).unwrap_or(usize::MAX))
            .split(HELD_OUT),
        None => {
            Error::at_least_1("sampled", sampled as u64)?;
            Corpus::sampled_in(model, sampled, seed, dir.join("corpus"))
        }
    }
}
