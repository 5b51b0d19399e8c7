//! Runs that another process has in hand: waited for, and taken over from one that ends without having
//! finished them.

use std::path::Path;
use std::time::Duration;

use super::Running;
use crate::base::error::{Error, Result};
use crate::base::share::Share;
use crate::display::interrupt;
use crate::experiments::sweep::grid::Point;
use crate::train;

/// A run that another process has in hand.
pub(super) struct Elsewhere {
    pub point: Point,
    pub key: String,
}

/// Refuses a share of which runs are there.
pub(super) fn nothing_in(elsewhere: &[Elsewhere], share: Share, dir: &Path) -> Result<()> {
    let Some(Elsewhere { point, .. }) = elsewhere.first() else { return Ok(()) };
    Err(Error::Incomplete {
        what: format!("share {share} of the sweep in {}", dir.display()),
        left: format!(
            "{} of its runs are in the hands of another process, the first of them \"{}\" at {}",
            elsewhere.len(),
            point.name,
            point.setting.hook
        ),
        remedy: "run the same again when that has ended".to_owned(),
    })
}

impl Running<'_> {
    /// Waits for the runs that other processes have in hand, until one of them is free: those that
    /// were let go unfinished. None are when all are done; `None` if it was stopped by hand.
    pub(super) fn wait(&mut self, dir: &Path) -> Result<Option<Vec<Point>>> {
        /// Between two looks at the stop button, and as many of them at the runs.
        const LOOK: Duration = Duration::from_millis(100);
        const LOOKS: usize = 5;
        loop {
            let mut free = Vec::new();
            let mut still = Vec::new();
            for run in std::mem::take(&mut self.elsewhere) {
                let root = dir.join(run.point.setting.hook.to_string());
                // A lock first: who lets go of one may just have finished.
                let lock = train::lock(&root, &run.point.name);
                if !self.is_to_be_done(&root, &run.point, &run.key)? {
                    self.done += self.sweep.train.tokens;
                    self.progress.set(self.done);
                    continue;
                }
                match lock {
                    Ok(_) => free.push(run.point),
                    Err(Error::Locked { .. }) => still.push(run),
                    Err(error) => return Err(error),
                }
            }
            self.elsewhere = still;
            if !free.is_empty() || self.elsewhere.is_empty() {
                return Ok(Some(free));
            }
            let n = self.elsewhere.len();
            self.progress.note(&format!("waiting for {n} runs of another process"));
            for _ in 0..LOOKS {
                std::thread::sleep(LOOK);
                if interrupt::requested() {
                    return Ok(None);
                }
            }
            self.progress.set(self.done);
        }
    }
}
