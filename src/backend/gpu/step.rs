//! One training step: the kernels in their order.

use super::batch::Batch;
use super::device::{Buffer, Shape, launch};
use super::resident::{Learned, Resident};
use super::work::Work;
use super::{BLOCK, CHUNK, IN_FULL, Report, Sizes, TILE, WARPS_IN_ORDER, width};
use crate::backend::adam::{AdamStep, Rates};
use crate::backend::cpu::encode::not_a_number;
use crate::backend::cpu::screen::Exactness;
use crate::backend::cpu::step::{StepReport, overflowed};
use crate::base::error::Result;
use crate::sae::{Codes, Keys};

impl Resident {
    /// Moves the parameters one step down the gradient of their loss on a batch, unless that is not
    /// finite, and leaves its codes.
    pub(super) fn step(
        &mut self,
        batch: &Batch,
        keys: &Keys<'_>,
        rates: &Rates,
        sizes: &Sizes,
        exactness: Exactness,
        codes: &mut Codes,
    ) -> Result<StepReport> {
        let work = match self.work.take().filter(|work| work.n == batch.n) {
            Some(work) => work,
            None => Work::new(&self.device, sizes)?,
        };
        work.report.write(&Report::EMPTY)?;
        if let Some(table) = &mut self.table {
            table.look_at(keys, sizes.d)?;
        }
        self.screen(batch, &work, sizes, exactness)?;
        self.select(batch, &work, sizes)?;
        self.decode(batch, &work, sizes)?;
        self.sort(&work, sizes)?;
        let adam = |lr| AdamStep::new(rates, lr, self.steps + 1);
        let of_table = adam(rates.lookup_lr);
        self.update(batch, &work, sizes, adam(rates.lr), adam(rates.bias_lr))?;
        if let Some(table) = &self.table {
            table.update(&work.residuals, sizes.d, of_table, &work.report)?;
        }

        let mut report = Report::EMPTY;
        work.report.read(&mut report)?;
        let report = Report::of(report);
        let n = sizes.n;
        if report.bad_row != u32::MAX {
            self.work = Some(work);
            return Err(not_a_number(report.bad_row as usize));
        }
        let loss = report.squared_error / n as f64;
        if report.stop {
            self.work = Some(work);
            return Err(overflowed(loss));
        }
        if !codes.is_even(n, sizes.k) {
            *codes = Codes::zeros(n, sizes.k);
        }
        let (latents, values) = codes.arrays_mut();
        work.latents.read(latents)?;
        work.values.read(values)?;
        if let Some(table) = &mut self.table {
            table.record(of_table, sizes.d)?;
        }
        self.steps += 1;
        self.ahead = [true; 2];
        self.work = Some(work);
        Ok(StepReport {
            loss,
            objective: report.squared_error / n as f64,
            nmse: report.nmse / n as f64,
            l0: codes.l0(),
            fallback_rows: report.in_full as usize,
        })
    }

    /// Lists, for every row, the latents that can be among its k largest.
    fn screen(
        &self,
        batch: &Batch,
        work: &Work,
        sizes: &Sizes,
        exactness: Exactness,
    ) -> Result<()> {
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
                exactness == Exactness::Proven,
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
    fn select(&self, batch: &Batch, work: &Work, sizes: &Sizes) -> Result<()> {
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

    /// Residuals, the gradients of the codes, and the sums over rows.
    fn decode(&self, batch: &Batch, work: &Work, sizes: &Sizes) -> Result<()> {
        let Sizes { n, d, k, relu, .. } = *sizes;
        let nothing = Buffer::<u32>::new(&self.device, 0)?;
        launch!(
            self.device,
            "decode",
            Shape::blocks(n, 128).with_shared(d.next_multiple_of(4) + 2 * k.next_multiple_of(4)),
            [
                &batch.x,
                self.table.as_ref().map_or(&nothing, |table| &table.tokens),
                &self.w_dec.w,
                &self.b_dec.w,
                self.table.as_ref().map(|table| table.rows()),
                &work.latents,
                &work.values,
                d,
                k,
                relu,
                2.0 / n as f32,
                &work.residuals,
                &work.gradients,
                &work.errors,
                &work.norms,
            ]
        )?;
        launch!(
            self.device,
            "sum_rows",
            Shape::blocks(1, 256),
            [&work.errors, &work.norms, n, &work.sums, &work.report]
        )?;
        launch!(
            self.device,
            "residual_sums",
            Shape::columns(d, n.div_ceil(BLOCK)),
            [&work.residuals, n, d, &work.residual_sums]
        )
    }

    /// The codes by latent.
    fn sort(&self, work: &Work, sizes: &Sizes) -> Result<()> {
        let Sizes { n, d_sae, k, .. } = *sizes;
        let (codes, words) = (n * k, n.div_ceil(32));
        work.of_latents.clear()?;
        launch!(
            self.device,
            "count_codes",
            Shape::blocks(codes.div_ceil(256), 256),
            [&work.latents, codes, &work.of_latents, &work.report]
        )?;
        launch!(
            self.device,
            "scan",
            Shape::blocks(1, 1024),
            [&work.of_latents, d_sae, &work.starts, &work.places]
        )?;
        launch!(
            self.device,
            "lay_codes",
            Shape::blocks(codes.div_ceil(256), 256),
            [&work.latents, codes, &work.places, &work.laid, &work.report]
        )?;
        launch!(
            self.device,
            "order_codes",
            Shape::blocks(d_sae.div_ceil(WARPS_IN_ORDER), 128)
                .with_shared(WARPS_IN_ORDER * 2 * words),
            [
                &work.starts,
                &work.laid,
                &work.values,
                &work.gradients,
                k,
                d_sae,
                words,
                &work.ordered,
                &work.bias_gradients,
                &work.report,
            ]
        )
    }

    /// Moves all but the table.
    fn update(
        &self,
        batch: &Batch,
        work: &Work,
        sizes: &Sizes,
        adam: AdamStep,
        of_biases: AdamStep,
    ) -> Result<()> {
        let Sizes { n, d, d_sae, .. } = *sizes;
        let (blocks, chunks) = (n.div_ceil(BLOCK), d_sae.div_ceil(CHUNK));
        let (Learned { w: w_enc, m: m_enc, v: v_enc }, Learned { w: w_dec, m: m_dec, v: v_dec }) =
            (&self.w_enc, &self.w_dec);
        launch!(
            self.device,
            "through_encoder",
            Shape::columns(d, chunks),
            [w_enc, &work.bias_gradients, d_sae, d, &work.through, &work.report]
        )?;
        launch!(
            self.device,
            "move_latents",
            Shape::blocks(d_sae, (d.div_ceil(128) as u32 * 32).min(256)),
            [
                &work.starts,
                &work.ordered,
                &batch.x,
                &self.b_dec.w,
                &work.residuals,
                d,
                adam,
                w_enc,
                m_enc,
                v_enc,
                w_dec,
                m_dec,
                v_dec,
                &work.report,
            ]
        )?;
        self.move_b_enc(&work.bias_gradients, of_biases, &work.report)?;
        let Learned { w, m, v } = &self.b_dec;
        launch!(
            self.device,
            "move_b_dec",
            Shape::blocks(d.div_ceil(32), 32),
            [
                &work.residual_sums,
                blocks,
                &work.through,
                chunks,
                d,
                of_biases,
                w,
                m,
                v,
                &work.report
            ]
        )
    }
}
