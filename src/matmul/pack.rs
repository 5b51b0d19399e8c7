//! A matrix in panels of 32 columns, and the aligned memory that it lies in.
#![allow(unsafe_code)]

use std::sync::OnceLock;

use rayon::prelude::*;

use super::bf16;
use crate::simd::tile::PANEL;

/// One cache line, so that memory made of them begins at a line's start and no vector is cut in two.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u32; 16]);

/// Words of 32 bits, to be looked at as f32 or as pairs of bf16.
#[derive(Default)]
pub(crate) struct Lines(Vec<Line>);

impl Lines {
    /// At least `words` words, all 0.
    pub fn zeroed(words: usize) -> Lines {
        let mut lines = Lines::default();
        lines.hold(words);
        lines
    }

    /// Makes room for at least `words` words; what was there stays.
    pub fn hold(&mut self, words: usize) {
        let lines = words.div_ceil(16);
        if lines > self.0.len() {
            self.0.resize(lines, Line([0; 16]));
        }
    }

    /// As words.
    pub fn words(&self) -> &[u32] {
        // SAFETY: a `Line` is sixteen words on end, without padding.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * 16) }
    }

    /// As words, to be written.
    pub fn words_mut(&mut self) -> &mut [u32] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len() * 16) }
    }

    /// As f32.
    pub fn floats(&self) -> &[f32] {
        bytemuck::cast_slice(self.words())
    }

    /// As f32, to be written.
    pub fn floats_mut(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(self.words_mut())
    }
}

/// A matrix `[depth, width]` within a slice: element `(i, j)` is `data[i * row_stride + j * col_stride]`.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub data: &'a [f32],
    pub depth: usize,
    pub width: usize,
    pub row_stride: usize,
    pub col_stride: usize,
}

impl View<'_> {
    /// Writes columns `from..from + 32` as a panel `[depth, 32]`; columns beyond the last are 0.
    fn panel(self, from: usize, out: &mut [f32]) {
        let n = PANEL.min(self.width - from);
        if self.col_stride == 1 {
            for (i, out) in out.chunks_exact_mut(PANEL).enumerate() {
                out[..n].copy_from_slice(&self.data[i * self.row_stride + from..][..n]);
                out[n..].fill(0.0);
            }
            return;
        }
        out.fill(0.0);
        /// Rows of the panel written at a time: 2 KiB, which stay in the first-level cache until all columns have been.
        const ROWS: usize = 16;
        for (block, out) in out.chunks_mut(ROWS * PANEL).enumerate() {
            for column in 0..n {
                let start = (from + column) * self.col_stride + block * ROWS * self.row_stride;
                let column_of = self.data[start..].iter().step_by(self.row_stride);
                for (out, x) in out.iter_mut().skip(column).step_by(PANEL).zip(column_of) {
                    *out = *x;
                }
            }
        }
    }
}

/// A matrix that is multiplied with many rows, and the bias that is added to the product.
pub(crate) struct Packed {
    /// The number of rows.
    pub depth: usize,
    /// The number of columns.
    pub width: usize,
    /// `[panels, depth, 32]` f32.
    panels: Lines,
    /// As [`Packed::rounded`] gives it; made when it is first asked for, half as large again.
    rounded: OnceLock<Lines>,
    /// One for each column of each panel.
    bias: Lines,
}

impl Packed {
    /// Packs a matrix and its bias `[width]`.
    pub fn new(matrix: View<'_>, bias: Option<&[f32]>) -> Packed {
        let View { depth, width, .. } = matrix;
        let n_panels = width.div_ceil(PANEL);
        let mut panels = Lines::zeroed(n_panels * depth * PANEL);
        let size = (depth * PANEL).max(1);
        panels.floats_mut().par_chunks_exact_mut(size).enumerate().for_each(|(i, out)| matrix.panel(i * PANEL, out));
        let mut padded = Lines::zeroed(n_panels * PANEL);
        if let Some(bias) = bias {
            padded.floats_mut()[..width].copy_from_slice(bias);
        }
        Packed { depth, width, panels, rounded: OnceLock::new(), bias: padded }
    }

    /// The number of panels.
    pub fn n_panels(&self) -> usize {
        self.width.div_ceil(PANEL)
    }

    /// `[panels, depth, 32]` f32.
    pub fn panels(&self) -> &Lines {
        &self.panels
    }

    /// Rounded to bf16: `[panels, depth / 2, 32]` pairs where the processor multiplies pairs, `[panels, depth, 32]` f32 elsewhere.
    pub fn rounded(&self) -> &Lines {
        self.rounded.get_or_init(|| if super::has_bf16_tiles() { self.pairs() } else { self.rounded_f32() })
    }

    fn pairs(&self) -> Lines {
        let (from, to) = ((self.depth * PANEL).max(1), (self.depth.div_ceil(2) * PANEL).max(1));
        let mut pairs = Lines::zeroed(self.n_panels() * to);
        let panels = self.panels.floats().par_chunks_exact(from);
        pairs.words_mut().par_chunks_exact_mut(to).zip(panels).for_each(|(out, panel)| {
            for (out, two) in out.chunks_exact_mut(PANEL).zip(panel.chunks(2 * PANEL)) {
                let (first, second) = two.split_at(PANEL);
                for (column, out) in out.iter_mut().enumerate() {
                    let second = second.get(column).map_or(0, |x| u32::from(bf16::round(*x)));
                    *out = u32::from(bf16::round(first[column])) | second << 16;
                }
            }
        });
        pairs
    }

    fn rounded_f32(&self) -> Lines {
        let mut rounded = Lines::zeroed(self.panels.floats().len());
        bf16::round_all(self.panels.floats(), rounded.floats_mut());
        rounded
    }

    /// One for each column, 0 beyond the last.
    pub fn bias(&self) -> &[f32] {
        self.bias.floats()
    }
}
