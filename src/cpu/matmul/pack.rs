//! A matrix in panels of 32 columns, and the aligned memory that it lies in.
#![allow(unsafe_code)]

use std::sync::OnceLock;

use rayon::prelude::*;

use super::bf16;
use super::half::{Half, Precision, RowWise};
use crate::cpu::simd::tile::PANEL;

/// One cache line, so that memory made of them begins at a line's start and no vector is cut in
/// two.
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

/// A matrix `[depth, width]` within a slice: element `(i, j)` is `data[i * row_stride + j *
/// col_stride]`.
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
        /// Rows of the panel written at a time: 2 KiB, which stay in the first-level cache until
        /// all columns have been.
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

/// Words of the depth that a tile runs over at a time, at most.
pub(crate) const STRETCH: usize = 768;

/// The same for sums that have to be closer: a sum of f32 is rounded as often as it has terms, and
/// what is rounded grows with them. Each stretch costs its sums being kept and fetched again: 192
/// takes 3 % of a harvest's time more, and is no closer.
pub(crate) const SHORT_STRETCH: usize = 288;

/// A matrix that is multiplied with many rows, and the bias that is added to the product.
pub(crate) struct Packed {
    /// The number of rows.
    pub depth: usize,
    /// The number of columns.
    pub width: usize,
    /// Numbers of the depth that a sum in f32 runs over at a time, at most [`STRETCH`]. Those in bf16
    /// run over as many words.
    pub stretch: usize,
    numbers: Numbers,
    /// One for each column of each panel.
    bias: Lines,
}

/// The panels of a matrix.
enum Numbers {
    Single {
        /// `[panels, depth, 32]` f32.
        panels: Lines,
        /// As [`Packed::rounded`] gives it; made when it is first asked for, half as large again.
        rounded: OnceLock<Lines>,
    },
    Half(Half),
}

/// The panels of a matrix as a product reads them.
#[derive(Clone, Copy)]
pub(super) enum Columns<'a> {
    /// As they are.
    Words(&'a [u32]),
    /// Once they have been widened.
    Half(&'a Half),
}

impl Packed {
    /// Packs a matrix and its bias `[width]`. A matrix that came in sixteen bits a number is kept
    /// so.
    pub fn new(
        matrix: View<'_>,
        bias: Option<&[f32]>,
        precision: Precision,
        row_wise: RowWise,
        stretch: usize,
    ) -> Packed {
        let View { depth, width, .. } = matrix;
        let n_panels = width.div_ceil(PANEL);
        let size = (depth * PANEL).max(1);
        let numbers = match Half::new(precision, [n_panels, depth], row_wise.clone()) {
            Some(mut half) => {
                let (halves, narrow) = half.panels_mut();
                halves.par_chunks_exact_mut(size).take(n_panels).enumerate().for_each_init(
                    || vec![0f32; depth * PANEL],
                    |panel, (i, out)| {
                        matrix.panel(i * PANEL, panel);
                        narrow(panel, out);
                    },
                );
                Numbers::Half(half)
            }
            None => {
                let mut panels = Lines::zeroed(n_panels * depth * PANEL);
                panels.floats_mut().par_chunks_exact_mut(size).enumerate().for_each(|(i, out)| {
                    matrix.panel(i * PANEL, out);
                    row_wise.apply(PANEL, out);
                });
                Numbers::Single { panels, rounded: OnceLock::new() }
            }
        };
        let mut padded = Lines::zeroed(n_panels * PANEL);
        if let Some(bias) = bias {
            padded.floats_mut()[..width].copy_from_slice(bias);
        }
        Packed { depth, width, stretch, numbers, bias: padded }
    }

    /// The number of panels.
    pub fn n_panels(&self) -> usize {
        self.width.div_ceil(PANEL)
    }

    /// `[panels, depth, 32]` f32.
    pub(super) fn columns(&self) -> Columns<'_> {
        match &self.numbers {
            Numbers::Single { panels, .. } => Columns::Words(panels.words()),
            Numbers::Half(half) => Columns::Half(half),
        }
    }

    /// Calls `f` with each panel `[depth, 32]` as the products in f32 read it.
    ///
    /// # Errors
    /// Those of `f`.
    pub fn each_panel<E>(&self, mut f: impl FnMut(&[f32]) -> Result<(), E>) -> Result<(), E> {
        let size = self.depth * PANEL;
        match &self.numbers {
            Numbers::Single { panels, .. } => {
                panels.floats().chunks(size.max(1)).take(self.n_panels()).try_for_each(f)
            }
            #[cfg(target_arch = "x86_64")]
            Numbers::Half(half) => {
                let mut room = Lines::default();
                (0..self.n_panels()).try_for_each(|panel| {
                    half.widen(panel, 0..self.depth, super::half::Form::F32, &mut room);
                    f(&room.floats()[..size])
                })
            }
            #[cfg(not(target_arch = "x86_64"))]
            Numbers::Half(_) => unreachable!("nothing is kept so where there are no tiles"),
        }
    }

    /// Rounded to bf16: `[panels, depth / 2, 32]` pairs where the processor multiplies pairs,
    /// `[panels, depth, 32]` f32 elsewhere.
    pub(super) fn rounded(&self) -> Columns<'_> {
        match &self.numbers {
            Numbers::Single { panels, rounded } => {
                let rounded = rounded.get_or_init(|| {
                    if super::has_bf16_tiles() { self.pairs(panels) } else { rounded_f32(panels) }
                });
                Columns::Words(rounded.words())
            }
            Numbers::Half(half) => Columns::Half(half),
        }
    }

    /// Bytes of what [`Packed::rounded`] makes when it is first asked for.
    pub fn bytes_to_round(&self) -> u64 {
        let numbers = (self.n_panels() * self.depth * PANEL) as u64;
        match &self.numbers {
            Numbers::Single { rounded, .. } if rounded.get().is_none() => {
                if super::has_bf16_tiles() { 2 * numbers } else { 4 * numbers }
            }
            _ => 0,
        }
    }

    fn pairs(&self, panels: &Lines) -> Lines {
        let (from, to) = ((self.depth * PANEL).max(1), (self.depth.div_ceil(2) * PANEL).max(1));
        let mut pairs = Lines::zeroed(self.n_panels() * to);
        let panels = panels.floats().par_chunks_exact(from);
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

    /// One for each column, 0 beyond the last.
    pub fn bias(&self) -> &[f32] {
        self.bias.floats()
    }
}

fn rounded_f32(panels: &Lines) -> Lines {
    let mut rounded = Lines::zeroed(panels.floats().len());
    bf16::round_all(panels.floats(), rounded.floats_mut());
    rounded
}
