//! Which tokens a latent's row of `W_dec` points at: those whose logits it raises and lowers, and
//! those whose embeddings and table rows it resembles.

use gemm::Parallelism;
use rayon::prelude::*;

use serde::Serialize;

use super::feature::check_latent;
use crate::base::error::Result;
use crate::cpu::matmul::portable::{Matrix, matmul};
use crate::cpu::simd::dot;
use crate::model::Model;
use crate::model::tensor::with_f32;
use crate::sae::Sae;
use candle_core::{Device, Tensor};

/// A token and how it scores.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TokenScore {
    /// Its id.
    pub id: u32,
    /// Its text, as [`Model::token_str`] has it.
    pub token: String,
    /// The score.
    pub score: f32,
}

/// What a latent's row of `W_dec` points at; the first of each list is the most extreme, of equals
/// the lower id first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Directions {
    /// The length of the row: an activation of 1 writes a vector of this length.
    pub length: f64,
    /// Tokens whose logits it raises most by the direct path, with the
    /// [effects](Model::logit_effects) of an activation of 1.
    pub raised: Vec<TokenScore>,
    /// Tokens whose logits it lowers most.
    pub lowered: Vec<TokenScore>,
    /// Tokens whose embeddings have the greatest cosine with it.
    pub embedding: Vec<TokenScore>,
    /// Tokens whose rows of `W_lookup` have the greatest cosine with it; empty without a token
    /// table.
    pub table: Vec<TokenScore>,
}

/// The same for one latent, the tokens by their ids.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scores {
    pub raised: Vec<(u32, f32)>,
    pub lowered: Vec<(u32, f32)>,
    pub embedding: Vec<(u32, f32)>,
    pub table: Vec<(u32, f32)>,
}

/// Scores directions against the tokens of a model and the table of an SAE.
pub(super) struct Scorer {
    /// `1 / ‖W_E[t]‖`
    embedding: Vec<f32>,
    /// `1 / ‖W_lookup[t]‖`
    table: Vec<f32>,
}

/// The rows of an SAE's table, if it has one row for each token of the model.
fn token_table<'a>(model: &Model, sae: &'a Sae) -> Option<&'a [f32]> {
    sae.lookup.as_deref().filter(|table| table.len() == model.config().d_vocab * sae.d_model())
}

impl Scorer {
    pub fn new(model: &Model, sae: &Sae) -> Result<Scorer> {
        let d = sae.d_model();
        let embedding = with_f32(model.embedding(), |rows| inverse_lengths(rows, d))?;
        Ok(Scorer {
            embedding,
            table: token_table(model, sae).map(|rows| inverse_lengths(rows, d)).unwrap_or_default(),
        })
    }

    /// The `n` most extreme tokens in each respect, of some latents.
    pub fn scores(
        &self,
        model: &Model,
        sae: &Sae,
        latents: &[usize],
        n: usize,
    ) -> Result<Vec<Scores>> {
        let d = sae.d_model();
        latents.iter().try_for_each(|&latent| check_latent(latent, sae.d_sae()))?;
        let rows: Vec<f32> =
            latents.iter().flat_map(|&latent| &sae.w_dec[latent * d..][..d]).copied().collect(); // [latents, d_model]
        let effects =
            model.logit_effects(&Tensor::from_slice(&rows, (latents.len(), d), &Device::Cpu)?)?;
        let effects = with_f32(&effects, <[f32]>::to_vec)?; // [latents, d_vocab]
        let embedding =
            with_f32(model.embedding(), |matrix| cosines(&rows, matrix, &self.embedding, d))?;
        let table = token_table(model, sae)
            .map(|matrix| cosines(&rows, matrix, &self.table, d))
            .unwrap_or_default();
        let of = |scores: &[f32], i: usize, sign: f32| {
            let d_vocab = scores.len() / latents.len();
            extremes(&scores[i * d_vocab..][..d_vocab], sign, n)
        };
        let one = |i: usize| Scores {
            raised: of(&effects, i, 1.0),
            lowered: of(&effects, i, -1.0),
            embedding: of(&embedding, i, 1.0),
            table: of(&table, i, 1.0),
        };
        Ok((0..latents.len()).into_par_iter().map(one).collect())
    }

    /// What one latent points at, with the texts of the tokens.
    pub fn directions(
        &self,
        model: &Model,
        sae: &Sae,
        latent: usize,
        n: usize,
    ) -> Result<Directions> {
        let scores = self.scores(model, sae, &[latent], n)?.swap_remove(0);
        let named = |scores: Vec<(u32, f32)>| {
            scores
                .into_iter()
                .map(|(id, score)| TokenScore { id, token: model.token_str(id), score })
                .collect::<Vec<_>>()
        };
        let d = sae.d_model();
        Ok(Directions {
            length: f64::from(length(&sae.w_dec[latent * d..][..d])),
            raised: named(scores.raised),
            lowered: named(scores.lowered),
            embedding: named(scores.embedding),
            table: named(scores.table),
        })
    }
}

fn length(row: &[f32]) -> f32 {
    dot(row, row).sqrt()
}

fn inverse(length: f32) -> f32 {
    if length > 0.0 { 1.0 / length } else { 0.0 }
}

fn inverse_lengths(rows: &[f32], d: usize) -> Vec<f32> {
    rows.par_chunks_exact(d).map(|row| inverse(length(row))).collect()
}

/// The cosines of `rows` `[n, d]` with the rows of `matrix` `[v, d]`, whose inverse lengths are
/// `inverses` `[v]`: `[n, v]`. A row of zeros has cosine 0 with all.
fn cosines(rows: &[f32], matrix: &[f32], inverses: &[f32], d: usize) -> Vec<f32> {
    let (n, v) = (rows.len() / d, matrix.len() / d);
    let of = |data, rows| Matrix { data, rows, cols: d, row_stride: d, col_stride: 1 };
    let mut cosines = vec![0.0; n * v];
    matmul(&mut cosines, v, of(rows, n), of(matrix, v).transposed(), 1.0, Parallelism::Rayon(0));
    cosines.par_chunks_exact_mut(v).zip(rows.par_chunks_exact(d)).for_each(|(cosines, row)| {
        let inverse = inverse(length(row));
        cosines.iter_mut().zip(inverses).for_each(|(cosine, other)| *cosine *= inverse * other);
    });
    cosines
}

/// The `n` places with the greatest `sign · score`, the greatest first; of equals, the lower place
/// first.
pub(super) fn extremes(scores: &[f32], sign: f32, n: usize) -> Vec<(u32, f32)> {
    let mut best: Vec<(u32, f32)> = Vec::with_capacity(n + 1);
    for (place, &score) in scores.iter().enumerate() {
        if best.len() == n && best.last().is_none_or(|last| sign * score <= sign * last.1) {
            continue;
        }
        let at = best.partition_point(|one| sign * one.1 >= sign * score);
        best.insert(at, (place as u32, score));
        best.truncate(n);
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extremes_are_those_of_a_sort() {
        let scores: Vec<f32> = (0..500).map(|i| ((i * 37) % 101) as f32 - 50.0).collect();
        for sign in [1.0, -1.0] {
            let mut order: Vec<u32> = (0..500).collect();
            order.sort_by(|&a, &b| {
                (sign * scores[b as usize]).total_cmp(&(sign * scores[a as usize]))
            });
            for n in [0, 1, 7, 600] {
                let want: Vec<_> = order.iter().take(n).map(|&i| (i, scores[i as usize])).collect();
                assert_eq!(extremes(&scores, sign, n), want);
            }
        }
    }

    #[test]
    fn cosines_are_those_of_f64() {
        let (n, v, d) = (3, 40, 17);
        let numbers =
            |n: usize, seed: f32| (0..n * d).map(|i| (i as f32 * seed).sin()).collect::<Vec<f32>>();
        let (rows, mut matrix) = (numbers(n, 0.7), numbers(v, 1.3));
        matrix[5 * d..6 * d].fill(0.0);
        let got = cosines(&rows, &matrix, &inverse_lengths(&matrix, d), d);
        let dot = |a: &[f32], b: &[f32]| {
            a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
        };
        for i in 0..n {
            for j in (0..v).filter(|j| *j != 5) {
                let (a, b) = (&rows[i * d..][..d], &matrix[j * d..][..d]);
                let want = dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
                assert!((f64::from(got[i * v + j]) - want).abs() < 1e-6);
            }
            assert_eq!(got[i * v + 5], 0.0);
        }
    }
}
