//! The curves of runs in training, redrawn below the bar while they grow.

use std::time::{Duration, Instant};

use super::History;
use super::job::Job;
use crate::display::Place;
use crate::train::figures;

/// At least this long between two drawings,
const LEAST: Duration = Duration::from_millis(250);
/// and so many times what the last one took, so that looking on costs less than a hundredth of the
/// time.
const COST: u32 = 120;
/// Shorter trainings draw nothing.
const FIRST: Duration = Duration::from_secs(1);
/// Points of a curve: more than there are pixels between two of them say nothing.
const POINTS: usize = 200;

/// A figure that grows, where the kernel can redraw one.
pub(super) struct LiveCurves {
    place: Option<Place>,
    next: Instant,
}

impl LiveCurves {
    pub(super) fn new() -> LiveCurves {
        LiveCurves { place: Place::new(), next: Instant::now() + FIRST }
    }

    /// Draws the curves as they are, if it is time.
    pub(super) fn grow(&mut self, jobs: &[&Job]) {
        if self.place.is_some() && Instant::now() >= self.next {
            self.draw(jobs);
        }
    }

    /// Draws them for the last time, if they have been drawn.
    pub(super) fn finish(mut self, jobs: &[&Job]) {
        if self.place.as_ref().is_some_and(Place::is_drawn) {
            self.draw(jobs);
        }
    }

    fn draw(&mut self, jobs: &[&Job]) {
        let start = Instant::now();
        let thinned: Vec<History> = jobs.iter().map(|job| thinned(&job.history)).collect();
        let courses: Vec<(&str, &History)> =
            jobs.iter().map(|job| job.name.as_str()).zip(&thinned).collect();
        // There is nothing to draw before the first point.
        if let (Some(place), Ok(figure)) = (&mut self.place, figures::courses("Training", &courses))
        {
            place.draw(&figure.html(), figure.summary());
        }
        self.next = Instant::now() + LEAST.max(COST * start.elapsed());
    }
}

/// Every so many of the points, and the last.
fn thinned(history: &History) -> History {
    let all = &history.train;
    let step = all.len().div_ceil(POINTS).max(1);
    let kept = all.iter().rev().step_by(step).copied().collect::<Vec<_>>();
    History { train: kept.into_iter().rev().collect(), held_out: history.held_out.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::TrainPoint;

    #[test]
    fn a_long_history_is_thinned_and_keeps_its_end() {
        for n in [0, 1, POINTS, POINTS + 1, 7 * POINTS + 3] {
            let point = |i| TrainPoint {
                tokens: i as u64,
                loss: 1.0,
                nmse: 0.1,
                l0: 16.0,
                dead: 0.0,
                lookup_sim: None,
            };
            let train = (0..n).map(point).collect();
            let kept = thinned(&History { train, held_out: Vec::new() }).train;
            assert!(kept.len() <= POINTS && kept.is_sorted_by_key(|point| point.tokens));
            assert_eq!(
                kept.last().map(|point| point.tokens),
                n.checked_sub(1).map(|last| last as u64)
            );
        }
    }
}
