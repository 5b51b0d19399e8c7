//! From rows to codes: packed, screened part by part, scored again and selected.

use super::batch::Batch;
use super::resident::Resident;
use super::sizes::Sizes;
use super::work::Work;
use super::{IN_FULL, TILE, width};
use crate::backend::cpu::screen::Exactness;
use crate::base::error::Result;
use crate::device::{Shape, launch};

impl Resident {
    /// Lists, for every row, the latents that can be among its k largest.
    pub(super) fn screen(&self, batch: &Batch, work: &Work, sizes: &Sizes) -> Result<()> {
        let Sizes { n, d, d_sae, k, first, room, .. } = *sizes;
        launch!(
            self.device,
            "pack_latents",
            Shape::blocks(d_sae.div_ceil(8), 256),
            [
                &self.w_enc.w,
                &self.b_enc.w,
                &batch.mean,
                &self.b_dec.w,
                &batch.is_outlier,
                &batch.outliers,
                d_sae,
                d,
                width(d),
                sizes.exactness == Exactness::Proven,
                sizes.rounding(),
                &work.bytes,
                &work.scales,
                &work.outlier_values,
                &work.offset_norm,
                &work.report,
            ]
        )?;
        let (mut from, mut to) = (0, first);
        while from < d_sae {
            let grid = [(to - from).div_ceil(TILE) as u32, n.div_ceil(TILE) as u32];
            launch!(
                self.device,
                "screen",
                Shape { grid, block: 256, shared: 0 },
                [
                    &batch.bytes,
                    &work.bytes,
                    &batch.scales,
                    &work.scales,
                    &batch.outlier_values,
                    &work.outlier_values,
                    &batch.outliers,
                    &work.offset_norm,
                    n,
                    d_sae,
                    width(d),
                    from,
                    to,
                    room,
                    &work.bars,
                    &work.counts,
                    &work.listed,
                    &work.bounds,
                ]
            )?;
            let seen = if from == 0 { first } else { 0 };
            launch!(
                self.device,
                "raise_bars",
                Shape::blocks(n.div_ceil(8), 256),
                [
                    n,
                    k,
                    room,
                    seen,
                    &batch.scales,
                    &work.report,
                    &work.bars,
                    &work.counts,
                    &work.listed,
                    &work.bounds
                ]
            )?;
            (from, to) = (to, (4 * to).min(d_sae));
        }
        Ok(())
    }

    /// The k largest of every row.
    pub(super) fn select(&self, batch: &Batch, work: &Work, sizes: &Sizes) -> Result<()> {
        let Sizes { n, d, d_sae, k, room, keep, relu, .. } = *sizes;
        launch!(
            self.device,
            "select_codes",
            Shape::blocks(n, 128).with_shared(d.next_multiple_of(4) + 3 * keep),
            [
                &batch.x,
                &self.w_enc.w,
                &self.b_enc.w,
                &self.b_dec.w,
                &work.bars,
                &work.counts,
                &work.listed,
                d,
                k,
                room,
                keep,
                relu,
                &work.latents,
                &work.values,
                &work.pending,
                &work.report,
            ]
        )?;
        launch!(
            self.device,
            "select_in_full",
            Shape::blocks(IN_FULL.min(n), 256).with_shared(d.next_multiple_of(4)),
            [
                &batch.x,
                &self.w_enc.w,
                &self.b_enc.w,
                &self.b_dec.w,
                d,
                d_sae,
                k,
                relu,
                &work.pending,
                &work.all_scores,
                &work.latents,
                &work.values,
                &work.report,
            ]
        )
    }
}
