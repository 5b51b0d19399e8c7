//! Adam as PyTorch computes it, on a row at a time.

use std::ops::Range;

use crate::cpu::memory;
use crate::cpu::simd::vectorised;
use crate::device::Argument;

/// First and second moments of one parameter array.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Moments {
    /// Decaying mean of the gradient.
    pub m: Vec<f32>,
    /// Decaying mean of the squared gradient.
    pub v: Vec<f32>,
}

impl Moments {
    pub(super) fn zeros(n: usize) -> Moments {
        Moments { m: memory::zeros(n), v: memory::zeros(n) }
    }

    /// Starts over at some places.
    pub(crate) fn forget(&mut self, at: Range<usize>) {
        self.m[at.clone()].fill(0.0);
        self.v[at].fill(0.0);
    }
}

/// Learning rates and decay rates of one step.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// For the weights.
    pub lr: f64,
    /// For what is in units of the activations: biases and thresholds.
    pub bias_lr: f64,
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
#[derive(Clone, Copy, PartialEq, Debug)]
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

    /// As a kernel on a GPU reads it.
    pub(super) fn numbers(&self) -> [f32; 7] {
        let AdamStep { beta1, beta2, one_minus_beta1, one_minus_beta2, rate, scale, epsilon } =
            *self;
        [beta1, beta2, one_minus_beta1, one_minus_beta2, rate, scale, epsilon]
    }

    /// What `|m|/√v` is multiplied by to bound the update.
    pub(super) fn rate_over_scale(&self) -> f32 {
        (self.rate / self.scale).abs()
    }

    /// What becomes of `|m|/√v` without a gradient.
    pub(super) fn fade_of_ratio(&self) -> f32 {
        self.beta1 / self.beta2.sqrt()
    }

    /// What becomes of `v` without a gradient.
    pub(super) fn fade_of_v(&self) -> f32 {
        self.beta2
    }
}

impl From<AdamStep> for Argument {
    fn from(step: AdamStep) -> Argument {
        Argument::Adam(step.numbers())
    }
}

/// One number's step: `w`, `m` and `v` after the gradient `g`.
#[inline(always)]
pub(super) fn moved(step: &AdamStep, w: f32, m: f32, v: f32, g: f32) -> (f32, f32, f32) {
    let m = step.beta1 * m + step.one_minus_beta1 * g;
    let v = step.beta2 * v + step.one_minus_beta2 * (g * g);
    (w - step.rate * m / (v.sqrt() * step.scale + step.epsilon), m, v)
}

vectorised! {
    /// Moves the parameters `w` against the gradient `g`.
    pub(super) fn adam_row(step: AdamStep, w: &mut [f32], m: &mut [f32], v: &mut [f32], g: &[f32]) {
        let n = w.len();
        let (m, v, g) = (&mut m[..n], &mut v[..n], &g[..n]);
        for i in 0..n {
            (w[i], m[i], v[i]) = moved(&step, w[i], m[i], v[i], g[i]);
        }
    }
}
