//! Loops over plain f32 slices, compiled once for every vector width there is and chosen at run
//! time.
//!
//! The bodies are plain Rust that the compiler vectorises; none fuses a multiplication with an
//! addition and sums run in sixteen fixed lanes, so that all versions give the same bits.
#![allow(unsafe_code)]

pub mod peak;
pub(crate) mod tile;
#[cfg(target_arch = "x86_64")]
pub(crate) mod widen;

/// Defines a function whose body is compiled for AVX-512, for AVX2 and for any processor.
macro_rules! vectorised {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(unsafe_code, clippy::too_many_arguments)]
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn anywhere($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2")]
                #[allow(clippy::too_many_arguments)]
                fn avx512($($arg: $ty),*) $(-> $ret)? { anywhere($($arg),*) }
                #[target_feature(enable = "avx2")]
                #[allow(clippy::too_many_arguments)]
                fn avx2($($arg: $ty),*) $(-> $ret)? { anywhere($($arg),*) }
                match $crate::cpu::simd::level() {
                    // SAFETY: `level` says Avx512 or Avx2 only where the processor has every
                    // feature named above.
                    $crate::cpu::simd::Level::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::cpu::simd::Level::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::cpu::simd::Level::Any => {}
                }
            }
            anywhere($($arg),*)
        }
    };
}
pub(crate) use vectorised;

/// The widest vectors this processor has.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// 512 bits.
    Avx512,
    /// 256 bits.
    Avx2,
    /// Whatever the compiler may assume everywhere.
    Any,
}

/// Asks the processor (the answer is cached by the standard library).
#[cfg(target_arch = "x86_64")]
#[inline]
pub fn level() -> Level {
    let has_512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    match (has_512, is_x86_feature_detected!("avx2")) {
        (true, true) => Level::Avx512,
        (_, true) => Level::Avx2,
        _ => Level::Any,
    }
}

/// How many partial sums a reduction keeps, however wide the processor's vectors are.
pub(crate) const LANES: usize = 16;

/// Keeps lanes that a loop fills from being seen through: a compiler that knows how they are added
/// up in the end arranges the whole loop for that, two lanes at a time instead of sixteen.
#[inline(always)]
fn settled<T>(lanes: [T; LANES]) -> [T; LANES] {
    std::hint::black_box(lanes)
}

/// The sum of the lanes, in halves, as vector instructions add them.
#[inline(always)]
pub(crate) fn total(lanes: [f32; LANES]) -> f32 {
    let mut lanes = settled(lanes);
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// `a · b`.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    a_rest.iter().zip(b_rest).fold(total(lanes), |sum, (a, b)| sum + a * b)
}

/// `eˣ` to about one unit in the last place: `2ⁿ · p(r)` with `x = n ln 2 + r`, the polynomial of
/// Cephes' `expf`.
///
/// Arguments are held within ±87; a NaN stays one.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    /// Adding it leaves the nearest whole number in the lowest bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 87.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let mut p = 1.987_569_1e-4 * r + 1.398_2e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1f32.to_bits()));
    (p * r * r + r + 1.0) * power
}

/// The greatest of `x`; −∞ of nothing.
#[inline(always)]
pub(crate) fn maximum(x: &[f32]) -> f32 {
    let mut best = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            best[lane] = if chunk[lane] > best[lane] { chunk[lane] } else { best[lane] };
        }
    }
    settled(best).iter().chain(rest).fold(f32::NEG_INFINITY, |a, &b| a.max(b))
}

vectorised! {
    /// `ln Σ eˣ`.
    pub(crate) fn log_sum_exp(x: &[f32]) -> f32 {
        let max = maximum(x);
        let (chunks, rest) = x.as_chunks::<LANES>();
        let mut lanes = [0.0f32; LANES];
        for chunk in chunks {
            for lane in 0..LANES {
                lanes[lane] += exp(chunk[lane] - max);
            }
        }
        max + rest.iter().fold(total(lanes), |sum, x| sum + exp(x - max)).ln()
    }
}

vectorised! {
    /// `Σ p (ln p − ln q)` of the distributions that logits give, `ln p = a − ln Σ eᵃ` and `ln q =
    /// b − ln Σ eᵇ`.
    pub(crate) fn divergence(a: &[f32], a_total: f32, b: &[f32], b_total: f32) -> f32 {
        let mut lanes = [0.0f32; LANES];
        let (a_chunks, a_rest) = a.as_chunks::<LANES>();
        let (b_chunks, b_rest) = b.as_chunks::<LANES>();
        let term = |a: f32, b: f32| exp(a - a_total) * ((a - a_total) - (b - b_total));
        for (a, b) in a_chunks.iter().zip(b_chunks) {
            for lane in 0..LANES {
                lanes[lane] += term(a[lane], b[lane]);
            }
        }
        a_rest.iter().zip(b_rest).fold(total(lanes), |sum, (a, b)| sum + term(*a, *b))
    }
}

/// Asks for the cache lines of `x` ahead of their use: rows picked from a large table begin
/// anywhere, and no processor foresees where.
#[inline(always)]
pub(crate) fn prefetch(x: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    for line in x.chunks(16) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 processor has the instruction, which reads nothing that a program
        // could see.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = x;
}

/// `y += a·x`.
#[inline(always)]
pub fn add_scaled(y: &mut [f32], a: f32, x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += a * x;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(n: usize, seed: f32) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * seed).sin() * 9.0).collect()
    }

    #[test]
    fn exponentials_are_right_to_the_last_places() {
        for i in -8_600..8_600 {
            let x = i as f32 / 100.0;
            let want = f64::from(x).exp();
            assert!((f64::from(exp(x)) / want - 1.0).abs() < 2.5e-7, "{x}");
        }
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(f32::NEG_INFINITY) < 1e-37);
        // Far from 0 nothing overflows.
        assert!((log_sum_exp(&[1000.0, 1000.0]) - (1000.0 + 2f32.ln())).abs() < 1e-3);
    }

    #[test]
    fn sums_are_those_of_f64() {
        for n in [1, 15, 16, 17, 100, 4096] {
            let (a, b) = (line(n, 0.7), line(n, 1.3));
            let wide = |x: &[f32]| x.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
            let (a64, b64) = (wide(&a), wide(&b));
            let want: f64 = a64.iter().zip(&b64).map(|(a, b)| a * b).sum();
            assert!((f64::from(dot(&a, &b)) - want).abs() < 1e-6 * 81.0 * n as f64);
            let total = |x: &[f64]| x.iter().map(|v| v.exp()).sum::<f64>().ln();
            let (a_total, b_total) = (total(&a64), total(&b64));
            assert!((f64::from(log_sum_exp(&a)) - a_total).abs() < 2e-6);
            let want: f64 = a64
                .iter()
                .zip(&b64)
                .map(|(a, b)| (a - a_total).exp() * ((a - a_total) - (b - b_total)))
                .sum();
            let got = f64::from(divergence(&a, log_sum_exp(&a), &b, log_sum_exp(&b)));
            assert!((got - want).abs() < 1e-5 * want.max(1.0), "{n}: {got} {want}");
        }
    }
}
