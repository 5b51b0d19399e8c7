//! The directions of features: random, then pushed apart.
//!
//! # The algorithm
//!
//! Adam goes down `Σᵢ≠ⱼ (eᵢ·eⱼ)² + n Σᵢ (|eᵢ|² − 1)²`, whose gradient by `eᵢ` is
//!
//! ```text
//! 4 (Σⱼ (eᵢ·eⱼ) eⱼ − |eᵢ|² eᵢ) + 4 n (|eᵢ|² − 1) eᵢ
//! ```
//!
//! The sum over j is row i of `E (EᵀE)`: with the `d × d` matrix in the middle formed first it takes
//! `2 n d²` multiplications, where all pairs of n features would take `2 n² d`: of SynthSAEBench's
//! 16,384 directions in 768 dimensions 20 instead of 412 billion a step.
//!
//! Both products are sums of scaled rows, four at a time, in one order whatever the processor and
//! the number of threads: a seed gives the same directions everywhere.

use rayon::prelude::*;

use super::config::Orthogonalize;
use super::draws::Key;
use crate::base::error::{Error, Result};
use crate::cpu::simd::{dot, vectorised};
use crate::display::{Progress, interrupt};

/// Rows of `EᵀE` that a thread forms at a time: with them in its first cache, it passes over all of
/// `E`.
const STRIP: usize = 8;

/// Directions that a thread moves at a time.
const PIECE: usize = 16;

vectorised! {
    /// `y + a₀x₀ + a₁x₁ + …`, added in this order.
    fn add_four(y: &mut [f32], a: [f32; 4], x: [&[f32]; 4]) {
        let n = y.len();
        let (x0, x1, x2, x3) = (&x[0][..n], &x[1][..n], &x[2][..n], &x[3][..n]);
        for i in 0..n {
            y[i] = (((y[i] + a[0] * x0[i]) + a[1] * x1[i]) + a[2] * x2[i]) + a[3] * x3[i];
        }
    }
}

/// Adds to `y` the rows of `x` `[n, d]` from dimension `from` on, each times its number of `a` `[n]`.
fn add_rows(y: &mut [f32], a: impl Fn(usize) -> f32, x: &[f32], d: usize, from: usize) {
    let n = x.len() / d;
    let row = |i: usize| &x[i * d + from..(i + 1) * d];
    let whole = n - n % 4;
    for i in (0..whole).step_by(4) {
        let at = [i, i + 1, i + 2, i + 3];
        add_four(y, at.map(&a), at.map(row));
    }
    for i in whole..n {
        let a = a(i);
        y.iter_mut().zip(row(i)).for_each(|(y, x)| *y += a * x);
    }
}

/// `EᵀE` of `e` `[n, d]`: `[d, d]`.
fn gram(e: &[f32], d: usize) -> Vec<f32> {
    let mut gram = vec![0.0; d * d];
    // It is symmetric: of each row what is right of the diagonal is formed.
    gram.par_chunks_mut(STRIP * d).enumerate().for_each(|(strip, rows)| {
        for block in e.chunks(64 * d) {
            for (i, row) in rows.chunks_exact_mut(d).enumerate() {
                let k = strip * STRIP + i;
                add_rows(&mut row[k..], |j| block[j * d + k], block, d, k);
            }
        }
    });
    for i in 1..d {
        for j in 0..i {
            gram[i * d + j] = gram[j * d + i];
        }
    }
    gram
}

/// Random unit vectors `[n, d]`.
pub fn random(n: usize, d: usize, key: &Key) -> Vec<f32> {
    let mut e = vec![0.0; n * d];
    e.par_chunks_exact_mut(d).enumerate().for_each(|(i, row)| {
        row.copy_from_slice(&key.stream(i as u64).normals(d));
        to_unit(row);
    });
    e
}

/// Gives a vector length 1, unless it is 0.
pub fn to_unit(row: &mut [f32]) {
    let length = dot(row, row).sqrt().max(1e-8);
    row.iter_mut().for_each(|x| *x /= length);
}

/// Pushes the unit vectors `e` `[n, d]` apart.
///
/// # Errors
/// [`Error::Interrupted`].
pub fn orthogonalize(e: &mut [f32], d: usize, how: Orthogonalize) -> Result<()> {
    const BETAS: [f32; 2] = [0.9, 0.999];
    const EPSILON: f32 = 1e-8;
    let n = (e.len() / d) as f32;
    let mut moments = vec![[0.0f32; 2]; e.len()];
    interrupt::watch();
    let mut progress = Progress::new("orthogonalize", how.steps as u64, "steps");
    for step in 1..=how.steps as i32 {
        if interrupt::requested() {
            interrupt::clear();
            let remedy = "run the same call again, which begins anew".to_owned();
            return Err(Error::Interrupted { what: "pushing features apart", remedy });
        }
        let gram = gram(e, d);
        let corrections = BETAS.map(|beta| 1.0 - f64::from(beta).powi(step));
        let rate = (how.lr / corrections[0]) as f32;
        let root = (1.0 / corrections[1].sqrt()) as f32;
        let pieces = e.par_chunks_mut(PIECE * d).zip(moments.par_chunks_mut(PIECE * d));
        pieces.for_each(|(e, moments)| {
            let mut others = vec![0.0; d];
            for (e, moments) in e.chunks_exact_mut(d).zip(moments.chunks_exact_mut(d)) {
                others.fill(0.0);
                add_rows(&mut others, |k| e[k], &gram, d, 0);
                let square = dot(e, e);
                let own = n * (square - 1.0) - square;
                for ((e, [m, v]), other) in e.iter_mut().zip(moments).zip(&others) {
                    let g = 4.0 * (other + own * *e);
                    *m = BETAS[0] * *m + (1.0 - BETAS[0]) * g;
                    *v = BETAS[1] * *v + (1.0 - BETAS[1]) * g * g;
                    *e -= rate * *m / (v.sqrt() * root + EPSILON);
                }
            }
        });
        progress.set(step as u64);
    }
    progress.finish_if_long();
    e.par_chunks_exact_mut(d).for_each(to_unit);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::draws::Purpose;
    use super::*;

    fn key(seed: u64) -> Key {
        Key::new(Purpose::Directions, [seed, 0])
    }

    /// The gradient pair by pair.
    fn naive_gradient(e: &[f32], d: usize) -> Vec<f64> {
        let n = e.len() / d;
        let row = |i: usize| &e[i * d..][..d];
        let wide =
            |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum() };
        let mut gradient = vec![0.0; n * d];
        for i in 0..n {
            for j in 0..n {
                let weight = match i == j {
                    true => 4.0 * n as f64 * (wide(row(i), row(i)) - 1.0),
                    false => 4.0 * wide(row(i), row(j)),
                };
                for k in 0..d {
                    gradient[i * d + k] += weight * f64::from(row(j)[k]);
                }
            }
        }
        gradient
    }

    #[test]
    fn the_first_step_goes_down_the_gradient_of_all_pairs() {
        let (n, d, lr) = (37, 11, 1e-3);
        let before = random(n, d, &key(5));
        let gradient = naive_gradient(&before, d);
        let mut after = before.clone();
        orthogonalize(&mut after, d, Orthogonalize { steps: 1, lr }).unwrap();
        // Adam's first step is lr against the sign of the gradient; then lengths are 1 again.
        let mut want: Vec<f32> = before
            .iter()
            .zip(&gradient)
            .map(|(e, g)| (f64::from(*e) - lr * g.signum()) as f32)
            .collect();
        want.chunks_exact_mut(d).for_each(to_unit);
        let apart = after.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart < 1e-5, "{apart}");
    }

    #[test]
    fn directions_end_further_apart_and_of_length_1() {
        let (n, d) = (100, 40);
        let crowding =
            |e: &[f32]| -> f32 { gram(e, d).iter().map(|g| g * g).sum::<f32>() - n as f32 };
        let mut e = random(n, d, &key(1));
        let before = crowding(&e);
        orthogonalize(&mut e, d, Orthogonalize { steps: 200, lr: 1e-3 }).unwrap();
        // No n unit vectors can do better than n²/d.
        let least = (n * n) as f32 / d as f32 - n as f32;
        assert!(crowding(&e) - least < 0.1 * (before - least), "{before} {} {least}", crowding(&e));
        assert!(e.chunks_exact(d).all(|row| (dot(row, row) - 1.0).abs() < 1e-5));
    }
}
