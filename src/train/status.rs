//! How far a training in the background has come.

use std::path::PathBuf;

use super::TrainPoint;
use super::runs::columns;
use crate::base::format;
use crate::display::{Cell, Column, Row, Table};
use crate::eval::HeldOutPoint;

/// How far a training in the background has come: what
/// [`Training::status`](super::Training::status) found at one moment.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TrainingStatus {
    /// The folder that it trains in.
    pub dir: PathBuf,
    /// Whether it runs, or how it ended.
    pub state: TrainingState,
    /// Its runs, in the order in which they were added.
    pub runs: Vec<RunStatus>,
    /// Tokens seen by all runs together.
    pub tokens: u64,
    /// Tokens that all runs together will see.
    pub total: u64,
    /// Seconds since it was started, or that it took.
    pub seconds: f64,
    /// Tokens a second, all runs together: over the last quarter of a minute while it runs, over
    /// all its time once it has ended.
    pub rate: f64,
    /// Seconds until the end at that rate; none once it has ended, or before the first step.
    pub seconds_left: Option<f64>,
}

/// Whether a training in the background runs, or how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrainingState {
    /// It runs.
    Running,
    /// It was asked to stop and has not yet written what it has.
    Stopping,
    /// Every run has seen all its tokens.
    Finished,
    /// It was stopped before the end; the same call continues from there.
    Stopped,
    /// It failed, for this reason.
    Failed(String),
}

/// One run of a training in the background.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RunStatus {
    /// Its name.
    pub name: String,
    /// The learning rate it started with.
    pub lr: f64,
    /// Tokens it has seen.
    pub tokens: u64,
    /// Tokens it will see.
    pub total: u64,
    /// The last point of its training history.
    pub train: Option<TrainPoint>,
    /// The last measurement on held-out text.
    pub held_out: Option<HeldOutPoint>,
}

impl TrainingStatus {
    /// Where each run stands, as a table.
    pub fn table(&self) -> Table {
        let [run, lr, tokens, loss, nmse, ce_added, _] = columns();
        let done = Column::text("done").defined("share of its training tokens");
        let rows = self.runs.iter().map(|run| {
            let share = run.tokens as f64 / run.total.max(1) as f64;
            let done = Cell::Bar { share, shown: format!("{:.0} %", (share * 100.0).floor()) };
            Row::new(&run.name)
                .rate(run.lr)
                .count(run.tokens)
                .cell(done)
                .number(run.train.map(|point| point.loss))
                .number(run.held_out.map(|point| point.nmse))
                .number(run.held_out.map(|point| point.ce_added))
        });
        let title = format!("Training in {}: {}", self.dir.display(), self.state.name());
        Table::filled(&title, &[run, lr, tokens, done, loss, nmse, ce_added], rows)
            .caption(&self.line())
    }

    /// The same in one line: `1.2 M of 4.0 M tokens · 41 k tok/s · 1 min left`.
    pub fn line(&self) -> String {
        let mut line =
            format!("{} of {} tokens", format::count(self.tokens), format::count(self.total));
        if self.rate > 0.0 {
            line += &format!(" · {} tok/s", format::rate(self.rate));
        }
        match (&self.state, self.seconds_left) {
            (TrainingState::Running, Some(left)) => {
                line + &format!(" · {} left", format::coarse_duration(left))
            }
            (TrainingState::Running, None) => line,
            (state, _) => {
                line + &format!(" · {} · {}", format::duration(self.seconds), state.sentence())
            }
        }
    }
}

impl TrainingState {
    /// One word.
    pub fn name(&self) -> &'static str {
        match self {
            TrainingState::Running => "running",
            TrainingState::Stopping => "stopping",
            TrainingState::Finished => "finished",
            TrainingState::Stopped => "stopped",
            TrainingState::Failed(_) => "failed",
        }
    }

    /// What it means, and what to do.
    pub fn sentence(&self) -> String {
        match self {
            TrainingState::Running => "trains in the background".to_owned(),
            TrainingState::Stopping => {
                "asked to stop; what was trained is being written".to_owned()
            }
            TrainingState::Finished => "finished; join() gives the runs".to_owned(),
            TrainingState::Stopped => "stopped; the same call continues from there".to_owned(),
            TrainingState::Failed(why) => format!("failed: {why}"),
        }
    }
}

impl std::fmt::Display for TrainingStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.line())
    }
}
