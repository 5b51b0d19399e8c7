//! Activations that nobody harvested, with the shape of real ones.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp, StandardNormal, Zipf};
use rayon::prelude::*;

use crate::simd::add_scaled;

/// How many features add up to a row.
const ACTIVE: usize = 40;

/// Rows of which every one belongs to a token.
pub struct MadeUp {
    /// `[n, d]`
    pub x: Vec<f32>,
    /// `[n]`
    pub tokens: Vec<u32>,
}

impl MadeUp {
    /// `n` rows: a mean, a direction of the token (tokens fall off as Zipf's law with exponent 1.15 has it), 40 of `n_features` directions with
    /// exponentially distributed strengths, and noise.
    pub fn new(n: usize, d: usize, d_vocab: usize, n_features: usize, seed: u64) -> MadeUp {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut normals =
            |count: usize, scale: f32| -> Vec<f32> { (0..count).map(|_| scale * rng.sample::<f32, _>(StandardNormal)).collect() };
        let mean = normals(d, 1.0);
        let of_token = normals(d_vocab * d, 0.5);
        let features = normals(n_features * d, 1.0 / (d as f32).sqrt());
        let token = Zipf::new(d_vocab as f64, 1.15).ok();
        let feature = Zipf::new(n_features as f64, 0.7).ok();
        let strength = Exp::new(0.25f32).ok();
        let mut x = vec![0.0; n * d];
        let mut tokens = vec![0; n];
        x.par_chunks_exact_mut(d).zip(&mut tokens).enumerate().for_each(|(row, (x, id))| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x5eed);
            rng.set_stream(row as u64);
            let (Some(token), Some(feature), Some(strength)) = (token, feature, strength) else { return };
            *id = token.sample(&mut rng) as u32 - 1;
            x.copy_from_slice(&mean);
            add_scaled(x, 1.0, &of_token[*id as usize * d..][..d]);
            for _ in 0..ACTIVE {
                let i = feature.sample(&mut rng) as usize - 1;
                add_scaled(x, strength.sample(&mut rng), &features[i * d..][..d]);
            }
            x.iter_mut().for_each(|x| *x += 0.15 * rng.sample::<f32, _>(StandardNormal));
        });
        MadeUp { x, tokens }
    }
}
