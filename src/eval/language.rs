//! Cross-entropy and divergence from logits, in f64 per token.

use rayon::prelude::*;

use crate::tokens::Tokens;

/// Next-token cross-entropies of a text, summed over the positions that count.
#[derive(Clone, Default)]
pub(super) struct Ablations {
    pub clean: Mean,
    pub zero: Mean,
    pub mean: Mean,
}

/// A sum and what it is divided by.
#[derive(Clone, Copy, Default)]
pub(super) struct Mean {
    sum: f64,
    n: usize,
}

impl Mean {
    pub(super) fn add(&mut self, values: impl IntoIterator<Item = f64>) {
        for value in values {
            self.sum += value;
            self.n += 1;
        }
    }

    pub(super) fn value(&self) -> f64 {
        self.sum / self.n as f64
    }
}

impl Ablations {
    pub(super) fn add_clean(&mut self, logits: &[f32], tokens: &Tokens, first: usize) {
        self.clean.add(cross_entropies(logits, tokens, first));
    }

    pub(super) fn add_zero(&mut self, logits: &[f32], tokens: &Tokens, first: usize) {
        self.zero.add(cross_entropies(logits, tokens, first));
    }

    pub(super) fn add_mean(&mut self, logits: &[f32], tokens: &Tokens, first: usize) {
        self.mean.add(cross_entropies(logits, tokens, first));
    }
}

/// The replacement, but with the model's own activation at position 0 of every sequence unless that position counts.
pub(super) fn spliced(x: &[f32], mut replacement: Vec<f32>, n_ctx: usize, d: usize, with_bos: bool) -> Vec<f32> {
    if !with_bos {
        for start in (0..x.len()).step_by(n_ctx * d) {
            replacement[start..start + d].copy_from_slice(&x[start..start + d]);
        }
    }
    replacement
}

/// The positions of all sequences that predict a next token, from position `first` on, and that next token.
fn predictions(tokens: &Tokens, first: usize) -> impl ParallelIterator<Item = (usize, u32)> + '_ {
    let n_ctx = tokens.n_ctx();
    let counts = move |at: &usize| (first..n_ctx - 1).contains(&(at % n_ctx));
    let all = (0..tokens.len()).into_par_iter();
    all.filter(counts).map(|at| (at, tokens.ids()[at + 1]))
}

/// `−ln p(next token)` at every position that predicts one, from position `first` on, in order.
pub(super) fn cross_entropies(logits: &[f32], tokens: &Tokens, first: usize) -> Vec<f64> {
    let d_vocab = logits.len() / tokens.len();
    let one = |(at, next): (usize, u32)| {
        let row = &logits[at * d_vocab..][..d_vocab];
        log_sum_exp(row) - f64::from(row[next as usize])
    };
    predictions(tokens, first).map(one).collect()
}

/// `Σ p_clean (ln p_clean − ln p_patched)` at the same positions.
pub(super) fn divergences(clean: &[f32], patched: &[f32], tokens: &Tokens, first: usize) -> Vec<f64> {
    let d_vocab = clean.len() / tokens.len();
    let one = |(at, _): (usize, u32)| {
        let (p, q) = (&clean[at * d_vocab..][..d_vocab], &patched[at * d_vocab..][..d_vocab]);
        let (p_total, q_total) = (log_sum_exp(p), log_sum_exp(q));
        let term = |(&p, &q): (&f32, &f32)| {
            let ln_p = f64::from(p) - p_total;
            f64::from((ln_p as f32).exp()) * (ln_p - (f64::from(q) - q_total))
        };
        p.iter().zip(q).map(term).sum::<f64>()
    };
    predictions(tokens, first).map(one).collect()
}

fn log_sum_exp(row: &[f32]) -> f64 {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    f64::from(max) + row.iter().map(|v| f64::from((v - max).exp())).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uniform_model_loses_the_log_of_the_vocabulary() {
        let tokens = Tokens::new(vec![0, 1, 2, 2, 1, 0], 3).unwrap();
        let logits = vec![0.7; 6 * 5];
        let found = cross_entropies(&logits, &tokens, 0);
        assert_eq!(found.len(), 4);
        assert!(found.iter().all(|ce| (ce - 5f64.ln()).abs() < 1e-6));
        assert_eq!(cross_entropies(&logits, &tokens, 1).len(), 2);
        assert!(divergences(&logits, &logits, &tokens, 0).iter().all(|kl| kl.abs() < 1e-9));
    }

    #[test]
    fn divergence_of_two_coins() {
        let tokens = Tokens::new(vec![0, 1], 2).unwrap();
        let coin = |p: f32| [p.ln(), (1.0 - p).ln(), p.ln(), (1.0 - p).ln()];
        let want = 0.25 * (0.25f64 / 0.5).ln() + 0.75 * (0.75f64 / 0.5).ln();
        assert!((divergences(&coin(0.25), &coin(0.5), &tokens, 0)[0] - want).abs() < 1e-6);
    }

    #[test]
    fn position_0_keeps_the_models_own_activation() {
        let x: Vec<f32> = (0..12).map(|v| v as f32).collect();
        assert_eq!(spliced(&x, vec![0.0; 12], 3, 2, false), [0., 1., 0., 0., 0., 0., 6., 7., 0., 0., 0., 0.]);
        assert_eq!(spliced(&x, vec![0.0; 12], 3, 2, true), [0.0; 12]);
    }
}
