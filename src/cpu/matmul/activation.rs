//! What is applied to a product before it is written: the non-linearities of an MLP.

use std::f32::consts::FRAC_1_SQRT_2;

use serde::Serialize;

use crate::cpu::simd::{exp, vectorised};

/// A function of one number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub(crate) enum Activation {
    /// `x` itself.
    None,
    /// GELU by its tanh approximation.
    GeluTanh,
    /// GELU by the error function.
    GeluErf,
    /// `max(x, 0)`.
    Relu,
    /// `x · σ(x)`, the swish of SwiGLU.
    Silu,
}

impl Activation {
    /// Every one of them.
    #[cfg(test)]
    pub const ALL: [Activation; 5] = [
        Activation::None,
        Activation::GeluTanh,
        Activation::GeluErf,
        Activation::Relu,
        Activation::Silu,
    ];

    /// Applies it to each of `row`.
    #[inline(always)]
    pub fn apply(self, row: &mut [f32]) {
        match self {
            Activation::None => {}
            Activation::GeluTanh => row.iter_mut().for_each(|x| *x = gelu_tanh(*x)),
            Activation::GeluErf => row.iter_mut().for_each(|x| *x = gelu_erf(*x)),
            Activation::Silu => row.iter_mut().for_each(|x| *x /= 1.0 + exp(-*x)),
            // Not `max`, which would turn NaN into 0.
            Activation::Relu => row.iter_mut().for_each(|x| *x = if *x < 0.0 { 0.0 } else { *x }),
        }
    }
}

vectorised! {
    /// Adds `bias` (if it is not empty) to each row of `rows` and applies the activation.
    pub(crate) fn bias_and_activate(rows: &mut [f32], bias: &[f32], activation: Activation) {
        if bias.is_empty() {
            return activation.apply(rows);
        }
        for row in rows.chunks_exact_mut(bias.len()) {
            for (x, b) in row.iter_mut().zip(bias) {
                *x += b;
            }
            activation.apply(row);
        }
    }
}

/// `x · Φ(x)` by the tanh approximation: `½ x (1 + tanh u) = x / (1 + e⁻²ᵘ)` with `u = √(2/π) (x +
/// 0.044715 x³)`.
#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    const TWICE_ROOT_2_OVER_PI: f32 = 1.595_769;
    x / (1.0 + exp(-TWICE_ROOT_2_OVER_PI * x * (1.0 + 0.044_715 * x * x)))
}

/// `x · Φ(x)`, with `erf` as the quotient of two polynomials on ±4 (the one used by Eigen), beyond
/// which it is ±1 in f32.
#[inline(always)]
fn gelu_erf(x: f32) -> f32 {
    let z = (x * FRAC_1_SQRT_2).clamp(-4.0, 4.0);
    let z2 = z * z;
    let mut over = -2.726_142_3e-10 * z2 + 2.770_681_4e-8;
    over = over * z2 - 2.101_024e-6;
    over = over * z2 - 5.692_506_4e-5;
    over = over * z2 - 7.349_906_3e-4;
    over = over * z2 - 2.954_6e-3;
    over = over * z2 - 1.609_603_3e-2;
    let mut under = -1.456_607_2e-5 * z2 - 2.133_740_5e-4;
    under = under * z2 - 1.682_827_7e-3;
    under = under * z2 - 7.373_329_2e-3;
    under = under * z2 - 1.426_473_9e-2;
    0.5 * x * (1.0 + z * over / under)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Φ(x) · x in f64, by the series and continued fraction of erf.
    fn exact_gelu(x: f64) -> f64 {
        let z = x / std::f64::consts::SQRT_2;
        let erf = if z.abs() < 3.0 {
            // 2/√π Σ (-1)ⁿ z²ⁿ⁺¹ / (n! (2n+1))
            let (mut term, mut total) = (z, z);
            for n in 1..80 {
                term *= -z * z / n as f64;
                total += term / (2 * n + 1) as f64;
            }
            total * 2.0 / std::f64::consts::PI.sqrt()
        } else {
            let mut fraction = 0.0;
            for n in (1..60).rev() {
                fraction = n as f64 / 2.0 / (z.abs() + fraction);
            }
            z.signum() * (1.0 - (-z * z).exp() / std::f64::consts::PI.sqrt() / (z.abs() + fraction))
        };
        0.5 * x * (1.0 + erf)
    }

    #[test]
    fn gelus_and_silu_are_right_on_every_size_of_argument() {
        // From -12 to 12 in steps of 1/512.
        let xs: Vec<f32> = (-6144..=6144).map(|i| i as f32 / 512.0).collect();
        let mut tanh = xs.clone();
        bias_and_activate(&mut tanh, &[], Activation::GeluTanh);
        let mut erf = xs.clone();
        bias_and_activate(&mut erf, &[], Activation::GeluErf);
        let mut silu = xs.clone();
        bias_and_activate(&mut silu, &[], Activation::Silu);
        for (i, &x) in xs.iter().enumerate() {
            let x = x as f64;
            let by_sigmoid = x / (1.0 + (-x).exp());
            assert!((silu[i] as f64 - by_sigmoid).abs() < 4e-7 * x.abs().max(1.0), "silu({x})");
            let by_tanh = 0.5
                * x
                * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh());
            assert!(
                (tanh[i] as f64 - by_tanh).abs() < 4e-7 * x.abs().max(1.0),
                "gelu_tanh({x}) = {}, want {by_tanh}",
                tanh[i]
            );
            let by_erf = exact_gelu(x);
            assert!(
                (erf[i] as f64 - by_erf).abs() < 4e-7 * x.abs().max(1.0),
                "gelu_erf({x}) = {}, want {by_erf}",
                erf[i]
            );
        }
    }

    #[test]
    fn no_activation_hides_a_nan() {
        for activation in Activation::ALL {
            let mut bad = [1.0, f32::NAN];
            bias_and_activate(&mut bad, &[0.5, 0.5], activation);
            assert!(bad[0].is_finite() && bad[1].is_nan(), "{activation:?}");
        }
    }
}
