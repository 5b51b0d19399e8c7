//! Which n-grams have a mean, the means, and how far rows are from them.
//!
//! The mean of an n-gram that was seen c times is off by the noise of c rows. So it is drawn
//! towards the mean of the n-gram that is one token shorter, which counts as λ rows: `(c·mean +
//! λ·shorter) / (c + λ)`, with λ = σ²/τ² one number for each length (empirical Bayes): σ² the
//! variance of rows about the mean of their n-gram, τ² that of n-grams' true means about the
//! shorter one's. Both are the usual estimates of a one-way analysis of variance: with W the
//! squares within n-grams, B those between, and w the share that an n-gram has of the shorter one's
//! rows,
//!
//! ```text
//! σ² = W / (rows − n-grams),   τ² = (B − σ² Σ(1 − w)) / Σ c(1 − w)
//! ```

use std::collections::HashMap;
use std::ops::Range;

use super::NgramR2Config;
use crate::latents::tokenness::LONGEST;
use crate::latents::tokenness::counts::{Counts, Gram, NOTHING, gram, grouped};
use crate::model::tokens::Tokens;

/// Columns in a strip.
pub(super) const STRIP: usize = 32;

/// The place of the mean of all rows.
const ALL: u32 = 0;

/// The n-grams that have a mean.
pub(super) struct Means {
    n: usize,
    /// For each length, the place of each n-gram's mean.
    places: Vec<HashMap<Gram, u32>>,
    /// From how many rows each mean is formed.
    counts: Vec<u32>,
    /// The place of the next shorter n-gram's mean, which is always the lesser one.
    shorter: Vec<u32>,
    /// Whether memory left some out.
    pub cut: bool,
}

/// A text, of which some rows do not count.
pub(super) struct Text {
    pub tokens: Tokens,
    /// The rows of outliers, ascending.
    pub left_out: Vec<u64>,
}

impl Text {
    /// The positions of sequence `i` that count: all but the first and outliers.
    fn counted(&self, i: u64) -> impl Iterator<Item = usize> + '_ {
        let n_ctx = self.tokens.n_ctx();
        let row = move |at: usize| i * n_ctx as u64 + at as u64;
        (1..n_ctx).filter(move |&at| self.left_out.binary_search(&row(at)).is_err())
    }

    /// How many rows of these sequences count.
    pub(super) fn n_counted(&self, sequences: &[u64]) -> usize {
        sequences.iter().map(|&i| self.counted(i).count()).sum()
    }
}

/// A row that counts: where it stands in the batch, and for each length the place of the mean of
/// the n-gram that it ends.
pub(super) struct Found {
    row: usize,
    places: [Option<u32>; LONGEST],
}

/// The first `n` tokens of an n-gram.
fn shortened(gram: Gram, n: usize) -> Gram {
    std::array::from_fn(|back| if back < n { gram[back] } else { NOTHING })
}

impl Means {
    /// Those that occur often enough in these sequences, the more frequent first while memory
    /// lasts, and the shorter before the longer.
    pub(super) fn of(
        text: &Text,
        sequences: &[u64],
        config: &NgramR2Config,
        d_model: usize,
    ) -> Means {
        let mut counts = Counts::default();
        for &i in sequences {
            let sequence = text.tokens.row(i as usize);
            text.counted(i).for_each(|at| counts.add(gram(sequence, at, config.n), 1.0));
            if counts.is_due() {
                counts.merge();
            }
        }
        counts.merge();
        let most = (config.memory / (8 * d_model as u64)).clamp(1, u64::from(u32::MAX)) as usize;
        let rows = text.n_counted(sequences) as u32;
        let mut means = Means {
            n: config.n,
            places: Vec::new(),
            counts: vec![rows],
            shorter: vec![ALL],
            cut: false,
        };
        for n in 1..=config.n {
            let mut frequent: Vec<(Gram, u32)> = grouped(counts.entries(), n)
                .filter(|entry| entry.count >= config.min_count)
                .map(|entry| (entry.gram, entry.count))
                .collect();
            frequent.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
            means.cut |= frequent.len() > most - means.counts.len();
            frequent.truncate(most - means.counts.len());
            let first = means.counts.len() as u32;
            means.counts.extend(frequent.iter().map(|(_, count)| *count));
            let shorter = |gram: Gram| {
                (1..n)
                    .rev()
                    .find_map(|n| means.places[n - 1].get(&shortened(gram, n)).copied())
                    .unwrap_or(ALL)
            };
            let found: Vec<u32> = frequent.iter().map(|(gram, _)| shorter(*gram)).collect();
            means.shorter.extend(found);
            means.places.push(
                frequent.into_iter().zip(first..).map(|((gram, _), place)| (gram, place)).collect(),
            );
        }
        means
    }

    /// How many n-grams of length `n` have a mean.
    pub(super) fn grams(&self, n: usize) -> usize {
        self.places[n - 1].len()
    }

    /// The places of the means of n-grams of length `n`.
    fn of_length(&self, n: usize) -> Range<usize> {
        let first = 1 + self.places[..n - 1].iter().map(HashMap::len).sum::<usize>();
        first..first + self.grams(n)
    }

    /// How many rows the shorter mean counts as, for each length, from what the strips have found
    /// of the variances within and between.
    pub(super) fn priors(&self, strips: &[Strip]) -> Vec<f64> {
        let prior = |n: usize| {
            let places = || {
                self.of_length(n).map(|place| {
                    (
                        f64::from(self.counts[place]),
                        f64::from(self.counts[self.shorter[place] as usize]),
                    )
                })
            };
            let rows: f64 = places().map(|(count, _)| count).sum();
            let (within, between) = strips
                .iter()
                .map(|strip| strip.squares(self, n))
                .fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
            // Rounding may leave less than nothing where an n-gram decides its rows, as a token
            // does before the first block.
            let noise = within.max(0.0) / (rows - self.grams(n) as f64);
            let spread =
                between - noise * places().map(|(count, of)| 1.0 - count / of).sum::<f64>();
            let prior = noise * places().map(|(count, of)| count * (1.0 - count / of)).sum::<f64>()
                / spread;
            // Where nothing is seen of the n-grams beyond noise, the shorter ones stand for them.
            if spread > 0.0 { prior } else { f64::INFINITY }
        };
        (1..=self.n).map(prior).collect()
    }

    /// The rows of sequence `i` that count, which stands in the batch as its `place`th.
    pub(super) fn found<'a>(
        &'a self,
        text: &'a Text,
        i: u64,
        place: usize,
    ) -> impl Iterator<Item = Found> + 'a {
        let sequence = text.tokens.row(i as usize);
        let first = place * sequence.len();
        text.counted(i).map(move |at| {
            let gram = gram(sequence, at, self.n);
            let place = |n: usize| {
                self.places.get(n - 1).and_then(|places| places.get(&shortened(gram, n)).copied())
            };
            Found { row: first + at, places: std::array::from_fn(|i| place(i + 1)) }
        })
    }

    /// How many rows of these sequences end an n-gram that has a mean, for each length.
    pub(super) fn covered(&self, text: &Text, sequences: &[u64]) -> [usize; LONGEST] {
        let mut covered = [0; LONGEST];
        for &i in sequences {
            for found in self.found(text, i, 0) {
                covered
                    .iter_mut()
                    .zip(found.places)
                    .for_each(|(covered, place)| *covered += usize::from(place.is_some()));
            }
        }
        covered
    }
}

/// Some columns of the activations: their means, and then the squares of what the means leave.
pub(super) struct Strip {
    from: usize,
    width: usize,
    d_model: usize,
    /// Sums, then means, `[n-grams, width]`.
    means: Vec<f64>,
    /// Σ‖x‖² of the rows that end an n-gram of each length, in the first half.
    lengths: [f64; LONGEST],
    /// Σ‖x − prediction‖² for each length, in the second half.
    errors: [f64; LONGEST],
    sum: Vec<f64>,
    squares: f64,
}

impl Strip {
    pub(super) fn new(from: usize, d_model: usize, means: &Means) -> Strip {
        let width = STRIP.min(d_model - from);
        Strip {
            lengths: [0.0; LONGEST],
            from,
            width,
            d_model,
            means: vec![0.0; means.counts.len() * width],
            errors: [0.0; LONGEST],
            sum: vec![0.0; width],
            squares: 0.0,
        }
    }

    fn columns<'a>(&self, x: &'a [f32], row: usize) -> &'a [f32] {
        &x[row * self.d_model + self.from..][..self.width]
    }

    /// Adds rows to the sums of all n-grams that they end.
    pub(super) fn fit(&mut self, x: &[f32], found: &[Found]) {
        for found in found {
            let x = self.columns(x, found.row);
            for place in found.places.into_iter().flatten().chain([ALL]) {
                let sums = &mut self.means[place as usize * self.width..][..self.width];
                sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += f64::from(*x));
            }
            let length: f64 = x.iter().map(|x| f64::from(*x).powi(2)).sum();
            self.lengths
                .iter_mut()
                .zip(found.places)
                .filter(|(_, place)| place.is_some())
                .for_each(|(sum, _)| *sum += length);
        }
    }

    /// Makes means of the sums.
    pub(super) fn divide(&mut self, means: &Means) {
        for (sums, count) in self.means.chunks_exact_mut(self.width).zip(&means.counts) {
            sums.iter_mut().for_each(|sum| *sum /= f64::from(*count));
        }
    }

    fn mean(&self, place: usize) -> &[f64] {
        &self.means[place * self.width..][..self.width]
    }

    /// The squares within and between n-grams of length `n`, of these columns.
    fn squares(&self, means: &Means, n: usize) -> (f64, f64) {
        let (mut within, mut between) = (self.lengths[n - 1], 0.0);
        for place in means.of_length(n) {
            let (count, mean, shorter) = (
                f64::from(means.counts[place]),
                self.mean(place),
                self.mean(means.shorter[place] as usize),
            );
            within -= count * mean.iter().map(|mean| mean * mean).sum::<f64>();
            between += count
                * mean
                    .iter()
                    .zip(shorter)
                    .map(|(mean, shorter)| (mean - shorter).powi(2))
                    .sum::<f64>();
        }
        (within, between)
    }

    /// Draws each mean towards that of the shorter n-gram, which counts as this many rows.
    pub(super) fn shrink(&mut self, means: &Means, priors: &[f64]) {
        for (n, prior) in (1..).zip(priors) {
            for place in means.of_length(n) {
                let own = f64::from(means.counts[place]) / (f64::from(means.counts[place]) + prior);
                // The shorter one's place is the lesser, and it was drawn towards its own shorter
                // one before.
                let (before, from) = self.means.split_at_mut(place * self.width);
                let shorter = &before[means.shorter[place] as usize * self.width..][..self.width];
                from[..self.width]
                    .iter_mut()
                    .zip(shorter)
                    .for_each(|(mean, shorter)| *mean = own * *mean + (1.0 - own) * shorter);
            }
        }
    }

    /// Measures how far rows are from the means of the longest n-grams, for each greatest length.
    pub(super) fn score(&mut self, x: &[f32], found: &[Found]) {
        for found in found {
            let x = self.columns(x, found.row);
            for (sum, x) in self.sum.iter_mut().zip(x) {
                *sum += f64::from(*x);
                self.squares += f64::from(*x).powi(2);
            }
            let mut longest = ALL;
            for (error, place) in self.errors.iter_mut().zip(found.places) {
                longest = place.unwrap_or(longest);
                let mean = &self.means[longest as usize * self.width..][..self.width];
                *error +=
                    x.iter().zip(mean).map(|(x, mean)| (f64::from(*x) - mean).powi(2)).sum::<f64>();
            }
        }
    }

    /// Σ‖x − prediction‖² of n-grams of at most `n` tokens.
    pub(super) fn error(&self, n: usize) -> f64 {
        self.errors[n - 1]
    }

    /// Σ‖x − x̄‖² of the `n` rows that were scored.
    pub(super) fn variance(&self, n: usize) -> f64 {
        self.squares - self.sum.iter().map(|sum| sum * sum / n as f64).sum::<f64>()
    }
}
