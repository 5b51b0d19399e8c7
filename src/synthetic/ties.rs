//! Which features fire by token.

use std::collections::HashMap;

use super::config::{SyntheticConfig, Tokens};
use super::draws::Draws;

/// What makes a feature fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The context: as all features of the published benchmark.
    Context,
    /// The context, and a token too.
    Shared,
    /// One token alone.
    Token,
    /// A token after a certain other.
    Pair,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 4] = [Kind::Context, Kind::Shared, Kind::Token, Kind::Pair];

    /// One word.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Context => "context",
            Kind::Shared => "shared",
            Kind::Token => "token",
            Kind::Pair => "pair",
        }
    }
}

/// Tokens, and the features that each makes fire.
pub struct Ties {
    pub strength: f64,
    /// The probability of a token or one before it, `[d_vocab]`, ascending to 1.
    cumulative: Vec<f64>,
    /// Of each token the features that fire on it.
    of_token: Vec<Vec<u32>>,
    of_pair: HashMap<[u32; 2], u32>,
    /// Of each feature its token, if it has one.
    token_of: HashMap<u32, u32>,
    pub n_context: usize,
    n_token: usize,
}

impl Ties {
    /// The features of tokens come after those of the context, token by token, and those of pairs
    /// last. Shared features are spread evenly over those outside of trees, and their tokens evenly
    /// over all: rare features share with rare tokens.
    pub fn new(config: &SyntheticConfig, tokens: &Tokens) -> Ties {
        let Tokens { d_vocab, exponent, per_token, shared, pairs, strength } = *tokens;
        let n_context = config.n_features;
        let weights = (1..=d_vocab).map(|rank| (rank as f64).powf(-exponent));
        let total: f64 = weights.clone().sum();
        let cumulative = weights.scan(0.0, |sum, weight| {
            *sum += weight / total;
            Some(*sum)
        });
        let mut ties = Ties {
            strength,
            cumulative: cumulative.collect(),
            of_token: vec![Vec::new(); d_vocab],
            of_pair: HashMap::new(),
            token_of: HashMap::new(),
            n_context,
            n_token: per_token * d_vocab,
        };
        let in_trees = config.trees.map_or(0, |trees| trees.features(n_context));
        for i in 0..shared {
            let feature = in_trees + i * (n_context - in_trees) / shared;
            ties.tie(feature, i * d_vocab / shared);
        }
        for token in 0..d_vocab {
            for i in 0..per_token {
                ties.tie(n_context + token * per_token + i, token);
            }
        }
        let side = (pairs as f64).sqrt().ceil() as usize;
        for i in 0..pairs {
            let pair = [(i % side) as u32, (i / side) as u32];
            ties.of_pair.insert(pair, (n_context + ties.n_token + i) as u32);
        }
        ties
    }

    fn tie(&mut self, feature: usize, token: usize) {
        self.of_token[token].push(feature as u32);
        self.token_of.insert(feature as u32, token as u32);
    }

    /// Draws the token before a row, and the row's.
    pub fn draw(&self, draws: &mut Draws) -> [u32; 2] {
        [(); 2].map(|()| {
            let u = draws.uniform();
            self.cumulative.partition_point(|&up_to| up_to <= u).min(self.cumulative.len() - 1)
                as u32
        })
    }

    /// The features that may fire on a token after another.
    pub fn features(&self, [before, token]: [u32; 2]) -> impl Iterator<Item = u32> {
        let of_pair = self.of_pair.get(&[before, token]);
        self.of_token[token as usize].iter().chain(of_pair).copied()
    }

    /// The pairs that features fire on, each a token and the next.
    pub fn pairs(&self) -> Vec<Vec<u32>> {
        self.of_pair.keys().map(|pair| pair.to_vec()).collect()
    }

    /// What makes a feature fire.
    pub fn kind(&self, feature: usize) -> Kind {
        match feature.checked_sub(self.n_context) {
            Some(beyond) if beyond < self.n_token => Kind::Token,
            Some(_) => Kind::Pair,
            None if self.token_of.contains_key(&(feature as u32)) => Kind::Shared,
            None => Kind::Context,
        }
    }

    /// The token of a feature that has one.
    pub fn token_of(&self, feature: usize) -> Option<u32> {
        self.token_of.get(&(feature as u32)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::super::draws::{Key, Purpose};
    use super::*;

    #[test]
    fn every_feature_has_the_kind_and_the_token_that_it_fires_by() {
        let config = SyntheticConfig::tokens();
        let tokens = config.tokens.unwrap();
        let ties = Ties::new(&config, &tokens);
        let count = |kind| (0..config.all_features()).filter(|&it| ties.kind(it) == kind).count();
        assert_eq!(Kind::ALL.map(count), [1_024 - 128, 128, 1_024, 128]);
        for token in 0..512u32 {
            // No pair begins with the last token.
            for feature in ties.features([511, token]) {
                assert_eq!(ties.token_of(feature as usize), Some(token));
            }
            assert!(ties.features([511, token]).count() >= 2);
        }
        let of_pair = ties.features([0, 1]).find(|&it| ties.kind(it as usize) == Kind::Pair);
        assert!(of_pair.is_some() && ties.token_of(of_pair.unwrap() as usize).is_none());
    }

    #[test]
    fn tokens_follow_zipf() {
        let config = SyntheticConfig::tokens();
        let ties = Ties::new(&config, &config.tokens.unwrap());
        let key = Key::new(Purpose::Rows, [0, 0]);
        let n = 40_000;
        let mut counts = [0.0; 512];
        (0..n).for_each(|row| counts[ties.draw(&mut key.stream(row))[1] as usize] += 1.0);
        let harmonic: f64 = (1..=512).map(|rank| 1.0 / f64::from(rank)).sum();
        for rank in [1, 2, 5, 20] {
            let want = n as f64 / harmonic / rank as f64;
            assert!((counts[rank - 1] - want).abs() < 5.0 * want.sqrt(), "{rank}");
        }
    }
}
