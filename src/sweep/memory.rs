//! How much memory runs take, so that no more of them train together than fit.

use crate::sae::SaeConfig;

/// The share of the free memory that training may take: the model, its activations and the rest of the machine need some, too.
const SHARE: f64 = 0.75;

/// What is taken to be free where the system does not say.
const UNKNOWN: u64 = 4 << 30;

/// Bytes that an SAE takes in training: parameters, Adam's two moments, the packed encoder and what a step needs for its batch.
pub(super) fn predicted(sae: &SaeConfig, batch: usize) -> u64 {
    let (d, d_sae) = (sae.d_model as u64, sae.d_sae() as u64);
    let weights = 2 * d_sae * d + d_sae + d;
    let table = sae.lookup.as_ref().map_or(0, |lookup| {
        let numbers = lookup.rows() as u64 * d;
        if lookup.is_learned() { 3 * numbers } else { numbers }
    });
    // The encoder is packed for the screen in one to four bytes a number; the codes, their gradients and their order by latent.
    let packed = d_sae * d;
    // Without a k, about so many are active before the penalty has done its work.
    let active = if sae.architecture.uses_k() { sae.k as u64 } else { d_sae / 4 };
    let step = batch as u64 * (3 * d + 6 * active);
    4 * (3 * weights + table + packed + step)
}

/// Bytes that training may take here and now.
pub(super) fn budget() -> u64 {
    (free().unwrap_or(UNKNOWN) as f64 * SHARE) as u64
}

/// The memory that the system, and the container that this may run in, have left.
fn free() -> Option<u64> {
    let system = std::fs::read_to_string("/proc/meminfo").ok().as_deref().and_then(available);
    let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    // "max", which is no number, where there is no limit.
    let container = number("/sys/fs/cgroup/memory.max").zip(number("/sys/fs/cgroup/memory.current"));
    let container = container.map(|(most, used)| most.saturating_sub(used));
    system.into_iter().chain(container).min()
}

/// `MemAvailable: 1234 kB`, in bytes.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(1024 * line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?)
}

/// Splits what is in order into parts that each take no more than `budget` bytes, or are a single one.
pub(super) fn parts<T>(all: Vec<T>, budget: u64, bytes: impl Fn(&T) -> u64) -> Vec<Vec<T>> {
    let mut parts: Vec<Vec<T>> = Vec::new();
    let mut taken = 0;
    for one in all {
        let needs = bytes(&one);
        match parts.last_mut() {
            Some(part) if taken + needs <= budget => {
                taken += needs;
                part.push(one);
            }
            _ => {
                taken = needs;
                parts.push(vec![one]);
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sae::Lookup;

    #[test]
    fn parts_fit_or_are_single() {
        assert_eq!(parts(vec![3, 3, 3, 9, 1, 1], 6, |&n| n), [vec![3, 3], vec![3], vec![9], vec![1, 1]]);
        assert_eq!(parts(Vec::<u64>::new(), 6, |&n| n), Vec::<Vec<u64>>::new());
    }

    #[test]
    fn what_is_free_is_read() {
        assert_eq!(available("MemTotal: 9 kB\nMemAvailable:   1000 kB\n"), Some(1_024_000));
        assert_eq!(available("MemTotal: 9 kB\n"), None);
        assert!(budget() > 1 << 20);
    }

    /// docs/performance.md: 0.80 GB at the peak for 768 → 12,288, k 30, batch 4,096 with a learned table of 50,257 tokens, of which 0.15 GB
    /// are the table's start.
    #[test]
    fn a_run_of_gpt_2_is_predicted_as_it_was_measured() {
        let config = SaeConfig::new(768, 50_257);
        let table = config.clone().with_lookup(Lookup::from_table(vec![0.5; 50_257 * 768], 768).unwrap());
        let bytes = predicted(&table, 4096) as f64;
        assert!((0.65e9..1.0e9).contains(&bytes), "{bytes}");
        assert!(predicted(&config, 4096) < predicted(&table, 4096) - 4 * 3 * 50_257 * 768 + 1);
    }
}
