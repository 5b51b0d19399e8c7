//! What the machine could do at best: the rate of its multipliers; and what the process has taken of its memory.

use std::hint::black_box;
use std::time::Instant;

use rayon::prelude::*;

use crate::model::Compute;
use crate::simd::{multiply_and_add, multiply_and_add_bf16};

/// The operations per second that all threads together reach in multiplications and additions on registers alone, in f32 or (where the
/// processor multiplies pairs of bf16) in bf16.
///
/// The best of a few tries of some 10 ms: a limit is what nothing else on the machine disturbed.
pub fn peak(compute: Compute) -> f64 {
    const STEPS: usize = 1_000_000;
    const TRIES: usize = 5;
    let threads = rayon::current_num_threads();
    let pairs = compute == Compute::Bf16 && multiply_and_add_bf16(1, [0.0; 2]).is_some();
    // Sixteen chains of sixteen numbers, each multiplied and added.
    let operations = (2 * 16 * 16 * STEPS * threads * if pairs { 2 } else { 1 }) as f64;
    let mut best = 0f64;
    for _ in 0..TRIES {
        let start = Instant::now();
        (0..threads).into_par_iter().with_max_len(1).for_each(|_| {
            let factors = black_box([0.5, 1.0]);
            match pairs {
                true => _ = black_box(multiply_and_add_bf16(STEPS, factors)),
                false => _ = black_box(multiply_and_add(STEPS, factors)),
            }
        });
        best = best.max(operations / start.elapsed().as_secs_f64());
    }
    best
}

/// The most memory that this process has held so far, in bytes; `None` where the system does not tell.
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
    fn the_machine_is_measured() {
        // Slower than one operation a nanosecond no processor is that runs this.
        assert!(peak(Compute::F32) > 1e9 && peak(Compute::Bf16) > 1e9);
        if cfg!(target_os = "linux") {
            assert!(peak_rss_bytes().unwrap() > 1 << 20);
        }
    }
}
