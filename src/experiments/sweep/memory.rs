//! How much memory runs take, so that no more of them train together than fit.

use crate::base::forecast::free_memory;

/// The share of the free memory that training may take: the model, its activations and the rest of
/// the machine need some, too.
const SHARE: f64 = 0.75;

/// What is taken to be free where the system does not say.
const UNKNOWN: u64 = 4 << 30;

/// Bytes that training may take here and now.
pub(super) fn budget() -> u64 {
    (free_memory().unwrap_or(UNKNOWN) as f64 * SHARE) as u64
}

/// Splits what is in order into parts that each take no more than `budget` bytes, or are a single
/// one.
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

    #[test]
    fn parts_fit_or_are_single() {
        assert_eq!(
            parts(vec![3, 3, 3, 9, 1, 1], 6, |&n| n),
            [vec![3, 3], vec![3], vec![9], vec![1, 1]]
        );
        assert_eq!(parts(Vec::<u64>::new(), 6, |&n| n), Vec::<Vec<u64>>::new());
    }
}
