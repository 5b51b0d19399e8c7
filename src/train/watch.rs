//! Who can stop a training, and who sees how far it has come.

use super::job::Job;
use super::live::LiveCurves;
use crate::activations::Waiting;
use crate::base::format;
use crate::display::{Progress, interrupt};

/// Watches a training: asked before every step of every run whether to stop, and told after it how
/// far all have come.
pub(super) trait Watch {
    /// Begins: `done` of `total` tokens are done, of all runs together.
    fn begin(&mut self, _done: u64, _total: u64) {}

    /// Who waits for the training.
    fn waiting(&self) -> Waiting<'_> {
        Waiting::Cell
    }

    /// Whether the training should end early. Must be cheap.
    fn stops(&self) -> bool {
        interrupt::requested()
    }

    /// Held-out text was measured.
    fn measured(&mut self, _jobs: &[&Job]) {}

    /// Something is to be said that is no progress.
    fn remarked(&mut self, _remark: &str) {}

    /// A step was taken, or a run has ended; `done` tokens are done, of all runs together.
    fn stepped(&mut self, jobs: &[&Job], done: u64);

    /// Ends, early because [`stops`](Watch::stops) said so, or not.
    fn end(&mut self, _jobs: &[&Job], early: bool) {
        if early {
            interrupt::clear();
        }
    }
}

/// The cell that waits for the training: it shows progress and, where that can be redrawn, the
/// curves so far; its stop button stops.
#[derive(Default)]
pub(super) struct Foreground {
    shown: Option<(Progress, LiveCurves)>,
}

impl Watch for Foreground {
    fn begin(&mut self, done: u64, total: u64) {
        self.shown =
            Some((Progress::new("train", total, "tokens").resumed_at(done), LiveCurves::new()));
    }

    fn measured(&mut self, jobs: &[&Job]) {
        if let Some((progress, _)) = &mut self.shown {
            progress.note(&notes(jobs));
        }
    }

    fn remarked(&mut self, remark: &str) {
        if let Some((progress, _)) = &mut self.shown {
            progress.remark(remark);
        }
    }

    fn stepped(&mut self, jobs: &[&Job], done: u64) {
        if let Some((progress, curves)) = &mut self.shown {
            progress.set(done);
            curves.grow(jobs);
        }
    }

    fn end(&mut self, jobs: &[&Job], early: bool) {
        if early {
            interrupt::clear();
        }
        if let Some((mut progress, curves)) = self.shown.take() {
            if early {
                progress.note("interrupted; the same call continues from here");
            }
            progress.finish();
            curves.finish(jobs);
        }
    }
}

/// Nobody: a rank whose first one shows how far all have come.
pub(super) struct Unseen;

impl Watch for Unseen {
    fn stepped(&mut self, _: &[&Job], _: u64) {}
}

/// One of several trainings that follow each other under one bar.
pub(super) struct Part<'a> {
    /// The bar of them all.
    pub progress: &'a mut Progress,
    /// Tokens done by those before, of all runs together.
    pub before: u64,
}

impl Watch for Part<'_> {
    fn begin(&mut self, done: u64, _total: u64) {
        self.progress.set(self.before + done);
    }

    fn remarked(&mut self, remark: &str) {
        self.progress.remark(remark);
    }

    fn stepped(&mut self, _jobs: &[&Job], done: u64) {
        self.progress.set(self.before + done);
    }
}

/// The latest held-out NMSE of every run, for the progress line.
fn notes(jobs: &[&Job]) -> String {
    let last = |job: &&Job| {
        job.history
            .held_out
            .last()
            .map(|point| format!("{} {}", job.name, format::significant(point.nmse, 3)))
    };
    let all: Vec<String> = jobs.iter().filter_map(last).collect();
    format!("NMSE {}", all.join(", "))
}
