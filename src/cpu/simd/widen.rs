//! Rows of a panel, from sixteen bits a number to the words that a [tile](super::tile) reads, by
//! AVX-512.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::tile::PANEL;

/// What is done to each row with a number of its own.
#[derive(Clone, Copy)]
pub(crate) enum By<'a> {
    Nothing,
    Times(&'a [f32]),
    Minus(&'a [f32]),
}

macro_rules! widening {
    ($(#[$meta:meta])* $name:ident, $each:ident, $features:literal) => {
        $(#[$meta])*
        ///
        /// # Safety
        /// The processor must have the features.
        #[target_feature(enable = $features)]
        pub(crate) unsafe fn $name(halves: &[u16], is_bf16: bool, by: By<'_>, out: &mut [u32]) {
            match (is_bf16, by) {
                (false, By::Nothing) => $each(halves, out, |x, _| f16(x)),
                (false, By::Times(by)) => $each(halves, out, |x, row| _mm512_mul_ps(f16(x), _mm512_set1_ps(by[row]))),
                (false, By::Minus(by)) => $each(halves, out, |x, row| _mm512_sub_ps(f16(x), _mm512_set1_ps(by[row]))),
                (true, By::Nothing) => $each(halves, out, |x, _| bf16(x)),
                (true, By::Times(by)) => $each(halves, out, |x, row| _mm512_mul_ps(bf16(x), _mm512_set1_ps(by[row]))),
                (true, By::Minus(by)) => $each(halves, out, |x, row| _mm512_sub_ps(bf16(x), _mm512_set1_ps(by[row]))),
            }
        }
    };
}

widening! {
    /// As f32: `halves` and `out` are `[rows, 32]`.
    to_f32, each_row, "avx512f"
}
widening! {
    /// As pairs of bf16, those of rows `2 i` and `2 i + 1` in row `i` of `out`; an odd last row is
    /// paired with zeros.
    to_pairs, each_pair, "avx512f,avx512bw,avx512bf16"
}

/// Sixteen numbers.
type Halves = [u16; PANEL / 2];

#[inline]
#[target_feature(enable = "avx512f")]
fn f16(x: &Halves) -> __m512 {
    // SAFETY: sixteen numbers are 256 bits.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(x.as_ptr().cast()) })
}

#[inline]
#[target_feature(enable = "avx512f")]
fn bf16(x: &Halves) -> __m512 {
    // SAFETY: as above.
    let x = unsafe { _mm256_loadu_si256(x.as_ptr().cast()) };
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(x)))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn each_row(halves: &[u16], out: &mut [u32], widen: impl Fn(&Halves, usize) -> __m512) {
    let halves = halves.as_chunks::<{ PANEL / 2 }>().0;
    for (i, (halves, out)) in halves.iter().zip(out.as_chunks_mut::<{ PANEL / 2 }>().0).enumerate()
    {
        // SAFETY: sixteen words are 512 bits.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr().cast(), widen(halves, i / 2)) };
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn each_pair(halves: &[u16], out: &mut [u32], widen: impl Fn(&Halves, usize) -> __m512) {
    // Words 0, 16, 1, 17, …: of what is rounded one after the other, the pairs.
    let paired: [u16; PANEL] = std::array::from_fn(|i| (i / 2 + i % 2 * 16) as u16);
    // SAFETY: 32 numbers are 512 bits.
    let paired = unsafe { _mm512_loadu_si512(paired.as_ptr().cast()) };
    let rows = halves.as_chunks::<{ PANEL / 2 }>().0;
    for (i, out) in out.as_chunks_mut::<{ PANEL / 2 }>().0.iter_mut().enumerate() {
        // Half a row of the panel, and the same half of the next.
        let (pair, half) = (i / 2, i % 2);
        let first = widen(&rows[4 * pair + half], 2 * pair);
        let second =
            rows.get(4 * pair + 2 + half).map_or(_mm512_setzero_ps(), |x| widen(x, 2 * pair + 1));
        // SAFETY: both are 512 bits without a meaning of their own; sixteen words are as many.
        unsafe {
            let rounded =
                std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(second, first));
            _mm512_storeu_si512(out.as_mut_ptr().cast(), _mm512_permutexvar_epi16(paired, rounded));
        }
    }
}
