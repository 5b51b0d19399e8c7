//! What a synthetic model is made of.

use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Result};

/// The settings of a [`SyntheticModel`](super::SyntheticModel), in the terms of
/// SAELens' `SyntheticModelConfig`. Write them as a preset with changes:
///
/// ```
/// use tokenized_sae::synthetic::SyntheticConfig;
/// let wide = SyntheticConfig { d_model: 1_536, ..SyntheticConfig::synth_sae_bench_16k() };
/// assert_eq!(wide.n_features, 16_384);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyntheticConfig {
    /// Features that fire by context, trees included.
    pub n_features: usize,
    /// The width of the activations.
    pub d_model: usize,
    /// How often features fire.
    pub firing: Firing,
    /// Features that fire only where another does.
    pub trees: Option<Trees>,
    /// Features that fire together.
    pub correlation: Option<Correlation>,
    /// How the directions of features are pushed apart; `None` leaves them random.
    pub orthogonalize: Option<Orthogonalize>,
    /// Mean magnitude of the first and of the last feature where they fire; a straight line between.
    pub mean_magnitude: [f64; 2],
    /// A feature's magnitude deviates by |N(m, s²)| from its mean, drawn once a feature: m and s.
    pub std_magnitude: [f64; 2],
    /// The length of what is added to every row.
    pub bias: f64,
    /// Features that fire by token; none in the published benchmark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Tokens>,
    /// Seeds directions, deviations, correlations and bias.
    pub seed: u64,
}

/// Firing probabilities by Zipf's law: `rank^−exponent`, stretched to lie between `min` and `max`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Firing {
    /// Zipf's exponent.
    pub exponent: f64,
    /// The probability of the most frequent feature.
    pub max: f64,
    /// The probability of the rarest.
    pub min: f64,
}

/// Trees of features. The first features are the roots, then come all their children, and so on. A
/// child fires only where its parent does, its magnitude is multiplied by its parent's over that
/// one's mean, and of siblings that would fire together one is drawn. Firing probabilities are
/// raised to make up for it, as far as 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trees {
    /// How many trees.
    pub roots: usize,
    /// Children of a feature.
    pub branching: usize,
    /// Generations below the root.
    pub depth: usize,
}

/// Features fire where a normal number of theirs exceeds a threshold; those numbers are correlated
/// by a matrix of low rank, of normal numbers of this size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Correlation {
    /// The rank.
    pub rank: usize,
    /// The standard deviation of the matrix's numbers.
    pub scale: f64,
}

/// Adam on the squared cosines of all pairs of directions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Orthogonalize {
    /// Steps.
    pub steps: usize,
    /// The learning rate.
    pub lr: f64,
}

/// Every row has a token and a token before it, both drawn by Zipf's law, and some features fire by
/// them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tokens {
    /// How many tokens there are.
    pub d_vocab: usize,
    /// Zipf's exponent of the tokens.
    pub exponent: f64,
    /// Features that every token has to itself: they fire on it and nowhere else.
    pub per_token: usize,
    /// Features of the context (none of a tree) that fire on a token as well, wherever the context
    /// does not make them: the "Golden Gate Bridge", which is a word and a subject.
    pub shared: usize,
    /// Features that fire on a token after a certain other, of the most frequent ones.
    pub pairs: usize,
    /// The probability with which a feature fires on its token or pair.
    pub strength: f64,
}

impl SyntheticConfig {
    /// SynthSAEBench-16k in its second version ([Chanin and Garriga-Alonso,
    /// 2026](https://arxiv.org/abs/2602.14687)): 16,384 features in 768 dimensions, some 34 of which
    /// are active.
    pub fn synth_sae_bench_16k() -> SyntheticConfig {
        SyntheticConfig {
            n_features: 16_384,
            d_model: 768,
            firing: Firing { exponent: 0.5, max: 0.4, min: 5e-4 },
            trees: Some(Trees { roots: 128, branching: 4, depth: 3 }),
            correlation: Some(Correlation { rank: 25, scale: 0.1 }),
            orthogonalize: Some(Orthogonalize { steps: 100, lr: 3e-4 }),
            mean_magnitude: [5.0, 4.0],
            std_magnitude: [0.5, 0.5],
            bias: 0.5,
            tokens: None,
            seed: 42,
        }
    }

    /// The same laws in a sixteenth of the size: 1,024 features in 192 dimensions, 8 trees, some 11
    /// features active.
    pub fn small() -> SyntheticConfig {
        SyntheticConfig {
            n_features: 1_024,
            d_model: 192,
            firing: Firing { exponent: 0.5, max: 0.4, min: 2e-3 },
            trees: Some(Trees { roots: 8, branching: 4, depth: 3 }),
            ..SyntheticConfig::synth_sae_bench_16k()
        }
    }

    /// As large as [`small`](SyntheticConfig::small), with 512 tokens: two features for each, 128 of
    /// pairs of tokens, and every eighth of the context's 1,024 also fires on a token. Without
    /// trees, so that those seven between are what it is to be compared with: as frequent, but for
    /// the token.
    pub fn tokens() -> SyntheticConfig {
        SyntheticConfig {
            firing: Firing { exponent: 0.5, max: 0.2, min: 1e-3 },
            trees: None,
            tokens: Some(Tokens {
                d_vocab: 512,
                exponent: 1.0,
                per_token: 2,
                shared: 128,
                pairs: 128,
                strength: 0.9,
            }),
            ..SyntheticConfig::small()
        }
    }

    /// All features: those of the context, then those of tokens, then those of pairs.
    pub fn all_features(&self) -> usize {
        self.n_features + self.tokens.map_or(0, |it| it.per_token * it.d_vocab + it.pairs)
    }

    /// How many tokens there are: 1 if rows have none.
    pub fn d_vocab(&self) -> usize {
        self.tokens.map_or(1, |it| it.d_vocab)
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first that cannot be used.
    pub fn check(&self) -> Result<()> {
        let refuse = |field, why: String| Err(Error::config(field, format!("{field} = {why}")));
        for (field, n) in [("n_features", self.n_features), ("d_model", self.d_model)] {
            if n == 0 || n > 1 << 24 {
                return refuse(field, format!("{n}; it must be between 1 and 2^24"));
            }
        }
        let Firing { exponent, max, min } = self.firing;
        if !(exponent > 0.0 && exponent.is_finite()) {
            return refuse("firing.exponent", format!("{exponent}; it must be above 0"));
        }
        if !(0.0 < min && min < max && max <= 1.0) {
            return refuse("firing.max", format!("{max}, firing.min = {min}; 0 < min < max ≤ 1"));
        }
        if let Some(Trees { roots, branching, depth }) = self.trees
            && (roots == 0 || branching < 2 || depth == 0)
        {
            let why =
                format!("{roots} roots, {branching} children, depth {depth}; at least 1, 2, 1");
            return refuse("trees", why);
        }
        if let Some(Correlation { rank, scale }) = self.correlation
            && !(rank > 0 && rank <= 4_096 && scale >= 0.0 && scale.is_finite())
        {
            return refuse(
                "correlation",
                format!("rank {rank}, scale {scale}; 1 to 4,096, at least 0"),
            );
        }
        if let Some(Orthogonalize { lr, .. }) = self.orthogonalize {
            crate::sae::check_rate("orthogonalize.lr", lr)?;
        }
        let sizes = [self.mean_magnitude, self.std_magnitude, [self.bias, 0.0]];
        if sizes.iter().flatten().any(|size| !(*size >= 0.0 && size.is_finite()))
            || self.mean_magnitude.contains(&0.0)
        {
            let why = format!(
                "{:?}, std_magnitude = {:?}, bias = {}; means must be above 0, the others at least 0",
                self.mean_magnitude, self.std_magnitude, self.bias
            );
            return refuse("mean_magnitude", why);
        }
        self.tokens.map_or(Ok(()), |tokens| tokens.check(self))
    }
}

impl Tokens {
    fn check(&self, config: &SyntheticConfig) -> Result<()> {
        let refuse = |field, why: String| Err(Error::config(field, why));
        let free = config.n_features - config.trees.map_or(0, |it| it.features(config.n_features));
        if !(1..=1 << 24).contains(&self.d_vocab) {
            let why = format!("{} tokens; between 1 and 2^24 are needed", self.d_vocab);
            return refuse("tokens.d_vocab", why);
        }
        if !(self.exponent >= 0.0 && self.exponent.is_finite()) {
            let why = format!("exponent {}; it must be at least 0", self.exponent);
            return refuse("tokens.exponent", why);
        }
        if self.shared > free.min(self.d_vocab) {
            let why = format!(
                "{} shared features, but there are {free} outside of trees and {} tokens",
                self.shared, self.d_vocab
            );
            return refuse("tokens.shared", why);
        }
        if self.pairs > self.d_vocab.saturating_mul(self.d_vocab) {
            let why =
                format!("{} pairs of {} tokens; there are not so many", self.pairs, self.d_vocab);
            return refuse("tokens.pairs", why);
        }
        if self.per_token > 1_024 || config.all_features() > 1 << 24 {
            let why =
                format!("{} features a token; at most 1,024, and 2^24 in all", self.per_token);
            return refuse("tokens.per_token", why);
        }
        if !(self.strength > 0.0 && self.strength <= 1.0) {
            let why = format!("strength {}; it is a probability above 0", self.strength);
            return refuse("tokens.strength", why);
        }
        Ok(())
    }
}

impl Trees {
    /// How many of `n` features are in trees.
    pub fn features(&self, n: usize) -> usize {
        let mut generation = self.roots;
        let mut all = self.roots;
        for _ in 0..self.depth {
            generation = generation.saturating_mul(self.branching);
            all = all.saturating_add(generation);
        }
        all.min(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_can_be_used_and_are_written_as_they_are() {
        for config in [
            SyntheticConfig::synth_sae_bench_16k(),
            SyntheticConfig::small(),
            SyntheticConfig::tokens(),
        ] {
            config.check().unwrap();
            let text = serde_json::to_string(&config).unwrap();
            assert_eq!(serde_json::from_str::<SyntheticConfig>(&text).unwrap(), config);
        }
        assert_eq!(SyntheticConfig::tokens().all_features(), 1_024 + 2 * 512 + 128);
        assert_eq!(Trees { roots: 128, branching: 4, depth: 3 }.features(16_384), 10_880);
        assert_eq!(Trees { roots: 128, branching: 4, depth: 3 }.features(100), 100);
    }

    #[test]
    fn what_cannot_be_is_named() {
        let small = SyntheticConfig::small;
        let tokens = SyntheticConfig::tokens().tokens.unwrap();
        let with = |tokens| SyntheticConfig { tokens: Some(tokens), ..small() };
        for (config, field) in [
            (SyntheticConfig { n_features: 0, ..small() }, "n_features"),
            (
                SyntheticConfig { firing: Firing { exponent: 0.5, max: 0.1, min: 0.2 }, ..small() },
                "firing.max",
            ),
            (
                SyntheticConfig {
                    trees: Some(Trees { roots: 1, branching: 1, depth: 1 }),
                    ..small()
                },
                "trees",
            ),
            (SyntheticConfig { bias: f64::NAN, ..small() }, "mean_magnitude"),
            (with(Tokens { shared: 1_000, ..tokens }), "tokens.shared"),
            (with(Tokens { strength: 1.5, ..tokens }), "tokens.strength"),
            (with(Tokens { pairs: 1 << 30, ..tokens }), "tokens.pairs"),
        ] {
            let told = config.check().unwrap_err().to_string();
            assert!(told.starts_with(field), "{told}");
        }
    }
}
