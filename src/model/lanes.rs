//! The loops of a language model over plain f32 slices: bias and activation, softmax, attention of a single position.

use std::f32::consts::FRAC_1_SQRT_2;

use crate::model::config::MlpActivation;
use crate::simd::{LANES, exp, maximum, total, vectorised};

vectorised! {
    /// Adds `bias` (if it is not empty) to each row of `rows` and applies the activation (if there is one).
    pub(super) fn bias_and_activate(rows: &mut [f32], bias: &[f32], activation: Option<MlpActivation>) {
        if bias.is_empty() {
            return activate(rows, activation);
        }
        for row in rows.chunks_exact_mut(bias.len()) {
            for (x, b) in row.iter_mut().zip(bias) {
                *x += b;
            }
            activate(row, activation);
        }
    }
}

vectorised! {
    /// Turns scores into probabilities: the softmax of `scores`, in place. A row of no scores stays as it is.
    pub(super) fn softmax(scores: &mut [f32]) {
        softmax_of(scores);
    }
}

vectorised! {
    /// Attention of one position's queries `[n_heads, d_head]` to rows `[n_heads, d_head]` of keys and values, which begin every
    /// `stride` numbers. `shares` `[n_heads, n]` is room for what each head gives each of `n` rows. Writes `out` `[n_heads, d_head]`.
    ///
    /// Rows are read in blocks, one after the other, all heads of each: this is bound by memory, which likes to be read in order.
    pub(super) fn attend(
        query: &[f32],
        keys_and_values: [&[f32]; 2],
        stride: usize,
        scale: f32,
        shares: &mut [f32],
        n_heads: usize,
        out: &mut [f32],
    ) {
        let ([keys, values], n) = (keys_and_values, shares.len() / n_heads);
        score(query, keys, stride, scale, shares, n_heads);
        shares.chunks_exact_mut(n).for_each(softmax_of);
        mix(values, stride, shares, n_heads, out);
    }
}

#[inline(always)]
fn activate(row: &mut [f32], activation: Option<MlpActivation>) {
    match activation {
        None => {}
        Some(MlpActivation::GeluTanh) => row.iter_mut().for_each(|x| *x = gelu_tanh(*x)),
        Some(MlpActivation::GeluErf) => row.iter_mut().for_each(|x| *x = gelu_erf(*x)),
        // Not `max`, which would turn NaN into 0.
        Some(MlpActivation::Relu) => row.iter_mut().for_each(|x| *x = if *x < 0.0 { 0.0 } else { *x }),
    }
}

/// `x · Φ(x)` by the tanh approximation: `½ x (1 + tanh u) = x / (1 + e⁻²ᵘ)` with `u = √(2/π) (x + 0.044715 x³)`.
#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    const TWICE_ROOT_2_OVER_PI: f32 = 1.595_769;
    x / (1.0 + exp(-TWICE_ROOT_2_OVER_PI * x * (1.0 + 0.044_715 * x * x)))
}

/// `x · Φ(x)`, with `erf` as the quotient of two polynomials on ±4 (the one used by Eigen), beyond which it is ±1 in f32.
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

#[inline(always)]
fn softmax_of(scores: &mut [f32]) {
    let max = maximum(scores);
    for x in scores.iter_mut() {
        *x = exp(*x - max);
    }
    let mut sums = [0.0f32; LANES];
    let (chunks, rest) = scores.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            sums[lane] += chunk[lane];
        }
    }
    let scale = 1.0 / rest.iter().fold(total(sums), |sum, x| sum + x);
    for x in scores.iter_mut() {
        *x *= scale;
    }
}

/// The scaled products `[n_heads, n]` of each head's query with its part of each key.
#[inline(always)]
fn score(query: &[f32], keys: &[f32], stride: usize, scale: f32, scores: &mut [f32], n_heads: usize) {
    /// How many keys are taken at once, and how many partial sums each product has. They are summed up for a whole block: done product
    /// by product, that would take longer than the products.
    const BLOCK: usize = 32;
    const PARTS: usize = 8;
    let (d_head, n) = (query.len() / n_heads, scores.len() / n_heads);
    let mut parts = [[0f32; PARTS]; BLOCK];
    for from in (0..n).step_by(BLOCK) {
        let keys = &keys[from * stride..];
        let n_keys = BLOCK.min(n - from);
        for head in 0..n_heads {
            let (query, rest) = query[head * d_head..][..d_head].as_chunks::<PARTS>();
            for (sums, key) in parts[..n_keys].iter_mut().zip(keys.chunks(stride)) {
                let (key, key_rest) = key[head * d_head..][..d_head].as_chunks::<PARTS>();
                let mut partial = [0f32; PARTS];
                for (q, k) in query.iter().zip(key) {
                    for part in 0..PARTS {
                        partial[part] += q[part] * k[part];
                    }
                }
                for (q, k) in rest.iter().zip(key_rest) {
                    partial[0] += q * k;
                }
                *sums = partial;
            }
            for (score, partial) in scores[head * n + from..][..n_keys].iter_mut().zip(&parts) {
                *score = scale * partial.iter().sum::<f32>();
            }
        }
    }
}

/// For each head, the sum of its parts of the values, each as much as its share.
#[inline(always)]
fn mix(values: &[f32], stride: usize, shares: &[f32], n_heads: usize, out: &mut [f32]) {
    let (d_model, d_head, n) = (out.len(), out.len() / n_heads, shares.len() / n_heads);
    let row = |at: usize| &values[at * stride..][..d_model];
    out.fill(0.0);
    // Four rows are added up before the sum is written.
    for at in (0..n / 4 * 4).step_by(4) {
        let rows = [row(at), row(at + 1), row(at + 2), row(at + 3)];
        for (head, out) in out.chunks_exact_mut(d_head).enumerate() {
            let share: [f32; 4] = std::array::from_fn(|i| shares[head * n + at + i]);
            let [a, b, c, d] = rows.map(|row| &row[head * d_head..][..d_head]);
            for ((((out, a), b), c), d) in out.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                *out += (share[0] * a + share[1] * b) + (share[2] * c + share[3] * d);
            }
        }
    }
    for at in n / 4 * 4..n {
        for (head, (out, value)) in out.chunks_exact_mut(d_head).zip(row(at).chunks_exact(d_head)).enumerate() {
            let share = shares[head * n + at];
            out.iter_mut().zip(value).for_each(|(out, v)| *out += share * v);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From -12 to 12 in steps of 1/512.
    fn line() -> Vec<f32> {
        (-6144..=6144).map(|i| i as f32 / 512.0).collect()
    }

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
    fn both_gelus_are_right_on_every_size_of_argument() {
        let xs = line();
        let mut tanh = xs.clone();
        bias_and_activate(&mut tanh, &[], Some(MlpActivation::GeluTanh));
        let mut erf = xs.clone();
        bias_and_activate(&mut erf, &[], Some(MlpActivation::GeluErf));
        for (i, &x) in xs.iter().enumerate() {
            let x = x as f64;
            let by_tanh = 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh());
            assert!((tanh[i] as f64 - by_tanh).abs() < 4e-7 * x.abs().max(1.0), "gelu_tanh({x}) = {}, want {by_tanh}", tanh[i]);
            let by_erf = exact_gelu(x);
            assert!((erf[i] as f64 - by_erf).abs() < 4e-7 * x.abs().max(1.0), "gelu_erf({x}) = {}, want {by_erf}", erf[i]);
        }
    }

    #[test]
    fn no_activation_hides_a_nan() {
        for activation in [None, Some(MlpActivation::GeluTanh), Some(MlpActivation::GeluErf), Some(MlpActivation::Relu)] {
            let mut bad = [1.0, f32::NAN];
            bias_and_activate(&mut bad, &[0.5, 0.5], activation);
            assert!(bad[0].is_finite() && bad[1].is_nan(), "{activation:?}");
        }
    }

    #[test]
    fn softmax_is_that_of_f64() {
        for n in [1, 2, 15, 16, 17, 33, 1000] {
            let x: Vec<f32> = (0..n).map(|i| ((i * 37) % 101) as f32 * 0.3 - 15.0).collect();
            let total: f64 = x.iter().map(|&v| (v as f64).exp()).sum();
            let mut p = x.clone();
            softmax(&mut p);
            for (p, x) in p.iter().zip(&x) {
                assert!((*p as f64 - (*x as f64).exp() / total).abs() < 1e-6);
            }
        }
        // Far from 0 nothing overflows.
        let mut far = [1e6, 1e6];
        softmax(&mut far);
        assert_eq!(far, [0.5, 0.5]);
        softmax(&mut []);
    }
}
