//! Evaluating the runs of a trainer.

use super::Runs;
use crate::base::error::Result;
use crate::eval::{self, Evaluations};
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
    let saes: Vec<_> = runs.runs.iter().map(|run| (run.name.as_str(), &run.sae)).collect();
    eval::evaluate(model, hook, &saes, tokens)
}
