//! Activations counted in bins that are equally wide on a logarithmic axis.

use serde::Serialize;

/// Bins for each doubling of the activation.
pub(super) const PER_OCTAVE: i32 = 8;
/// The first bin begins at 2^LOW; what is less is counted in it.
pub(super) const LOW: i32 = -12;
/// The last bin ends at 2^HIGH; what is more is counted in it. (f16 ends at 2^16.)
const HIGH: i32 = 17;
const BINS: usize = ((HIGH - LOW) * PER_OCTAVE) as usize;

/// A bin: activations from `from` up to, and without, `to`. One that begins at 2⁻¹² also holds what
/// is less, one that ends at 2¹⁷ what is more.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bin {
    /// Where it begins.
    pub from: f64,
    /// Where it ends.
    pub to: f64,
    /// How many activations it holds.
    pub count: u64,
}

/// How often a latent's activation lay in each of the bins.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Histogram(Box<[u32]>);

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram(vec![0; BINS].into())
    }
}

impl Histogram {
    /// Counts a positive activation.
    pub fn add(&mut self, value: f32) {
        self.0[bin_of(value)] += 1;
    }

    /// The activation below which a share of all that were counted lies, by interpolation within a
    /// bin; 0 if nothing was counted.
    pub fn quantile(&self, share: f64) -> f64 {
        let total: f64 = self.0.iter().map(|&count| f64::from(count)).sum();
        let (wanted, mut below) = (share * total, 0.0);
        for (i, &count) in self.0.iter().enumerate() {
            let count = f64::from(count);
            if count > 0.0 && below + count >= wanted {
                return edge(i)
                    + (edge(i + 1) - edge(i)) * ((wanted - below) / count).clamp(0.0, 1.0);
            }
            below += count;
        }
        0.0
    }

    /// The bins from the first that holds anything to the last, joined in twos, fours or eights
    /// until there are at most `most`: the first one, how many are joined, and the counts.
    pub fn joined(&self, most: usize) -> (usize, usize, Vec<u64>) {
        let held = |&i: &usize| self.0[i] > 0;
        let (Some(first), Some(last)) = ((0..BINS).find(held), (0..BINS).rev().find(held)) else {
            return (0, 1, Vec::new());
        };
        let groups = |width: usize| first / width..=last / width;
        // A divisor of PER_OCTAVE each time, so that the edges of all latents' bins are among the
        // same numbers.
        let width = [1, 2, 4]
            .into_iter()
            .find(|&width| groups(width).count() <= most)
            .unwrap_or(PER_OCTAVE as usize);
        let count = |group: usize| {
            self.0[group * width..(group + 1) * width].iter().map(|&count| u64::from(count)).sum()
        };
        (first / width * width, width, groups(width).map(count).collect())
    }

    /// The same with the activations at which they begin and end.
    pub fn bins(&self, most: usize) -> Vec<Bin> {
        let (first, width, counts) = self.joined(most);
        let bin = |(i, count)| Bin {
            from: edge(first + i * width),
            to: edge(first + (i + 1) * width),
            count,
        };
        counts.into_iter().enumerate().map(bin).collect()
    }
}

fn edge(i: usize) -> f64 {
    (f64::from(i as i32) / f64::from(PER_OCTAVE) + f64::from(LOW)).exp2()
}

fn bin_of(value: f32) -> usize {
    let at = (f64::from(value).log2() - f64::from(LOW)) * f64::from(PER_OCTAVE);
    at.clamp(0.0, BINS as f64 - 1.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_activation_lies_within_its_bin() {
        for i in 0..5000 {
            let value = 0.001 * 1.003f32.powi(i);
            let bin = bin_of(value);
            if (2f32.powi(LOW)..2f32.powi(HIGH)).contains(&value) {
                let value = f64::from(value);
                assert!(
                    edge(bin) <= value * (1.0 + 1e-12) && value < edge(bin + 1) * (1.0 + 1e-12),
                    "{value} in {bin}"
                );
            }
        }
        assert_eq!((bin_of(f32::MIN_POSITIVE), bin_of(f32::MAX)), (0, BINS - 1));
    }

    #[test]
    fn joined_bins_hold_every_activation_once_and_stay_few() {
        let mut all = Histogram::default();
        (1..=1000).for_each(|i| all.add(i as f32 * 0.05));
        for most in [10, 20, 40, 100] {
            let bins = all.bins(most);
            assert!(
                bins.len() <= most.max(12) && bins.iter().map(|bin| bin.count).sum::<u64>() == 1000,
                "{most}: {}",
                bins.len()
            );
            assert!(bins.windows(2).all(|pair| pair[0].to == pair[1].from));
        }
        assert!(Histogram::default().bins(10).is_empty());
    }

    #[test]
    fn quantiles_are_those_of_the_values_to_within_a_bin() {
        let mut all = Histogram::default();
        (1..=1000).for_each(|i| all.add(i as f32 * 0.05));
        for share in [0.1, 0.25, 0.5, 0.75, 0.9] {
            let (got, want) = (all.quantile(share), 50.0 * share);
            assert!((got / want - 1.0).abs() < 0.02, "{share}: {got} {want}");
        }
        assert_eq!(Histogram::default().quantile(0.5), 0.0);
    }
}
