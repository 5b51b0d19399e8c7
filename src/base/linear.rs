//! Small dense linear algebra in f64, where a matrix is as wide as a model: plain loops, which take
//! a second at most.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Rounds of the iteration of [`leading`].
const ROUNDS: usize = 300;

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Solves `a x = b` for `b` `[n, m]` in its place, `a` `[n, n]` symmetric and positive definite, by
/// Cholesky's decomposition, of which `a` keeps the lower triangle. False if `a` is not positive
/// definite.
pub(crate) fn solve(a: &mut [f64], n: usize, b: &mut [f64], m: usize) -> bool {
    for j in 0..n {
        let (above, below) = a.split_at_mut((j + 1) * n);
        let row = &mut above[j * n..];
        let pivot = row[j] - dot(&row[..j], &row[..j]);
        if pivot.is_nan() || pivot <= 0.0 {
            return false;
        }
        row[j] = pivot.sqrt();
        for other in below.chunks_exact_mut(n) {
            other[j] = (other[j] - dot(&other[..j], &row[..j])) / row[j];
        }
    }
    // L y = b, then Lᵀ x = y, row by row.
    for i in 0..n {
        let (done, rest) = b.split_at_mut(i * m);
        for (k, known) in done.chunks_exact(m).enumerate() {
            rest[..m].iter_mut().zip(known).for_each(|(b, y)| *b -= a[i * n + k] * y);
        }
        rest[..m].iter_mut().for_each(|b| *b /= a[i * n + i]);
    }
    for i in (0..n).rev() {
        let (rest, done) = b.split_at_mut((i + 1) * m);
        let row = &mut rest[i * m..];
        for (k, known) in done.chunks_exact(m).enumerate() {
            row.iter_mut().zip(known).for_each(|(b, x)| *b -= a[(i + 1 + k) * n + i] * x);
        }
        row.iter_mut().for_each(|b| *b /= a[i * n + i]);
    }
    true
}

/// An orthonormal basis `[r, n]`, row by row, of what a symmetric positive semi-definite `a` `[n, n]`
/// stretches most, by orthogonal iteration from a fixed random start. Directions that `a` stretches
/// alike are told apart no better than is of use.
pub(crate) fn leading(a: &[f64], n: usize, r: usize) -> Vec<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut basis: Vec<f64> = (0..r * n).map(|_| rng.random::<f64>() - 0.5).collect();
    orthonormalise(&mut basis, n);
    let mut next = vec![0.0; r * n];
    for _ in 0..ROUNDS {
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
        let length = dot(row, row).sqrt();
        for _ in 0..2 {
            for other in before.chunks_exact(n) {
                let along = dot(row, other);
                row.iter_mut().zip(other).for_each(|(x, y)| *x -= along * y);
            }
        }
        let left = dot(row, row).sqrt();
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
    fn a_solution_solves() {
        let (n, m) = (17, 5);
        let a = gram(&numbers(40 * n, 1), n);
        let b = numbers(n * m, 2);
        let mut x = b.clone();
        assert!(solve(&mut a.clone(), n, &mut x, m));
        for i in 0..n {
            for j in 0..m {
                let got: f64 = (0..n).map(|k| a[i * n + k] * x[k * m + j]).sum();
                assert!((got - b[i * m + j]).abs() < 1e-10);
            }
        }
        let singular = gram(&numbers(3 * n, 1), n);
        let negative: Vec<f64> = singular.iter().map(|x| -x).collect();
        assert!(!solve(&mut negative.clone(), n, &mut x, m));
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
        let basis = leading(&gram(&scaled, n), n, r);
        for (i, of_q) in q.chunks_exact(n).enumerate() {
            let within: f64 = basis.chunks_exact(n).map(|row| dot(row, of_q).powi(2)).sum();
            assert!((within - f64::from(i < r)).abs() < 1e-9, "{i}: {within}");
        }
    }
}
