//! The loops of a language model over plain f32 slices: softmax, attention of a single position,
//! layer norm, turning by position.

use crate::cpu::matmul::bf16;
use crate::cpu::simd::{LANES, exp, maximum, total, vectorised};

vectorised! {
    /// Turns scores into probabilities: the softmax of `scores`, in place. A row of no scores stays
    /// as it is.
    pub(super) fn softmax(scores: &mut [f32]) {
        softmax_of(scores);
    }
}

vectorised! {
    /// Attention of one position's queries `[n_heads, d_head]` to rows `[n_heads / group, d_head]`
    /// of keys and values, which begin every `stride` numbers. `shares` `[n_heads, n]` is room for what
    /// each head gives each of `n` rows. Writes `out` `[n_heads, d_head]`.
    ///
    /// Rows are read in blocks, one after the other, all heads of each: this is bound by memory,
    /// which likes to be read in order.
    pub(super) fn attend(
        query: &[f32],
        keys_and_values: [&[f32]; 2],
        stride: usize,
        scale: f32,
        shares: &mut [f32],
        heads_and_group: [usize; 2],
        out: &mut [f32],
    ) {
        let [n_heads, group] = heads_and_group;
        let ([keys, values], n) = (keys_and_values, shares.len() / n_heads);
        score(query, keys, stride, scale, shares, [n_heads, group]);
        shares.chunks_exact_mut(n).for_each(softmax_of);
        mix(values, stride, shares, [n_heads, group], out);
    }
}

vectorised! {
    /// The layer norm of one row: `(x − mean) / √(variance + eps) · gain + bias`; where it is not
    /// `centred`, with 0 for the mean.
    pub(super) fn normalise(x: &[f32], affine: [&[f32]; 2], centred: bool, eps: f32, out: &mut [f32]) {
        let [gain, bias] = affine;
        let [mean, scale] = moments(x, centred, eps);
        for (((out, x), gain), bias) in out.iter_mut().zip(x).zip(gain).zip(bias) {
            *out = (x - mean) * scale * gain + bias;
        }
    }
}

vectorised! {
    /// As [`normalise`], as pairs of bf16.
    pub(super) fn normalise_to_bf16(x: &[f32], affine: [&[f32]; 2], centred: bool, eps: f32, out: &mut [u32]) {
        let [gain, bias] = affine;
        let [mean, scale] = moments(x, centred, eps);
        let at = |i: usize| u32::from(bf16::round((x[i] - mean) * scale * gain[i] + bias[i]));
        let n = x.len().min(gain.len()).min(bias.len());
        for (word, out) in out[..n.div_ceil(2)].iter_mut().enumerate() {
            let second = if 2 * word + 1 < n { at(2 * word + 1) } else { 0 };
            *out = at(2 * word) | second << 16;
        }
    }
}

/// The mean, or 0 for it, and 1 over the root of the mean square about that.
#[inline(always)]
fn moments(x: &[f32], centred: bool, eps: f32) -> [f32; 2] {
    let n = x.len() as f32;
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut sums = [0f32; LANES];
    for chunk in chunks {
        for lane in 0..LANES {
            sums[lane] += chunk[lane];
        }
    }
    let mean = if centred { rest.iter().fold(total(sums), |sum, x| sum + x) / n } else { 0.0 };
    let mut squares = [0f32; LANES];
    for chunk in chunks {
        for lane in 0..LANES {
            squares[lane] += (chunk[lane] - mean) * (chunk[lane] - mean);
        }
    }
    let variance = rest.iter().fold(total(squares), |sum, x| sum + (x - mean) * (x - mean)) / n;
    [mean, 1.0 / (variance + eps).sqrt()]
}

vectorised! {
    /// Turns the first `2 · cos.len()` dimensions of each head of a row, pairs being half that far
    /// apart.
    pub(super) fn turn(row: &mut [f32], d_head: usize, cos: &[f32], sin: &[f32]) {
        let half = cos.len().min(sin.len());
        for head in row.chunks_exact_mut(d_head) {
            let (first, second) = head[..2 * half].split_at_mut(half);
            for (((a, b), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
                (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
            }
        }
    }
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
fn score(
    query: &[f32],
    keys: &[f32],
    stride: usize,
    scale: f32,
    scores: &mut [f32],
    [n_heads, group]: [usize; 2],
) {
    /// How many keys are taken at once, and how many partial sums each product has. They are summed
    /// up for a whole block: done product by product, that would take longer than the products.
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
                let (key, key_rest) = key[head / group * d_head..][..d_head].as_chunks::<PARTS>();
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
fn mix(
    values: &[f32],
    stride: usize,
    shares: &[f32],
    [n_heads, group]: [usize; 2],
    out: &mut [f32],
) {
    let (d_head, n) = (out.len() / n_heads, shares.len() / n_heads);
    let row = |at: usize| &values[at * stride..][..n_heads / group * d_head];
    out.fill(0.0);
    // Four rows are added up before the sum is written.
    for at in (0..n / 4 * 4).step_by(4) {
        let rows = [row(at), row(at + 1), row(at + 2), row(at + 3)];
        for (head, out) in out.chunks_exact_mut(d_head).enumerate() {
            let share: [f32; 4] = std::array::from_fn(|i| shares[head * n + at + i]);
            let [a, b, c, d] = rows.map(|row| &row[head / group * d_head..][..d_head]);
            for ((((out, a), b), c), d) in out.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                *out += (share[0] * a + share[1] * b) + (share[2] * c + share[3] * d);
            }
        }
    }
    for at in n / 4 * 4..n {
        for (head, out) in out.chunks_exact_mut(d_head).enumerate() {
            let value = &row(at)[head / group * d_head..][..d_head];
            let share = shares[head * n + at];
            out.iter_mut().zip(value).for_each(|(out, v)| *out += share * v);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
