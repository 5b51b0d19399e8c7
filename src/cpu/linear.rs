//! Small dense linear algebra in f64, where a matrix is as wide as a model: plain loops, which take
//! a second at most.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::cpu::simd::vectorised;

/// How many partial sums a product keeps.
const LANES: usize = 8;

vectorised! {
    /// `a · b`.
    pub(crate) fn inner(a: &[f64], b: &[f64]) -> f64 {
        let mut lanes = [0.0f64; LANES];
        let (a_chunks, a_rest) = a.as_chunks::<LANES>();
        let (b_chunks, b_rest) = b.as_chunks::<LANES>();
        for (a, b) in a_chunks.iter().zip(b_chunks) {
            for lane in 0..LANES {
                lanes[lane] += a[lane] * b[lane];
            }
        }
        let rest = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f64>();
        lanes.iter().sum::<f64>() + rest
    }
}

/// Adds `xᵀ x` of rows `x` `[rows, n]` to `a` `[n, n]`.
pub(crate) fn add_squares(a: &mut [f64], x: &[f64], n: usize) {
    a.par_chunks_mut(n).enumerate().for_each(|(i, a)| add_products(a, x, i));
}

vectorised! {
    /// Adds each row of `x` `[rows, n]` times its number `i` to `sum` `[n]`.
    fn add_products(sum: &mut [f64], x: &[f64], i: usize) {
        for row in x.chunks_exact(sum.len()) {
            let scale = row[i];
            sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += scale * x);
        }
    }
}

/// A Cholesky factor: `L` `[m, m]` with `L Lᵀ` the matrix it was made of.
pub(crate) struct Factor {
    lower: Vec<f64>,
    m: usize,
}

impl Factor {
    /// Of the lower triangle of a matrix that is positive definite.
    pub(crate) fn of(mut lower: Vec<f64>, m: usize) -> Factor {
        for i in 0..m {
            let (above, line) = lower.split_at_mut(i * m);
            for j in 0..i {
                let other = &above[j * m..][..=j];
                line[j] = (line[j] - inner(&line[..j], &other[..j])) / other[j];
            }
            // Rounding must not take the last of a coordinate that others tell.
            let left = line[i] - inner(&line[..i], &line[..i]);
            line[i] = left.max(1e-12 * line[i]).max(f64::MIN_POSITIVE).sqrt();
        }
        Factor { lower, m }
    }

    fn line(&self, i: usize) -> &[f64] {
        &self.lower[i * self.m..][..=i]
    }

    /// The matrix's inverse times `b`.
    pub(crate) fn solve(&self, b: &[f64]) -> Vec<f64> {
        let mut x = b.to_vec();
        for i in 0..self.m {
            let line = self.line(i);
            x[i] = (x[i] - inner(&line[..i], &x[..i])) / line[i];
        }
        for i in (0..self.m).rev() {
            let line = self.line(i);
            x[i] /= line[i];
            let own = x[i];
            x[..i].iter_mut().zip(line).for_each(|(x, l)| *x -= own * l);
        }
        x
    }

    /// The length that `a` has where the matrix measures.
    pub(crate) fn norm(&self, a: &[f64]) -> f64 {
        inner(a, &self.solve(a)).max(0.0).sqrt()
    }
}

/// An orthonormal basis `[r, n]`, row by row, of what a symmetric positive semi-definite `a` `[n, n]`
/// stretches most, by so many rounds of orthogonal iteration from a fixed random start. Directions
/// that `a` stretches alike are told apart no better than is of use.
pub(crate) fn leading(a: &[f64], n: usize, r: usize, rounds: usize) -> Vec<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut basis: Vec<f64> = (0..r * n).map(|_| rng.random::<f64>() - 0.5).collect();
    orthonormalise(&mut basis, n);
    let mut next = vec![0.0; r * n];
    for _ in 0..rounds {
        for (next, row) in next.chunks_exact_mut(n).zip(basis.chunks_exact(n)) {
            next.fill(0.0);
            for (x, stretched) in row.iter().zip(a.chunks_exact(n)) {
                next.iter_mut().zip(stretched).for_each(|(next, a)| *next += x * a);
            }
        }
        std::mem::swap(&mut basis, &mut next);
        orthonormalise(&mut basis, n);
    }
    basis
}

/// By Gram and Schmidt, twice, since once leaves what rounding makes of nearly parallel rows; a row
/// that is a sum of those before it becomes 0.
fn orthonormalise(rows: &mut [f64], n: usize) {
    for i in 0..rows.len() / n {
        let (before, rest) = rows.split_at_mut(i * n);
        let row = &mut rest[..n];
        let length = inner(row, row).sqrt();
        for _ in 0..2 {
            for other in before.chunks_exact(n) {
                let along = inner(row, other);
                row.iter_mut().zip(other).for_each(|(x, y)| *x -= along * y);
            }
        }
        let left = inner(row, row).sqrt();
        let scale = if left > 1e-12 * length { 1.0 / left } else { 0.0 };
        row.iter_mut().for_each(|x| *x *= scale);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, seed: u64) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..n).map(|_| rng.random::<f64>() - 0.5).collect()
    }

    /// `xᵀ x` of `[rows, n]`.
    fn gram(x: &[f64], n: usize) -> Vec<f64> {
        let mut a = vec![0.0; n * n];
        for row in x.chunks_exact(n) {
            for i in 0..n {
                for j in 0..n {
                    a[i * n + j] += row[i] * row[j];
                }
            }
        }
        a
    }

    #[test]
    fn squares_are_those_of_plain_loops() {
        let (n, x) = (13, numbers(13 * 50, 3));
        let mut a = gram(&x[..13 * 20], n);
        add_squares(&mut a, &x[13 * 20..], n);
        assert!(a.iter().zip(gram(&x, n)).all(|(a, b)| (a - b).abs() < 1e-12));
    }

    #[test]
    fn a_solution_solves() {
        let n = 17;
        let a = gram(&numbers(40 * n, 1), n);
        let b = numbers(n, 2);
        let factor = Factor::of(a.clone(), n);
        let x = factor.solve(&b);
        for (row, b) in a.chunks_exact(n).zip(&b) {
            assert!((inner(row, &x) - b).abs() < 1e-10);
        }
        assert!((factor.norm(&b).powi(2) - inner(&b, &x)).abs() < 1e-10);
    }

    #[test]
    fn what_is_stretched_most_leads() {
        // Directions of known lengths: a = Σ λᵢ qᵢ qᵢᵀ.
        let (n, r) = (12, 3);
        let mut q = numbers(n * n, 7);
        orthonormalise(&mut q, n);
        let lengths: Vec<f64> = (0..n).map(|i| 0.6f64.powi(i as i32)).collect();
        let scaled: Vec<f64> =
            q.iter().enumerate().map(|(at, x)| x * lengths[at / n].sqrt()).collect();
        let basis = leading(&gram(&scaled, n), n, r, 300);
        for (i, of_q) in q.chunks_exact(n).enumerate() {
            let within: f64 = basis.chunks_exact(n).map(|row| inner(row, of_q).powi(2)).sum();
            assert!((within - f64::from(i < r)).abs() < 1e-9, "{i}: {within}");
        }
    }
}
