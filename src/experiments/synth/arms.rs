//! Tables that a TSAE may have on rows with tokens, and the SAE that has their numbers instead.

use serde::Serialize;

use super::{MEANS, SynthArch};
use crate::base::error::Result;
use crate::sae::SaeConfig;
use crate::synthetic::SyntheticModel;

/// What an SAE has beside the plain one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arm {
    /// As many further latents as make up for the numbers of a table of tokens.
    Wide,
    /// A table of tokens, added: the authors'.
    Added,
    /// The same, subtracted in full before the encoder as well.
    Subtracted,
    /// A table of tokens and pairs of tokens, added.
    Pairs,
    /// The same, subtracted in full before the encoder as well.
    PairsSubtracted,
}

impl Arm {
    /// All of them.
    pub const ALL: [Arm; 5] =
        [Arm::Wide, Arm::Added, Arm::Subtracted, Arm::Pairs, Arm::PairsSubtracted];

    /// What stands behind the architecture's name in a table.
    pub fn name(self) -> &'static str {
        match self {
            Arm::Wide => "wide",
            Arm::Added => "table added",
            Arm::Subtracted => "table subtracted",
            Arm::Pairs => "pairs added",
            Arm::PairsSubtracted => "pairs subtracted",
        }
    }

    /// The SAE `plain` of this architecture with it. Tables start at the mean rows of their tokens.
    pub(super) fn of(
        self,
        model: &SyntheticModel,
        plain: SaeConfig,
        arch: SynthArch,
        l0: f64,
    ) -> Result<SaeConfig> {
        let lookup = match self {
            Arm::Wide => {
                let a_latent = plain.parameters_of_a_latent();
                let latents = plain.d_sae() + model.d_vocab() * plain.d_model / a_latent;
                let wide = arch.sae((plain.d_model, plain.d_vocab, latents), l0);
                let wide = SaeConfig { seed: plain.seed, ..wide };
                debug_assert!(wide.parameters() >= plain.parameters());
                return Ok(wide);
            }
            Arm::Added | Arm::Subtracted => model.token_means(MEANS)?,
            Arm::Pairs | Arm::PairsSubtracted => model.pair_means(MEANS)?,
        };
        let is_subtracted = matches!(self, Arm::Subtracted | Arm::PairsSubtracted);
        Ok(plain.with_lookup(if is_subtracted { lookup.subtracted_in_full() } else { lookup }))
    }
}
