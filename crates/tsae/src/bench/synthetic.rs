//! Activations that nobody harvested, and weights that nobody trained, with the shape of real ones.

use std::io::{self, Write};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp, StandardNormal, Zipf};
use rayon::prelude::*;
use serde_json::json;

use super::{ModelShape, Weights};
use tokenized_sae::internal::add_scaled;

/// How many features add up to a row.
const ACTIVE: usize = 40;

/// Rows of which every one belongs to a token.
pub struct Synthetic {
    /// `[n, d]`
    pub x: Vec<f32>,
    /// `[n]`
    pub tokens: Vec<u32>,
}

impl Synthetic {
    /// `n` rows: a mean, a direction of the token (tokens fall off as Zipf's law with exponent 1.15
    /// has it), 40 of `n_features` directions with exponentially distributed strengths, and noise.
    pub fn new(n: usize, d: usize, d_vocab: usize, n_features: usize, seed: u64) -> Synthetic {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut normals = |count: usize, scale: f32| -> Vec<f32> {
            (0..count).map(|_| scale * rng.sample::<f32, _>(StandardNormal)).collect()
        };
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
            let (Some(token), Some(feature), Some(strength)) = (token, feature, strength) else {
                return;
            };
            *id = token.sample(&mut rng) as u32 - 1;
            x.copy_from_slice(&mean);
            add_scaled(x, 1.0, &of_token[*id as usize * d..][..d]);
            for _ in 0..ACTIVE {
                let i = feature.sample(&mut rng) as usize - 1;
                add_scaled(x, strength.sample(&mut rng), &features[i * d..][..d]);
            }
            x.iter_mut().for_each(|x| *x += 0.15 * rng.sample::<f32, _>(StandardNormal));
        });
        Synthetic { x, tokens }
    }
}

/// Writes a checkpoint of this shape as the hub has it, in safetensors: numbers of the size that
/// they have when training begins, gains of 1.
pub fn checkpoint(shape: ModelShape, weights: Weights, out: &mut dyn Write) -> io::Result<()> {
    let width = if weights == Weights::F32 { 4 } else { 2 };
    let tensors = shape.tensors();
    let mut entries = serde_json::Map::new();
    let mut end = 0;
    for (name, shape) in &tensors {
        let from = end;
        end += width * shape.iter().product::<usize>();
        entries.insert(
            name.clone(),
            json!({ "dtype": weights.name(), "shape": shape, "data_offsets": [from, end] }),
        );
    }
    let mut header = serde_json::to_vec(&entries)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    for (index, (name, shape)) in tensors.iter().enumerate() {
        let is_gain = shape.len() == 1 && name.ends_with("weight");
        let n: usize = shape.iter().product();
        for from in (0..n).step_by(PIECE) {
            let numbers: Vec<f32> = (0..PIECE.min(n - from))
                .into_par_iter()
                .map(|i| if is_gain { 1.0 } else { noise(index, from + i) })
                .collect();
            let halves =
                |round: fn(f32) -> u16| numbers.iter().map(|x| round(*x)).collect::<Vec<u16>>();
            match weights {
                Weights::F32 => out.write_all(bytemuck::cast_slice(&numbers))?,
                Weights::F16 => out.write_all(bytemuck::cast_slice(&halves(|x| {
                    half::f16::from_f32(x).to_bits()
                })))?,
                Weights::Bf16 => out.write_all(bytemuck::cast_slice(&halves(|x| {
                    half::bf16::from_f32(x).to_bits()
                })))?,
            }
        }
    }
    Ok(())
}

/// Numbers written at a time.
const PIECE: usize = 1 << 20;

/// A number between −0.035 and 0.035, the same for the same place: of standard deviation 0.02.
fn noise(tensor: usize, at: usize) -> f32 {
    // SplitMix64.
    let mut z = (((tensor as u64) << 40) + at as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0) * 0.035
}
