//! Matrices kept in the sixteen bits a number that their file has, and widened as they are
//! multiplied.
//!
//! A checkpoint of 1.4 · 10⁹ numbers in f16 is 2.8 GB, and twice that in f32, where every second
//! byte is a 0. So the panels keep the file's numbers, and a thread widens a stretch of one (768
//! words a column, 96 KiB) before a block of some hundred rows passes by it: a few percent of the
//! products' time, and for a single row less than reading the f32 would take.
//!
//! What [processing](crate::model::Processing) does to a matrix would need more than sixteen bits
//! again. But all it does is to multiply each row by a number, or to subtract one from it, so that
//! is done on the way as well ([`RowWise`]). The numbers multiplied are the same bits as those of a
//! matrix that was widened and processed when it was loaded.

#![allow(unsafe_code)]
// Nothing is kept so where there are no tiles.
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]

#[cfg(target_arch = "x86_64")]
use std::ops::Range;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::Lines;
#[cfg(target_arch = "x86_64")]
use super::bf16::round;
use crate::cpu::simd::tile::PANEL;
#[cfg(target_arch = "x86_64")]
use crate::cpu::simd::widen::{self, By};

/// The numbers that a matrix came in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// f32, or more.
    #[default]
    Single,
    /// f16.
    F16,
    /// bf16.
    Bf16,
}

/// What is done to a matrix `[depth, width]` before it is multiplied, with one number for each of
/// its rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum RowWise {
    /// Nothing.
    #[default]
    Nothing,
    /// The row's number is multiplied with each of its own.
    Times(Vec<f32>),
    /// It is subtracted from each.
    Minus(Vec<f32>),
}

impl RowWise {
    /// Does it to the matrix.
    pub fn apply(&self, width: usize, matrix: &mut [f32]) {
        let rows = matrix.chunks_exact_mut(width);
        match self {
            RowWise::Nothing => {}
            RowWise::Times(by) => {
                rows.zip(by).for_each(|(row, by)| row.iter_mut().for_each(|x| *x *= by))
            }
            RowWise::Minus(by) => {
                rows.zip(by).for_each(|(row, by)| row.iter_mut().for_each(|x| *x -= by))
            }
        }
    }
}

/// The words that a product reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// An f32 each.
    F32,
    /// An f32 each, rounded to bf16.
    Rounded,
    /// Two bf16 each.
    Pairs,
}

/// The panels of a matrix in sixteen bits a number: `[panels, depth, 32]`.
pub(crate) struct Half {
    panels: Lines,
    /// Whether the numbers are bf16, or else f16.
    is_bf16: bool,
    /// Numbers of a column.
    depth: usize,
    row_wise: RowWise,
}

impl Half {
    /// Room for this many panels; `None` if the numbers have more than sixteen bits.
    pub fn new(
        precision: Precision,
        [n_panels, depth]: [usize; 2],
        row_wise: RowWise,
    ) -> Option<Half> {
        let is_bf16 = match precision {
            Precision::Single => return None,
            Precision::F16 => false,
            Precision::Bf16 => true,
        };
        Some(Half { panels: Lines::zeroed(n_panels * depth * PANEL / 2), is_bf16, depth, row_wise })
    }

    /// Each panel's numbers, to be written by [`Half::narrow`].
    pub fn panels_mut(&mut self) -> (&mut [u16], impl Fn(&[f32], &mut [u16]) + Sync + use<>) {
        let is_bf16 = self.is_bf16;
        let narrow = move |numbers: &[f32], out: &mut [u16]| match is_bf16 {
            true => bytemuck::cast_slice_mut::<_, bf16>(out).convert_from_f32_slice(numbers),
            false => bytemuck::cast_slice_mut::<_, f16>(out).convert_from_f32_slice(numbers),
        };
        (bytemuck::cast_slice_mut(self.panels.words_mut()), narrow)
    }

    /// Writes some words of each column of a panel into `out`.
    #[cfg(target_arch = "x86_64")]
    pub fn widen(&self, panel: usize, words: Range<usize>, form: Form, out: &mut Lines) {
        let rows = match form {
            Form::Pairs => 2 * words.start..(2 * words.end).min(self.depth),
            Form::F32 | Form::Rounded => words.clone(),
        };
        out.hold(words.len() * PANEL);
        let out = &mut out.words_mut()[..words.len() * PANEL];
        let halves =
            &self.halves()[(panel * self.depth + rows.start) * PANEL..][..rows.len() * PANEL];
        let by = match &self.row_wise {
            RowWise::Nothing => By::Nothing,
            RowWise::Times(by) => By::Times(&by[rows]),
            RowWise::Minus(by) => By::Minus(&by[rows]),
        };
        assert!(
            super::has_tiles() && (form != Form::Pairs || super::has_bf16_tiles()),
            "a processor without tiles"
        );
        // SAFETY: a processor with tiles has AVX-512, and those for pairs its instructions for
        // bf16, as just asserted.
        unsafe {
            match form {
                Form::Pairs => widen::to_pairs(halves, self.is_bf16, by, out),
                Form::F32 | Form::Rounded => widen::to_f32(halves, self.is_bf16, by, out),
            }
        }
        if form == Form::Rounded {
            out.iter_mut().for_each(|x| *x = u32::from(round(f32::from_bits(*x))) << 16);
        }
    }

    /// Where a panel's numbers begin.
    #[cfg(target_arch = "x86_64")]
    pub fn place(&self, panel: usize, word: usize) -> *const u32 {
        self.panels.words().as_ptr().wrapping_add((panel * self.depth + word) * PANEL / 2)
    }

    #[cfg(target_arch = "x86_64")]
    fn halves(&self) -> &[u16] {
        bytemuck::cast_slice(self.panels.words())
    }
}
