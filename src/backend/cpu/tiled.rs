//! Rows `[n, d]` laid out so that a strip of columns of all rows is close together.
//!
//! By latent, the gradients gather rows of the batch in no order, each row some `n·k / d_sae` times
//! for every latent it has. Whole rows of a batch are more than a cache holds, and more pages than
//! a processor keeps addresses of; a strip of [`STRIP`] columns fits both. So the gather goes strip
//! by strip, and within a block of rows a strip is contiguous: `[blocks, strips, BLOCK, STRIP]`.

use std::ops::Range;

use super::encoder::BLOCK;
use crate::backend::ranks::Ranks;
use crate::base::error::Result;
use crate::cpu::memory;

/// Columns of a strip: 24 vectors of sums, which leave eight registers for the rest.
pub(super) const STRIP: usize = 384;

/// The array.
#[derive(Default)]
pub(super) struct Tiled {
    d: usize,
    data: Vec<f32>,
}

impl Tiled {
    /// Makes room for `n` rows of `d`; what it holds is of no meaning.
    pub(super) fn resize(&mut self, n: usize, d: usize) {
        let len = n.next_multiple_of(BLOCK) * d;
        if len > self.data.len() {
            self.data = memory::zeros(len);
        }
        self.d = d;
        self.data.truncate(len);
    }

    /// The storage of some rows, which begin with a block; `at_once` after `at_once`, a whole number
    /// of blocks.
    pub(super) fn parts_mut(
        &mut self,
        rows: Range<usize>,
        at_once: usize,
    ) -> rayon::slice::ChunksMut<'_, f32> {
        let (at, len) = (place_of(rows, self.d), at_once * self.d);
        rayon::slice::ParallelSliceMut::par_chunks_mut(&mut self.data[at], len)
    }

    /// The storage of each block of some rows, which begin with a block.
    pub(super) fn blocks_mut(&mut self, rows: Range<usize>) -> std::slice::ChunksMut<'_, f32> {
        let at = place_of(rows, self.d);
        self.data[at].chunks_mut((BLOCK * self.d).max(1))
    }

    /// Fills in the rows of other ranks.
    pub(super) fn gather(&mut self, n: usize, ranks: &Ranks) -> Result<()> {
        let d = self.d;
        ranks.gather(&mut self.data, n, |rows| place_of(rows, d))
    }

    /// Writes row `row` into `out`, times `scale`.
    pub(super) fn read_row(&self, row: usize, scale: f32, out: &mut [f32]) {
        for (strip, out) in out.chunks_mut(STRIP).enumerate() {
            out.iter_mut()
                .zip(self.piece(row, strip))
                .for_each(|(out, value)| *out = scale * value);
        }
    }

    /// The columns `strip·STRIP..` of row `row`.
    #[inline(always)]
    pub(super) fn piece(&self, row: usize, strip: usize) -> &[f32] {
        let width = STRIP.min(self.d - strip * STRIP);
        &self.data[row / BLOCK * BLOCK * self.d + strip * STRIP * BLOCK + row % BLOCK * width..]
            [..width]
    }

    /// How many strips there are.
    pub(super) fn strips(&self) -> usize {
        self.d.div_ceil(STRIP)
    }
}

/// Where rows are that begin with a block, and end with one or are the last.
fn place_of(rows: Range<usize>, d: usize) -> Range<usize> {
    rows.start.next_multiple_of(BLOCK) * d..rows.end.next_multiple_of(BLOCK) * d
}

/// Writes the row that is the `i`-th of a part into the part's storage.
pub(super) fn write_row(part: &mut [f32], i: usize, row: &[f32]) {
    let (block, i) = (&mut part[i / BLOCK * BLOCK * row.len()..], i % BLOCK);
    for (strip, piece) in row.chunks(STRIP).enumerate() {
        block[strip * STRIP * BLOCK + i * piece.len()..][..piece.len()].copy_from_slice(piece);
    }
}

#[cfg(test)]
mod tests {
    use rayon::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_by_row_is_read_by_strip() {
        for (n, d) in [(1, 3), (BLOCK, 256), (2 * BLOCK + 5, 600)] {
            let rows: Vec<f32> = (0..n * d).map(|i| i as f32).collect();
            let mut tiled = Tiled::default();
            tiled.resize(n, d);
            tiled.parts_mut(0..n, 2 * BLOCK).zip(rows.par_chunks(2 * BLOCK * d)).for_each(
                |(part, rows)| {
                    rows.chunks_exact(d).enumerate().for_each(|(i, row)| write_row(part, i, row));
                },
            );
            for row in 0..n {
                let read: Vec<f32> = (0..tiled.strips())
                    .flat_map(|strip| tiled.piece(row, strip).to_vec())
                    .collect();
                assert_eq!(read, rows[row * d..][..d]);
            }
        }
    }
}
