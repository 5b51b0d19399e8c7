//! The normal distribution's tail, both ways.

use std::f64::consts::TAU;

/// Where the series gives way to the continued fraction, which converges the faster the larger `x`.
const FAR: f64 = 3.0;

/// Terms of the continued fraction: at 3 all the digits of an f64.
const TERMS: u32 = 80;

/// The probability that a standard normal number exceeds `x`.
pub fn upper_tail(x: f64) -> f64 {
    if x < 0.0 {
        return 1.0 - upper_tail(-x);
    }
    let density = (-x * x / 2.0).exp() / TAU.sqrt();
    if x < FAR {
        // ½ − φ(x) Σ x²ⁿ⁺¹ / (1·3·…·(2n+1))
        let (mut term, mut sum, mut odd) = (x, x, 1.0);
        while term > 1e-17 * sum {
            odd += 2.0;
            term *= x * x / odd;
            sum += term;
        }
        return 0.5 - density * sum;
    }
    // φ(x) / (x + 1/(x + 2/(x + 3/…))), from its far end.
    density / (1..=TERMS).rev().fold(x, |fraction, n| x + f64::from(n) / fraction)
}

/// What a standard normal number exceeds with probability `p`: infinite for 0 and 1.
pub fn upper_point(p: f64) -> f64 {
    if p <= 0.0 {
        return f64::INFINITY;
    }
    if p >= 1.0 {
        return f64::NEG_INFINITY;
    }
    let (mut low, mut high) = (-38.0, 38.0);
    for _ in 0..70 {
        let middle = (low + high) / 2.0;
        if upper_tail(middle) > p { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}

/// Whether `u`, uniform in [0, 1), lies below the tail of some `x`, answered by two looks at a grid:
/// the tail itself is computed only where it matters, for one draw in hundreds.
pub struct Tail {
    /// At `FIRST + i / PER_UNIT`.
    at: Vec<f64>,
}

/// Where the grid begins; beyond 8 standard deviations the tail is below 1e-15.
const FIRST: f64 = -8.0;
const PER_UNIT: f64 = 64.0;

impl Tail {
    pub fn new() -> Tail {
        let n = (-2.0 * FIRST * PER_UNIT) as usize;
        Tail { at: (0..=n).map(|i| upper_tail(FIRST + i as f64 / PER_UNIT)).collect() }
    }

    /// Whether `u < upper_tail(x)`.
    pub fn exceeds(&self, u: f64, x: f64) -> bool {
        let place = (x - FIRST) * PER_UNIT;
        if place >= 0.0 && place < (self.at.len() - 1) as f64 {
            let place = place as usize;
            if u < self.at[place + 1] {
                return true;
            }
            if u >= self.at[place] {
                return false;
            }
        }
        u < upper_tail(x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From tables of the normal distribution.
    #[test]
    fn tails_are_those_of_tables() {
        for (x, p) in [
            (0.0, 0.5),
            (1.0, 0.158_655_253_931_457_05),
            (2.0, 0.022_750_131_948_179_21),
            (3.0, 0.001_349_898_031_630_094_6),
            (4.0, 3.167_124_183_311_992e-5),
            (6.0, 9.865_876_450_376_946e-10),
        ] {
            assert!((upper_tail(x) / p - 1.0).abs() < 1e-7, "{x}: {}", upper_tail(x));
            assert!((upper_tail(x) + upper_tail(-x) - 1.0).abs() < 1e-15);
            assert!((upper_point(upper_tail(x)) - x).abs() < 1e-9, "{x}");
        }
        let (below, above) = (upper_tail(FAR - 1e-12), upper_tail(FAR));
        assert!((below / above - 1.0).abs() < 1e-10, "the two ways meet");
        assert_eq!((upper_point(0.0), upper_point(1.0)), (f64::INFINITY, f64::NEG_INFINITY));
        assert_eq!((upper_tail(f64::NEG_INFINITY), upper_tail(f64::INFINITY)), (1.0, 0.0));
    }

    #[test]
    fn the_grid_answers_as_the_tail_itself() {
        let tail = Tail::new();
        for i in 0..20_000u32 {
            let u = f64::from(i.wrapping_mul(2_654_435_761)) / 4_294_967_296.0;
            let x = f64::from(i % 1_999) / 100.0 - 10.0;
            assert_eq!(tail.exceeds(u, x), u < upper_tail(x), "{u} {x}");
            let at = upper_tail(x);
            assert!(!tail.exceeds(at, x) && tail.exceeds(at * (1.0 - 1e-9), x));
        }
        assert!(tail.exceeds(0.999, f64::NEG_INFINITY) && !tail.exceeds(0.0, f64::INFINITY));
    }
}
