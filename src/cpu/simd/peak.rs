//! The loops by which the rate of a processor's multipliers is measured: nothing but
//! multiplications and additions on registers.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
use super::{Level, level};

/// Sixteen chains of `x ← a·x + b` in registers, `steps` long, in the widest vectors of the
/// processor. Each step is 16 chains of 16 multiplications and additions.
pub fn multiply_and_add(steps: usize, factors: [f32; 2]) -> f32 {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        fn avx2(steps: usize, [a, b]: [f32; 2]) -> f32 {
            let mut chains = [[0f32; 8]; 8];
            // Eight chains of half the width are what its registers hold: four times as many steps
            // for the same work.
            for _ in 0..4 * steps {
                for x in chains.as_flattened_mut() {
                    *x = a.mul_add(*x, b);
                }
            }
            chains.as_flattened().iter().sum()
        }
        if level() == Level::Avx512 {
            // SAFETY: the processor has the feature.
            return unsafe { x86::f32_chains(steps, factors) };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: as above.
            return unsafe { avx2(steps, factors) };
        }
    }
    let mut chains = [[0f32; 16]; 16];
    for _ in 0..steps {
        for x in chains.as_flattened_mut() {
            *x = factors[0] * *x + factors[1];
        }
    }
    chains.as_flattened().iter().sum()
}

/// As [`multiply_and_add`] with pairs of bf16, which are twice the operations; `None` if the
/// processor does not multiply them.
pub fn multiply_and_add_bf16(steps: usize, factors: [f32; 2]) -> Option<f32> {
    #[cfg(target_arch = "x86_64")]
    if level() == Level::Avx512 && is_x86_feature_detected!("avx512bf16") {
        // SAFETY: the processor has the features.
        return Some(unsafe { x86::bf16_chains(steps, factors) });
    }
    let _ = (steps, factors);
    None
}

/// As [`multiply_and_add`] with fours of bytes, which are four times the operations; `None` if the
/// processor does not multiply them.
pub fn multiply_and_add_int8(steps: usize, factors: [i32; 2]) -> Option<i32> {
    #[cfg(target_arch = "x86_64")]
    if level() == Level::Avx512 && is_x86_feature_detected!("avx512vnni") {
        // SAFETY: the processor has the features.
        return Some(unsafe { x86::int8_chains(steps, factors) });
    }
    let _ = (steps, factors);
    None
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::mem::transmute;

    /// Sixteen chains, each moved on by the instruction that a [tile](super::super::tile) is made
    /// of.
    macro_rules! chains {
        ($name:ident, $features:literal, $number:ty, $spread:ident, $zero:ident, $add:ident, $reduce:ident, |$chain:ident, $a:ident, $b:ident| $step:expr) => {
            #[target_feature(enable = $features)]
            pub(super) fn $name(steps: usize, [a, b]: [$number; 2]) -> $number {
                let ($a, $b) = ($spread(a), $spread(b));
                let mut chains = [$zero(); 16];
                for _ in 0..steps {
                    for chain in &mut chains {
                        let $chain = *chain;
                        *chain = $step;
                    }
                }
                $reduce(chains.into_iter().fold($zero(), |sum, x| $add(sum, x)))
            }
        };
    }
    chains! {
        f32_chains, "avx512f", f32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_add_ps, _mm512_reduce_add_ps,
        |x, a, b| _mm512_fmadd_ps(a, x, b)
    }
    chains! {
        bf16_chains, "avx512f,avx512bf16", f32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_add_ps, _mm512_reduce_add_ps,
        // SAFETY: 512 bits without a meaning of their own.
        |x, a, b| unsafe { _mm512_dpbf16_ps(x, transmute::<__m512, __m512bh>(a), transmute::<__m512, __m512bh>(b)) }
    }
    chains! {
        int8_chains, "avx512f,avx512vnni", i32, _mm512_set1_epi32, _mm512_setzero_si512, _mm512_add_epi32, _mm512_reduce_add_epi32,
        |x, a, b| _mm512_dpbusd_epi32(x, a, b)
    }
}
