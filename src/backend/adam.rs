//! Adam as PyTorch computes it, on a row at a time.

use super::lazy::Owed;
use crate::cpu::memory;
use crate::cpu::simd::vectorised;
use crate::sae::Sae;

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
        Moments { m: memory::zeros(n), v: memory::zeros(n) }
    }
}

/// What a step aims at besides the reconstruction, in the units of the activations; the trainer
/// sets it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Objective {
    /// The coefficient of the penalty of the SAE's [`Architecture`](crate::sae::Architecture).
    pub sparsity: f64,
    /// The width of the rectangle through which gradients reach the thresholds of a JumpReLU SAE.
    pub bandwidth: f64,
    /// The dead latents that [`AuxK`](crate::sae::AuxK) asks to help, ascending.
    pub dead: Vec<u32>,
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
    /// For the thresholds of a JumpReLU SAE.
    pub threshold: Moments,
    /// For `r_mag` of a Gated SAE.
    pub r_mag: Moments,
    /// For `b_mag` of a Gated SAE.
    pub b_mag: Moments,
    /// For `W_lookup`, if it learns.
    pub lookup: Option<Moments>,
    /// Steps made.
    pub steps: u64,
    /// What the next step aims at.
    pub objective: Objective,
    /// What the rows of the table owe; `None` if every step moves them all.
    pub(super) owed: Option<Owed>,
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
            threshold: Moments::zeros(if sae.threshold.len() == sae.b_enc.len() {
                sae.threshold.len()
            } else {
                0
            }),
            r_mag: Moments::zeros(sae.r_mag.len()),
            b_mag: Moments::zeros(sae.b_mag.len()),
            lookup: sae
                .lookup
                .as_ref()
                .filter(|_| learned)
                .map(|table| Moments::zeros(table.len())),
            steps: 0,
            objective: Objective::default(),
            owed: None,
        }
    }

    /// The same, but a step moves only the rows of the table whose tokens occur; the others make up
    /// for it before they are next looked at, to the same bits. Its cost then follows the tokens of
    /// the batch, not the vocabulary.
    ///
    /// Between steps the table and its moments are not what they will be:
    /// [`settle`](AdamState::settle) before you read them.
    pub fn lazy(mut self) -> AdamState {
        self.owed = self
            .lookup
            .as_ref()
            .map(|moments| Owed::nothing(moments.m.len() / self.b_dec.m.len().max(1)));
        self
    }

    /// Brings every row of the table up to date. Does nothing unless the state is
    /// [`lazy`](AdamState::lazy).
    pub fn settle(&mut self, sae: &mut Sae) {
        if let (Some(owed), Some(moments), Some(table)) =
            (&mut self.owed, &mut self.lookup, &mut sae.lookup)
        {
            owed.settle(table, moments);
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
