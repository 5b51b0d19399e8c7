//! A product of rows with a packed matrix, and what happens to a tile's sums.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::cut::{Cut, share, spread};
use super::half::Form;
use super::pack::{Columns, STRETCH};
use super::target::Target;
use super::{Activation, Compute, Lines, Out, Packed, Rows, bf16, has_bf16_tiles};
use crate::cpu::simd::tile::{PANEL, ROWS, bf16_tile, f32_tile};
use crate::cpu::simd::vectorised;

/// The sums of a tile.
pub(super) type Sums = [[f32; PANEL]; ROWS];

impl Packed {
    /// `activation(rows · matrix + bias)`, both operands rounded as `compute` says, on all threads.
    ///
    /// The processor must [have tiles](super::has_tiles).
    ///
    /// # Panics
    /// If rows, matrix and output do not fit together: a bug of the caller, as is giving bf16 rows
    /// to a product in f32.
    pub fn multiply(&self, rows: Rows<'_>, out: Out<'_>, activation: Activation, compute: Compute) {
        assert!(super::has_tiles(), "a processor without tiles");
        let rounded;
        let (rows, columns, form) = match (rows, compute) {
            (Rows::F32(x), Compute::F32) => (as_words(x), self.columns(), Form::F32),
            (Rows::Bf16(x), Compute::Bf16) if has_bf16_tiles() => (x, self.rounded(), Form::Pairs),
            (Rows::F32(x), Compute::Bf16) => {
                rounded = round(x, self.depth);
                (
                    rounded.words(),
                    self.rounded(),
                    if has_bf16_tiles() { Form::Pairs } else { Form::Rounded },
                )
            }
            (Rows::Bf16(_), _) => panic!("rows of bf16 for a product in f32"),
        };
        let words = if form == Form::Pairs { self.depth.div_ceil(2) } else { self.depth };
        let target = Target::of(out, self.width);
        let n = target.n;
        assert!(rows.len() >= n * words, "rows that do not fit");
        let stretches = words.div_ceil(if form == Form::F32 { self.stretch } else { STRETCH });
        let job = Job { matrix: self, columns, rows, words, stretches, form, activation };
        if n == 0 || words == 0 || self.width == 0 {
            return job.of_nothing(&target);
        }
        let cut = Cut::of(n, words, stretches, self.n_panels(), 2 * n * self.depth * self.width);
        let task = |task: usize| {
            let (block, group) = (task % cut.blocks, task / cut.blocks);
            job.part(
                share(n, cut.blocks, block),
                share(self.n_panels(), cut.groups, group),
                &target,
            );
        };
        if cut.alone {
            (0..cut.blocks * cut.groups).for_each(task);
        } else {
            (0..cut.blocks * cut.groups).into_par_iter().with_max_len(1).for_each(task);
        }
    }
}

/// The numbers as they lie in memory.
pub(super) fn as_words(x: &[f32]) -> &[u32] {
    bytemuck::cast_slice(x)
}

/// Rows rounded to bf16, as [`Packed::rounded`] is.
fn round(x: &[f32], depth: usize) -> Lines {
    const ROWS_AT_ONCE: usize = 64;
    if depth == 0 {
        return Lines::default();
    }
    let pairs = has_bf16_tiles();
    let words = if pairs { depth.div_ceil(2) } else { depth };
    let mut rounded = Lines::zeroed(x.len() / depth * words);
    let to = rounded.words_mut().par_chunks_mut(ROWS_AT_ONCE * words);
    to.zip(x.par_chunks(ROWS_AT_ONCE * depth)).for_each(|(out, x)| {
        for (out, x) in out.chunks_mut(words).zip(x.chunks_exact(depth)) {
            if pairs {
                bf16::pair_up(x, out)
            } else {
                bf16::round_all(x, bytemuck::cast_slice_mut(out))
            }
        }
    });
    rounded
}

/// What a thread works in.
#[derive(Default)]
struct Desk {
    /// Sums kept between stretches.
    kept: Vec<f32>,
    /// A stretch of a block's rows.
    rows: Lines,
    /// A stretch of a panel that had to be widened.
    column: Lines,
}

thread_local! {
    /// No task of a product begins another.
    static DESK: RefCell<Desk> = RefCell::default();
}

/// A product under way.
struct Job<'a> {
    matrix: &'a Packed,
    columns: Columns<'a>,
    rows: &'a [u32],
    /// Words of a row, and of a column.
    words: usize,
    /// Parts of them that are summed up one by one.
    stretches: usize,
    form: Form,
    activation: Activation,
}

impl Job<'_> {
    /// A product of rows of no numbers: the bias alone.
    fn of_nothing(&self, target: &Target<'_>) {
        for row in 0..target.n {
            for panel in 0..self.matrix.n_panels() {
                finish(
                    &mut [[0.0; PANEL]],
                    &self.matrix.bias()[panel * PANEL..][..PANEL],
                    self.activation,
                    target,
                    [row, panel * PANEL],
                );
            }
        }
    }

    /// The part of the product that lies in some rows and some panels.
    fn part(&self, rows: Range<usize>, panels: Range<usize>, target: &Target<'_>) {
        let stretches = self.stretches;
        DESK.with_borrow_mut(|Desk { kept, rows: copied, column }| {
            if stretches > 1 {
                kept.resize((rows.len() * panels.len() * PANEL).max(kept.len()), 0.0);
            }
            for stretch in 0..stretches {
                let words = share(self.words, stretches, stretch);
                let block = Block::of(self, rows.clone(), words.clone(), copied);
                for panel in panels.clone() {
                    let kept = kept
                        .get_mut((panel - panels.start) * rows.len() * PANEL..)
                        .unwrap_or_default();
                    self.panel(&block, panel, words.clone(), kept, column, target);
                }
            }
        });
    }

    /// One stretch of one panel. `kept` holds the sums of the stretches before, if there are any.
    fn panel(
        &self,
        block: &Block<'_>,
        panel: usize,
        words: Range<usize>,
        kept: &mut [f32],
        room: &mut Lines,
        target: &Target<'_>,
    ) {
        let (column, next) = match self.columns {
            Columns::Words(panels) => {
                let next =
                    panels.as_ptr().wrapping_add(((panel + 1) * self.words + words.start) * PANEL);
                (&panels[(panel * self.words + words.start) * PANEL..][..words.len() * PANEL], next)
            }
            Columns::Half(half) => {
                half.widen(panel, words.clone(), self.form, room);
                (&room.words()[..words.len() * PANEL], half.place(panel + 1, words.start))
            }
        };
        let tiles = block.n.div_ceil(ROWS);
        let mut sums: Sums = [[0.0; PANEL]; ROWS];
        for tile in 0..tiles {
            let within = share(block.n, tiles, tile);
            let n = within.len();
            tile_sums(
                self.form == Form::Pairs,
                n,
                [&block.data[within.start * block.stride..], column],
                block.stride,
                words.len(),
                next.wrapping_add(tile * 4 * words.len()),
                &mut sums,
            );
            let sums = &mut sums[..n];
            if words.start > 0 {
                add(sums.as_flattened_mut(), &kept[within.start * PANEL..][..n * PANEL]);
            }
            if words.end < self.words {
                kept[within.start * PANEL..][..n * PANEL].copy_from_slice(sums.as_flattened());
            } else {
                let at = [block.first + within.start, panel * PANEL];
                finish(
                    sums,
                    &self.matrix.bias()[panel * PANEL..][..PANEL],
                    self.activation,
                    target,
                    at,
                );
            }
        }
    }
}

/// A stretch of some rows.
struct Block<'a> {
    data: &'a [u32],
    stride: usize,
    /// The first of the rows, among all of the product.
    first: usize,
    n: usize,
}

impl<'a> Block<'a> {
    /// The rows where they lie, or copied into `room` if they lie badly.
    fn of(
        job: &Job<'a>,
        rows: Range<usize>,
        words: Range<usize>,
        room: &'a mut Lines,
    ) -> Block<'a> {
        let (first, n) = (rows.start, rows.len());
        let Some(stride) = spread(job.words).filter(|_| n > 1) else {
            return Block {
                data: &job.rows[first * job.words + words.start..],
                stride: job.words,
                first,
                n,
            };
        };
        room.hold(n * stride);
        for (to, row) in room.words_mut().chunks_exact_mut(stride).zip(rows) {
            to[..words.len()]
                .copy_from_slice(&job.rows[row * job.words + words.start..][..words.len()]);
        }
        Block { data: room.words(), stride, first, n }
    }
}

vectorised! {
    /// `y += x`.
    fn add(y: &mut [f32], x: &[f32]) {
        y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
    }
}

vectorised! {
    /// Adds the bias, applies the activation, and puts the tile's sums where they belong: from row
    /// and column `at`.
    fn finish(sums: &mut [[f32; PANEL]], bias: &[f32], activation: Activation, target: &Target<'_>, at: [usize; 2]) {
        let [row, column] = at;
        for (r, sums) in sums.iter_mut().enumerate() {
            for (x, b) in sums.iter_mut().zip(bias) {
                *x += b;
            }
            activation.apply(sums);
            if let Some((by, width)) = target.gate {
                let by = &by[(row + r) * width..][column..width.min(column + PANEL)];
                sums.iter_mut().zip(by).for_each(|(x, by)| *x *= by);
            }
            // Of an odd number of bf16, a 0 goes beyond the last.
            let n = PANEL.min(target.stride - column);
            // SAFETY: `row + r` and `column..column + n` lie in the output, and in this task's part
            // of it.
            unsafe {
                // The whole panel has a length that the compiler knows.
                if n == PANEL { target.put(row + r, column, sums) } else { target.put(row + r, column, &sums[..n]) }
            }
        }
    }
}

/// The products of `n` rows with the columns of a panel, while something is fetched from `ahead`
/// on; see [`crate::cpu::simd::tile`].
#[inline]
pub(super) fn tile_sums(
    pairs: bool,
    n: usize,
    [rows, panel]: [&[u32]; 2],
    stride: usize,
    words: usize,
    ahead: *const u32,
    sums: &mut Sums,
) {
    assert!(
        (1..=ROWS).contains(&n)
            && rows.len() >= (n - 1) * stride + words
            && panel.len() >= words * PANEL,
        "a tile that does not fit"
    );
    // SAFETY: the ranges are those just asserted. The processor has the instructions: `multiply`
    // and `causal` check for tiles, and there are pairs only where it multiplies them.
    unsafe {
        if pairs {
            bf16_sums(n, rows.as_ptr(), panel.as_ptr(), stride, words, ahead, sums);
        } else {
            f32_sums(n, rows.as_ptr(), panel.as_ptr(), stride, words, ahead, sums);
        }
    }
}

macro_rules! sums_of {
    ($name:ident, $tile:ident, $features:literal: $($height:literal)*) => {
        /// # Safety
        /// As for the tile.
        #[target_feature(enable = $features)]
        unsafe fn $name(n: usize, rows: *const u32, panel: *const u32, stride: usize, words: usize, ahead: *const u32, sums: &mut Sums) {
            match n {
                // SAFETY: the caller grants what the tile needs. A vector of sixteen f32 is an
                // array of them.
                $($height => unsafe {
                    let of_tile: [[[f32; 16]; 2]; $height] = std::mem::transmute($tile::<$height>(rows, stride, panel, words, ahead));
                    sums.as_flattened_mut()[..$height * PANEL].copy_from_slice(of_tile.as_flattened().as_flattened());
                },)*
                _ => unreachable!("a tile has 1 to 14 rows"),
            }
        }
    };
}
sums_of!(f32_sums, f32_tile, "avx512f": 1 2 3 4 5 6 7 8 9 10 11 12 13 14);
sums_of!(bf16_sums, bf16_tile, "avx512f,avx512bf16": 1 2 3 4 5 6 7 8 9 10 11 12 13 14);
