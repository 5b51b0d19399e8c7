//! Evaluating the runs of a trainer.

use super::Runs;
use crate::base::error::Result;
use crate::eval::{self, Evaluations, Kept};
use crate::model::tokens::Tokens;
use crate::model::{HookPoint, Model};

/// Evaluates every run on held-out text; see [`eval::evaluate`] for what is measured and
/// [`eval::Metrics`] for the definitions.
///
/// # Errors
/// Those of [`eval::evaluate`].
pub fn evaluate(
    model: &Model,
    hook: HookPoint,
    runs: &Runs,
    tokens: &Tokens,
) -> Result<Evaluations> {
    evaluate_kept(model, hook, runs, tokens, None)
}

/// As [`evaluate`], but from where the same call was stopped before, if that is kept.
pub(crate) fn evaluate_kept(
    model: &Model,
    hook: HookPoint,
    runs: &Runs,
    tokens: &Tokens,
    kept: Option<Kept>,
) -> Result<Evaluations> {
    let saes: Vec<_> = runs.runs.iter().map(|run| (run.name.as_str(), &run.sae)).collect();
    eval::evaluate_kept(model, hook, &saes, tokens, kept)
}
