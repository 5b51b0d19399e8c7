//! What makes latents few where no k does: the penalty, and the way to a given L0.

use crate::backend::Objective;
use crate::base::error::Result;
use crate::sae::{Architecture, Codes, Sae, SaeConfig};

/// By how much of the mean active code (of what it has above its threshold) the point from which
/// latents are active moves after a step, for each e-fold by which they are too many. Codes fall
/// off about exponentially, so such a step takes this share of the way.
const GAIN: f64 = 0.3;
/// The largest e-fold that counts: at the start there may be no active latent at all.
const LARGEST_FOLD: f64 = 2.0;

/// What training adds to the error of an SAE, once its penalty has risen to its full size.
#[derive(Clone, Copy, Default)]
pub(super) struct Penalty {
    sparsity: f64,
    bandwidth: f64,
    /// What the thresholds of a JumpReLU SAE start at.
    threshold: Option<f64>,
    target_l0: Option<f64>,
    /// The activations' scale.
    scale: f64,
}

impl Penalty {
    /// The penalty of these settings; the activations' scale is asked for only if it has a part in
    /// it.
    pub(super) fn of(config: &SaeConfig, scale: impl FnOnce() -> Result<f32>) -> Result<Penalty> {
        if config.architecture.uses_k() {
            return Ok(Penalty::default());
        }
        let scale = f64::from(scale()?);
        let penalty = Penalty { target_l0: config.target_l0, scale, ..Penalty::default() };
        Ok(match config.architecture {
            Architecture::JumpRelu { l0, bandwidth, threshold } => Penalty {
                sparsity: l0 * scale * scale,
                bandwidth: bandwidth * scale,
                threshold: Some(threshold * scale),
                ..penalty
            },
            Architecture::Relu { l1 } | Architecture::Gated { l1 } => {
                Penalty { sparsity: l1 * scale, ..penalty }
            }
            Architecture::TopK | Architecture::BatchTopK => penalty,
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

    /// Moves the point from which latents are active, all alike, after a step that took this share
    /// of the penalty and saw these codes, towards [`SaeConfig::target_l0`].
    ///
    /// Gradients alone take a run's whole length for that, or longer: Adam moves a threshold or a
    /// bias by the learning rate at most. And where a penalty's coefficient leads is known only
    /// after the run.
    pub(super) fn steer(&self, sae: &mut Sae, codes: &Codes, share: f64) {
        let Some(target) = self.target_l0 else { return };
        let is_jump = matches!(sae.config.architecture, Architecture::JumpRelu { .. });
        let (mut count, mut sum, mut fired) = (0.0, 0.0, vec![false; sae.d_sae()]);
        for (&latent, &value) in codes.latents().iter().zip(codes.values()) {
            if value != 0.0 {
                let from = if is_jump { sae.threshold[latent as usize] } else { 0.0 };
                count += 1.0;
                fired[latent as usize] = true;
                sum += f64::from(value - from);
            }
        }
        let mean = if count > 0.0 { sum / count } else { self.scale };
        let first = sae.d_sae() as f64 / 2.0;
        let aim = target * (first / target).max(1.0).powf(1.0 - share);
        let fold = (count / codes.n() as f64 / aim).ln().clamp(-LARGEST_FOLD, LARGEST_FOLD);
        let by = (GAIN * mean * fold) as f32;
        // What has not fired would only be pushed further from ever doing so.
        let moved = fired.iter().map(|&fired| if fired || by < 0.0 { by } else { 0.0 });
        if is_jump {
            sae.threshold.iter_mut().zip(moved).for_each(|(at, by)| *at = (*at + by).max(0.0));
        } else {
            sae.b_enc.iter_mut().zip(moved).for_each(|(bias, by)| *bias -= by);
        }
    }
}
