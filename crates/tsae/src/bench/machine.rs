//! What the machine could do at best: the rate of its multipliers; and what the process has taken
//! of its memory.

use std::hint::black_box;
use std::time::Instant;

use rayon::prelude::*;

use serde::Serialize;
use tokenized_sae::backend;
use tokenized_sae::internal::{multiply_and_add, multiply_and_add_bf16, multiply_and_add_int8};

/// The numbers that are multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// One at a time.
    F32,
    /// In pairs, where the processor does that; else as f32.
    Bf16,
    /// In fours, where the processor does that; else as f32.
    Int8,
}

/// What the training step can run on.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Machine {
    /// Threads that compute.
    pub threads: usize,
    /// In which numbers the processor screens.
    pub backend: String,
    /// The cards that were found, or why there is no using any, and what to do.
    pub cards: String,
}

impl Machine {
    /// A line for each.
    pub fn text(&self) -> String {
        format!(
            "processor: {} threads, screened in {}\ncards: {}",
            self.threads, self.backend, self.cards
        )
    }
}

/// Looks what the training step can run on.
pub fn machine() -> Machine {
    Machine {
        threads: rayon::current_num_threads(),
        backend: backend::fastest().name(),
        cards: backend::Device::found(),
    }
}

/// The operations per second that all threads together reach in multiplications and additions on
/// registers alone.
///
/// The best of a few tries of some 10 ms: a limit is what nothing else on the machine disturbed.
pub fn peak(numbers: Numbers) -> f64 {
    const STEPS: usize = 1_000_000;
    const TRIES: usize = 5;
    let threads = rayon::current_num_threads();
    // How many products an instruction forms in a lane.
    let run = |steps: usize| -> usize {
        match numbers {
            Numbers::Bf16 if multiply_and_add_bf16(steps, black_box([0.5, 1.0])).is_some() => 2,
            Numbers::Int8 if multiply_and_add_int8(steps, black_box([1, 1])).is_some() => 4,
            _ => {
                black_box(multiply_and_add(steps, black_box([0.5, 1.0])));
                1
            }
        }
    };
    // Sixteen chains of sixteen lanes, each multiplied and added.
    let operations = (2 * 16 * 16 * STEPS * threads * run(1)) as f64;
    let mut best = 0f64;
    for _ in 0..TRIES {
        let start = Instant::now();
        (0..threads).into_par_iter().with_max_len(1).for_each(|_| _ = black_box(run(STEPS)));
        best = best.max(operations / start.elapsed().as_secs_f64());
    }
    best
}

/// The most memory that this process has held so far, in bytes; `None` where the system does not
/// tell.
pub fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_step_can_run_on_is_told() {
        let found = machine();
        assert!(found.threads > 0 && !found.cards.is_empty());
        assert!(found.text().contains(&found.backend));
    }

    #[test]
    fn the_machine_is_measured() {
        // Slower than one operation a nanosecond no processor is that runs this.
        assert!(
            [Numbers::F32, Numbers::Bf16, Numbers::Int8]
                .into_iter()
                .all(|numbers| peak(numbers) > 1e9)
        );
        if cfg!(target_os = "linux") {
            assert!(peak_rss_bytes().unwrap() > 1 << 20);
        }
    }
}
