//! One line of the controls' table, and how it is compared.

use serde::Serialize;

use super::{Named, SAE};
use crate::eval::{BySequence, Evaluation, Measure, Metrics};
use crate::experiments::sweep::least::{Pair, least_change};
use crate::experiments::sweep::{Spread, SweepResults};
use crate::sae::{Sae, SaeConfig};

/// What one control came to.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ControlRow {
    /// What it is.
    pub name: String,
    /// How many latents it has.
    pub d_sae: usize,
    /// How many numbers: weights, biases and the table.
    pub parameters: usize,
    /// NMSE, against the SAE on the same activations.
    pub nmse: Change,
    /// CE added, likewise.
    pub ce_added: Change,
    /// The share of latents that fire on none of the tokens, of each seed.
    pub dead: Vec<f64>,
}

/// A figure of a control, and how it stands to those of the SAE and the TSAE.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Change {
    /// The figure of each seed.
    pub values: Vec<f64>,
    /// The mean less the SAE's, as a share of the SAE's.
    pub change: Option<f64>,
    /// The least change that counts: half of the interval of 95 % over seeds and sequences of the text
    /// (bootstrap).
    pub least: Option<f64>,
    /// How much of what the TSAE gains over the SAE it gains: 0 at the SAE, 1 at the TSAE. None on
    /// other activations than theirs.
    pub of_gain: Option<f64>,
}

impl Change {
    fn of(measure: Measure, runs: &[(u64, Metrics, &BySequence)], base: &[&BySequence]) -> Change {
        let values: Vec<f64> = runs.iter().map(|(_, metrics, _)| metrics.get(measure)).collect();
        let pairs =
            runs.iter().zip(base).map(|(&(seed, _, ours), &base)| Pair { seed, ours, base });
        Change {
            values,
            least: least_change(&pairs.collect::<Vec<_>>(), measure),
            ..Change::default()
        }
    }

    /// The figure over the seeds.
    pub fn spread(&self) -> Spread {
        // There is at least one seed.
        Spread::of(&self.values).unwrap_or(Spread::NONE)
    }
}

fn parameters(config: &SaeConfig) -> usize {
    let (d, d_sae) = (config.d_model, config.d_sae());
    d_sae * (2 * d + 1) + d + config.lookup.as_ref().map_or(0, |lookup| lookup.table().len())
}

fn row(
    (name, config): &Named,
    runs: &[(u64, Metrics, &BySequence)],
    base: &[&BySequence],
) -> ControlRow {
    ControlRow {
        name: name.clone(),
        d_sae: config.d_sae(),
        parameters: parameters(config),
        nmse: Change::of(Measure::Nmse, runs, base),
        ce_added: Change::of(Measure::CeAdded, runs, base),
        dead: runs.iter().map(|(_, metrics, _)| metrics.dead).collect(),
    }
}

/// What the SAE's runs add by sequence, seed by seed.
fn base(results: &SweepResults) -> Vec<&BySequence> {
    let runs = results.runs.iter().filter(|run| run.setting.arm == SAE);
    runs.map(|run| &run.by_sequence).collect()
}

/// The rows of runs; changes are against the SAE among them.
pub(super) fn of_runs(results: &SweepResults, arms: &[Named]) -> Vec<ControlRow> {
    let base = base(results);
    let mut rows: Vec<ControlRow> = Vec::new();
    for arm in arms {
        let runs = results.runs.iter().filter(|run| run.setting.arm == arm.0);
        let runs: Vec<_> = runs.map(|run| (run.seed, run.metrics, &run.by_sequence)).collect();
        if !runs.is_empty() {
            rows.push(row(arm, &runs, &base));
        }
    }
    let means = rows.first().map(|sae| [&sae.nmse, &sae.ce_added].map(|of| of.spread().mean));
    if let Some([nmse, ce_added]) = means {
        for row in &mut rows {
            against(&mut row.nmse, nmse);
            against(&mut row.ce_added, ce_added);
        }
    }
    rows
}

/// The row of a table alone, which is the same for all `seeds`.
pub(super) fn of_table_alone(
    found: &Evaluation,
    alone: &Sae,
    results: &SweepResults,
    seeds: usize,
) -> ControlRow {
    let (metrics, base) = (found.without_bos, base(results));
    let runs: Vec<_> = (0..seeds as u64).map(|seed| (seed, metrics, &found.by_sequence)).collect();
    let mut row = row(&("table alone".to_owned(), alone.config.clone()), &runs, &base);
    (row.d_sae, row.parameters, row.dead) = (0, alone.lookup.as_ref().map_or(0, Vec::len), vec![]);
    let mean = |measure| {
        let saes = results.runs.iter().filter(|run| run.setting.arm == SAE);
        let values: Vec<f64> = saes.map(|run| run.metrics.get(measure)).collect();
        Spread::of(&values).unwrap_or(Spread::NONE).mean
    };
    against(&mut row.nmse, mean(Measure::Nmse));
    against(&mut row.ce_added, mean(Measure::CeAdded));
    row
}

/// The change against a mean, if that has a sign.
fn against(change: &mut Change, base: f64) {
    let by = (change.spread().mean - base) / base;
    change.change = (base > 0.0 && by.is_finite()).then_some(by);
}

/// How much of the gain from one row to another every row has that stands on the same activations.
pub(super) fn compare(rows: &mut [ControlRow], [from, to]: [&str; 2]) {
    let mean = |rows: &[ControlRow], name: &str| {
        let row = rows.iter().find(|row| row.name == name)?;
        Some([&row.nmse, &row.ce_added].map(|of| of.spread().mean))
    };
    let (Some(from), Some(to)) = (mean(rows, from), mean(rows, to)) else { return };
    for row in rows.iter_mut().filter(|row| !row.name.ends_with("weights shuffled")) {
        for (i, change) in [&mut row.nmse, &mut row.ce_added].into_iter().enumerate() {
            let share = (from[i] - change.spread().mean) / (from[i] - to[i]);
            change.of_gain = share.is_finite().then_some(share);
        }
    }
}
