//! How a sweep and its results show themselves.

use std::fmt;

use super::{Arm, FailedRun, Setting, Sweep, SweepFile, SweepResults, SweepRow, SweepRun};
use crate::base::format;
use crate::display::{Column, Row, Show, Shown, Table, settings, shows};
use crate::eval::Measure;

shows!(Sweep, Arm, Setting, SweepResults, SweepRow, SweepRun, FailedRun, SweepFile);

impl Sweep {
    /// What it is going to run, as a table: an arm a row.
    pub fn table(&self) -> Table {
        let columns = [
            Column::text("arm"),
            Column::text("varied").defined("each value with each of the others"),
            Column::number("runs").defined("over all hooks and seeds"),
        ];
        let hooks: Vec<String> = self.hooks.iter().map(|hook| hook.to_string()).collect();
        let mut table = Table::new(
            &format!("Sweep on {}, {}", self.acts.model_name(), hooks.join(", ")),
            &columns,
        );
        for arm in &self.arms {
            let combinations = super::grid::combinations(arm, &self.axes);
            let mut axes: Vec<(&str, Vec<String>)> = Vec::new();
            for (axis, value) in combinations.iter().flatten() {
                let written = Setting::written(&axis.name, *value);
                match axes.iter_mut().find(|(name, _)| *name == axis.name) {
                    Some((_, values)) if values.contains(&written) => {}
                    Some((_, values)) => values.push(written),
                    None => axes.push((&axis.name, vec![written])),
                }
            }
            let axes: Vec<String> = axes
                .into_iter()
                .map(|(name, values)| format!("{name} {}", values.join(", ")))
                .collect();
            let varied = if axes.is_empty() { "nothing".to_owned() } else { axes.join("; ") };
            table.push(
                Row::new(&arm.name)
                    .text(&varied)
                    .count((combinations.len() * self.n_streams()) as u64),
            );
        }
        let seeds: Vec<String> = self.seeds.iter().map(u64::to_string).collect();
        let held_out = if self.held_out.is_some() { "" } else { " It has no held-out text yet." };
        let tokens = format::count(self.train.tokens);
        table.caption(&format!(
            "{tokens} training tokens a run; seeds {}.{held_out} run(\"folder\") runs it.",
            seeds.join(", ")
        ))
    }
}

impl Show for Sweep {
    fn shown(&self) -> Shown {
        self.table().into()
    }
}

impl Show for Arm {
    fn shown(&self) -> Shown {
        let made = if self.made.is_some() { ", completed for each hook" } else { "" };
        Shown::line(&format!("arm \"{}\"{made}", self.name)).and(self.base.shown())
    }
}

impl Show for Setting {
    fn shown(&self) -> Shown {
        let mut rows = vec![
            ("hook", self.hook.to_string(), "the place in the model"),
            ("arm", self.arm.clone(), "the configuration"),
            ("k", self.k.map_or("–".to_owned(), |k| k.to_string()), "active latents per token"),
            ("expansion", self.expansion.to_string(), "latents per dimension"),
            ("lr", format!("{:e}", self.lr), "learning rate at the start"),
        ];
        rows.extend(
            self.also
                .iter()
                .map(|(axis, value)| (axis.as_str(), Setting::written(axis, *value), "")),
        );
        settings("Setting", rows).into()
    }
}

/// The table, and the figure that compares most of it.
impl Show for SweepResults {
    fn shown(&self) -> Shown {
        Shown::from(self.table()).and_figure(self.pareto())
    }
}

impl Show for SweepRow {
    fn shown(&self) -> Shown {
        let rows = Measure::ALL.iter().map(|&measure| {
            let spread = self.spread(measure);
            (
                measure.name(),
                if measure.is_share() { spread.percent() } else { spread.text() },
                measure.definition(),
            )
        });
        let seeds = format!("mean of {} seeds ± the standard deviation of one", self.runs.len());
        self.setting
            .shown()
            .and(settings("Held-out text, position 0 left out", rows.collect()).caption(&seeds))
    }
}

impl Show for SweepRun {
    fn shown(&self) -> Shown {
        let shown =
            Shown::line(&format!("{}, {}", self.setting.hook, self.name)).and(self.metrics.shown());
        match &self.speedup {
            Some(speedup) => shown.and(speedup.shown()),
            None => shown,
        }
    }
}

impl Show for FailedRun {
    fn shown(&self) -> Shown {
        Shown::line(&format!(
            "{} at {}, seed {}: {}",
            self.setting.arm, self.setting.hook, self.seed, self.why
        ))
    }
}

impl fmt::Debug for Sweep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arms: Vec<&str> = self.arms.iter().map(|arm| arm.name.as_str()).collect();
        write!(f, "Sweep of {arms:?} at {} hooks with {} seeds", self.hooks.len(), self.seeds.len())
    }
}

impl fmt::Debug for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Arm \"{}\" ({:?})", self.name, self.base)
    }
}

impl fmt::Debug for SweepResults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "SweepResults in {}: {} of {} runs",
            self.dir.display(),
            self.runs.len(),
            self.planned()
        )
    }
}

impl fmt::Debug for SweepRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "SweepRow ({} at {}, {} seeds)",
            self.setting.arm,
            self.setting.hook,
            self.runs.len()
        )
    }
}

impl fmt::Debug for SweepRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SweepRun \"{}\" at {}", self.name, self.setting.hook)
    }
}
