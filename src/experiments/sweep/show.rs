//! How a sweep and its results show themselves.

use super::grid::{axes_of, n_combinations};
use super::{Arm, Setting, Sweep, SweepResults, SweepRow, SweepRun};
use crate::base::format;
use crate::display::{Column, Row, Show, Shown, Table, debug, shows};

shows!(Arm, SweepResults);
shows!(tables: Sweep);

impl Sweep {
    /// What it is going to run, as a table: an arm a row.
    pub fn table(&self) -> Table {
        let columns = [
            Column::text("arm"),
            Column::text("varied").defined("each value with each of the others"),
            Column::number("runs").defined("over all hooks and seeds"),
        ];
        let hooks: Vec<String> = self.hooks.iter().map(|hook| hook.to_string()).collect();
        let rows = self.arms.iter().map(|arm| {
            let axes: Vec<String> = axes_of(arm, &self.axes)
                .iter()
                .map(|axis| {
                    let written = axis.values.iter().map(|&x| Setting::written(&axis.name, x));
                    format!("{} {}", axis.name, written.collect::<Vec<_>>().join(", "))
                })
                .collect();
            let varied = if axes.is_empty() { "nothing".to_owned() } else { axes.join("; ") };
            let runs = n_combinations(arm, &self.axes) * self.n_streams();
            Row::new(&arm.name).text(&varied).count(runs as u64)
        });
        let seeds: Vec<String> = self.seeds.iter().map(u64::to_string).collect();
        let held_out = if self.held_out.is_some() { "" } else { " It has no held-out text yet." };
        let tokens = format::count(self.train.tokens);
        let title = format!("Sweep on {}, {}", self.acts.model_name(), hooks.join(", "));
        Table::filled(&title, &columns, rows).caption(&format!(
            "{tokens} training tokens a run; seeds {}.{held_out} run(\"folder\") runs it.",
            seeds.join(", ")
        ))
    }
}

impl Show for Arm {
    fn shown(&self) -> Shown {
        let made = if self.made.is_some() { ", completed for each hook" } else { "" };
        Shown::line(&format!("arm \"{}\"{made}", self.name)).and(self.base.shown())
    }
}

/// The table, and the figure that compares most of it.
impl Show for SweepResults {
    fn shown(&self) -> Shown {
        Shown::from(self.table()).and_figure(self.pareto())
    }
}

debug!(Sweep: it =>
    "Sweep of {:?} at {} hooks with {} seeds",
    it.arms.iter().map(|arm| arm.name.as_str()).collect::<Vec<_>>(), it.hooks.len(), it.seeds.len()
);

debug!(Arm: it => "Arm \"{}\" ({:?})", it.name, it.base);

debug!(SweepResults: it =>
    "SweepResults in {}: {} of {} runs", it.dir.display(), it.runs.len(), it.planned()
);

debug!(SweepRow: it =>
    "SweepRow ({} at {}, {} seeds)", it.setting.arm, it.setting.hook, it.runs.len()
);

debug!(SweepRun: it => "SweepRun \"{}\" at {}", it.name, it.setting.hook);
