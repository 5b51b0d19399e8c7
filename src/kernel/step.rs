//! One training step, from a batch to moved parameters.

use std::time::Instant;

use rayon::prelude::*;

use super::adam::{AdamStep, adam_row};
use super::encode::{BLOCK, BlockEncoder, not_a_number, rows_at_once};
use super::latents::Share;
use super::pool::Pool;
use super::rows::{RowSums, residual_row};
use super::screen::{PackedLatents, PackedRows};
use super::stages::{Stage, Stages};
use super::tiled::{Tiled, write_row};
use super::transpose::ByKey;
use super::{AdamState, Codes, Rates, latents, table};
use crate::error::{Error, Result};
use crate::sae::Sae;
use crate::simd::add_scaled;

/// Buffers that one step leaves for the next; they hold no state.
#[derive(Default)]
pub struct Scratch {
    pub(super) codes: Codes,
    packed: PackedLatents,
    encoders: Pool<BlockEncoder>,
    pub(super) centred: Tiled,           // x − b_dec
    pub(super) residuals: Tiled,         // (2/n)·(x̂ − x)
    pub(super) shares: Vec<Share>,       // the codes by latent
    pub(super) code_gradients: Vec<f32>, // [n, k]
    pub(super) by_latent: ByKey,
    by_token: ByKey,
    pub(super) partial: Vec<f32>,         // [chunks of latents, d_model]
    pub(super) through_encoder: Vec<f32>, // [d_model]
    residual: Vec<f32>,                   // [d_model]: the sum of the residuals
    pub(super) stages: Stages,
}

impl Scratch {
    /// The codes of the last step.
    pub fn codes(&self) -> &Codes {
        &self.codes
    }

    /// Where the time of the steps so far went.
    pub fn stages(&self) -> &Stages {
        &self.stages
    }
}

/// What a step saw before it moved the parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Mean over rows of ‖x̂ − x‖².
    pub loss: f64,
    /// Mean over rows of ‖x̂ − x‖² / (‖x‖² + 1e-4), the authors' NMSE.
    pub nmse: f64,
    /// Mean number of codes per row that are not 0.
    pub l0: f64,
    /// Rows that no screen could decide and that were scored in full.
    pub fallback_rows: usize,
}

/// One step on a CPU; see [`Kernel::train_step`](super::Kernel::train_step).
pub(super) fn train_step(
    sae: &mut Sae,
    state: &mut AdamState,
    x: &[f32],
    rows: &PackedRows,
    tokens: &[u32],
    rates: &Rates,
    scratch: &mut Scratch,
) -> Result<StepReport> {
    let d = sae.d_model();
    let start = Instant::now();
    if let (Some(table), Some(moments)) = (&mut sae.lookup, &mut state.lookup) {
        scratch.by_token.fill(tokens, table.len() / d);
        if let Some(owed) = &mut state.owed {
            owed.catch_up(&scratch.by_token, table, moments);
        }
    }
    scratch.stages.since(Stage::Table, start);
    let report = forward(sae, x, rows, tokens, scratch)?;

    let t = state.steps + 1;
    let adam = AdamStep::new(rates, rates.lr, t);
    let start = Instant::now();
    scratch.by_latent.fill(scratch.codes.latents(), sae.d_sae());
    let start = scratch.stages.since(Stage::Transpose, start);
    let codes = std::mem::take(&mut scratch.codes);
    latents::update(sae, state, &codes, scratch, adam);
    scratch.codes = codes;
    let start = scratch.stages.since(Stage::Gradients, start);

    if let (Some(table), Some(moments)) = (&mut sae.lookup, &mut state.lookup) {
        let adam = AdamStep::new(rates, rates.lookup_lr, t);
        let rows = if state.owed.is_some() { table::Rows::Occurring } else { table::Rows::All };
        table::update(table, moments, &scratch.by_token, &scratch.residuals, d, adam, rows);
        if let Some(owed) = &mut state.owed {
            owed.take_down(adam, &scratch.by_token, table, moments);
        }
    }
    scratch.stages.since(Stage::Table, start);

    add_scaled(&mut scratch.residual, -1.0, &scratch.through_encoder);
    adam_row(adam, &mut sae.b_dec, &mut state.b_dec.m, &mut state.b_dec.v, &scratch.residual);
    state.steps = t;
    Ok(report)
}

/// What some rows leave behind.
#[derive(Default)]
struct Part {
    /// For every block of rows, its sums and the sum of its residuals.
    blocks: Vec<(RowSums, Vec<f32>)>,
    fallback_rows: usize,
    stages: Stages,
}

/// Encodes, decodes, and leaves codes, their gradients, centred rows and scaled residuals in `scratch`.
fn forward(sae: &Sae, x: &[f32], packed_rows: &PackedRows, tokens: &[u32], scratch: &mut Scratch) -> Result<StepReport> {
    let (d, k) = (sae.d_model(), sae.config.k);
    let n = x.len() / d;
    if scratch.codes.n() != n || scratch.codes.k() != k {
        scratch.codes = Codes::zeros(n, k);
        scratch.encoders = Pool::default();
    }
    scratch.centred.resize(n, d);
    scratch.residuals.resize(n, d);
    scratch.code_gradients.resize(n * k, 0.0);
    let start = Instant::now();
    scratch.packed.fill(sae, packed_rows);
    scratch.stages.since(Stage::Pack, start);
    let scale = 2.0 / n as f32;

    let (packed, encoders) = (&scratch.packed, &scratch.encoders);
    let (latents, values) = scratch.codes.arrays_mut();
    let at_once = rows_at_once(n);
    let codes =
        (latents.par_chunks_mut(at_once * k), values.par_chunks_mut(at_once * k), scratch.code_gradients.par_chunks_mut(at_once * k));
    let rows = (scratch.centred.parts_mut(at_once), scratch.residuals.parts_mut(at_once), x.par_chunks(at_once * d));
    let parts: Vec<Result<Part, usize>> = (codes.into_par_iter(), rows.into_par_iter(), tokens.par_chunks(at_once))
        .into_par_iter()
        .enumerate()
        .map(|(turn, ((latents, values, gradients), (centred, residuals, x), tokens))| {
            let mut part = Part::default();
            let mut encoder = encoders.take(BlockEncoder::default);
            part.fallback_rows = encoder.run(sae, packed, packed_rows, turn * at_once, x, latents, values, &mut part.stages)?;
            let start = Instant::now();
            encoder.centred(x.len()).chunks_exact(d).enumerate().for_each(|(i, row)| write_row(centred, i, row));
            let decoder = encoder.decoder();
            let x_hat = decoder.decode(sae, latents, values, tokens);
            for (block, (x_hat, x)) in x_hat.chunks_mut(BLOCK * d).zip(x.chunks(BLOCK * d)).enumerate() {
                let (mut sums, mut residual) = (RowSums::default(), vec![0.0; d]);
                for (i, (r, x)) in x_hat.chunks_exact_mut(d).zip(x.chunks_exact(d)).enumerate() {
                    let one = residual_row(r, x, scale);
                    sums.squared_error += one.squared_error;
                    sums.nmse += one.nmse;
                    add_scaled(&mut residual, 1.0, r);
                    write_row(residuals, block * BLOCK + i, r);
                }
                part.blocks.push((sums, residual));
            }
            decoder.code_gradients(sae, values, gradients);
            encoders.give_back(encoder);
            part.stages.since(Stage::Decode, start);
            Ok(part)
        })
        .collect();

    let (mut total, mut fallback_rows) = (RowSums::default(), 0);
    scratch.residual.clear();
    scratch.residual.resize(d, 0.0);
    for part in parts {
        let part = part.map_err(not_a_number)?;
        for (sums, residual) in &part.blocks {
            total.squared_error += sums.squared_error;
            total.nmse += sums.nmse;
            add_scaled(&mut scratch.residual, 1.0, residual);
        }
        fallback_rows += part.fallback_rows;
        scratch.stages.add_of_threads(&part.stages);
    }
    let loss = total.squared_error / n as f64;
    if !loss.is_finite() {
        let at = "this step: the learning rate may be too high".to_owned();
        return Err(Error::NotFinite { what: "the loss".to_owned(), value: loss as f32, at });
    }
    Ok(StepReport { loss, nmse: total.nmse / n as f64, l0: scratch.codes.l0(), fallback_rows })
}
