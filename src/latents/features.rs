//! What the latents of an SAE do: where they fire, how often and how strongly, which tokens they
//! point at, and what the model says without them or with more of them.
//!
//! ```
//! use tokenized_sae::prelude::*;
//! let model = Model::load("tiny-gpt2")?;
//! let hook: HookPoint = "blocks.2.hook_resid_pre".parse()?;
//! let sae = Sae::new(SaeConfig { expansion: 2, k: 8, ..SaeConfig::for_model(&model) })?; // or &runs["TSAE"], or Sae::load(folder)
//! let dashboard = FeatureDashboard::with(&model, hook, &sae, &model.sample(8, 64, 0)?, FeaturesConfig::default())?;
//! let view = dashboard.latent(123)?; // contexts, histogram, logit effects, nearest tokens: in a notebook, a page of it
//! let effect = dashboard.ablate(123, "Once upon a time")?; // what the model says without the latent
//! assert_eq!((view.feature.latent, effect.tokens.len()), (123, model.encode("Once upon a time")?.len() + 1));
//! # Ok::<(), Error>(())
//! ```
//!
//! **One pass.** The rows of a store (or of a text, which is run through the model) are encoded
//! exactly, some whole sequences at a time, and each latent counts its firings: a code above 0.
//! Position 0 is left out, as in [`eval`](crate::eval). Memory does not grow with the number of
//! rows but for four bytes a token.
//!
//! **Direct path.** A latent's row of `W_dec` is what it writes;
//! [`Model::logit_effects`](crate::model::Model::logit_effects) says what that adds to the logits
//! if nothing in between reads it.

mod cofiring;
mod collect;
mod config;
mod dashboard;
mod directions;
mod effect;
mod feature;
mod firings;
mod histogram;
mod page;
mod show;
mod tally;
#[cfg(test)]
mod tests;

pub use cofiring::Cofiring;
pub use config::FeaturesConfig;
pub use dashboard::{FeatureDashboard, FeatureView};
pub use directions::{Directions, TokenScore};
pub use effect::{Continuations, Effect, EffectToken, Shift};
pub use feature::{Band, Context, Feature, Features};
pub use histogram::Bin;

use effect::Intervention;

use crate::sae::Sae;
use crate::train::Run;

impl AsRef<Sae> for Sae {
    fn as_ref(&self) -> &Sae {
        self
    }
}

impl AsRef<Sae> for Run {
    fn as_ref(&self) -> &Sae {
        &self.sae
    }
}
