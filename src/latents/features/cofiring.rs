//! Which latents fire together.
//!
//! Counting every pair on every token would take d_sae² counters. The tokens that draw the lowest
//! numbers are kept with their latents, as many as hold [`MOST`] latents in all (every token, if
//! there are few); then each latent in turn counts, over the kept tokens on which it fires, what
//! else fires there. That is exact on the kept tokens, which are a random sample of all.

use rayon::prelude::*;
use serde::Serialize;

use super::tally::draw;
use crate::latents::source::each_firing;
use crate::sae::Codes;

/// Latents that are kept, over all kept tokens: 32 MB, and as much again while they are counted.
const MOST: usize = 8 << 20;

/// A latent that fires together with another.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Cofiring {
    /// The other latent.
    pub latent: u32,
    /// Tokens on which both fire, as a share of those on which at least one does (Jaccard's index).
    pub jaccard: f32,
    /// On how many tokens both fire, of those that were counted
    /// ([`Features::cofiring_tokens`](super::Features::cofiring_tokens)).
    pub tokens: u32,
}

/// Tokens with the latents that fire on them.
pub(super) struct Together {
    seed: u64,
    most: usize,
    /// Tokens that draw more than this are not kept.
    limit: u64,
    /// What each kept token drew, and where its latents end.
    tokens: Vec<(u64, usize)>,
    latents: Vec<u32>,
}

impl Together {
    pub fn new(seed: u64) -> Together {
        Together { seed, most: MOST, limit: u64::MAX, tokens: Vec::new(), latents: Vec::new() }
    }

    /// Adds the tokens of some whole sequences, the first row of which is number `first`.
    pub fn add(&mut self, codes: &Codes, n_ctx: usize, first: u32) {
        let mut last = None;
        each_firing(codes, n_ctx, |latent, row, _| {
            let number = draw(self.seed, first + row as u32);
            if number > self.limit {
                return;
            }
            self.latents.push(latent as u32);
            match self.tokens.last_mut() {
                Some((_, end)) if last == Some(row) => *end = self.latents.len(),
                _ => self.tokens.push((number, self.latents.len())),
            }
            last = Some(row);
        });
        while self.latents.len() > self.most {
            self.halve();
        }
    }

    /// Lets go of the tokens that drew the upper half of the numbers.
    fn halve(&mut self) {
        self.limit /= 2;
        let (tokens, latents) =
            (std::mem::take(&mut self.tokens), std::mem::take(&mut self.latents));
        let mut start = 0;
        for (number, end) in tokens {
            if number <= self.limit {
                self.latents.extend(&latents[start..end]);
                self.tokens.push((number, self.latents.len()));
            }
            start = end;
        }
    }

    /// Whether row `row`, if any latent fires on it, is kept.
    pub fn keeps(&self, row: u32) -> bool {
        draw(self.seed, row) <= self.limit
    }

    fn latents_of(&self, token: usize) -> &[u32] {
        let start = if token == 0 { 0 } else { self.tokens[token - 1].1 };
        &self.latents[start..self.tokens[token].1]
    }

    /// For each of `d_sae` latents the `n` that most often fire with it, by Jaccard's index; of
    /// equals, the lower latent first. `stop` is asked every few milliseconds whether to leave the
    /// rest empty.
    pub fn most_alike(
        &self,
        d_sae: usize,
        n: usize,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Vec<Vec<Cofiring>> {
        let mut tokens_of: Vec<Vec<u32>> = vec![Vec::new(); d_sae];
        for token in 0..self.tokens.len() {
            self.latents_of(token)
                .iter()
                .for_each(|&latent| tokens_of[latent as usize].push(token as u32));
        }
        let of = |counts: &mut Vec<u32>, latent: usize| {
            if n == 0 || stop() {
                return Vec::new();
            }
            let mut seen: Vec<u32> = Vec::new();
            for &token in &tokens_of[latent] {
                for &other in self.latents_of(token as usize) {
                    if counts[other as usize] == 0 {
                        seen.push(other);
                    }
                    counts[other as usize] += 1;
                }
            }
            let mut found: Vec<Cofiring> = Vec::with_capacity(seen.len());
            for other in seen {
                let both = std::mem::take(&mut counts[other as usize]);
                if other as usize != latent {
                    let either =
                        tokens_of[latent].len() + tokens_of[other as usize].len() - both as usize;
                    found.push(Cofiring {
                        latent: other,
                        jaccard: both as f32 / either as f32,
                        tokens: both,
                    });
                }
            }
            found.sort_unstable_by(|a, b| {
                b.jaccard.total_cmp(&a.jaccard).then(a.latent.cmp(&b.latent))
            });
            found.truncate(n);
            found
        };
        (0..d_sae).into_par_iter().map_init(|| vec![0; d_sae], of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sae::{Sae, SaeConfig};

    fn codes(n: usize) -> Codes {
        let sae = Sae::new(SaeConfig { expansion: 3, k: 5, ..SaeConfig::new(8, 10) }).unwrap();
        sae.encode(
            &(0..n * 8)
                .map(|i| (i as f32 * 0.37).sin() * ((i / 8) as f32 * 0.11).cos())
                .collect::<Vec<_>>(),
        )
        .unwrap()
    }

    #[test]
    fn a_sample_is_the_tokens_that_drew_the_lowest_numbers() {
        let (codes, n_ctx) = (codes(400), 20);
        let mut all = Together::new(1);
        all.add(&codes, n_ctx, 0);
        assert!(all.tokens.len() == 380 && (0..400).all(|row| all.keeps(row)));
        let mut few = Together { most: 300, ..Together::new(1) };
        few.add(&codes, n_ctx, 0);
        assert!(few.latents.len() <= 300 && few.latents.len() > 50);
        assert_eq!(
            few.tokens.len(),
            (0..400).filter(|row| row % 20 != 0 && few.keeps(*row)).count()
        );
        let lowest: Vec<u64> =
            all.tokens.iter().map(|token| token.0).filter(|number| *number <= few.limit).collect();
        assert_eq!(few.tokens.iter().map(|token| token.0).collect::<Vec<_>>(), lowest);
        for (i, token) in few.tokens.iter().enumerate() {
            let at = all.tokens.iter().position(|other| other.0 == token.0).unwrap();
            assert_eq!(few.latents_of(i), all.latents_of(at));
        }
    }

    #[test]
    fn it_is_jaccards_index_of_every_pair() {
        let (codes, n_ctx, d_sae) = (codes(400), 20, 24);
        let mut fires = vec![vec![false; d_sae]; 400];
        each_firing(&codes, n_ctx, |latent, row, _| fires[row][latent] = true);
        let mut together = Together::new(0);
        together.add(&codes, n_ctx, 0);
        let found = together.most_alike(d_sae, 6, &|| false);
        for (latent, found) in found.iter().enumerate() {
            let mut want: Vec<(f32, u32, u32)> = Vec::new();
            for other in (0..d_sae).filter(|other| *other != latent) {
                let both = fires.iter().filter(|row| row[latent] && row[other]).count();
                let either = fires.iter().filter(|row| row[latent] || row[other]).count();
                if both > 0 {
                    want.push((both as f32 / either as f32, other as u32, both as u32));
                }
            }
            want.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            want.truncate(6);
            let got: Vec<_> =
                found.iter().map(|one| (one.jaccard, one.latent, one.tokens)).collect();
            assert_eq!(got, want, "latent {latent}");
        }
    }
}
