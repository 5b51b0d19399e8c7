//! Processes that are killed at their work.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// Waits until there is more than `before`, and a little longer in every `round`: a process that is
/// killed then has got somewhere, and is at another place each time.
pub fn wait_for_more(made: impl Fn() -> usize, before: usize, round: u64) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while made() <= before && Instant::now() < deadline {
        sleep(Duration::from_millis(1));
    }
    sleep(Duration::from_micros(731 * round));
}
