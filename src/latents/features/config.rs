//! What is collected of each latent.

use crate::base::error::{Error, Result};
use crate::display::{Show, Shown, settings, shows};

/// How much is collected of each latent. The defaults take about 25 MB of memory for each thousand
/// latents.
#[derive(Clone, Debug, PartialEq)]
pub struct FeaturesConfig {
    /// Read at most this many tokens: whole sequences, evenly spread over the source.
    pub tokens: u64,
    /// Contexts in which a latent is strongest, at most one a sequence.
    pub top: usize,
    /// Into how many bands of equally many firings a latent's activations are cut, each with some
    /// contexts of its own.
    pub bands: usize,
    /// Contexts of each band, drawn at random, at most one a sequence and none that is among the
    /// strongest.
    pub per_band: usize,
    /// Tokens of a context before the one on which the latent fires.
    pub before: usize,
    /// Tokens of a context after it.
    pub after: usize,
    /// Latents that fire together with a latent.
    pub cofiring: usize,
    /// Decides which contexts are drawn.
    pub seed: u64,
}

impl Default for FeaturesConfig {
    fn default() -> FeaturesConfig {
        FeaturesConfig {
            tokens: 1_000_000,
            top: 20,
            bands: 4,
            per_band: 4,
            before: 20,
            after: 10,
            cofiring: 10,
            seed: 0,
        }
    }
}

impl FeaturesConfig {
    /// Contexts that are drawn of each latent while it is not yet known where its bands lie: enough
    /// that a band hardly ever lacks one.
    pub(super) fn drawn(&self) -> usize {
        3 * self.bands * self.per_band
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first that cannot be used.
    pub fn check(&self) -> Result<()> {
        let within = |field, value: usize, most: usize| match value <= most {
            true => Ok(()),
            false => {
                Err(Error::config(field, format!("{field} = {value}; at most {most} is possible")))
            }
        };
        if self.tokens == 0 {
            return Err(Error::config("tokens", "tokens = 0; at least one sequence must be read"));
        }
        if self.tokens > u64::from(u32::MAX) {
            return Err(Error::config(
                "tokens",
                format!("tokens = {}; at most {} can be numbered", self.tokens, u32::MAX),
            ));
        }
        within("top", self.top, 1000)?;
        within("bands", self.bands, 20)?;
        within("per_band", self.per_band, 100)?;
        within("before", self.before, 1000)?;
        within("after", self.after, 1000)?;
        within("cofiring", self.cofiring, 1000)
    }
}

shows!(FeaturesConfig);

impl Show for FeaturesConfig {
    fn shown(&self) -> Shown {
        let rows = vec![
            (
                "tokens",
                self.tokens.to_string(),
                "read at most this many tokens, spread evenly over the source",
            ),
            ("top", self.top.to_string(), "contexts in which a latent is strongest"),
            ("bands", self.bands.to_string(), "bands of equally many firings"),
            ("per_band", self.per_band.to_string(), "contexts of each band, drawn at random"),
            (
                "before",
                self.before.to_string(),
                "tokens of a context before the one on which the latent fires",
            ),
            ("after", self.after.to_string(), "tokens of a context after it"),
            ("cofiring", self.cofiring.to_string(), "latents that fire together with a latent"),
            ("seed", self.seed.to_string(), "decides which contexts are drawn"),
        ];
        settings("FeaturesConfig", rows).into()
    }
}
