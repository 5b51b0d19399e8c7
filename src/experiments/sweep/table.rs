//! Results as tables.

use super::least::{Pair, least_change};
use super::{Setting, Spread, SweepResults, SweepRow, SweepRun};
use crate::base::format;
use crate::display::{Column, Row, Table};
use crate::eval::{Measure, left_out};
use crate::experiments::paper;
use crate::model::HookPoint;

/// The figures of the table.
const SHOWN: [Measure; 5] =
    [Measure::L0, Measure::Nmse, Measure::CeAdded, Measure::LossRecovered, Measure::Dead];

impl SweepResults {
    /// One row a place of the grid: its values, and the mean of each figure over the seeds ± its
    /// standard deviation.
    pub fn table(&self) -> Table {
        let (rows, varied) = (self.rows(), self.varied());
        let compared = rows.iter().any(SweepRow::is_compared);
        let mut columns = self.first_columns();
        columns.extend(varied.iter().map(|axis| axis_column(axis)));
        columns.extend(SHOWN.map(|measure| {
            Column::number(measure.name()).defined(measure.definition()).best(measure.best())
        }));
        if compared {
            columns.extend(self.sooner_columns());
        }
        columns
            .push(Column::number("seeds").defined(
                "runs over which the mean and its standard deviation (after ±) are taken",
            ));
        let rows = rows.iter().map(|row| {
            let line = self.first_cells(&row.setting.arm, row.setting.hook);
            let line = varied.iter().fold(line, |line, axis| {
                line.written(row.setting.get(axis), |value| Setting::written(axis, value))
            });
            let mut line = SHOWN.into_iter().fold(line, |line, measure| {
                line.shown(row.spread(measure).mean, row.said(measure))
            });
            if compared {
                line = sooner(line, row.sooner_by_nmse(), &row.factors(|speedup| speedup.nmse));
                let factors = row.factors(|speedup| speedup.ce_added);
                line = sooner(line, row.sooner_by_ce_added(), &factors);
            }
            line.digits(row.runs.len())
        });
        Table::filled(&self.title(), &columns, rows).caption(&self.caption())
    }

    fn first_columns(&self) -> Vec<Column> {
        let hook = self.has_hooks().then(|| Column::text("hook"));
        [Column::text("arm")].into_iter().chain(hook).collect()
    }

    fn first_cells(&self, arm: &str, hook: HookPoint) -> Row {
        let row = Row::new(arm);
        if self.has_hooks() { row.text(&hook.to_string()) } else { row }
    }

    /// For each arm, hook and k, by how much NMSE and CE added differ from the baseline's; beside
    /// it what the paper's TopK SAE gained at that k by a table.
    pub fn changes(&self) -> Table {
        let ours = "the mean over everything else that is varied, less the baseline's, as a share of the baseline's; – where that is not above 0, so that a share of it would have the wrong sign; after ±, the least change that counts: half of the interval of 95 % over seeds and sequences of the text (bootstrap; with one seed, over sequences)";
        let theirs = "TopK + lookup against TopK at the same k, arXiv 2502.17332; BOS included";
        let mut columns = self.first_columns();
        columns.extend([
            Column::number("k").defined("active latents per token"),
            Column::number("NMSE").defined(ours),
            Column::number("CE added").defined(ours),
            Column::number("paper: NMSE").defined(theirs),
            Column::number("paper: CE added").defined(theirs),
        ]);
        let baseline = self.baseline().unwrap_or_default();
        let mut table = Table::new(&format!("Change against {baseline}"), &columns);
        let mut places: Vec<(String, HookPoint, Option<usize>)> = Vec::new();
        for run in &self.runs {
            let place = (run.setting.arm.clone(), run.setting.hook, run.setting.k);
            if run.setting.arm != baseline && !places.contains(&place) {
                places.push(place);
            }
        }
        for (arm, hook, k) in places {
            let here = |run: &&SweepRun| {
                (&run.setting.arm, run.setting.hook, run.setting.k) == (&arm, hook, k)
            };
            let pairs: Vec<[&SweepRun; 2]> = self
                .runs
                .iter()
                .filter(here)
                .filter_map(|run| Some([run, self.counterpart(run, baseline)?]))
                .collect();
            if pairs.is_empty() {
                continue;
            }
            let change = |measure| {
                let numbers = pairs.iter().map(|pair| pair.map(|run| run.metrics.get(measure)));
                let pairs: Vec<Pair<'_>> = pairs
                    .iter()
                    .map(|[ours, base]| Pair {
                        seed: ours.seed,
                        ours: &ours.by_sequence,
                        base: &base.by_sequence,
                    })
                    .collect();
                (relative(&numbers.collect::<Vec<_>>()), least_change(&pairs, measure))
            };
            let published = k.and_then(published_change);
            let mut line = self.first_cells(&arm, hook).digits(k);
            for (change, least) in [Measure::Nmse, Measure::CeAdded].map(change) {
                line = line.written(change, |change| signed(change, least));
            }
            let theirs = [published.map(|it| it.0), published.map(|it| it.1)];
            table.push(
                theirs
                    .into_iter()
                    .fold(line, |line, change| line.written(change, |change| signed(change, None))),
            );
        }
        table
    }

    fn sooner_columns(&self) -> [Column; 2] {
        let of = |what: &str| {
            format!(
                "the tokens {} needed for its final held-out {what} ÷ the tokens needed here",
                self.baseline().unwrap_or("the baseline")
            )
        };
        [
            Column::number("sooner, NMSE").defined(&of("NMSE")).highest_is_best(),
            Column::number("sooner, CE").defined(&of("CE added")).highest_is_best(),
        ]
    }

    /// Whether there are runs at more than one hook.
    pub(super) fn has_hooks(&self) -> bool {
        self.runs.iter().any(|run| run.setting.hook != self.runs[0].setting.hook)
    }

    /// The model, and the hook if there is only one.
    pub(crate) fn title(&self) -> String {
        match self.runs.first() {
            Some(run) if !self.has_hooks() => format!("{}, {}", self.plan.model, run.setting.hook),
            _ => self.plan.model.clone(),
        }
    }

    /// What the figures were measured on, and what is missing.
    pub(crate) fn caption(&self) -> String {
        let (tokens, text) =
            (format::count(self.plan.train.tokens), format::count(self.plan.text_tokens as u64));
        let outliers = self.runs.iter().map(|run| run.metrics.outliers).max().unwrap_or(0);
        let mut caption = format!(
            "{tokens} training tokens each; {text} held-out tokens, {} ({} weights).",
            left_out(outliers),
            self.plan.processing
        );
        if !self.failed.is_empty() {
            let names: Vec<String> = self
                .failed
                .iter()
                .map(|run| format!("{} at lr {:e}", run.setting.arm, run.setting.lr))
                .collect();
            caption += &format!(
                " {} overflowed: {}.",
                format::count(self.failed.len() as u64),
                names.join(", ")
            );
        }
        if !self.is_complete() {
            caption += &format!(
                " {} of {} runs are finished; the same sweep continues with the others.",
                self.finished,
                self.planned()
            );
        }
        caption
    }
}

fn axis_column(axis: &str) -> Column {
    Column::number(axis).defined(match axis {
        "k" => "active latents per token",
        "expansion" => "latents per dimension",
        "lr" => "learning rate at the start",
        "penalty" => "coefficient of the penalty, in units of the activations' scale",
        _ => "",
    })
}

/// `8.1× ± 0.3`, and how many seeds that is over if not all; `factors` are those of all seeds.
fn sooner(line: Row, spread: Option<Spread>, factors: &[Option<f64>]) -> Row {
    let n = factors.len();
    match spread {
        Some(spread) if spread.n < n => {
            line.shown(spread.mean, format!("{} ({} of {n})", spread.times(), spread.n))
        }
        Some(spread) => line.shown(spread.mean, spread.times()),
        None if n == 0 => line.missing(),
        None if factors.iter().all(Option::is_some) => line.text("from the start"),
        None => line.text("never"),
    }
}

/// The change from the mean of the second numbers to that of the first as a share of it, if that
/// has a sign: where the second cross 0, as cross-entropy added may, the mean of the single changes
/// is large and of either sign.
pub(crate) fn relative(pairs: &[[f64; 2]]) -> Option<f64> {
    let [ours, base] = [0, 1].map(|i| pairs.iter().map(|pair| pair[i]).sum::<f64>());
    let change = (ours - base) / base;
    (base > 0.0 && change.is_finite()).then_some(change)
}

/// What the paper's TopK SAE gained by a table at this k: change of NMSE and of CE added.
fn published_change(k: usize) -> Option<(f64, f64)> {
    let published = paper::pareto();
    let find = |method: &str| published.of(method).rows.into_iter().find(|row| row.l0 == k as f64);
    let (sae, tsae) = (find("TopK")?, find("TopK + lookup")?);
    Some((tsae.nmse / sae.nmse - 1.0, tsae.ce_added / sae.ce_added - 1.0))
}

/// `−14 %`, or with the least change that counts `−14 ± 2 %`.
pub(crate) fn signed(change: f64, least: Option<f64>) -> String {
    let digits = if least.is_some_and(|least| least < 0.005) { 1 } else { 0 };
    let least = least.map_or(String::new(), |least| format!(" ± {:.digits$}", 100.0 * least));
    format!("{:+.digits$}{least} %", 100.0 * change).replace('-', "−")
}

#[cfg(test)]
mod tests {
    use super::{relative, signed};

    #[test]
    fn a_change_is_written_as_far_as_it_is_known() {
        assert_eq!(signed(-0.1447, None), "−14 %");
        assert_eq!(signed(-0.1447, Some(0.021)), "−14 ± 2 %");
        assert_eq!(signed(0.1447, Some(0.0021)), "+14.5 ± 0.2 %");
    }

    #[test]
    fn a_change_keeps_its_sign_where_the_baseline_crosses_0() {
        // Every one of them is an improvement, and the mean of the single changes is +425 %.
        let better = [[0.0008, 0.0010], [-0.0030, -0.0003], [0.0100, 0.0200]];
        assert!(better.iter().all(|[ours, base]| ours < base));
        let single = better.iter().map(|[ours, base]| ours / base - 1.0).sum::<f64>() / 3.0;
        assert!(single > 2.0, "{single}");
        assert!((relative(&better).unwrap() + 0.623).abs() < 1e-3, "{:?}", relative(&better));
        assert_eq!(relative(&[[0.5, 1.0], [1.5, 1.0]]), Some(0.0));
        // And where a share has no sign, there is none.
        for none in [&[[-0.002, -0.001]][..], &[[0.1, 0.0]], &[[f64::NAN, 1.0]], &[]] {
            assert_eq!(relative(none), None, "{none:?}");
        }
    }
}
