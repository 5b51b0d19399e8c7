//! A seeded order of all rows that takes no memory.
//!
//! A shuffled list of 300 million row numbers would take 2.4 GB. A Feistel network is a bijection
//! on `0..2^bits` whatever its round function is: it splits a number in two halves and changes each
//! in turn by a keyed hash of the other, which can always be undone. Rows need `0..n`, so `bits` is
//! the fewest that hold `n`, and a value that falls outside is sent through again until it falls
//! inside (cycle walking: fewer than two trips on average, since `2^bits < 2n` for all but tiny
//! stores), which keeps the map a bijection.

mod blocks;
mod order;

pub use order::RowOrder;

use blocks::{Blocks, InBlocks};

/// How often each half is changed. Four passes of this kind already look random to any test here;
/// eight cost 10 ns.
const ROUNDS: usize = 8;

/// Halves of fewer than five bits leave some orders of a handful of rows out.
const FEWEST_BITS: u32 = 10;

/// A seeded order of the rows `0..n`, a new one each epoch.
#[derive(Clone, Copy)]
pub struct Shuffle {
    n: u64,
    seed: u64,
    /// Without them, any row may come after any other.
    blocks: Option<Blocks>,
}

impl Shuffle {
    /// An order of the rows `0..n`, decided by `seed` alone. Cannot fail; with `n = 0` every row is 0.
    pub fn new(n: u64, seed: u64) -> Shuffle {
        Shuffle { n, seed, blocks: None }
    }

    /// The same as `order` says.
    pub fn ordered(n: u64, seed: u64, order: RowOrder) -> Shuffle {
        Shuffle { n, seed, blocks: Blocks::of(order) }
    }

    /// The rows at the positions `start..start + n`, which count on over the epochs: each of the
    /// order's length visits every row once.
    pub fn fill(&self, start: u64, n: usize) -> Vec<u64> {
        let rows = self.n.max(1);
        let mut epoch = start / rows;
        let mut order = self.epoch(epoch);
        let mut within = start % rows;
        let mut out = Vec::with_capacity(n);
        while out.len() < n {
            if within == rows {
                (epoch, within) = (epoch + 1, 0);
                order = self.epoch(epoch);
            }
            out.push(order.row(within));
            within += 1;
        }
        out
    }

    fn epoch(&self, epoch: u64) -> Epoch {
        let n = self.n.max(1);
        match self.blocks {
            None => Epoch::Rows(Permutation::new(n, self.seed, epoch)),
            Some(blocks) => Epoch::InBlocks(InBlocks::new(n, self.seed, epoch, blocks)),
        }
    }
}

/// The order of one epoch.
enum Epoch {
    Rows(Permutation),
    InBlocks(InBlocks),
}

impl Epoch {
    fn row(&mut self, position: u64) -> u64 {
        match self {
            Epoch::Rows(order) => order.row(position),
            Epoch::InBlocks(order) => order.row(position),
        }
    }
}

/// An order of `0..n`.
struct Permutation {
    n: u64,
    /// The number of bits of the upper and of the lower half: together the fewest that hold `n`
    /// values.
    upper_bits: u32,
    lower_bits: u32,
    keys: [u64; ROUNDS],
}

impl Permutation {
    fn new(n: u64, seed: u64, epoch: u64) -> Permutation {
        let bits = (u64::BITS - (n - 1).leading_zeros()).max(FEWEST_BITS);
        // Two steps of SplitMix64, so that (seed, epoch) and (seed + 1, epoch - 1) have nothing in
        // common.
        let mut state = split_mix(&mut { seed }) ^ split_mix(&mut { epoch }).rotate_left(32);
        let keys = std::array::from_fn(|_| split_mix(&mut state));
        Permutation { n, upper_bits: bits / 2, lower_bits: bits - bits / 2, keys }
    }

    fn row(&self, position: u64) -> u64 {
        let mut x = position;
        loop {
            x = self.once(x);
            if x < self.n {
                return x;
            }
        }
    }

    fn once(&self, x: u64) -> u64 {
        let mask = |bits: u32| (1u64 << bits) - 1;
        let (mut upper, mut lower) = (x >> self.lower_bits, x & mask(self.lower_bits));
        for keys in self.keys.chunks_exact(2) {
            lower ^= hash(upper ^ keys[0]) & mask(self.lower_bits);
            upper ^= hash(lower ^ keys[1]) & mask(self.upper_bits);
        }
        upper << self.lower_bits | lower
    }
}

/// Sebastiano Vigna's SplitMix64: the next of a sequence of well-mixed numbers.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// MurmurHash3's 64-bit finaliser: every output bit depends on every input bit.
fn hash(mut x: u64) -> u64 {
    x = (x ^ (x >> 33)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    x = (x ^ (x >> 33)).wrapping_mul(0xC4CE_B9FE_1A85_EC53);
    x ^ (x >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_epoch_visits_every_row_once(n in 1u64..5000, seed: u64, epoch in 0u64..1 << 20) {
            let mut rows = Shuffle::new(n, seed).fill(epoch * n, n as usize);
            rows.sort_unstable();
            prop_assert!(rows.into_iter().eq(0..n));
        }

        #[test]
        fn rows_are_the_same_one_by_one_and_together(n in 1u64..300, seed: u64, start in 0u64..10_000, len in 0usize..700) {
            let shuffle = Shuffle::new(n, seed);
            let rows = shuffle.fill(start, len);
            prop_assert_eq!(rows, (start..start + len as u64).map(|p| shuffle.fill(p, 1)[0]).collect::<Vec<_>>());
        }

        #[test]
        fn rows_stay_below_n_for_huge_stores(n in 1u64..u64::MAX, seed: u64, position: u64) {
            prop_assert!(Shuffle::new(n, seed).fill(position, 1)[0] < n);
        }
    }

    #[test]
    fn an_empty_store_has_row_zero_and_does_not_panic() {
        assert_eq!(Shuffle::new(0, 1).fill(3, 2), [0, 0]);
    }

    /// Every order of five rows comes about equally often: chi-squared over 120 orders stays within
    /// its 99.99 % bounds (58..184, by the normal approximation to 119 degrees of freedom).
    #[test]
    fn all_orders_of_a_few_rows_are_equally_frequent() {
        let mut count = std::collections::HashMap::new();
        for epoch in 0..60_000u64 {
            *count.entry(Shuffle::new(5, 3).fill(epoch * 5, 5)).or_insert(0u32) += 1;
        }
        assert_eq!(count.len(), 120);
        let chi: f64 = count.values().map(|&c| (f64::from(c) - 500.0).powi(2) / 500.0).sum();
        assert!((58.0..184.0).contains(&chi), "{chi}");
    }

    /// Where rows land is unrelated to where they were: rank correlation, neighbours that stay
    /// neighbours, and fixed points are those of a random order, for sizes on both sides of a power
    /// of two.
    #[test]
    fn a_large_order_looks_shuffled() {
        for n in [4095u64, 4096, 4097, 100_003, 131_072] {
            for epoch in 0..4u64 {
                let rows = Shuffle::new(n, 11).fill(epoch * n, n as usize);
                let (m, mean) = (n as f64, (n as f64 - 1.0) / 2.0);
                let covariance: f64 = rows
                    .iter()
                    .enumerate()
                    .map(|(i, &r)| (i as f64 - mean) * (r as f64 - mean))
                    .sum();
                let correlation = covariance / (m * (m * m - 1.0) / 12.0);
                assert!(correlation.abs() < 5.0 / m.sqrt(), "n {n}: correlation {correlation}");
                let serial: f64 =
                    rows.windows(2).map(|w| (w[0] as f64 - mean) * (w[1] as f64 - mean)).sum();
                let serial = serial / (m * (m * m - 1.0) / 12.0);
                assert!(serial.abs() < 5.0 / m.sqrt(), "n {n}: serial correlation {serial}");
                // Both counts are Poisson with mean 1 and 2 in a random order.
                let fixed = rows.iter().enumerate().filter(|&(i, &r)| i as u64 == r).count();
                let neighbours = rows.windows(2).filter(|w| w[0].abs_diff(w[1]) == 1).count();
                assert!(
                    fixed < 10 && neighbours < 14,
                    "n {n}: {fixed} fixed points, {neighbours} neighbours"
                );
            }
        }
    }

    /// Each tenth of an epoch draws evenly from each tenth of the store, so a batch is a fair
    /// sample of it.
    #[test]
    fn every_part_of_an_epoch_draws_from_everywhere() {
        let n = 100_000u64;
        let rows = Shuffle::new(n, 5).fill(0, n as usize);
        for part in rows.chunks(10_000) {
            let mut tenths = [0f64; 10];
            part.iter().for_each(|&row| tenths[(row / 10_000) as usize] += 1.0);
            let chi: f64 = tenths.iter().map(|c| (c - 1000.0).powi(2) / 1000.0).sum();
            assert!(chi < 35.0, "{tenths:?}"); // 9 degrees of freedom: 35 is the 99.99 % point
        }
    }

    /// Resumed runs depend on it. The numbers come from the same definition in Python's integers.
    #[test]
    fn the_order_of_a_seed_never_changes() {
        let golden = [8, 9, 2, 6, 0, 5, 1, 3, 7, 4, 6, 9, 3, 4, 2, 5, 0, 8, 7, 1];
        assert_eq!(Shuffle::new(10, 0).fill(0, 20), golden);
        let n = 300_000_007;
        let rows = [0, 1, 2, n - 1, n, 5 * n + 12_345]
            .map(|position| Shuffle::new(n, 42).fill(position, 1)[0]);
        assert_eq!(
            rows,
            [216_836_419, 143_395_623, 143_374_421, 173_005_069, 159_544_791, 52_955_507]
        );
    }
}
