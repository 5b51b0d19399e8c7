//! The k largest of a row that arrives in pieces.
//!
//! A row's candidates are what exceeded the k-th largest value seen so far. When they have grown to
//! a few times k they are cut back to k and the threshold rises. Of 12,288 values in random order a
//! few hundred are ever kept, so the cost is that of comparing every value with the threshold once,
//! sixteen at a time.

use crate::cpu::simd::vectorised;

/// A latent and its value.
type Candidate = (f32, u32);

/// Collects the `k` largest values of one row; among equal values the lower latent comes first.
pub struct TopK {
    k: usize,
    threshold: f32,
    kept: Vec<Candidate>,
}

impl TopK {
    /// Begins a row.
    pub fn new(k: usize) -> TopK {
        TopK { k, threshold: f32::NEG_INFINITY, kept: Vec::with_capacity(room(k)) }
    }

    /// Offers the values of the latents `first..first + values.len()`. Latents must come in
    /// ascending order. NaN is never kept.
    pub fn offer(&mut self, values: &[f32], first: u32) {
        offer(self, values, first);
    }

    /// Writes the k best in ascending order of latent; false if fewer than k numbers were offered
    /// (the rest was NaN or −∞).
    pub fn finish(&mut self, latents: &mut [u32], values: &mut [f32]) -> bool {
        self.cut();
        if self.kept.len() < self.k {
            return false;
        }
        self.kept.sort_unstable_by_key(|&(_, latent)| latent);
        for (i, &(value, latent)) in self.kept.iter().enumerate() {
            latents[i] = latent;
            values[i] = value;
        }
        true
    }

    /// Keeps the k best and raises the threshold to the worst of them.
    fn cut(&mut self) {
        if self.kept.len() > self.k {
            let order = |a: &Candidate, b: &Candidate| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
            self.kept.select_nth_unstable_by(self.k - 1, order);
            self.kept.truncate(self.k);
        }
        if self.kept.len() == self.k {
            // After the selection the k-th best stands last.
            self.threshold = self.kept.iter().map(|c| c.0).fold(f32::INFINITY, f32::min);
        }
    }
}

/// How many candidates a row may have before they are cut back.
fn room(k: usize) -> usize {
    (4 * k).max(64)
}

const CHUNK: usize = 32;

vectorised! {
    fn offer(row: &mut TopK, values: &[f32], first: u32) {
        let limit = room(row.k);
        for (i, chunk) in values.chunks(CHUNK).enumerate() {
            let threshold = row.threshold;
            if !chunk.iter().fold(false, |any, v| any | (*v > threshold)) {
                continue;
            }
            let first = first + (i * CHUNK) as u32;
            for (j, &value) in chunk.iter().enumerate() {
                // A value equal to the threshold loses to the lower latent that set it.
                if value > row.threshold {
                    row.kept.push((value, first + j as u32));
                    if row.kept.len() == limit {
                        row.cut();
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sorts everything.
    fn naive(values: &[f32], k: usize) -> Vec<(u32, f32)> {
        let mut all: Vec<(u32, f32)> =
            values.iter().enumerate().map(|(i, &v)| (i as u32, v)).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        all.truncate(k);
        all.sort_by_key(|c| c.0);
        all
    }

    proptest! {
        #[test]
        fn equals_sorting_everything(
            values in prop::collection::vec(prop_oneof![-3i8..3].prop_map(f32::from), 1..600),
            k in 1usize..40,
            tile in 1usize..200,
        ) {
            let k = k.min(values.len());
            let mut top = TopK::new(k);
            for (i, piece) in values.chunks(tile).enumerate() {
                top.offer(piece, (i * tile) as u32);
            }
            let (mut latents, mut found) = (vec![0; k], vec![0.0; k]);
            prop_assert!(top.finish(&mut latents, &mut found));
            let got: Vec<_> = latents.into_iter().zip(found).collect();
            prop_assert_eq!(got, naive(&values, k));
        }
    }

    #[test]
    fn nan_is_never_kept_and_too_few_numbers_are_reported() {
        let mut top = TopK::new(2);
        top.offer(&[f32::NAN, 1.0, f32::NAN], 0);
        assert!(!top.finish(&mut [0; 2], &mut [0.0; 2]));
        let mut top = TopK::new(2);
        top.offer(&[f32::NAN, 1.0, -2.0, f32::NAN], 0);
        let (mut latents, mut values) = ([0; 2], [0.0; 2]);
        assert!(top.finish(&mut latents, &mut values));
        assert_eq!((latents, values), ([1, 2], [1.0, -2.0]));
    }
}
