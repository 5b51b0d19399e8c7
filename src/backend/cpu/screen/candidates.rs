//! The latents of one row that may still be among its k largest, or above their thresholds.

use crate::cpu::simd::vectorised;

/// A list of latents with an upper and a lower bound of their scores.
///
/// Entries are pushed as a scan finds them. When the list is full it is **cut**: the threshold
/// rises to (about, and never above) the k-th largest lower bound, and entries whose upper bound
/// lies under it leave. The threshold is found by halving the range of the lower bounds and
/// counting, which costs a dozen passes over a list in first-level cache and no comparison that a
/// processor could mispredict. So it pays to cut often: a threshold that is up to date keeps out
/// latents whose taking would cost more.
///
/// Where what is wanted is not a number of latents but all above a threshold, the threshold is
/// [fixed](Candidates::above), and a full list grows.
pub(crate) struct Candidates {
    k: usize,
    is_fixed: bool,
    len: usize,
    /// The length from which the list is cut.
    full: usize,
    threshold: f32,
    upper: Vec<f32>,
    lower: Vec<f32>,
    latents: Vec<u32>,
}

/// Entries that a scan may write at once.
pub(super) const BURST: usize = 16;

/// How often the range of the lower bounds is halved.
const HALVINGS: usize = 12;

impl Candidates {
    /// An empty list for the `k` largest of a row, with room for `often` times as many.
    pub(crate) fn new(k: usize, often: usize) -> Candidates {
        let room = (often * k + 64).next_multiple_of(BURST) + BURST;
        let empty = || vec![0.0; room];
        Candidates {
            k,
            is_fixed: false,
            len: 0,
            full: room.min(2 * k + BURST),
            threshold: f32::MIN,
            upper: empty(),
            lower: empty(),
            latents: vec![0; room],
        }
    }

    /// An empty list for all latents whose score may be 0 or more.
    pub(crate) fn above() -> Candidates {
        let mut list = Candidates { is_fixed: true, ..Candidates::new(0, 0) };
        list.clear();
        list
    }

    /// Begins another row.
    pub(crate) fn clear(&mut self) {
        (self.len, self.threshold) = (0, if self.is_fixed { 0.0 } else { f32::MIN });
        self.full = if self.is_fixed { self.most() } else { self.most().min(2 * self.k + BURST) };
    }

    /// The greatest length after which another burst fits.
    fn most(&self) -> usize {
        self.upper.len() - BURST
    }

    /// Begins a row that takes nothing.
    pub(crate) fn close(&mut self) {
        (self.len, self.threshold) = (0, f32::INFINITY);
    }

    /// What an upper bound must reach to be taken; +∞ once the row has overflowed.
    #[inline(always)]
    pub(crate) fn threshold(&self) -> f32 {
        self.threshold
    }

    /// The places of the next [`BURST`] entries, of which the caller writes the first few and then
    /// calls [`Candidates::pushed`].
    #[inline(always)]
    pub(super) fn next(&mut self) -> (&mut [f32; BURST], &mut [f32; BURST], &mut [u32; BURST]) {
        let at = self.len;
        let (upper, lower, latents) =
            (&mut self.upper[at..], &mut self.lower[at..], &mut self.latents[at..]);
        match (upper.first_chunk_mut(), lower.first_chunk_mut(), latents.first_chunk_mut()) {
            (Some(upper), Some(lower), Some(latents)) => (upper, lower, latents),
            _ => unreachable!("a list is cut before fewer than {BURST} places are left"),
        }
    }

    /// Notes that `n` entries were written, and cuts the list if it is long.
    #[inline(always)]
    pub(super) fn pushed(&mut self, n: usize) {
        self.len += n;
        if self.len > self.full {
            self.cut();
        }
    }

    /// Adds one entry.
    pub(super) fn push(&mut self, upper: f32, lower: f32, latent: u32) {
        let (u, l, i) = self.next();
        (u[0], l[0], i[0]) = (upper, lower, latent);
        self.pushed(1);
    }

    /// Raises the threshold and drops what lies under it. A list that stays full gives up. One
    /// whose threshold is fixed grows.
    fn cut(&mut self) {
        if self.is_fixed {
            let room = 2 * self.upper.len();
            self.upper.resize(room, 0.0);
            self.lower.resize(room, 0.0);
            self.latents.resize(room, 0);
            self.full = self.most();
            return;
        }
        if self.len > self.k {
            self.threshold =
                self.threshold.max(kth_largest_or_less(&self.lower[..self.len], self.k));
            let mut kept = 0;
            for i in 0..self.len {
                let is_kept = self.upper[i] >= self.threshold;
                (self.upper[kept], self.lower[kept], self.latents[kept]) =
                    (self.upper[i], self.lower[i], self.latents[i]);
                kept += usize::from(is_kept);
            }
            self.len = kept;
        }
        if self.len > self.most() {
            self.close();
        }
        // Where many lie between the bounds, cutting every few entries would not pay.
        self.full = (2 * self.len + BURST).min(self.most());
    }

    /// After the last latent: the candidates in the order in which they came, the k largest among
    /// them for certain; or `None` if the row must be done in full, because it overflowed or has
    /// fewer than k numbers.
    pub(crate) fn finish(&mut self) -> Option<&[u32]> {
        if !self.is_fixed {
            self.cut();
        }
        let is_complete = self.threshold < f32::INFINITY && self.len >= self.k;
        is_complete.then(|| &self.latents[..self.len])
    }
}

vectorised! {
    /// A number that at least `k` of `values` reach, close to the greatest such number. There must
    /// be at least `k`, none of them NaN.
    fn kth_largest_or_less(values: &[f32], k: usize) -> f32 {
        let (mut low, mut high) = values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &v| {
            (if v < low { v } else { low }, if v > high { v } else { high })
        });
        for _ in 0..HALVINGS {
            let middle = low + (high - low) * 0.5;
            let reach: u32 = values.iter().map(|&v| u32::from(v >= middle)).sum();
            if reach as usize >= k { low = middle } else { high = middle }
        }
        low
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_k_largest_are_always_among_the_candidates(
            scores in prop::collection::vec(-100i32..100, 1..900),
            k in 1usize..20,
            margin in 0u8..5,
        ) {
            let k = k.min(scores.len());
            let margin = f32::from(margin);
            let mut list = Candidates::new(k, 4);
            for (latent, &score) in scores.iter().enumerate() {
                // The estimate errs by up to the margin, this way and that.
                let estimate = score as f32 + margin * ((latent % 5) as f32 / 2.0 - 1.0);
                if estimate + margin >= list.threshold() {
                    list.push(estimate + margin, estimate - margin, latent as u32);
                }
            }
            let mut order: Vec<usize> = (0..scores.len()).collect();
            order.sort_by_key(|&i| (-scores[i], i));
            if let Some(latents) = list.finish() {
                for &i in &order[..k] {
                    // Among equal scores any may be ruled out only if k others are larger: ties
                    // with the k-th stay.
                    prop_assert!(latents.contains(&(i as u32)), "{i} of score {} is missing", scores[i]);
                }
            } else {
                // Only a crowd near the k-th can overflow a list of this length.
                let near = scores.iter().filter(|&&s| (s - scores[order[k - 1]]).abs() as f32 <= 6.0 * margin + 200.0 / 4096.0 + 1.0).count();
                prop_assert!(near + k >= 4 * k + 64, "gave up with {near} near the k-th of {}", scores.len());
            }
        }

        #[test]
        fn the_bar_is_reached_by_k_and_close(values in prop::collection::vec(-1e3f32..1e3, 1..300), k in 1usize..50) {
            let k = k.min(values.len());
            let threshold = kth_largest_or_less(&values, k);
            let mut sorted = values.clone();
            sorted.sort_by(|a, b| b.total_cmp(a));
            prop_assert!(threshold <= sorted[k - 1]);
            prop_assert!(sorted[k - 1] - threshold <= (sorted[0] - sorted[values.len() - 1]) / 4000.0 + 1e-3);
        }
    }

    #[test]
    fn a_crowd_overflows_and_then_nothing_is_taken() {
        let mut list = Candidates::new(3, 4);
        for latent in 0..10_000 {
            if 1.0 >= list.threshold() {
                list.push(1.0, 0.0, latent);
            }
        }
        assert!(list.finish().is_none());
        list.clear();
        assert!(list.finish().is_none(), "fewer than k");
        (0..3).for_each(|latent| list.push(1.0, 0.5, latent));
        assert_eq!(list.finish().unwrap(), [0, 1, 2]);
    }
}
