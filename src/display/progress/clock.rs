//! Where the time comes from.

use std::time::Instant;

/// Seconds since the start, by the system's clock or, in tests, by hand.
pub(super) enum Clock {
    System(Instant),
    #[cfg(test)]
    ByHand(std::rc::Rc<std::cell::Cell<f64>>),
}

impl Clock {
    pub(super) fn start() -> Clock {
        Clock::System(Instant::now())
    }

    pub(super) fn seconds(&self) -> f64 {
        match self {
            Clock::System(start) => start.elapsed().as_secs_f64(),
            #[cfg(test)]
            Clock::ByHand(seconds) => seconds.get(),
        }
    }
}
