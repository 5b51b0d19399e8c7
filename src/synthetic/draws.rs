//! Random numbers of one row, or of one part of a model: a stream of ChaCha8 each.

use std::f64::consts::TAU;

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What numbers are for: those of one purpose say nothing of those of another.
#[derive(Clone, Copy)]
pub enum Purpose {
    /// A stream for each feature.
    Directions = 1,
    Bias,
    Deviations,
    Factors,
    /// A stream for each row, of a seed of their own.
    Rows,
}

/// A key from which streams are made.
#[derive(Clone)]
pub struct Key(ChaCha8Rng);

impl Key {
    /// The key of a purpose, of the seed of a model, and of one of its own if it has one.
    pub fn new(purpose: Purpose, seeds: [u64; 2]) -> Key {
        let mut bytes = [0; 32];
        let words = [purpose as u64, seeds[0], seeds[1]];
        for (bytes, word) in bytes.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        Key(ChaCha8Rng::from_seed(bytes))
    }

    /// The stream of this number: any of them at once, without those before.
    pub fn stream(&self, number: u64) -> Draws {
        let mut rng = self.0.clone();
        rng.set_stream(number);
        Draws { rng, spare: None }
    }
}

/// One stream.
pub struct Draws {
    rng: ChaCha8Rng,
    /// The second of two normal numbers, which come in pairs.
    spare: Option<f64>,
}

impl Draws {
    /// Uniform in [0, 1).
    #[inline]
    pub fn uniform(&mut self) -> f64 {
        (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform among `0..n`.
    #[inline]
    pub fn below(&mut self, n: usize) -> usize {
        ((self.uniform() * n as f64) as usize).min(n - 1)
    }

    /// Standard normal, by the Box–Muller transform.
    #[inline]
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt(); // 1 − [0, 1) is never 0
        let (sin, cos) = (TAU * self.uniform()).sin_cos();
        self.spare = Some(radius * sin);
        radius * cos
    }

    /// `n` standard normal numbers.
    pub fn normals(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.normal() as f32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_found_again_and_is_like_no_other() {
        let key = Key::new(Purpose::Rows, [3, 0]);
        let draw = |stream| {
            let mut draws = key.stream(stream);
            (0..5).map(|_| draws.uniform()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        for (purpose, seeds) in
            [(Purpose::Rows, [4, 0]), (Purpose::Rows, [0, 3]), (Purpose::Bias, [3, 0])]
        {
            assert_ne!(Key::new(purpose, seeds).stream(7).uniform(), draw(7)[0]);
        }
    }

    #[test]
    fn draws_have_the_moments_that_they_should() {
        let mut draws = Key::new(Purpose::Rows, [1, 0]).stream(0);
        let n = 200_000;
        let (mut sum, mut squares, mut fourth, mut uniform) = (0.0, 0.0, 0.0, 0.0);
        for _ in 0..n {
            let z = draws.normal();
            (sum, squares, fourth) = (sum + z, squares + z * z, fourth + z.powi(4));
            uniform += draws.uniform();
        }
        let n = f64::from(n);
        assert!((sum / n).abs() < 0.01 && (squares / n - 1.0).abs() < 0.02);
        assert!((fourth / n - 3.0).abs() < 0.1 && (uniform / n - 0.5).abs() < 0.003);
        let counts = (0..30_000).fold([0; 3], |mut counts, _| {
            counts[draws.below(3)] += 1;
            counts
        });
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
    }
}
