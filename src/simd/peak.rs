//! The loops by which the rate of a processor's multipliers is measured: nothing but multiplications and additions on registers.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
use super::{Level, level};

/// Sixteen chains of `x ← a·x + b` in registers, `steps` long, in the widest vectors of the processor: the loop by which the rate of its
/// multipliers is measured. Each step is 16 chains of 16 multiplications and additions.
pub(crate) fn multiply_and_add(steps: usize, factors: [f32; 2]) -> f32 {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f")]
        fn avx512(steps: usize, [a, b]: [f32; 2]) -> f32 {
            use std::arch::x86_64::{_mm512_add_ps, _mm512_fmadd_ps, _mm512_reduce_add_ps, _mm512_set1_ps, _mm512_setzero_ps};
            let (a, b) = (_mm512_set1_ps(a), _mm512_set1_ps(b));
            let mut chains = [_mm512_setzero_ps(); 16];
            for _ in 0..steps {
                for chain in &mut chains {
                    *chain = _mm512_fmadd_ps(a, *chain, b);
                }
            }
            _mm512_reduce_add_ps(chains.into_iter().fold(_mm512_setzero_ps(), |sum, x| _mm512_add_ps(sum, x)))
        }
        #[target_feature(enable = "avx2,fma")]
        fn avx2(steps: usize, [a, b]: [f32; 2]) -> f32 {
            let mut chains = [[0f32; 8]; 8];
            // Eight chains of half the width are what its registers hold: four times as many steps for the same work.
            for _ in 0..4 * steps {
                for x in chains.as_flattened_mut() {
                    *x = a.mul_add(*x, b);
                }
            }
            chains.as_flattened().iter().sum()
        }
        if level() == Level::Avx512 {
            // SAFETY: the processor has the feature.
            return unsafe { avx512(steps, factors) };
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

/// As [`multiply_and_add`] with pairs of bf16, which are twice the operations; `None` if the processor does not multiply them.
pub(crate) fn multiply_and_add_bf16(steps: usize, factors: [f32; 2]) -> Option<f32> {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bf16")]
        fn avx512(steps: usize, [a, b]: [f32; 2]) -> f32 {
            use std::arch::x86_64::{
                __m512, __m512bh, _mm512_add_ps, _mm512_dpbf16_ps, _mm512_reduce_add_ps, _mm512_set1_ps, _mm512_setzero_ps,
            };
            // SAFETY: 512 bits without a meaning of their own.
            let (a, b) = unsafe {
                (std::mem::transmute::<__m512, __m512bh>(_mm512_set1_ps(a)), std::mem::transmute::<__m512, __m512bh>(_mm512_set1_ps(b)))
            };
            let mut chains = [_mm512_setzero_ps(); 16];
            for _ in 0..steps {
                for chain in &mut chains {
                    *chain = _mm512_dpbf16_ps(*chain, a, b);
                }
            }
            _mm512_reduce_add_ps(chains.into_iter().fold(_mm512_setzero_ps(), |sum, x| _mm512_add_ps(sum, x)))
        }
        if level() == Level::Avx512 && is_x86_feature_detected!("avx512bf16") {
            // SAFETY: the processor has the features.
            return Some(unsafe { avx512(steps, factors) });
        }
    }
    let _ = (steps, factors);
    None
}

/// As [`multiply_and_add`] with fours of bytes, which are four times the operations; `None` if the processor does not multiply them.
pub(crate) fn multiply_and_add_int8(steps: usize, factors: [i32; 2]) -> Option<i32> {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512vnni")]
        fn avx512(steps: usize, [a, b]: [i32; 2]) -> i32 {
            use std::arch::x86_64::{
                _mm512_add_epi32, _mm512_dpbusd_epi32, _mm512_reduce_add_epi32, _mm512_set1_epi32, _mm512_setzero_si512,
            };
            let (a, b) = (_mm512_set1_epi32(a), _mm512_set1_epi32(b));
            let mut chains = [_mm512_setzero_si512(); 16];
            for _ in 0..steps {
                for chain in &mut chains {
                    *chain = _mm512_dpbusd_epi32(*chain, a, b);
                }
            }
            _mm512_reduce_add_epi32(chains.into_iter().fold(_mm512_setzero_si512(), |sum, x| _mm512_add_epi32(sum, x)))
        }
        if level() == Level::Avx512 && is_x86_feature_detected!("avx512vnni") {
            // SAFETY: the processor has the features.
            return Some(unsafe { avx512(steps, factors) });
        }
    }
    let _ = (steps, factors);
    None
}
