//! How each architecture is trained: the benchmark's recipes, as far as they can be said here.

use serde::Serialize;

use crate::sae::{Architecture, AuxK, SaeConfig};

/// Rows in a batch: the benchmark's.
pub(super) const BATCH: usize = 1_024;

/// A latent is dead after so many steps without firing: SAELens' `dead_feature_window`.
pub(super) const DEAD_STEPS: u64 = 1_000;

/// Share of the steps over which a penalty rises: the benchmark's for L1.
pub(super) const SPARSITY_WARMUP: f64 = 1.0 / 3.0;

/// The architectures of the benchmark, and TopK.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SynthArch {
    /// The k largest of a batch, k a row.
    BatchTopK,
    /// The same, with prefixes of 1/32, 1/8 and 1/2 of the latents that reconstruct by themselves:
    /// 128, 512 and 2,048 of 4,096.
    Matryoshka,
    /// A threshold a latent.
    JumpRelu,
    /// ReLU with a penalty of the sum of codes: the standard SAE.
    L1,
    /// The k largest of every row.
    TopK,
}

impl SynthArch {
    /// All of them.
    pub const ALL: [SynthArch; 5] = [
        SynthArch::BatchTopK,
        SynthArch::Matryoshka,
        SynthArch::JumpRelu,
        SynthArch::L1,
        SynthArch::TopK,
    ];

    /// A word for tables.
    pub fn name(self) -> &'static str {
        match self {
            SynthArch::BatchTopK => "BatchTopK",
            SynthArch::Matryoshka => "Matryoshka",
            SynthArch::JumpRelu => "JumpReLU",
            SynthArch::L1 => "L1",
            SynthArch::TopK => "TopK",
        }
    }

    /// The settings of an SAE of this `(d_model, d_vocab, latents)`.
    ///
    /// As in SAELens, dead latents of TopK, BatchTopK and Matryoshka are helped with a coefficient of
    /// 1, and all select codes by what they contribute: there, by dividing out the decoder rows'
    /// lengths; here, by keeping these at 1. JumpReLU and L1 are steered to their L0, there by
    /// tuning the coefficient.
    pub(super) fn sae(self, size: (usize, usize, usize), l0: f64) -> SaeConfig {
        let (d_model, d_vocab, latents) = size;
        let plain = SaeConfig {
            k: (l0.round() as usize).max(1),
            relu: true,
            unit_norm: true,
            ..SaeConfig::new(d_model, d_vocab).with_latents(latents)
        };
        let helped = SaeConfig { aux: Some(AuxK { k: None, alpha: 1.0 }), ..plain.clone() };
        match self {
            SynthArch::TopK => helped,
            SynthArch::BatchTopK => helped.with_architecture(Architecture::BatchTopK),
            SynthArch::Matryoshka => {
                let mut prefixes: Vec<usize> =
                    [32, 8, 2].map(|part| latents / part).into_iter().filter(|&n| n > 0).collect();
                prefixes.dedup();
                helped.with_architecture(Architecture::BatchTopK).with_prefixes(&prefixes)
            }
            SynthArch::JumpRelu => {
                let architecture =
                    Architecture::JumpRelu { l0: 0.2, bandwidth: 2.0, threshold: 0.5 };
                SaeConfig { unit_norm: false, ..plain }
                    .with_architecture(architecture)
                    .with_target_l0(l0)
            }
            SynthArch::L1 => {
                plain.with_architecture(Architecture::Relu { l1: 2.0 }).with_target_l0(l0)
            }
        }
    }
}
