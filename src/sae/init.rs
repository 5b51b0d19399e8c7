//! The authors' initialisation.

use std::f32::consts::TAU;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::{Architecture, Index, Lookup, Origin, RowNorm, Sae, SaeConfig};
use crate::base::error::Result;
use crate::cpu::memory;

impl Sae {
    /// An untrained SAE: rows of `W_dec` are random unit vectors, `W_enc = (1 − α)·W_dec`,
    /// `W_lookup = α·T`, biases 0. Where a penalty and no k decides how many latents are active,
    /// half of them are at first, and `W_enc = (1 − α)·2/expansion·W_dec`, so that `x̂` begins near
    /// `(1 − α)·x`: the sum of `w wᵀ` over a random half of the rows is about `expansion/2`. The
    /// thresholds of a JumpReLU SAE start as for activations of scale 1; the trainer takes the
    /// scale that it finds.
    ///
    /// A whole table (α = 1) that is subtracted leaves `W_enc = W_dec`, and so does an [aligned
    /// encoder](SaeConfig::aligned). Without a table α is 0. The same seed gives the same `W_dec` with and without a table.
    ///
    /// # Errors
    /// Those of [`SaeConfig::check`].
    pub fn new(config: SaeConfig) -> Result<Sae> {
        config.check()?;
        let (d_sae, d_model) = (config.d_sae(), config.d_model);
        let mut w_dec = normals(config.seed, d_sae * d_model);
        for row in w_dec.chunks_exact_mut(d_model) {
            let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt();
            row.iter_mut().for_each(|v| *v /= norm);
        }
        let balance = config.lookup.as_ref().map_or(0.0, |lookup| lookup.balance());
        let w_enc = of_encoder(&config, &w_dec);
        let scaled =
            |table: &[f32]| memory::collect(table.len(), table.iter().map(|v| v * balance));
        let lookup = config.lookup.as_ref().map(|lookup| scaled(lookup.table()));
        let index = config.lookup.as_ref().map_or(Index::Token, |lookup| lookup.index().clone());
        let subtract = config.lookup.as_ref().is_some_and(Lookup::is_subtracted);
        let threshold = match config.architecture {
            Architecture::JumpRelu { threshold, .. } => vec![threshold as f32; d_sae],
            Architecture::BatchTopK => vec![0.0],
            _ => Vec::new(),
        };
        let magnitude = if matches!(config.architecture, Architecture::Gated { .. }) {
            vec![0.0; d_sae]
        } else {
            Vec::new()
        };
        Ok(Sae {
            w_enc,
            b_enc: vec![0.0; d_sae],
            w_dec,
            b_dec: vec![0.0; d_model],
            threshold,
            r_mag: magnitude.clone(),
            b_mag: magnitude,
            lookup,
            index,
            subtract,
            row_norm: RowNorm::None,
            config,
            origin: Origin::default(),
        })
    }

    /// Starts over with rows of `W_dec` that are random unit vectors of the space that an
    /// orthonormal `basis` `[directions, d_model]` spans, and a `W_enc` that goes with them.
    pub(crate) fn start_in(&mut self, basis: &[f64]) {
        let d = self.d_model();
        let draws = normals(self.config.seed, self.d_sae() * (basis.len() / d));
        let rows = self.w_dec.par_chunks_mut(d).zip(draws.par_chunks(basis.len() / d));
        rows.for_each(|(row, draws)| {
            let mut sum = vec![0.0f64; d];
            for (&draw, direction) in draws.iter().zip(basis.chunks_exact(d)) {
                sum.iter_mut().zip(direction).for_each(|(sum, x)| *sum += f64::from(draw) * x);
            }
            let length = sum.iter().map(|x| x * x).sum::<f64>().sqrt();
            row.iter_mut().zip(sum).for_each(|(w, x)| *w = (x / length) as f32);
        });
        self.w_enc = of_encoder(&self.config, &self.w_dec);
    }
}

/// Rows of `W_enc` that go with those of `W_dec`.
fn of_encoder(config: &SaeConfig, w_dec: &[f32]) -> Vec<f32> {
    let share = match config.aligned {
        true => 1.0,
        false => config.lookup.as_ref().map_or(1.0, Lookup::share_of_encoder),
    };
    let share =
        share * if config.architecture.uses_k() { 1.0 } else { 2.0 / config.expansion as f32 };
    memory::collect(w_dec.len(), w_dec.iter().map(|v| v * share))
}

/// `n` standard normal numbers, by the Box–Muller transform of a ChaCha8 stream (which stays the
/// same over versions).
fn normals(seed: u64, n: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut out = memory::zeros(n);
    for pair in out.chunks_mut(2) {
        let radius = (-2.0 * (1.0 - rng.random::<f32>()).ln()).sqrt(); // 1 − [0, 1) is never 0
        let (sin, cos) = (TAU * rng.random::<f32>()).sin_cos();
        pair.iter_mut().zip([radius * cos, radius * sin]).for_each(|(out, value)| *out = value);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoder_rows_are_unit_and_the_balance_is_shared_out() {
        let config = SaeConfig { expansion: 4, k: 3, seed: 7, ..SaeConfig::new(16, 11) };
        let plain = Sae::new(config.clone()).unwrap();
        let table: Vec<f32> = (0..11 * 16).map(|i| i as f32).collect();
        let lookup = Lookup::from_table(table.clone(), 16).unwrap().with_balance(0.25).unwrap();
        let tokenized = Sae::new(config.with_lookup(lookup)).unwrap();

        for row in plain.w_dec.chunks(16) {
            assert!((row.iter().map(|v| v * v).sum::<f32>() - 1.0).abs() < 1e-5);
        }
        assert_eq!(plain.w_enc, plain.w_dec);
        assert_eq!(tokenized.w_dec, plain.w_dec);
        assert!(tokenized.w_enc.iter().zip(&plain.w_dec).all(|(e, d)| *e == d * 0.75));
        assert!(tokenized.lookup.unwrap().iter().zip(&table).all(|(w, t)| *w == t * 0.25));
        assert!(tokenized.b_enc.iter().chain(&tokenized.b_dec).all(|b| *b == 0.0));
    }

    #[test]
    fn a_whole_table_that_is_subtracted_leaves_the_rest_to_an_sae_of_its_own() {
        let config = SaeConfig { expansion: 4, k: 3, seed: 7, ..SaeConfig::new(16, 11) };
        let table = normals(2, 11 * 16);
        let lookup = Lookup::from_table(table.clone(), 16).unwrap();
        let plain = Sae::new(config.clone()).unwrap();
        let sae = Sae::new(config.with_lookup(lookup.subtracted_in_full())).unwrap();
        assert_eq!((&sae.w_enc, &sae.w_dec), (&plain.w_enc, &plain.w_dec));
        let (x, token) = (normals(3, 16), 4);
        let of_token = &table[token * 16..][..16];
        let left: Vec<f32> = x.iter().zip(of_token).map(|(x, t)| x - t).collect();
        let want = plain.reconstruct(&left, &[0]).unwrap();
        let got = sae.reconstruct(&x, &[token as u32]).unwrap();
        for ((got, want), t) in got.iter().zip(&want).zip(of_token) {
            assert!((got - (want + t)).abs() < 1e-5);
        }
    }

    #[test]
    fn a_penalised_sae_begins_near_what_it_is_to_reconstruct() {
        let config = SaeConfig { expansion: 32, seed: 1, ..SaeConfig::new(64, 11) };
        let x = normals(5, 64 * 200);
        for architecture in [
            Architecture::Relu { l1: 1.0 },
            Architecture::Gated { l1: 1.0 },
            Architecture::jump_relu(1.0),
        ] {
            let sae = Sae::new(config.clone().with_architecture(architecture)).unwrap();
            let x_hat = sae.reconstruct(&x, &[0; 200]).unwrap();
            let (dot, norm) = x
                .iter()
                .zip(&x_hat)
                .fold((0.0, 0.0), |(dot, norm), (x, y)| (dot + x * y, norm + x * x));
            assert!((dot / norm - 1.0).abs() < 0.2, "{}: {}", architecture.name(), dot / norm);
        }
    }

    #[test]
    fn normals_have_mean_0_and_variance_1() {
        let draws = normals(1, 100_001);
        assert_eq!(draws.len(), 100_001);
        let mean = draws.iter().sum::<f32>() / draws.len() as f32;
        let variance = draws.iter().map(|v| v * v).sum::<f32>() / draws.len() as f32;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03, "{mean} {variance}");
        assert_ne!(normals(1, 8), normals(2, 8));
    }
}
