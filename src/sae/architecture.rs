//! Which latents are active, and what training does for it.

use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Result};

/// The architecture of an SAE: what makes a latent active.
///
/// Coefficients, bandwidth and threshold are in **units of the activations' scale** `s`, the median
/// over tokens of `‖x − x̄‖/√d_model`, which the trainer measures: so the same numbers serve every
/// layer of every model, and are about those of libraries that scale activations to a norm of
/// `√d_model` first (as SAELens' `expected_average_only_in` does).
///
/// ```
/// use tokenized_sae::prelude::*;
/// let relu = SaeConfig { architecture: Architecture::Relu { l1: 2.0 }, ..SaeConfig::new(128, 4096) };
/// let batch = SaeConfig { architecture: Architecture::BatchTopK, k: 16, ..SaeConfig::new(128, 4096) };
/// assert!(relu.check().is_ok() && batch.check().is_ok());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Architecture {
    /// The k largest pre-activations of every token ([Gao et al.,
    /// 2024](https://arxiv.org/abs/2406.04093)): the authors'.
    #[default]
    TopK,
    /// The `n·k` largest positive pre-activations of a batch of n tokens, so that k is their mean
    /// ([Bussmann et al., 2024](https://arxiv.org/abs/2412.06410)). Outside of training a latent is
    /// active above one threshold for all, the running mean of what the least active code of a
    /// batch was.
    BatchTopK,
    /// Every positive pre-activation; training adds `l1·s·Σ f` to a token's error ([Bricken et al.,
    /// 2023](https://transformer-circuits.pub/2023/monosemantic-features)). Rows of the decoder are
    /// kept at length 1, or the penalty could be met by making codes small and rows long.
    Relu {
        /// The coefficient of the penalty.
        l1: f64,
    },
    /// A gate decides which latents are active, a magnitude how much; both share their weights
    /// ([Rajamanoharan et al., 2024a](https://arxiv.org/abs/2404.16014)):
    ///
    /// ```text
    /// π = W_enc (x − b_dec)      f = [π + b_gate > 0] · ReLU(exp(r_mag)·π + b_mag)
    /// error + l1·s·Σ ReLU(π + b_gate) + ‖x − x̂(ReLU(π + b_gate))‖², the decoder of the last not moved by it
    /// ```
    ///
    /// `b_enc` is `b_gate`. Rows of the decoder are kept at length 1.
    Gated {
        /// The coefficient of the penalty.
        l1: f64,
    },
    /// Every pre-activation above the latent's own threshold θ, which training moves
    /// ([Rajamanoharan et al., 2024b](https://arxiv.org/abs/2407.14435)): it adds `l0·s²·Σ [pre >
    /// θ]` to a token's error, whose gradient is taken from the pre-activations within
    /// `bandwidth·s/2` of θ. Adam moves θ as it does the weights, and it stays at least 0.
    JumpRelu {
        /// The coefficient of the penalty.
        l0: f64,
        /// The width of the rectangle through which gradients reach the thresholds; SAELens takes
        /// 0.05.
        #[serde(default = "bandwidth")]
        bandwidth: f64,
        /// Where the thresholds start; SAELens takes 0.01. A step moves one by the learning rate at
        /// most, so that in a run of some hundred steps they end near where they start, whatever
        /// `l0` is: then say [`target_l0`](crate::sae::SaeConfig::target_l0).
        #[serde(default = "threshold")]
        threshold: f64,
    },
}

/// SAELens' bandwidth.
fn bandwidth() -> f64 {
    0.05
}

/// SAELens' first threshold.
fn threshold() -> f64 {
    0.01
}

impl Architecture {
    /// [`Architecture::JumpRelu`] with SAELens' bandwidth and first threshold.
    pub fn jump_relu(l0: f64) -> Architecture {
        Architecture::JumpRelu { l0, bandwidth: bandwidth(), threshold: threshold() }
    }

    /// A word for tables: `TopK`, `BatchTopK`, `ReLU`, `Gated` or `JumpReLU`.
    pub fn name(self) -> &'static str {
        match self {
            Architecture::TopK => "TopK",
            Architecture::BatchTopK => "BatchTopK",
            Architecture::Relu { .. } => "ReLU",
            Architecture::Gated { .. } => "Gated",
            Architecture::JumpRelu { .. } => "JumpReLU",
        }
    }

    /// Whether `k` says how many latents are active.
    pub fn uses_k(self) -> bool {
        matches!(self, Architecture::TopK | Architecture::BatchTopK)
    }

    /// Whether rows of the decoder must be kept at length 1.
    pub(crate) fn constrains_decoder(self) -> bool {
        matches!(self, Architecture::Relu { .. } | Architecture::Gated { .. })
    }

    pub(super) fn check(self) -> Result<()> {
        let number = |field: &'static str, value: f64, least: &str, fits: bool| match value
            .is_finite()
            && fits
        {
            true => Ok(()),
            false => Err(Error::config(field, format!("{field} = {value}; it must be {least}"))),
        };
        match self {
            Architecture::TopK | Architecture::BatchTopK => Ok(()),
            Architecture::Relu { l1 } | Architecture::Gated { l1 } => {
                number("l1", l1, "at least 0", l1 >= 0.0)
            }
            Architecture::JumpRelu { l0, bandwidth, threshold } => {
                number("l0", l0, "at least 0", l0 >= 0.0)?;
                number("bandwidth", bandwidth, "above 0", bandwidth > 0.0)?;
                number("threshold", threshold, "above 0", threshold > 0.0)
            }
        }
    }
}

/// The matrix that training leaves at its random start, as a control: how much of a score does an
/// SAE owe to what it has learned? Both come close to trained ones on several measures ([Korznikov
/// et al., 2026](https://arxiv.org/abs/2602.14111)). Biases and a table learn as ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Frozen {
    /// `W_enc`: which latents are active is then decided by the biases alone.
    Encoder,
    /// `W_dec`: no direction is learned, only when to use which.
    Decoder,
}

impl Frozen {
    /// Its name: `encoder` or `decoder`.
    pub fn name(self) -> &'static str {
        match self {
            Frozen::Encoder => "encoder",
            Frozen::Decoder => "decoder",
        }
    }
}

/// Help for latents that have not fired for [`dead_window`](crate::train::TrainConfig::dead_window)
/// tokens: they are asked to reconstruct what the others leave ([Gao et al.,
/// 2024](https://arxiv.org/abs/2406.04093), A.2).
///
/// With `e = x − x̂` and `ê` the decoding of the `k` largest pre-activations of dead latents (those
/// above 0), training adds `alpha·min(dead / k, 1)·‖e − ê‖²`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuxK {
    /// How many dead latents help on a token; half of `d_model` by default.
    pub k: Option<usize>,
    /// The coefficient: 1/32 in the paper.
    pub alpha: f64,
}

impl Default for AuxK {
    fn default() -> AuxK {
        AuxK { k: None, alpha: 1.0 / 32.0 }
    }
}

impl AuxK {
    /// How many dead latents help on a token, at this width.
    pub fn k(&self, d_model: usize) -> usize {
        self.k.unwrap_or(d_model / 2).max(1)
    }
}
