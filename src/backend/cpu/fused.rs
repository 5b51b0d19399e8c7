//! The forward pass of a TopK SAE: encoded, decoded and turned into gradients some rows at a time,
//! while they are in cache.

use std::time::Instant;

use rayon::prelude::*;

use super::activate::clamp;
use super::encode::{BlockEncoder, not_a_number, rows_at_once};
use super::encoder::{BLOCK, Encoder};
use super::pool::Pool;
use super::reconstruct::Reconstruction;
use super::rows::{RowSums, residual_row};
use super::screen::{PackedLatents, PackedRows};
use super::stages::{Stage, Stages};
use super::tiled::{Tiled, write_row};
use crate::base::error::Result;
use crate::cpu::simd::add_scaled;
use crate::sae::Sae;
use crate::sae::{Codes, Keys};

/// Buffers that one batch leaves for the next.
#[derive(Default)]
pub(super) struct Fused {
    packed: PackedLatents,
    encoders: Pool<BlockEncoder>,
}

/// What some rows leave behind.
#[derive(Default)]
struct Part {
    /// For every block of rows, its sums and the sum of its residuals.
    blocks: Vec<(RowSums, Vec<f32>)>,
    fallback_rows: usize,
    stages: Stages,
}

impl Fused {
    /// Encodes and decodes `x`: leaves codes, centred rows, residuals times `2/n`, and the
    /// gradients of the codes. Returns how many rows were scored in full.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn forward(
        &mut self,
        sae: &Sae,
        x: &[f32],
        packed_rows: &PackedRows,
        keys: &Keys<'_>,
        codes: &mut Codes,
        centred: &mut Tiled,
        recon: &mut Reconstruction,
        stages: &mut Stages,
    ) -> Result<usize> {
        let (d, k) = (sae.d_model(), sae.config.k);
        let n = x.len() / d;
        if !codes.is_even(n, k) {
            *codes = Codes::zeros(n, k);
            self.encoders = Pool::default();
        }
        centred.resize(n, d);
        recon.residuals.resize_with(1, Tiled::default);
        recon.residuals[0].resize(n, d);
        recon.gradients.resize(n * k, 0.0);
        let start = Instant::now();
        let encoder = Encoder::of(sae);
        self.packed.fill(encoder, packed_rows);
        stages.since(Stage::Pack, start);
        let scale = 2.0 / n as f32;

        let (packed, encoders) = (&self.packed, &self.encoders);
        let (latents, values) = codes.arrays_mut();
        let at_once = rows_at_once(n);
        let of_codes = (
            latents.par_chunks_mut(at_once * k),
            values.par_chunks_mut(at_once * k),
            recon.gradients.par_chunks_mut(at_once * k),
        );
        let rows = (
            centred.parts_mut(at_once),
            recon.residuals[0].parts_mut(at_once),
            x.par_chunks(at_once * d),
        );
        let parts: Vec<Result<Part, usize>> = (of_codes.into_par_iter(), rows.into_par_iter())
            .into_par_iter()
            .enumerate()
            .map(|(turn, ((latents, values, gradients), (centred, residuals, x)))| {
                let mut part = Part::default();
                let mut block = encoders.take(BlockEncoder::default);
                part.fallback_rows = block.largest(
                    encoder,
                    packed,
                    packed_rows,
                    turn * at_once,
                    x,
                    latents,
                    values,
                    &mut part.stages,
                )?;
                let start = Instant::now();
                clamp(sae, values);
                block
                    .centred(x.len())
                    .chunks_exact(d)
                    .enumerate()
                    .for_each(|(i, row)| write_row(centred, i, row));
                let decoder = block.decoder();
                let x_hat = decoder.decode(sae, latents, values, keys, turn * at_once);
                for (block, (x_hat, x)) in
                    x_hat.chunks_mut(BLOCK * d).zip(x.chunks(BLOCK * d)).enumerate()
                {
                    let (mut sums, mut residual) = (RowSums::default(), vec![0.0; d]);
                    for (i, (r, x)) in x_hat.chunks_exact_mut(d).zip(x.chunks_exact(d)).enumerate()
                    {
                        sums.add(residual_row(r, x, scale));
                        add_scaled(&mut residual, 1.0, r);
                        write_row(residuals, block * BLOCK + i, r);
                    }
                    part.blocks.push((sums, residual));
                }
                decoder.code_gradients(sae, values, gradients);
                encoders.give_back(block);
                part.stages.since(Stage::Decode, start);
                Ok(part)
            })
            .collect();

        (recon.sums, recon.squared_errors) = (RowSums::default(), 0.0);
        recon.residual.clear();
        recon.residual.resize(d, 0.0);
        let mut fallback_rows = 0;
        for part in parts {
            let part = part.map_err(not_a_number)?;
            for (sums, residual) in &part.blocks {
                recon.sums.add(*sums);
                add_scaled(&mut recon.residual, 1.0, residual);
            }
            fallback_rows += part.fallback_rows;
            stages.add_of_threads(&part.stages);
        }
        recon.squared_errors = recon.sums.squared_error;
        Ok(fallback_rows)
    }
}
