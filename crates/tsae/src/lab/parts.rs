//! How long the whole set-up still takes.

use std::fs::File;
use std::time::Instant;

use tokenized_sae::display::Progress;
use tokenized_sae::format::coarse_duration;

/// Seconds after which the speed of this machine counts as much as what is known beforehand.
const TRUST_S: f64 = 60.0;

/// A part of the set-up that takes long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Jupyter from PyPI.
    Jupyter,
    /// evcxr.
    Kernel,
    /// The library and its crates.
    Crates,
    /// The library alone, whose crates are compiled.
    Library,
}

impl Part {
    /// How long it takes on two cores, in seconds.
    fn seconds(self) -> f64 {
        match self {
            Part::Jupyter => 50.0,
            Part::Kernel => 180.0,
            Part::Crates => 330.0,
            Part::Library => 70.0,
        }
    }
}

/// What a set-up has to make.
pub(super) struct Parts {
    /// Held as long as it works.
    pub lock: File,
    /// In the order in which they are made.
    missing: Vec<Part>,
    started: Instant,
}

/// The progress of a part.
pub(super) struct Bar<'a> {
    parts: &'a Parts,
    part: Part,
    started: Instant,
    total: u64,
    first: u64,
    progress: Progress,
}

impl Parts {
    /// Starts the clock.
    pub fn new(lock: File, missing: Vec<Part>) -> Parts {
        Parts { lock, missing, started: Instant::now() }
    }

    /// The part that comes last, which is the library's if that is missing.
    pub fn last(&self) -> Part {
        self.missing.last().copied().unwrap_or(Part::Library)
    }

    /// Begins a part that has `total` packages, or an unknown number, 0; a set-up that was killed
    /// did the `first` of them.
    pub fn begin(&self, part: Part, what: &str, first: u64, total: u64, unit: &str) -> Bar<'_> {
        let place = self.missing.iter().position(|one| *one == part).map_or(1, |at| at + 1);
        let of = self.missing.len().max(place);
        // What Progress itself says of the time left is about a part, and jumps, since packages
        // differ in size: it is not told the total.
        let progress = Progress::new(&format!("set-up {place} of {of}: {what}"), 0, unit);
        let started = Instant::now();
        Bar { parts: self, part, started, total, first, progress: progress.resumed_at(first) }
    }

    /// The time left for all when `share` of `part` is done, in seconds, at the speed seen so far.
    fn left(&self, part: Part, share: f64, passed: f64) -> f64 {
        let before = self.missing.iter().take_while(|one| **one != part);
        let done = before.map(|one| one.seconds()).sum::<f64>() + share * part.seconds();
        let all: f64 = self.missing.iter().map(|one| one.seconds()).sum();
        (all - done).max(0.0) * (passed + TRUST_S) / (done + TRUST_S)
    }
}

impl Bar<'_> {
    /// Says that so many packages are done, and which is the next.
    pub fn set(&mut self, done: u64, note: &str) {
        let todo = self.total.saturating_sub(self.first);
        // One package, or nobody knows how many: by the clock, until that has passed.
        let share = if todo > 1 {
            done.saturating_sub(self.first) as f64 / todo as f64
        } else {
            self.started.elapsed().as_secs_f64() / self.part.seconds()
        };
        let left = self.parts.left(self.part, share, self.parts.started.elapsed().as_secs_f64());
        let left = (share < 1.0).then(|| format!("about {} left in all", coarse_duration(left)));
        let notes: Vec<&str> =
            left.iter().map(String::as_str).chain([note]).filter(|part| !part.is_empty()).collect();
        self.progress.note(&notes.join(" · "));
        self.progress.set(done);
    }

    /// Shows how long the part took.
    pub fn finish(mut self, done: u64) {
        self.progress.note("");
        self.progress.set(done);
        self.progress.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_in_all_goes_by_the_speed_of_the_parts_before() {
        let parts = Parts::new(
            tempfile::tempfile().unwrap(),
            vec![Part::Jupyter, Part::Kernel, Part::Library],
        );
        assert_eq!(parts.left(Part::Jupyter, 0.0, 0.0), 300.0);
        // Jupyter took as long as is known, or far longer.
        assert_eq!(parts.left(Part::Kernel, 0.0, 50.0), 250.0);
        assert_eq!(parts.left(Part::Kernel, 0.0, 160.0), 500.0);
        assert_eq!(parts.left(Part::Library, 1.0, 300.0), 0.0);
    }
}
