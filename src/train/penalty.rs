//! What makes latents few where no k does: the penalty, and the way to a given L0.

use crate::backend::{Objective, Scratch};
use crate::base::error::Result;
use crate::sae::{Architecture, Sae, SaeConfig};

/// By how much of the mean excess of active latents over the point from which they are active that
/// point moves after a step, for each e-fold by which they are too many. Pre-activations fall off
/// about exponentially there, so such a step takes this share of the way.
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

    /// How many latents are active on a row, on average over a run that is steered to a given L0 and
    /// whose penalty rises over this share of it.
    pub(super) fn mean_l0(&self, d_sae: usize, rising: f64) -> Option<f64> {
        let target = self.target_l0?;
        let fold = first_multiple(target, d_sae).ln();
        // The mean of eˣ for x from 0 to `fold`, the way that `steer` takes.
        let falling = if fold > 0.0 { fold.exp_m1() / fold } else { 1.0 };
        Some(target * (rising * falling + 1.0 - rising))
    }

    /// The same without steering.
    pub(super) fn unsteered(self) -> Penalty {
        Penalty { target_l0: None, ..self }
    }

    /// Sets the aim of a step that takes this share of the penalty.
    pub(super) fn aim(&self, objective: &mut Objective, share: f64) {
        (objective.sparsity, objective.bandwidth) = (self.sparsity * share, self.bandwidth);
    }

    /// Moves the point from which latents are active, after a step that took this share of the
    /// penalty, so that the next has an L0 nearer [`SaeConfig::target_l0`].
    ///
    /// Gradients alone take a run's whole length for that, or longer: Adam moves a threshold or a
    /// bias by the learning rate at most. And where a penalty's coefficient leads is known only
    /// after the run.
    pub(super) fn steer(&self, sae: &mut Sae, scratch: &Scratch, share: f64) {
        let Some(target) = self.target_l0 else { return };
        let codes = scratch.codes();
        let (mut count, mut fired) = (0.0, vec![false; sae.d_sae()]);
        for (&latent, _) in codes.latents().iter().zip(codes.values()).filter(|code| *code.1 != 0.0)
        {
            fired[latent as usize] = true;
            count += 1.0;
        }
        let aim = target * first_multiple(target, sae.d_sae()).powf(1.0 - share);
        let fold = (count / codes.n() as f64 / aim).ln().clamp(-LARGEST_FOLD, LARGEST_FOLD);
        let by = (GAIN * fold * scratch.mean_excess(sae).unwrap_or(self.scale)) as f32;
        if let Architecture::JumpRelu { .. } = sae.config.architecture {
            sae.threshold.iter_mut().for_each(|at| *at = (*at + by).max(0.0));
        } else {
            // A bias that falls also weakens what is active, and one that has not fired would only
            // be pushed further from ever doing so.
            let moved = sae.b_enc.iter_mut().zip(fired).filter(|(_, fired)| *fired || by < 0.0);
            moved.for_each(|(bias, _)| *bias -= by);
        }
    }
}

/// How many times `target` is active where a run begins: half of all latents.
fn first_multiple(target: f64, d_sae: usize) -> f64 {
    let first = d_sae as f64 / 2.0;
    (first / target).max(1.0)
}
