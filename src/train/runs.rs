//! What training returns.

use super::{History, TrainConfig};
use crate::activations::ActivationStore;
use crate::base::error::by_name;
use crate::base::format;
use crate::display::{Column, Row, Table};
use crate::model::HookPoint;
use crate::sae::Sae;

/// One trained SAE, its name and its history.
#[derive(Clone)]
pub struct Run {
    /// The name it was given.
    pub name: String,
    /// The SAE as it stands.
    pub sae: Sae,
    /// How it came there.
    pub history: History,
    /// Tokens it has seen.
    pub tokens: u64,
    /// Whether it has seen all its training tokens; false after an interrupt: the same call then
    /// continues from there.
    pub finished: bool,
    /// The learning rate it started with.
    pub lr: f64,
    /// Share of the rows of this call's steps whose scores were all computed in f32, because in
    /// fewer bits it could not be told which latents lead: slow, not wrong. None if no step was
    /// taken.
    pub scored_in_full: Option<f64>,
    /// The store that it was trained on, and how; none if it was put together by hand, or trained on
    /// synthetic rows.
    pub made: Option<Made>,
}

/// What runs that are trained together have in common: activations, hook and settings.
#[derive(Clone, Debug)]
pub struct Made {
    pub(crate) acts: ActivationStore,
    pub(crate) hook: HookPoint,
    pub(crate) train: TrainConfig,
}

impl Made {
    /// Whether what comes of the same SAE is the same.
    fn is_as(&self, other: &Made) -> bool {
        self.acts.fingerprint() == other.acts.fingerprint()
            && self.hook == other.hook
            && self.train == other.train
    }
}

/// The runs of one [`Trainer`](super::Trainer), in the order in which they were added;
/// `runs["TSAE"]` is one of them.
#[derive(Clone)]
pub struct Runs {
    /// The runs.
    pub runs: Vec<Run>,
}

impl Runs {
    /// The run without a table whose last held-out NMSE is lowest: the baseline that is hardest to
    /// beat.
    pub fn best_without_lookup(&self) -> Option<&Run> {
        best(self.runs.iter().filter(|run| run.sae.lookup.is_none()))
    }

    /// The same among those that are [centred](crate::sae::SaeConfig::centred), or among those that
    /// are not.
    pub(crate) fn best_without_lookup_that_is(&self, centred: bool) -> Option<&Run> {
        let plain = self.runs.iter().filter(|run| run.sae.lookup.is_none());
        best(plain.filter(|run| run.sae.config.centred == centred))
    }

    /// The run with a table whose last held-out NMSE is lowest.
    pub fn best_with_lookup(&self) -> Option<&Run> {
        best(self.runs.iter().filter(|run| run.sae.lookup.is_some()))
    }

    /// What they have in common; none if that is not the same for all.
    pub(crate) fn made(&self) -> Option<&Made> {
        let first = self.runs.first()?.made.as_ref()?;
        self.runs
            .iter()
            .all(|run| run.made.as_ref().is_some_and(|made| made.is_as(first)))
            .then_some(first)
    }

    /// These runs and `other`'s together.
    pub fn and(mut self, other: Runs) -> Runs {
        self.runs.extend(other.runs);
        self
    }

    /// Where each run stands, as a table.
    pub fn table(&self) -> Table {
        let rows = self.runs.iter().map(|run| row(&run.name, run.lr, run.tokens, &run.history));
        let table = Table::filled("Runs", &columns(), rows);
        match self.runs.iter().find(|run| !run.finished) {
            Some(run) => table.caption(&format!(
                "Interrupted after {} tokens. The same call continues from there.",
                format::count(run.tokens)
            )),
            None => table,
        }
    }
}

/// One run where it stands, as a table.
pub(super) fn standing(title: &str, name: &str, lr: f64, tokens: u64, history: &History) -> Table {
    Table::new(title, &columns()).with(row(name, lr, tokens, history))
}

pub(super) fn columns() -> [Column; 7] {
    [
        Column::text("run"),
        Column::number("lr").defined("learning rate at the start"),
        Column::number("tokens").defined("training tokens seen"),
        Column::number("loss").defined("mean of ‖x̂ − x‖² over the last training batches"),
        Column::number("NMSE")
            .defined("mean of ‖x̂ − x‖² / (‖x‖² + 1e-4) on held-out text, without position 0")
            .lowest_is_best(),
        Column::number("CE added")
            .defined(
                "(CE patched − CE clean) / (CE clean + 0.001) on held-out text, without position 0",
            )
            .lowest_is_best(),
        Column::number("dead")
            .defined("share of latents that fired on none of those held-out tokens"),
    ]
}

fn row(name: &str, lr: f64, tokens: u64, history: &History) -> Row {
    let (train, held_out) = (history.train.last(), history.held_out.last());
    Row::new(name)
        .rate(lr)
        .count(tokens)
        .number(train.map(|point| point.loss))
        .number(held_out.map(|point| point.nmse))
        .number(held_out.map(|point| point.ce_added))
        .percent(held_out.map(|point| point.dead))
}

fn best<'a>(runs: impl Iterator<Item = &'a Run>) -> Option<&'a Run> {
    let last = |run: &Run| run.history.held_out.last().map_or(f64::INFINITY, |point| point.nmse);
    runs.min_by(|a, b| last(a).total_cmp(&last(b)))
}

by_name!(Runs, runs: Run, "run");
