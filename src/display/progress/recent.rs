//! What was done of late, for a rate that follows what happens.

use std::collections::VecDeque;

/// Over how many seconds a rate is formed.
const WINDOW_S: f64 = 15.0;

/// How much was done at which second, over the last quarter of a minute.
pub(crate) struct Recent(VecDeque<(f64, u64)>);

impl Recent {
    /// Begins at this second with so much done.
    pub(crate) fn from(now: f64, done: u64) -> Recent {
        Recent(VecDeque::from([(now, done)]))
    }

    /// Notes what is done by now, once a second.
    pub(crate) fn see(&mut self, now: f64, done: u64) {
        if self.0.back().is_none_or(|&(then, _)| now - then >= 1.0) {
            self.0.push_back((now, done));
        }
        while self.0.len() > 2 && self.0.front().is_some_and(|&(then, _)| now - then > WINDOW_S) {
            self.0.pop_front();
        }
    }

    /// The second where the window begins, and how much was done there.
    pub(crate) fn begin(&self) -> (f64, u64) {
        self.0.front().copied().unwrap_or_default()
    }
}
