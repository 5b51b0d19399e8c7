//! What rows add up to: block by block, and the blocks in order, whoever computed them.

use super::encoder::BLOCK;
use super::reconstruct::Reconstruction;
use super::rows::{BlockSums, RowSums};
use crate::backend::ranks::Ranks;
use crate::base::error::Result;
use crate::cpu::simd::add_scaled;

impl Reconstruction {
    /// Adds up what all blocks of `n` rows leave, of which `own` are this rank's.
    pub(super) fn add_up(
        &mut self,
        own: &[BlockSums],
        n: usize,
        d: usize,
        ranks: &Ranks,
    ) -> Result<()> {
        (self.sums, self.squared_errors) = (RowSums::default(), 0.0);
        self.residual.clear();
        self.residual.resize(d, 0.0);
        let mut add = |sums: RowSums, squared_errors: f64, residual: &[f32]| {
            self.sums.add(sums);
            self.squared_errors += squared_errors;
            add_scaled(&mut self.residual, 1.0, residual);
        };
        if ranks.size() == 1 {
            own.iter().for_each(|block| add(block.sums, block.squared_errors, &block.residual));
            return Ok(());
        }
        let blocks = n.div_ceil(BLOCK);
        let (mut sums, mut residuals) = (vec![0.0f64; 3 * blocks], vec![0.0f32; d * blocks]);
        let first = ranks.rows(n).start / BLOCK;
        let rows =
            sums[3 * first..].chunks_exact_mut(3).zip(residuals[d * first..].chunks_exact_mut(d));
        for (block, (sums, residual)) in own.iter().zip(rows) {
            let BlockSums { sums: RowSums { squared_error, nmse }, squared_errors, .. } = *block;
            sums.copy_from_slice(&[squared_error, nmse, squared_errors]);
            residual.copy_from_slice(&block.residual);
        }
        let blocks_of = |wide: usize| {
            move |rows: std::ops::Range<usize>| {
                rows.start.div_ceil(BLOCK) * wide..rows.end.div_ceil(BLOCK) * wide
            }
        };
        ranks.gather(&mut sums, n, blocks_of(3))?;
        ranks.gather(&mut residuals, n, blocks_of(d))?;
        for (sums, residual) in sums.chunks_exact(3).zip(residuals.chunks_exact(d)) {
            let of_rows = RowSums { squared_error: sums[0], nmse: sums[1] };
            add(of_rows, sums[2], residual);
        }
        Ok(())
    }
}
