//! One training step: the kernels in their order.

use super::batch::Batch;
use super::learned::Learned;
use super::resident::Resident;
use super::sizes::Sizes;
use super::work::Work;
use super::{BLOCK, CHUNK, Report, WARPS_IN_ORDER};
use crate::backend::adam::{AdamStep, Rates};
use crate::backend::cpu::encode::not_a_number;
use crate::backend::cpu::step::{StepReport, overflowed};
use crate::base::error::Result;
use crate::device::{Buffer, Shape, launch};
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
        codes: &mut Codes,
    ) -> Result<StepReport> {
        let mut work = match self.work.take().filter(|work| work.capacity >= batch.n) {
            Some(work) => work,
            None => Work::new(&self.device, sizes)?,
        };
        batch.arrive(sizes.exactness)?;
        let report = self.step_in(&mut work, batch, keys, rates, sizes, codes);
        self.work = Some(work);
        report
    }

    /// The same, in buffers that have room for it.
    fn step_in(
        &mut self,
        work: &mut Work,
        batch: &Batch,
        keys: &Keys<'_>,
        rates: &Rates,
        sizes: &Sizes,
        codes: &mut Codes,
    ) -> Result<StepReport> {
        work.report.write(&Report::EMPTY)?;
        if let Some(table) = &mut self.table {
            table.look_at(keys, sizes.d)?;
        }
        if let (Some(left), Some(table)) = (&mut work.left, &self.table) {
            left.fill_without(batch, &table.tokens, table.rows(), sizes.exactness)?;
        }
        let work = &*work;
        let input = work.left.as_ref().unwrap_or(batch); // what the encoder reads
        self.screen(input, work, sizes)?;
        self.select(input, work, sizes)?;
        self.decode(batch, work, sizes)?;
        self.sort(work, sizes)?;
        let of_table = self.of_table(work, sizes)?;
        let adam = |lr| AdamStep::new(rates, lr, self.steps + 1);
        let adam_of_table = adam(rates.lookup_lr);
        self.update(input, work, sizes, adam(rates.lr), adam(rates.bias_lr))?;
        if let Some(table) = &self.table {
            table.update(of_table, sizes.d, adam_of_table, &work.report)?;
        }

        let (n, mut report) = (sizes.n, Report::EMPTY);
        let mut seen = std::mem::take(codes);
        if !seen.is_even(n, sizes.k) {
            seen = Codes::zeros(n, sizes.k);
        }
        let (latents, values) = seen.arrays_mut();
        // Here a step waits for the device, and nowhere else. One that fails leaves no codes.
        self.device.read_many(&mut [
            work.report.onto(&mut report),
            work.latents.onto(latents),
            work.values.onto(values),
        ])?;
        let report = Report::of(report);
        if report.bad_row != u32::MAX {
            return Err(not_a_number(report.bad_row as usize));
        }
        let loss = report.squared_error / n as f64;
        if report.stop {
            return Err(overflowed(loss));
        }
        *codes = seen;
        if let Some(table) = &mut self.table {
            table.record(adam_of_table, sizes.d)?;
        }
        self.steps += 1;
        self.ahead = [true; 2];
        Ok(StepReport {
            loss,
            objective: loss,
            nmse: report.nmse / n as f64,
            l0: codes.l0(),
            fallback_rows: report.in_full as usize,
        })
    }

    /// Residuals, the gradients of the codes, and the sums over rows.
    fn decode(&self, batch: &Batch, work: &Work, sizes: &Sizes) -> Result<()> {
        let Sizes { n, d, k, relu, .. } = *sizes;
        launch!(
            self.device,
            "decode",
            Shape::blocks(n, 128).with_shared(d.next_multiple_of(4) + 2 * k.next_multiple_of(4)),
            [
                &batch.x,
                self.table.as_ref().map(|table| &table.tokens),
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
                &work.report,
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

    /// What the table's gradients are made of: the residuals, less what comes back through the
    /// encoder if the table is subtracted before it.
    fn of_table<'a>(&self, work: &'a Work, sizes: &Sizes) -> Result<&'a Buffer<f32>> {
        if work.of_table.len() == 0 {
            return Ok(&work.residuals);
        }
        launch!(
            self.device,
            "less_what_returns",
            Shape::blocks(sizes.n, 128).with_shared(2 * sizes.k),
            [
                &work.residuals,
                &self.w_enc.w,
                &work.latents,
                &work.gradients,
                sizes.d,
                sizes.k,
                &work.of_table,
                &work.report
            ]
        )?;
        Ok(&work.of_table)
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
