//! Matrices kept in the sixteen bits a number that their file has, and widened as they are multiplied.
//!
//! A checkpoint of 1.4 · 10⁹ numbers in f16 is 2.8 GB, and twice that in f32, where every second byte is a 0. So the panels keep the
//! file's numbers, and a thread widens a stretch of one (768 words a column, 96 KiB) before a block of some hundred rows passes by it: a
//! few percent of the products' time, and for a single row less than reading the f32 would take.
//!
//! What [processing](crate::model::Processing) does to a matrix would need more than sixteen bits again. But all it does is to multiply
//! each row by a number, or to subtract one from it, so that is done on the way as well ([`RowWise`]). The numbers multiplied are the
//! same bits as those of a matrix that was widened and processed when it was loaded.

use std::ops::Range;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::Lines;
use super::bf16::round;
use crate::simd::tile::PANEL;
use crate::simd::vectorised;

/// The numbers that a matrix came in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Precision {
    /// f32, or more.
    #[default]
    Single,
    /// f16.
    F16,
    /// bf16.
    Bf16,
}

/// What is done to a matrix `[depth, width]` before it is multiplied, with one number for each of its rows.
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
            RowWise::Times(by) => rows.zip(by).for_each(|(row, by)| row.iter_mut().for_each(|x| *x *= by)),
            RowWise::Minus(by) => rows.zip(by).for_each(|(row, by)| row.iter_mut().for_each(|x| *x -= by)),
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
    /// Room for so many panels; `None` if the numbers have more than sixteen bits.
    pub fn new(precision: Precision, [n_panels, depth]: [usize; 2], row_wise: RowWise) -> Option<Half> {
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
    pub fn widen(&self, panel: usize, words: Range<usize>, form: Form, out: &mut Lines) {
        let rows = match form {
            Form::Pairs => 2 * words.start..(2 * words.end).min(self.depth),
            Form::F32 | Form::Rounded => words.clone(),
        };
        out.hold(words.len() * PANEL);
        let out = &mut out.words_mut()[..words.len() * PANEL];
        let halves = &self.halves()[(panel * self.depth + rows.start) * PANEL..][..rows.len() * PANEL];
        let (times, minus): (&[f32], &[f32]) = match &self.row_wise {
            RowWise::Nothing => (&[], &[]),
            RowWise::Times(by) => (&by[rows], &[]),
            RowWise::Minus(by) => (&[], &by[rows]),
        };
        match (self.is_bf16, form) {
            (false, Form::Pairs) => f16_to_pairs(halves, times, minus, out),
            (true, Form::Pairs) => bf16_to_pairs(halves, times, minus, out),
            (false, _) => f16_to_f32(halves, times, minus, out),
            (true, _) => bf16_to_f32(halves, times, minus, out),
        }
        if form == Form::Rounded {
            out.iter_mut().for_each(|x| *x = u32::from(round(f32::from_bits(*x))) << 16);
        }
    }

    /// Where a panel's numbers begin.
    pub fn place(&self, panel: usize, word: usize) -> *const u32 {
        self.panels.words().as_ptr().wrapping_add((panel * self.depth + word) * PANEL / 2)
    }

    fn halves(&self) -> &[u16] {
        bytemuck::cast_slice(self.panels.words())
    }
}

/// The f32 that a finite f16 is.
#[inline(always)]
fn widen_f16(x: u16) -> f32 {
    /// 2¹¹², from one exponent's bias, 15, to the other's, 127; exact for what is smaller than a normal f16, too.
    const SCALE: f32 = f32::from_bits((112 + 127) << 23);
    let x = u32::from(x);
    let size = f32::from_bits((x & 0x7FFF) << 13) * SCALE;
    f32::from_bits(size.to_bits() | (x & 0x8000) << 16)
}

/// A row of a panel, widened and processed.
#[inline(always)]
fn row(halves: &[u16; PANEL], f: impl Fn(f32) -> f32, widen: impl Fn(u16) -> f32) -> [f32; PANEL] {
    std::array::from_fn(|i| f(widen(halves[i])))
}

/// Rows of a panel as f32. At most one of `times` and `minus` has numbers.
#[inline(always)]
fn to_f32(halves: &[u16], times: &[f32], minus: &[f32], out: &mut [u32], widen: impl Fn(u16) -> f32 + Copy) {
    let rows = halves.as_chunks::<PANEL>().0.iter().zip(out.as_chunks_mut::<PANEL>().0);
    let put = |out: &mut [u32; PANEL], row: [f32; PANEL]| *out = row.map(f32::to_bits);
    if !times.is_empty() {
        rows.zip(times).for_each(|((halves, out), by)| put(out, row(halves, |x| x * by, widen)));
    } else if !minus.is_empty() {
        rows.zip(minus).for_each(|((halves, out), by)| put(out, row(halves, |x| x - by, widen)));
    } else {
        rows.for_each(|(halves, out)| put(out, row(halves, |x| x, widen)));
    }
}

/// Rows of a panel as pairs of bf16; an odd last row is paired with zeros.
#[inline(always)]
fn to_pairs(halves: &[u16], times: &[f32], minus: &[f32], out: &mut [u32], widen: impl Fn(u16) -> f32 + Copy) {
    let by = if times.is_empty() { minus } else { times };
    let one = |halves: &[u16; PANEL], at: usize| match (by.get(at), times.is_empty()) {
        (Some(by), false) => row(halves, |x| x * by, widen),
        (Some(by), true) => row(halves, |x| x - by, widen),
        (None, _) => row(halves, |x| x, widen),
    };
    for (pair, (halves, out)) in halves.as_chunks::<PANEL>().0.chunks(2).zip(out.as_chunks_mut::<PANEL>().0).enumerate() {
        let first = one(&halves[0], 2 * pair);
        let second = halves.get(1).map_or([0.0; PANEL], |halves| one(halves, 2 * pair + 1));
        *out = std::array::from_fn(|i| u32::from(round(first[i])) | u32::from(round(second[i])) << 16);
    }
}

vectorised! {
    fn f16_to_f32(halves: &[u16], times: &[f32], minus: &[f32], out: &mut [u32]) {
        to_f32(halves, times, minus, out, widen_f16);
    }
}

vectorised! {
    fn bf16_to_f32(halves: &[u16], times: &[f32], minus: &[f32], out: &mut [u32]) {
        to_f32(halves, times, minus, out, super::bf16::widen);
    }
}

vectorised! {
    fn f16_to_pairs(halves: &[u16], times: &[f32], minus: &[f32], out: &mut [u32]) {
        to_pairs(halves, times, minus, out, widen_f16);
    }
}

vectorised! {
    fn bf16_to_pairs(halves: &[u16], times: &[f32], minus: &[f32], out: &mut [u32]) {
        to_pairs(halves, times, minus, out, super::bf16::widen);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finite_f16_is_widened_to_what_it_is() {
        for bits in 0..=u16::MAX {
            let x = f16::from_bits(bits);
            assert!(!x.is_finite() || widen_f16(bits).to_bits() == x.to_f32().to_bits(), "{bits:#06x}");
        }
    }
}
