//! The penalty of an architecture, in the units of the activations.

use crate::backend::Objective;
use crate::base::error::Result;
use crate::sae::{Architecture, Sae, SaeConfig};

/// What training adds to the error of an SAE, once its penalty has risen to its full size.
#[derive(Clone, Copy, Default)]
pub(super) struct Penalty {
    sparsity: f64,
    bandwidth: f64,
    /// What the thresholds of a JumpReLU SAE start at.
    threshold: Option<f64>,
}

impl Penalty {
    /// The penalty of these settings; the activations' scale is asked for only if it has a part in
    /// it.
    pub(super) fn of(config: &SaeConfig, scale: impl FnOnce() -> Result<f32>) -> Result<Penalty> {
        Ok(match config.architecture {
            Architecture::TopK | Architecture::BatchTopK => Penalty::default(),
            Architecture::Relu { l1 } | Architecture::Gated { l1 } => {
                Penalty { sparsity: l1 * f64::from(scale()?), ..Penalty::default() }
            }
            Architecture::JumpRelu { l0, bandwidth, threshold } => {
                let scale = f64::from(scale()?);
                Penalty {
                    sparsity: l0 * scale * scale,
                    bandwidth: bandwidth * scale,
                    threshold: Some(threshold * scale),
                }
            }
        })
    }

    /// Makes an SAE ready for its first step.
    pub(super) fn start(&self, sae: &mut Sae) {
        if let Some(threshold) = self.threshold {
            sae.threshold.fill(threshold as f32);
        }
    }

    /// Sets the aim of a step that takes this share of the penalty.
    pub(super) fn aim(&self, objective: &mut Objective, share: f64) {
        (objective.sparsity, objective.bandwidth) = (self.sparsity * share, self.bandwidth);
    }
}
