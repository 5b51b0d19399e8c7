//! Token means that rare tokens borrow from the model: what a table is best made of.
//!
//! The mean of a token that was seen n times is off by the noise of n rows; of one that was never
//! seen there is none, and in a vocabulary of 50,000 those are half of all for a store of a million
//! tokens. But the model itself says what it makes of any token, after BOS alone
//! ([`Lookup::unigram`]). So a mean is drawn towards that row, which counts as κ rows (empirical Bayes):
//!
//! ```text
//! T[t] = (n·mean[t] + κ·(bos[t] + shift)) / (n + κ),   κ = σ²/τ²
//! ```
//!
//! with the shift the mean over tokens of mean[t] − bos[t], σ² the variance of rows about the mean of
//! their token, and τ² that of true means about what they are drawn to. Both are means over tokens,
//! each of which counts the same: it is the rare ones for which κ matters. τ² is what ‖mean[t] − bos[t]
//! − shift‖² has over the noise σ²/n. In SmolLM2, at `blocks.2.hook_resid_pre` with half of 600,000
//! tokens for the means, κ is 0.4, which is also where the error on the other half is least; the NMSE
//! of the table alone is then 0.11 on tokens that were not seen, 0.055 on those seen once, and 0.059 on
//! all, in place of 0.63, 0.063 and 0.074.

use super::ActivationStore;
use super::means::ByKey;
use crate::base::error::{Error, Result};
use crate::model::{HookPoint, Model};
use crate::sae::{Lookup, SaeConfig, Start};

/// Within a store, the folder of tables that take a while.
const TABLES: &str = "tables";

impl ActivationStore {
    /// [`Lookup::unigram`] of the store's model, kept beside the activations. A store that cannot be
    /// written to, or that another process makes the table in, is no reason not to make it.
    pub(crate) fn unigram(&self, model: &Model, hook: HookPoint) -> Result<Lookup> {
        match Lookup::unigram_in(model, hook, self.dir().join(TABLES)) {
            Err(Error::Io { .. } | Error::Locked { .. }) => Lookup::unigram(model, hook),
            made => made,
        }
    }
}

impl Lookup {
    /// A table whose row `t` starts at the mean activation of `hook` on token `t`, drawn towards what
    /// the hook holds after `[BOS, t]` the more the rarer the token is: [`means`](Lookup::means)
    /// and [`unigram`](Lookup::unigram) in one (empirical Bayes; the source has the formula). Rows of
    /// attention sinks are [left out](Lookup::without_outliers).
    ///
    /// # Errors
    /// As [`Lookup::means`] and [`Lookup::unigram`]; [`Error::Changed`] if the activations are not the
    /// model's.
    pub fn shrunk_means(model: &Model, acts: &ActivationStore, hook: HookPoint) -> Result<Lookup> {
        acts.check_model(model, "give the model that the activations came from")?;
        let towards = acts.unigram(model, hook)?.without_outliers();
        let by_token = ByKey::of(acts, hook, acts.tokens()?.ids(), acts.d_vocab())?;
        let lookup = Lookup::from_table(shrunk(by_token, towards.table()), acts.d_model())?;
        Ok(lookup.started(Start::ShrunkMeans(hook, acts.fingerprint().to_owned())))
    }
}

impl SaeConfig {
    /// What has worked best: the authors' settings, with a table of [shrunk
    /// means](Lookup::shrunk_means) of `hook` that is [subtracted in
    /// full](Lookup::subtracted_in_full), so that the latents get just what the token does not say.
    ///
    /// The authors' own recipe is [`for_model`](SaeConfig::for_model) with [`Lookup::unigram`]. Notebooks
    /// 6 and 9 have both.
    ///
    /// Its learning rate is the lower the longer it trains: on the built-in models 3e-3 is good for some
    /// 400,000 tokens; after 20 million in SmolLM2 1.5e-3 left 0.3 to 0.7 % of the latents dead, and 3e-3
    /// 7 to 13 %, with 1 to 4 % more NMSE.
    ///
    /// ```no_run
    /// # use tokenized_sae::prelude::*;
    /// # let model = Model::load("tiny-gpt2")?;
    /// # let acts = ActivationStore::open("cache")?;
    /// # let hook = HookPoint::resid_pre(2);
    /// let tsae = SaeConfig { k: 16, ..SaeConfig::recommended(&model, &acts, hook)? };
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Lookup::shrunk_means`].
    pub fn recommended(
        model: &Model,
        acts: &ActivationStore,
        hook: HookPoint,
    ) -> Result<SaeConfig> {
        let table = Lookup::shrunk_means(model, acts, hook)?.subtracted_in_full();
        Ok(SaeConfig::for_model(model).with_lookup(table))
    }
}

/// Means `[n, d]`, drawn towards the rows of `towards` `[n, d]`.
fn shrunk(ByKey { mut means, counts, squares }: ByKey, towards: &[f32]) -> Vec<f32> {
    let d = (means.len() / counts.len().max(1)).max(1);
    let seen = counts.iter().filter(|&&n| n > 0).count().max(1) as f64;
    let mut shift = vec![0.0f64; d];
    let rows = || means.chunks_exact(d).zip(towards.chunks_exact(d)).zip(&counts);
    for ((mean, towards), _) in rows().filter(|(_, n)| **n > 0) {
        for ((shift, &mean), &towards) in shift.iter_mut().zip(mean).zip(towards) {
            *shift += (f64::from(mean) - f64::from(towards)) / seen;
        }
    }
    let (mut noise, mut repeated, mut apart, mut once_over) = (0.0, 0.0, 0.0, 0.0);
    for (((mean, towards), &n), &squares) in rows().zip(&squares).filter(|((_, n), _)| **n > 0) {
        let n = n as f64;
        let of_mean: f64 = mean.iter().map(|&x| f64::from(x).powi(2)).sum();
        if n > 1.0 {
            noise += (squares - n * of_mean).max(0.0) / (n - 1.0);
            repeated += 1.0;
        }
        let off = mean.iter().zip(towards).zip(&shift);
        apart += off.map(|((m, t), s)| (f64::from(*m) - f64::from(*t) - s).powi(2)).sum::<f64>();
        once_over += 1.0 / n;
    }
    let noise = if repeated > 0.0 { noise / repeated } else { f64::INFINITY };
    let spread = (apart - noise * once_over) / seen;
    // Where nothing is seen of the tokens beyond noise, what they are drawn to stands for them.
    let kappa = if spread > 0.0 { noise / spread } else { f64::INFINITY };
    for ((mean, towards), &n) in means.chunks_exact_mut(d).zip(towards.chunks_exact(d)).zip(&counts)
    {
        let own = if n == 0 { 0.0 } else { n as f64 / (n as f64 + kappa) };
        for ((mean, &towards), &shift) in mean.iter_mut().zip(towards).zip(&shift) {
            let drawn = (1.0 - own) * (f64::from(towards) + shift);
            *mean = (own * f64::from(*mean) + drawn) as f32;
        }
    }
    means
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use rand_distr::StandardNormal;

    use super::*;

    /// Tokens whose true means lie about known rows, seen a few times each with known noise: what is
    /// drawn lies nearer to the truth than what it is made of, and at κ = σ²/τ².
    #[test]
    fn means_are_drawn_by_noise_over_spread() {
        let (n, d, sigma, tau) = (4000, 8, 1.5f64, 0.5f64);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut normal = |size: f64| size * rng.sample::<f64, _>(StandardNormal);
        let towards: Vec<f32> = (0..n * d).map(|_| normal(3.0) as f32).collect();
        let shift: Vec<f64> = (0..d).map(|_| normal(2.0)).collect();
        let truth: Vec<f64> =
            (0..n * d).map(|i| f64::from(towards[i]) + shift[i % d] + normal(tau)).collect();
        let counts: Vec<u64> = (0..n as u64).map(|i| i % 7).collect();
        let (mut means, mut squares) = (vec![0.0f32; n * d], vec![0.0; n]);
        for token in 0..n {
            let mut sum = vec![0.0; d];
            for _ in 0..counts[token] {
                for (i, sum) in sum.iter_mut().enumerate() {
                    let x = truth[token * d + i] + normal(sigma);
                    *sum += x;
                    squares[token] += x * x;
                }
            }
            for (i, sum) in sum.iter().enumerate() {
                means[token * d + i] = (sum / counts[token].max(1) as f64) as f32;
            }
        }
        let error = |of: &[f32], on: u64| -> f64 {
            let rows = (0..n).filter(|&token| counts[token] == on);
            let off = rows.flat_map(|token| token * d..(token + 1) * d);
            off.map(|at| (f64::from(of[at]) - truth[at]).powi(2)).sum::<f64>()
        };
        let drawn =
            shrunk(ByKey { means: means.clone(), counts: counts.clone(), squares }, &towards);
        // What is expected at κ = σ²/τ² = 9, where an error is σ²τ²/(σ² + nτ²) a number.
        for seen in 0..7 {
            let numbers = (counts.iter().filter(|&&n| n == seen).count() * d) as f64;
            let best = (sigma * tau).powi(2) / (sigma.powi(2) + seen as f64 * tau.powi(2));
            let got = error(&drawn, seen) / numbers;
            assert!((got / best - 1.0).abs() < 0.1, "seen {seen} times: {got}, at best {best}");
            assert!(error(&drawn, seen) < error(&means, seen));
        }
    }

    #[test]
    fn where_the_token_decides_all_means_stay_and_where_nothing_is_known_they_go() {
        let towards = [5.0f32, 6.0, 7.0];
        // No noise: two tokens, each the same whenever it is seen; a third was never.
        let by_token = ByKey {
            means: vec![1.0, 3.0, 0.0],
            counts: vec![2, 3, 0],
            squares: vec![2.0, 27.0, 0.0],
        };
        assert_eq!(shrunk(by_token, &towards), [1.0, 3.0, 3.5]); // −3.5 is the mean shift
        // Each once: nothing tells noise from spread.
        let by_token = ByKey {
            means: vec![1.0, 3.0, 0.0],
            counts: vec![1, 1, 0],
            squares: vec![1.0, 9.0, 0.0],
        };
        assert_eq!(shrunk(by_token, &towards), [1.5, 2.5, 3.5]);
    }
}
