//! A control: a linear map of the token's embedding in the place of a table.
//!
//! A table has a row of its own for every token. How much of it is only a linear function of the
//! embedding, which a map of low rank could as well carry past the latents? (Such a bypass is the
//! table's rival in [arXiv 2606.14040](https://arxiv.org/abs/2606.14040), there trained with the SAE.)
//! Here it is the best such map there is, by least squares over the store:
//!
//! ```text
//! T[t] = m̄ + (e[t] − ē) B V Vᵀ,   B = argmin Σₙ ‖xₙ − m̄ − (e[tₙ] − ē) B‖²
//! ```
//!
//! with the columns of V the r leading directions of what B predicts (reduced-rank regression, which
//! of all maps of rank r leaves the least). For squared errors it is enough to know each token's mean
//! and number. A ridge of a millionth of the mean variance keeps embeddings that do not span the space
//! from being inverted.

use rayon::prelude::*;

use super::ActivationStore;
use super::means::ByKey;
use crate::base::error::{Error, Result};
use crate::cpu::linear::{Factor, inner, leading};
use crate::model::tensor::with_f32;
use crate::model::{HookPoint, Model};
use crate::sae::Lookup;

/// The ridge, in units of the mean variance of a coordinate of the embeddings.
const RIDGE: f64 = 1e-6;

/// Rounds in which the directions are found.
const ROUNDS: usize = 300;

/// Tokens that are added to the covariances at a time.
const TOKENS: usize = 1024;

impl Lookup {
    /// A control: a table of rank at most `rank` about its mean, whose rows are a linear map of the
    /// tokens' embeddings, the one that best predicts `hook` over the whole store. It is
    /// [frozen](Lookup::frozen), since training would move its rows one by one.
    ///
    /// # Errors
    /// As [`Lookup::means`]; [`Error::Config`] if `rank` is 0 or above `d_model`; [`Error::Changed`]
    /// if the activations are not the model's.
    pub fn bypass(
        model: &Model,
        acts: &ActivationStore,
        hook: HookPoint,
        rank: usize,
    ) -> Result<Lookup> {
        let d = acts.d_model();
        if rank == 0 || rank > d {
            let why = format!("rank = {rank}; it must lie between 1 and the width, {d}");
            return Err(Error::config("rank", why));
        }
        acts.check_model(model, "give the model that the activations came from")?;
        let by_token = ByKey::of(acts, hook, acts.tokens()?.ids(), acts.d_vocab())?;
        let table = with_f32(model.embedding(), |embedding| fitted(&by_token, embedding, d, rank))?;
        Ok(Lookup::from_table(table, d)?.frozen())
    }
}

/// The table, from the tokens' means and their embeddings `[n, d]`.
fn fitted(by_token: &ByKey, embedding: &[f32], d: usize, rank: usize) -> Vec<f32> {
    let rows =
        || embedding.chunks_exact(d).zip(by_token.means.chunks_exact(d)).zip(&by_token.counts);
    let total: f64 = by_token.counts.iter().map(|&n| n as f64).sum();
    let (mut mean_e, mut mean_x) = (vec![0.0; d], vec![0.0; d]);
    for ((e, x), &n) in rows() {
        let share = n as f64 / total;
        mean_e.iter_mut().zip(e).for_each(|(sum, &e)| *sum += share * f64::from(e));
        mean_x.iter_mut().zip(x).for_each(|(sum, &x)| *sum += share * f64::from(x));
    }
    // Covariances of embeddings with themselves and with means, over the rows of the store.
    let (mut of_e, mut with_x) = (vec![0.0; d * d], vec![0.0; d * d]);
    let about = |row: &[f32], mean: &[f64]| -> Vec<f64> {
        row.iter().zip(mean).map(|(&x, mean)| f64::from(x) - mean).collect()
    };
    let seen: Vec<_> = rows().filter(|(_, n)| **n > 0).collect();
    for seen in seen.chunks(TOKENS) {
        let centred = seen
            .iter()
            .map(|((e, x), n)| (**n as f64 / total, about(e, &mean_e), about(x, &mean_x)));
        let centred: Vec<_> = centred.collect();
        let rows = of_e.par_chunks_mut(d).zip(with_x.par_chunks_mut(d)).enumerate();
        rows.for_each(|(i, (of_e, with_x))| {
            for (share, e, x) in &centred {
                let scale = share * e[i];
                of_e.iter_mut().zip(e).for_each(|(sum, ej)| *sum += scale * ej);
                with_x.iter_mut().zip(x).for_each(|(sum, xj)| *sum += scale * xj);
            }
        });
    }
    let variance = (0..d).map(|i| of_e[i * d + i]).sum::<f64>() / d as f64;
    (0..d).for_each(|i| of_e[i * d + i] += RIDGE * variance);
    // Column by column, which of a matrix that lies by rows is a walk; it is a small one.
    let factor = Factor::of(of_e, d);
    let columns: Vec<Vec<f64>> = (0..d)
        .into_par_iter()
        .map(|j| factor.solve(&with_x.iter().skip(j).step_by(d).copied().collect::<Vec<_>>()))
        .collect();
    let map: Vec<f64> = (0..d * d).map(|at| columns[at % d][at / d]).collect();
    // The covariance of what the map predicts, Bᵀ Cov(e) B = Bᵀ Cov(e, x), symmetric but for rounding.
    let mut predicted = vec![0.0; d * d];
    for (b, c) in map.chunks_exact(d).zip(with_x.chunks_exact(d)) {
        for (i, bi) in b.iter().enumerate() {
            let row = &mut predicted[i * d..][..d];
            row.iter_mut().zip(c).for_each(|(sum, cj)| *sum += bi * cj);
        }
    }
    let basis = leading(&predicted, d, rank, ROUNDS);
    // B V `[rank, d]`: what of the embedding goes along each direction.
    let mut reads = vec![0.0; rank * d];
    for (reads, direction) in reads.chunks_exact_mut(d).zip(basis.chunks_exact(d)) {
        reads.iter_mut().zip(map.chunks_exact(d)).for_each(|(to, b)| *to = inner(b, direction));
    }
    let mut table = Vec::with_capacity(embedding.len());
    for e in embedding.chunks_exact(d) {
        let e = about(e, &mean_e);
        let mut row = mean_x.clone();
        for (reads, direction) in reads.chunks_exact(d).zip(basis.chunks_exact(d)) {
            let along = inner(&e, reads);
            row.iter_mut().zip(direction).for_each(|(x, v)| *x += along * v);
        }
        table.extend(row.into_iter().map(|x| x as f32));
    }
    table
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use rand_distr::StandardNormal;

    use super::*;

    const D: usize = 6;

    fn normals(n: usize, seed: u64) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..n).map(|_| rng.sample(StandardNormal)).collect()
    }

    /// Tokens whose means are a map of rank 2 of their embeddings, and something else.
    fn tokens(noise: f64) -> (ByKey, Vec<f32>, Vec<f64>) {
        let n = 80;
        let (e, left, right) = (normals(n * D, 1), normals(D * 2, 2), normals(2 * D, 3));
        let mut x = normals(n * D, 4);
        for (x, e) in x.chunks_exact_mut(D).zip(e.chunks_exact(D)) {
            x.iter_mut().for_each(|x| *x = 7.0 + noise * *x);
            for r in 0..2 {
                let along: f64 = (0..D).map(|i| e[i] * left[i * 2 + r]).sum();
                (0..D).for_each(|j| x[j] += along * right[r * D + j]);
            }
        }
        let counts = (0..n as u64).map(|i| i % 5).collect();
        let means = x.iter().map(|&x| x as f32).collect();
        let by_token = ByKey { means, counts, squares: vec![0.0; n] };
        (by_token, e.iter().map(|&e| e as f32).collect(), x)
    }

    fn error(table: &[f32], x: &[f64], counts: &[u64]) -> f64 {
        let rows = table.chunks_exact(D).zip(x.chunks_exact(D)).zip(counts);
        rows.map(|((t, x), &n)| {
            n as f64 * t.iter().zip(x).map(|(&t, x)| (f64::from(t) - x).powi(2)).sum::<f64>()
        })
        .sum()
    }

    #[test]
    fn a_map_of_the_embedding_is_found_for_tokens_never_seen_too() {
        let (by_token, embedding, x) = tokens(0.0);
        let table = fitted(&by_token, &embedding, D, 2);
        let off = table.iter().zip(&x).map(|(&t, x)| (f64::from(t) - x).abs()).fold(0.0, f64::max);
        assert!(off < 1e-3, "{off}");
    }

    #[test]
    fn of_all_maps_of_a_rank_it_leaves_the_least() {
        let (by_token, embedding, x) = tokens(0.5);
        let errors: Vec<f64> = (1..=D)
            .map(|rank| error(&fitted(&by_token, &embedding, D, rank), &x, &by_token.counts))
            .collect();
        assert!(errors.is_sorted_by(|a, b| a >= b), "{errors:?}");
        // At full rank it is least squares: what is left has nothing in common with the embedding.
        let table = fitted(&by_token, &embedding, D, D);
        let rows = || table.chunks_exact(D).zip(x.chunks_exact(D)).zip(embedding.chunks_exact(D));
        for i in 0..D {
            for j in 0..D {
                let common: f64 = rows()
                    .zip(&by_token.counts)
                    .map(|(((t, x), e), &n)| n as f64 * (f64::from(t[j]) - x[j]) * f64::from(e[i]))
                    .sum();
                assert!(common.abs() < 1e-2, "{common}");
            }
        }
        // Any other direction in the place of the last leaves more: by a small turn of the table's rows.
        let two = fitted(&by_token, &embedding, D, 2);
        let best = error(&two, &x, &by_token.counts);
        let mean: Vec<f64> = (0..D)
            .map(|j| {
                let sum = |row: usize| by_token.counts[row] as f64 * f64::from(two[row * D + j]);
                (0..80).map(sum).sum::<f64>() / by_token.counts.iter().sum::<u64>() as f64
            })
            .collect();
        for (a, b) in [(0, 1), (2, 5), (3, 4)] {
            for turn in [-0.05f64, 0.05] {
                let mut turned = two.clone();
                for row in turned.chunks_exact_mut(D) {
                    let of = |i: usize| f64::from(row[i]) - mean[i];
                    let (p, q) = (of(a), of(b));
                    row[a] = (mean[a] + turn.cos() * p - turn.sin() * q) as f32;
                    row[b] = (mean[b] + turn.sin() * p + turn.cos() * q) as f32;
                }
                assert!(error(&turned, &x, &by_token.counts) > best);
            }
        }
    }
}
