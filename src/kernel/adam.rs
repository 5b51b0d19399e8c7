//! Adam as PyTorch computes it, on a row at a time.

use crate::sae::Sae;
use crate::simd::vectorised;

/// First and second moments of one parameter array.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Moments {
    /// Decaying mean of the gradient.
    pub m: Vec<f32>,
    /// Decaying mean of the squared gradient.
    pub v: Vec<f32>,
}

impl Moments {
    fn zeros(n: usize) -> Moments {
        Moments { m: vec![0.0; n], v: vec![0.0; n] }
    }
}

/// The optimiser's memory for one SAE, and how many steps it has made.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct AdamState {
    /// For `W_enc`.
    pub w_enc: Moments,
    /// For `b_enc`.
    pub b_enc: Moments,
    /// For `W_dec`.
    pub w_dec: Moments,
    /// For `b_dec`.
    pub b_dec: Moments,
    /// For `W_lookup`, if it learns.
    pub lookup: Option<Moments>,
    /// Steps made.
    pub steps: u64,
}

impl AdamState {
    /// A fresh state for an SAE.
    pub fn new(sae: &Sae) -> AdamState {
        let learned = sae.config.lookup.as_ref().is_some_and(|lookup| lookup.is_learned());
        AdamState {
            w_enc: Moments::zeros(sae.w_enc.len()),
            b_enc: Moments::zeros(sae.b_enc.len()),
            w_dec: Moments::zeros(sae.w_dec.len()),
            b_dec: Moments::zeros(sae.b_dec.len()),
            lookup: sae.lookup.as_ref().filter(|_| learned).map(|table| Moments::zeros(table.len())),
            steps: 0,
        }
    }
}

/// Learning rates and decay rates of one step.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// For the weights and biases.
    pub lr: f64,
    /// For the table.
    pub lookup_lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
}

/// The numbers that every row of one step shares.
#[derive(Clone, Copy)]
pub(super) struct AdamStep {
    beta1: f32,
    beta2: f32,
    one_minus_beta1: f32,
    one_minus_beta2: f32,
    /// `lr / (1 − β₁ᵗ)`
    rate: f32,
    /// `1 / √(1 − β₂ᵗ)`
    scale: f32,
    epsilon: f32,
}

impl AdamStep {
    /// For step `t`, counted from 1.
    pub(super) fn new(rates: &Rates, lr: f64, t: u64) -> AdamStep {
        let power = |beta: f64| 1.0 - beta.powf(t as f64);
        AdamStep {
            beta1: rates.beta1 as f32,
            beta2: rates.beta2 as f32,
            one_minus_beta1: (1.0 - rates.beta1) as f32,
            one_minus_beta2: (1.0 - rates.beta2) as f32,
            rate: (lr / power(rates.beta1)) as f32,
            scale: (1.0 / power(rates.beta2).sqrt()) as f32,
            epsilon: rates.epsilon as f32,
        }
    }
}

vectorised! {
    /// Moves the parameters `w` against the gradient `g`.
    pub(super) fn adam_row(step: AdamStep, w: &mut [f32], m: &mut [f32], v: &mut [f32], g: &[f32]) {
        let n = w.len();
        let (m, v, g) = (&mut m[..n], &mut v[..n], &g[..n]);
        for i in 0..n {
            m[i] = step.beta1 * m[i] + step.one_minus_beta1 * g[i];
            v[i] = step.beta2 * v[i] + step.one_minus_beta2 * (g[i] * g[i]);
            w[i] -= step.rate * m[i] / (v[i].sqrt() * step.scale + step.epsilon);
        }
    }
}
