//! What long work will take, told before it starts; and memory refused before it runs out.
//!
//! Memory is what a process holds for itself. Pages of the activation store's files come on top
//! while it is read, but the system takes those back when somebody needs them.

use std::fmt;

use crate::base::error::{Error, Result};
use crate::base::format;

/// What work will take.
///
/// ```
/// use tokenized_sae::forecast::Forecast;
/// let forecast = Forecast { memory: 3_100_000_000, seconds: 2_400.0, ..Default::default() };
/// assert_eq!(forecast.to_string(), "this will take about 40 min and 3.1 GB of memory");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Forecast {
    /// Bytes of memory at most, without the model and whatever else is in memory already.
    pub memory: u64,
    /// Bytes on the card that does it; 0 if none does.
    pub card: u64,
    /// Bytes on the disk.
    pub disk: u64,
    /// Seconds.
    pub seconds: f64,
}

impl fmt::Display for Forecast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "this will take about {} and {} of memory",
            format::coarse_duration(self.seconds),
            format::bytes(self.memory)
        )?;
        if self.card > 0 {
            write!(f, ", {} on the card", format::bytes(self.card))?;
        }
        if self.disk > 0 {
            write!(f, ", and {} on the disk", format::bytes(self.disk))?;
        }
        Ok(())
    }
}

/// Bytes that this process may still take; `None` where the system does not say.
///
/// The least of what the machine has free (or can free by dropping files from its cache), what is
/// left of a container's limit, and, if `TSAE_MEMORY` is set, of that many bytes:
/// `TSAE_MEMORY=8e9`. A large one switches every refusal off.
pub(crate) fn free_memory() -> Option<u64> {
    let asked =
        std::env::var("TSAE_MEMORY").ok().and_then(|bytes| bytes.trim().parse::<f64>().ok());
    if let Some(bytes) = asked.filter(|bytes| *bytes >= 0.0) {
        return Some(bytes as u64);
    }
    let system = std::fs::read_to_string("/proc/meminfo").ok().as_deref().and_then(available);
    let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    // "max", which is not a number, where there is no limit.
    let container =
        number("/sys/fs/cgroup/memory.max").zip(number("/sys/fs/cgroup/memory.current"));
    let container =
        container.map(|(most, used)| most.saturating_sub(used.saturating_sub(file_cache())));
    system.into_iter().chain(container).min()
}

/// `MemAvailable: 1234 kB`, in bytes.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(1024 * line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?)
}

/// Bytes of files that the container holds in memory, and could drop.
fn file_cache() -> u64 {
    let stat = std::fs::read_to_string("/sys/fs/cgroup/memory.stat").unwrap_or_default();
    stat.lines()
        .find_map(|line| line.strip_prefix("inactive_file ")?.trim().parse().ok())
        .unwrap_or(0)
}

/// Refuses work that needs more memory than is free. `remedy` gets the free memory and says what
/// would fit.
///
/// # Errors
/// [`Error::Memory`].
pub(crate) fn check(what: &str, needs: u64, remedy: impl FnOnce(u64) -> String) -> Result<()> {
    match free_memory() {
        Some(free) if free < needs => {
            Err(Error::Memory { what: what.to_owned(), needs, free, remedy: remedy(free) })
        }
        _ => Ok(()),
    }
}

/// The largest of the sizes `1, 2, 4, … ≤ most` that takes no more than `free` bytes.
pub(crate) fn largest(most: usize, free: u64, bytes: impl Fn(usize) -> u64) -> Option<usize> {
    std::iter::successors(Some(1usize), |size| size.checked_mul(2))
        .take_while(|&size| size <= most)
        .filter(|&size| bytes(size) <= free)
        .last()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_free_is_read() {
        assert_eq!(available("MemTotal: 9 kB\nMemAvailable:   1000 kB\n"), Some(1_024_000));
        assert_eq!(available("MemTotal: 9 kB\n"), None);
        if cfg!(target_os = "linux") {
            assert!(free_memory().unwrap() > 1 << 20);
        }
    }

    #[test]
    fn too_much_is_refused_with_the_remedy() {
        check("it", 1 << 20, |_| unreachable!()).unwrap();
        let told = check("training", u64::MAX, |free| format!("take less than {free}"))
            .unwrap_err()
            .to_string();
        assert!(told.starts_with("training needs ") && told.contains("take less than"), "{told}");
    }

    #[test]
    fn the_largest_size_that_fits_is_a_power_of_two() {
        assert_eq!(largest(100, 50, |n| n as u64), Some(32));
        assert_eq!(largest(20, 50, |n| n as u64), Some(16));
        assert_eq!(largest(20, 0, |n| n as u64), None);
    }
}
