//! How far the measuring of latents has come.

use crate::display::Progress;

/// A progress that several loops advance in turn.
pub(super) struct Meter {
    progress: Progress,
    done: u64,
}

impl Meter {
    pub(super) fn new(what: &str, total: u64) -> Meter {
        Meter { progress: Progress::new(what, total, "latents"), done: 0 }
    }

    pub(super) fn advance(&mut self, by: u64) {
        self.done += by;
        self.progress.set(self.done);
    }

    pub(super) fn finish(self) {
        self.progress.finish();
    }
}
