//! The innermost loop: a few rows against a panel of 32 columns, the sums held in registers from
//! the first product to the last.
//!
//! On x86-64 with AVX-512 there are three, which differ in one instruction. All read their operands
//! as **words** of 32 bits, and each instruction multiplies all elements of a word of the row with
//! those of a word of the column and adds them to one 32-bit sum:
//!
//! | tile | a word holds | instruction | products a word |
//! | --- | --- | --- | --- |
//! | [`f32_tile`] | one f32 | `vfmadd231ps` | 1 |
//! | [`bf16_tile`] | two bf16 | `vdpbf16ps` | 2 |
//! | [`int8_tile`] | four bytes, unsigned in the panel and signed in the rows | `vpdpbusd` | 4 |
//!
//! so that one layout serves all: a row is `words` words on end; a **panel** is `words` times 32
//! words, one from each of its 32 columns. With `R` = 14 rows a tile holds 28 vectors of sums,
//! which leaves 4 registers of 32 for two vectors of the panel and the row's word, broadcast; per
//! two loads from the panel there are 28 multiplications, and the loop runs at the rate of the
//! multipliers. A panel of 768 bytes a column is 24 KiB, and stays in the first-level cache while
//! all rows of a block pass by.
#![allow(unsafe_code)]

/// Columns in a panel: two vectors.
pub(crate) const PANEL: usize = 32;

/// Rows in a full tile.
pub(crate) const ROWS: usize = 14;

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::*;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::mem::transmute;

    use super::PANEL;

    macro_rules! tile {
        ($(#[$meta:meta])* $name:ident, $features:literal, $sum:ty, $zero:expr, |$acc:ident, $row:ident, $column:ident| $step:expr) => {
            $(#[$meta])*
            ///
            /// Meanwhile fetches `4·words` words from `ahead` on, a part of the next panel, say,
            /// into the second-level cache.
            ///
            /// # Safety
            /// The processor must have the features. `rows` must be readable for `(R − 1)·stride +
            /// words` words, `panel` for `32·words`; `ahead` may lie anywhere.
            #[inline]
            #[target_feature(enable = $features)]
            pub(crate) unsafe fn $name<const R: usize>(rows: *const u32, stride: usize, panel: *const u32, words: usize, ahead: *const u32) -> [[$sum; 2]; R] {
                let mut sums = [[$zero; 2]; R];
                for word in 0..words {
                    _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add(4 * word).cast());
                    // SAFETY: the caller grants both ranges.
                    let (left, right) = unsafe {
                        let at = panel.add(word * PANEL);
                        (_mm512_loadu_si512(at.cast()), _mm512_loadu_si512(at.add(16).cast()))
                    };
                    for (r, sums) in sums.iter_mut().enumerate() {
                        // SAFETY: as above.
                        let $row = _mm512_set1_epi32(unsafe { rows.add(r * stride + word).read() } as i32);
                        for (sum, $column) in sums.iter_mut().zip([left, right]) {
                            let $acc = *sum;
                            *sum = $step;
                        }
                    }
                }
                sums
            }
        };
    }

    tile! {
        /// Dot products of `R` rows of f32 with the 32 columns of a panel.
        f32_tile, "avx512f", __m512, _mm512_setzero_ps(),
        |acc, row, column| _mm512_fmadd_ps(_mm512_castsi512_ps(row), _mm512_castsi512_ps(column), acc)
    }
    tile! {
        /// Dot products of `R` rows of bf16 pairs with the 32 columns of a panel, summed in f32.
        bf16_tile, "avx512f,avx512bf16", __m512, _mm512_setzero_ps(),
        // SAFETY: both are 512 bits without a meaning of their own.
        |acc, row, column| unsafe { _mm512_dpbf16_ps(acc, transmute::<__m512i, __m512bh>(row), transmute::<__m512i, __m512bh>(column)) }
    }
    tile! {
        /// Dot products of `R` rows of signed bytes with the 32 columns, of unsigned bytes, of a
        /// panel; exact.
        int8_tile, "avx512f,avx512vnni", __m512i, _mm512_setzero_si512(),
        |acc, row, column| _mm512_dpbusd_epi32(acc, column, row)
    }
}
