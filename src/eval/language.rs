//! What a language model loses: cross-entropy and divergence at every position that predicts a next
//! token.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::counted::Counted;
use crate::base::number::list;
use crate::cpu::simd::{divergence, log_sum_exp};
use crate::model::tokens::Tokens;

/// A mean over the positions that count, kept as the sum and the number of each sequence.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Mean {
    #[serde(with = "list")]
    sums: Vec<f64>,
    counts: Vec<usize>,
}

impl Mean {
    /// Adds the values, one for each prediction of `n_ctx − 1` a sequence, of positions that count.
    pub(super) fn add(&mut self, values: &[f32], tokens: &Tokens, counted: &Counted) {
        let n_ctx = tokens.n_ctx();
        let sequences = values.chunks_exact(n_ctx - 1).zip(counted.of_all().chunks_exact(n_ctx));
        for (values, counted) in sequences {
            let values = || values.iter().zip(counted).filter(|(_, counted)| **counted);
            self.sums.push(values().map(|(value, _)| f64::from(*value)).sum());
            self.counts.push(values().count());
        }
    }

    /// The sum over each sequence.
    pub(super) fn sums(&self) -> &[f64] {
        &self.sums
    }

    /// The number of values of each sequence.
    pub(super) fn counts(&self) -> &[usize] {
        &self.counts
    }

    pub(super) fn value(&self) -> f64 {
        self.sums.iter().sum::<f64>() / self.counts.iter().sum::<usize>() as f64
    }
}

/// Cross-entropies of a text under the model as it is and with the hook ablated.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Ablations {
    pub clean: Mean,
    pub zero: Mean,
    pub mean: Mean,
}

/// A model's logits on a text, and what they sum to.
pub(super) struct Predictions {
    logits: Vec<f32>, // [n_seq, n_ctx, d_vocab]
    totals: Vec<f32>, // [n_seq, n_ctx]: ln Σ exp(logit)
}

impl Predictions {
    pub(super) fn new(logits: Vec<f32>, tokens: &Tokens) -> Predictions {
        let totals =
            logits.par_chunks_exact(logits.len() / tokens.len()).map(log_sum_exp).collect();
        Predictions { logits, totals }
    }

    fn row(&self, at: usize) -> &[f32] {
        let d_vocab = self.logits.len() / self.totals.len();
        &self.logits[at * d_vocab..][..d_vocab]
    }

    /// `−ln p(next token)` for every position but the last of each sequence `[n_seq, n_ctx − 1]`.
    pub(super) fn cross_entropies(&self, tokens: &Tokens) -> Vec<f32> {
        let ids = tokens.ids();
        positions(tokens).map(|at| self.totals[at] - self.row(at)[ids[at + 1] as usize]).collect()
    }

    /// `KL(self ‖ other)` at the same positions.
    pub(super) fn divergences(&self, other: &Predictions, tokens: &Tokens) -> Vec<f32> {
        positions(tokens)
            .map(|at| divergence(self.row(at), self.totals[at], other.row(at), other.totals[at]))
            .collect()
    }
}

/// The positions that predict a next token.
fn positions(tokens: &Tokens) -> impl ParallelIterator<Item = usize> + use<> {
    let n_ctx = tokens.n_ctx();
    (0..tokens.len()).into_par_iter().filter(move |at| at % n_ctx != n_ctx - 1)
}

/// The replacement `[n, d]`, but with the model's own activation where a position does not count.
pub(super) fn spliced(x: &[f32], mut replacement: Vec<f32>, counted: &Counted) -> Vec<f32> {
    let d = x.len() / counted.of_all().len();
    let rows = replacement.chunks_exact_mut(d).zip(x.chunks_exact(d)).zip(counted.of_all());
    rows.filter(|(_, counted)| !**counted).for_each(|((row, x), _)| row.copy_from_slice(x));
    replacement
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uniform_model_loses_the_log_of_the_vocabulary() {
        let tokens = Tokens::new(vec![0, 1, 2, 2, 1, 0], 3).unwrap();
        let even = Predictions::new(vec![0.7; 6 * 5], &tokens);
        let losses = even.cross_entropies(&tokens);
        assert_eq!(losses.len(), 4);
        assert!(losses.iter().all(|ce| (ce - 5f32.ln()).abs() < 1e-6));
        assert!(even.divergences(&even, &tokens).iter().all(|kl| *kl == 0.0));
    }

    #[test]
    fn divergence_of_two_coins() {
        let tokens = Tokens::new(vec![0, 1], 2).unwrap();
        let coin = |p: f32| {
            Predictions::new(vec![p.ln(), (1.0 - p).ln(), p.ln(), (1.0 - p).ln()], &tokens)
        };
        let want = 0.25 * (0.25f32 / 0.5).ln() + 0.75 * (0.75f32 / 0.5).ln();
        assert!((coin(0.25).divergences(&coin(0.5), &tokens)[0] - want).abs() < 1e-6);
    }

    #[test]
    fn position_0_counts_only_where_it_is_wanted() {
        let tokens = Tokens::new(vec![0; 6], 3).unwrap();
        let x: Vec<f32> = (0..12).map(|v| v as f32).collect();
        let (all, most) = (Counted::all(&tokens), Counted::most(&tokens, &x, f32::INFINITY));
        let mean = |counted| {
            let mut mean = Mean::default();
            mean.add(&[1.0, 2.0, 5.0, 6.0], &tokens, counted);
            mean.value()
        };
        assert_eq!((mean(&all), mean(&most)), (3.5, 4.0));
        assert_eq!(
            spliced(&x, vec![0.0; 12], &most),
            [0., 1., 0., 0., 0., 0., 6., 7., 0., 0., 0., 0.]
        );
        assert_eq!(spliced(&x, vec![0.0; 12], &all), [0.0; 12]);
    }
}
