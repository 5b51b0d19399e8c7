//! Reconstruction metrics as exact sums over tokens, in f64.

use serde::{Deserialize, Serialize};

use super::BySequence;
use super::counted::Counted;
use super::language::{Ablations, Mean, Predictions};
use super::metrics::Metrics;
use crate::base::number::{self, list};
use crate::model::tokens::Tokens;
use crate::sae::NMSE_EPSILON;
use crate::sae::{Codes, Sae};

/// The authors' guard in their relative CE added.
const CE_EPSILON: f64 = 0.001;

/// What one SAE's metrics are made of.
#[derive(Serialize, Deserialize)]
pub(super) struct Sums {
    n: usize,
    outliers: usize,
    #[serde(with = "number")]
    nmse: f64,
    /// The same of each sequence.
    #[serde(with = "list")]
    nmse_by_sequence: Vec<f64>,
    /// The positions of each sequence.
    n_by_sequence: Vec<usize>,
    #[serde(with = "number")]
    squared_error: f64,
    #[serde(with = "number")]
    squared_norm: f64,
    /// Of each coordinate: the sum, that of squares, and that of squared errors.
    #[serde(with = "list")]
    coordinates: Vec<f64>, // [d_model, 3]
    #[serde(with = "number")]
    cosine: f64,
    active: usize,
    fired: Vec<bool>, // [d_sae]
    patched: Mean,
    kl: Mean,
}

impl Sums {
    pub(super) fn new(sae: &Sae) -> Sums {
        Sums {
            n: 0,
            outliers: 0,
            nmse: 0.0,
            nmse_by_sequence: Vec::new(),
            n_by_sequence: Vec::new(),
            squared_error: 0.0,
            squared_norm: 0.0,
            coordinates: vec![0.0; sae.d_model() * 3],
            cosine: 0.0,
            active: 0,
            fired: vec![false; sae.d_sae()],
            patched: Mean::default(),
            kl: Mean::default(),
        }
    }

    /// Adds the tokens that count, of sequences of `n_ctx`.
    pub(super) fn add(
        &mut self,
        [x, x_hat]: [&[f32]; 2],
        codes: &Codes,
        counted: &Counted,
        n_ctx: usize,
    ) {
        let (coordinates, _) = self.coordinates.as_chunks_mut::<3>();
        let d = coordinates.len();
        let before = self.n_by_sequence.len();
        let after = before + x.len() / (d * n_ctx);
        self.nmse_by_sequence.resize(after, 0.0);
        self.n_by_sequence.resize(after, 0);
        self.outliers += counted.outliers;
        for i in counted.positions() {
            let (x, x_hat) = (&x[i * d..][..d], &x_hat[i * d..][..d]);
            let (mut error, mut norm, mut norm_hat, mut dot) = (0.0f64, 0.0f64, 0.0f64, 0.0f64);
            for ((&a, &b), [sum, squares, errors]) in x.iter().zip(x_hat).zip(&mut *coordinates) {
                let (a, b) = (f64::from(a), f64::from(b));
                *sum += a;
                *squares += a * a;
                *errors += (b - a) * (b - a);
                error += (b - a) * (b - a);
                norm += a * a;
                norm_hat += b * b;
                dot += a * b;
            }
            self.n += 1;
            self.nmse += error / (norm + NMSE_EPSILON);
            self.nmse_by_sequence[before + i / n_ctx] += error / (norm + NMSE_EPSILON);
            self.n_by_sequence[before + i / n_ctx] += 1;
            self.squared_error += error;
            self.squared_norm += norm;
            self.cosine += if norm * norm_hat > 0.0 { dot / (norm * norm_hat).sqrt() } else { 0.0 };
            let (latents, values) = codes.row(i);
            for (&latent, _) in latents.iter().zip(values).filter(|(_, value)| **value != 0.0) {
                self.active += 1;
                self.fired[latent as usize] = true;
            }
        }
    }

    /// Adds what the model said on the reconstruction, beside what it said by itself.
    pub(super) fn add_patched(
        &mut self,
        clean: &Predictions,
        patched: &Predictions,
        tokens: &Tokens,
        counted: &Counted,
    ) {
        self.patched.add(&patched.cross_entropies(tokens), tokens, counted);
        self.kl.add(&clean.divergences(patched, tokens), tokens, counted);
    }

    /// What each sequence adds to the figures.
    pub(super) fn by_sequence(&self, text: &Ablations) -> BySequence {
        let losses = [&text.clean, &self.patched, &text.zero];
        BySequence::new(&self.nmse_by_sequence, &self.n_by_sequence, losses)
    }

    /// Mean of ‖x̂ − x‖² / (‖x‖² + 1e-4).
    pub(super) fn nmse(&self) -> f64 {
        self.nmse / self.n as f64
    }

    /// Share of latents that never fired.
    pub(super) fn dead(&self) -> f64 {
        self.fired.iter().filter(|fired| !**fired).count() as f64 / self.fired.len() as f64
    }

    /// The mean over coordinates of the share of their variance that is not explained.
    fn fvu_standardised(&self) -> f64 {
        let n = self.n as f64;
        let of = |&[sum, squares, errors]: &[f64; 3]| {
            let variance = squares - sum * sum / n;
            // What rounding leaves of the variance of a constant is none.
            (variance > 1e-12 * squares).then_some(errors / variance)
        };
        let (coordinates, _) = self.coordinates.as_chunks::<3>();
        let shares: Vec<f64> = coordinates.iter().filter_map(of).collect();
        shares.iter().sum::<f64>() / shares.len() as f64
    }

    pub(super) fn metrics(&self, text: &Ablations) -> Metrics {
        let n = self.n as f64;
        let (coordinates, _) = self.coordinates.as_chunks::<3>();
        let mean_norm: f64 = coordinates.iter().map(|[sum, ..]| (sum / n) * (sum / n)).sum();
        let variance = self.squared_norm / n - mean_norm;
        let fvu = self.squared_error / n / variance;
        let (clean, patched, zero) = (text.clean.value(), self.patched.value(), text.zero.value());
        Metrics {
            nmse: self.nmse(),
            fvu,
            explained_variance: 1.0 - fvu,
            fvu_standardised: self.fvu_standardised(),
            cosine: self.cosine / n,
            l0: self.active as f64 / n,
            dead: self.dead(),
            ce_clean: clean,
            ce_patched: patched,
            ce_zero: zero,
            ce_mean: text.mean.value(),
            ce_added: ce_added(clean, patched),
            ce_added_nats: patched - clean,
            loss_recovered: loss_recovered(clean, patched, zero),
            kl: self.kl.value(),
            tokens: self.n,
            outliers: self.outliers,
        }
    }
}

/// (CE patched − CE clean) / (CE clean + 0.001), the authors' relative measure.
pub(super) fn ce_added(clean: f64, patched: f64) -> f64 {
    (patched - clean) / (clean + CE_EPSILON)
}

/// 1 − (CE patched − CE clean) / (CE zero − CE clean).
pub(super) fn loss_recovered(clean: f64, patched: f64, zero: f64) -> f64 {
    1.0 - (patched - clean) / (zero - clean)
}
