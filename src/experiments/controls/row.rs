//! One line of the controls' table, and how it is compared.

use serde::Serialize;

use super::{Named, SAE, TSAE};
use crate::eval::{BySequence, Evaluation, Measure, Metrics};
use crate::experiments::sweep::least::{Pair, least_change};
use crate::experiments::sweep::{Spread, SweepResults, SweepRun, relative};
use crate::sae::Sae;

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
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Change {
    /// The figure of each seed.
    pub values: Vec<f64>,
    /// The mean less the SAE's, as a share of the SAE's, over the seeds that both have; none where
    /// that is not above 0.
    pub change: Option<f64>,
    /// The least change that counts: half of the interval of 95 % over seeds and sequences of the text
    /// (bootstrap).
    pub least: Option<f64>,
    /// How much of what the TSAE gains over the SAE it gains: 0 at the SAE, 1 at the TSAE. None on
    /// other activations than theirs.
    pub of_gain: Option<f64>,
}

/// What was measured of one run.
#[derive(Clone, Copy)]
struct Found<'a> {
    seed: u64,
    metrics: &'a Metrics,
    by_sequence: &'a BySequence,
}

impl Change {
    /// Of runs against the SAE's of the same seeds.
    fn of(measure: Measure, runs: &[Found<'_>], saes: &[Found<'_>]) -> Change {
        let pairs = runs.iter().filter_map(|run| {
            let sae = saes.iter().find(|sae| sae.seed == run.seed)?;
            let figures = [run, sae].map(|of| of.metrics.get(measure));
            let (ours, base) = (run.by_sequence, sae.by_sequence);
            Some((figures, Pair { seed: run.seed, ours, base }))
        });
        let (figures, pairs): (Vec<[f64; 2]>, Vec<Pair<'_>>) = pairs.unzip();
        Change {
            values: runs.iter().map(|run| run.metrics.get(measure)).collect(),
            change: relative(&figures),
            least: least_change(&pairs, measure),
            of_gain: None,
        }
    }

    /// The figure over the seeds.
    pub fn spread(&self) -> Spread {
        // There is at least one seed.
        Spread::of(&self.values).unwrap_or(Spread::NONE)
    }
}

/// The finished runs of an arm.
fn of_arm<'a>(results: &'a SweepResults, arm: &str) -> Vec<Found<'a>> {
    let runs = results.runs.iter().filter(|run| run.setting.arm == arm);
    let found = |run: &'a SweepRun| {
        let SweepRun { seed, metrics, by_sequence, .. } = run;
        Found { seed: *seed, metrics, by_sequence }
    };
    runs.map(found).collect()
}

fn row((name, config): &Named, runs: &[Found<'_>], saes: &[Found<'_>]) -> ControlRow {
    ControlRow {
        name: name.clone(),
        d_sae: config.d_sae(),
        parameters: config.parameters(),
        nmse: Change::of(Measure::Nmse, runs, saes),
        ce_added: Change::of(Measure::CeAdded, runs, saes),
        dead: runs.iter().map(|run| run.metrics.dead).collect(),
    }
}

/// The rows of runs, but for arms whose runs have all failed; changes are against the SAE among
/// them.
pub(super) fn of_runs(results: &SweepResults, arms: &[Named]) -> Vec<ControlRow> {
    let saes = of_arm(results, SAE);
    let runs = arms.iter().map(|arm| (arm, of_arm(results, &arm.0)));
    runs.filter(|(_, runs)| !runs.is_empty()).map(|(arm, runs)| row(arm, &runs, &saes)).collect()
}

/// The row of a table alone, which is the same for every seed.
pub(super) fn of_table_alone(
    found: &Evaluation,
    alone: &Sae,
    results: &SweepResults,
) -> ControlRow {
    let saes = of_arm(results, SAE);
    let (metrics, by_sequence) = (&found.without_bos, &found.by_sequence);
    let runs: Vec<Found<'_>> =
        saes.iter().map(|sae| Found { metrics, by_sequence, ..*sae }).collect();
    let row = row(&("table alone".to_owned(), alone.config.clone()), &runs, &saes);
    let parameters = alone.lookup.as_ref().map_or(0, Vec::len);
    ControlRow { d_sae: 0, parameters, dead: Vec::new(), ..row }
}

/// How much of the gain from the SAE to the TSAE among them each row has.
pub(super) fn compare(rows: &mut [ControlRow]) {
    let means = |row: &ControlRow| [&row.nmse, &row.ce_added].map(|of| of.spread().mean);
    let of = |name: &str| rows.iter().find(|row| row.name == name).map(means);
    let (Some(from), Some(to)) = (of(SAE), of(TSAE)) else { return };
    for row in rows {
        let means = means(row);
        for (i, change) in [&mut row.nmse, &mut row.ce_added].into_iter().enumerate() {
            let share = (from[i] - means[i]) / (from[i] - to[i]);
            change.of_gain = share.is_finite().then_some(share);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;

    fn metrics(nmse: f64) -> Metrics {
        let name = |measure: Measure| json!(measure).as_str().unwrap_or_default().to_owned();
        let mut all: Map<String, Value> =
            Measure::ALL.map(|measure| (name(measure), json!(nmse))).into_iter().collect();
        all.insert("tokens".to_owned(), json!(1));
        serde_json::from_value(Value::Object(all)).unwrap()
    }

    #[test]
    fn a_run_is_compared_with_that_of_its_own_seed() {
        let by_sequence = BySequence::default();
        let [low, high, ours] = [1.0, 3.0, 1.5].map(metrics);
        let found = |seed, metrics| Found { seed, metrics, by_sequence: &by_sequence };
        let saes = [found(0, &low), found(1, &high)];
        // Its run of seed 0 has failed: 1.5 stands against 3, not against 1 or their mean.
        let change = Change::of(Measure::Nmse, &[found(1, &ours)], &saes);
        assert_eq!((change.change, change.values), (Some(-0.5), vec![1.5]));
        // And without any SAE there is nothing to compare it with.
        let alone = Change::of(Measure::Nmse, &[found(1, &ours)], &[]);
        assert_eq!((alone.change, alone.least), (None, None));
    }
}
