//! Which feature a latent stands for.

use gemm::Parallelism;
use rayon::prelude::*;

use super::assignment::assign;
use crate::base::error::Result;
use crate::base::forecast;
use crate::cpu::matmul::portable::{Matrix, matmul};
use crate::cpu::simd::dot;

/// Partners of latents and features by the directions of their decoder rows.
pub struct Matching {
    /// Of each latent the feature whose direction is nearest, either way round.
    pub nearest: Vec<u32>,
    /// Pairs of a latent and a feature, none of either twice, with the greatest sum of |cosines|.
    pub pairs: Vec<Pair>,
}

/// A latent and the feature that is its alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    pub latent: u32,
    pub feature: u32,
    /// |cosine|
    pub cosine: f32,
}

impl Matching {
    /// Of the rows of `decoder` `[n_latents, d]` with those of `directions` `[n_features, d]`.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory): all cosines are in memory at once.
    pub fn of(decoder: &[f32], directions: &[f32], d: usize) -> Result<Matching> {
        let (n_latents, n_features) = (decoder.len() / d, directions.len() / d);
        forecast::check(
            "matching latents and features",
            4 * (n_latents * n_features) as u64,
            |_| "score an SAE with fewer latents".to_owned(),
        )?;
        // Rows are the fewer of the two.
        let is_turned = n_latents > n_features;
        let (rows, columns) = if is_turned { (directions, decoder) } else { (decoder, directions) };
        let (n, m) = (rows.len() / d, columns.len() / d);
        let mut costs = cosines(rows, columns, d); // [n, m]
        costs.par_iter_mut().for_each(|cosine| *cosine = 1.0 - cosine.abs());
        let nearest = match is_turned {
            false => costs.par_chunks_exact(m).map(|row| least(row.iter().copied())).collect(),
            true => {
                let column = |latent: usize| (0..n).map(move |feature| feature * m + latent);
                (0..m).into_par_iter().map(|it| least(column(it).map(|at| costs[at]))).collect()
            }
        };
        let partners = assign(&costs, n, m);
        let pair = |(row, &column): (usize, &usize)| {
            let (latent, feature) = if is_turned { (column, row) } else { (row, column) };
            let cosine = 1.0 - costs[row * m + column];
            Pair { latent: latent as u32, feature: feature as u32, cosine }
        };
        Ok(Matching { nearest, pairs: partners.iter().enumerate().map(pair).collect() })
    }
}

/// Where the least stands; of equals, the first.
fn least(costs: impl Iterator<Item = f32>) -> u32 {
    let first = |best: (u32, f32), (at, cost): (usize, f32)| match cost < best.1 {
        true => (at as u32, cost),
        false => best,
    };
    costs.enumerate().fold((0, f32::INFINITY), first).0
}

/// The cosines of the rows of `a` `[n, d]` with those of `b` `[m, d]`: `[n, m]`. A row of zeros has
/// cosine 0 with all.
fn cosines(a: &[f32], b: &[f32], d: usize) -> Vec<f32> {
    let (n, m) = (a.len() / d, b.len() / d);
    let of = |data, rows| Matrix { data, rows, cols: d, row_stride: d, col_stride: 1 };
    let mut cosines = vec![0.0; n * m];
    matmul(&mut cosines, m, of(a, n), of(b, m).transposed(), 1.0, Parallelism::Rayon(0));
    // SAELens' guard against rows of zeros.
    let inverse = |row: &[f32]| 1.0 / dot(row, row).sqrt().max(1e-8);
    let of_b: Vec<f32> = b.par_chunks_exact(d).map(inverse).collect();
    cosines.par_chunks_exact_mut(m).zip(a.par_chunks_exact(d)).for_each(|(cosines, a)| {
        let of_a = inverse(a);
        cosines.iter_mut().zip(&of_b).for_each(|(cosine, of_b)| *cosine *= of_a * of_b);
    });
    cosines
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIRECTIONS: [f32; 8] = [1.0, 0.0, 0.0, 1.0, 0.6, 0.8, 0.8, -0.6];

    #[test]
    fn latents_may_share_a_nearest_feature_but_no_partner() {
        // Both lean to feature 0; the first is nearer to it, and backwards.
        let found = Matching::of(&[-2.0, 0.1, 3.0, 1.0], &DIRECTIONS, 2).unwrap();
        assert_eq!(found.nearest, [0, 0]);
        assert_eq!((found.pairs[0].feature, found.pairs[1].feature), (0, 2));
        assert!((found.pairs[1].cosine - 2.6 / 10f32.sqrt()).abs() < 1e-6);
    }

    #[test]
    fn more_latents_than_features_leave_some_without_a_partner() {
        let latents = [0.0, 0.0, 0.0, 2.0, 0.1, 5.0, 7.0, 0.0, 1.2, 1.6, 0.4, -0.3];
        let found = Matching::of(&latents, &DIRECTIONS, 2).unwrap();
        assert_eq!(found.nearest[1..], [1, 1, 0, 2, 3]);
        let mut partners: Vec<_> = found.pairs.iter().map(|it| (it.feature, it.latent)).collect();
        partners.sort_unstable();
        assert_eq!(partners, [(0, 3), (1, 1), (2, 4), (3, 5)]);
    }
}
