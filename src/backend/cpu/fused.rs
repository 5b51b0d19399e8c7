//! The forward pass of a TopK SAE: encoded, decoded and turned into gradients some rows at a time,
//! while they are in cache.

use std::ops::Range;
use std::time::Instant;

use rayon::prelude::*;

use super::activate::clamp;
use super::encode::{BlockEncoder, fill_centred, rows_at_once, scored_in_full};
use super::encoder::{BLOCK, Encoder};
use super::pool::Pool;
use super::reconstruct::Reconstruction;
use super::rows::BlockSums;
use super::screen::{PackedLatents, PackedRows};
use super::stages::{Stage, Stages};
use super::tiled::{Tiled, write_row};
use crate::backend::ranks::Ranks;
use crate::base::error::Result;
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
    blocks: Vec<BlockSums>,
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
        ranks: &Ranks,
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
        let own = ranks.rows(n);
        let at_once = rows_at_once(own.len());
        let at = own.start * k..own.end * k;
        let of_codes = (
            latents[at.clone()].par_chunks_mut(at_once * k),
            values[at.clone()].par_chunks_mut(at_once * k),
            recon.gradients[at].par_chunks_mut(at_once * k),
        );
        let rows = (
            centred.parts_mut(own.clone(), at_once),
            recon.residuals[0].parts_mut(own.clone(), at_once),
            x[own.start * d..own.end * d].par_chunks(at_once * d),
        );
        let parts: Vec<Result<Part, usize>> = (of_codes.into_par_iter(), rows.into_par_iter())
            .into_par_iter()
            .enumerate()
            .map(|(turn, ((latents, values, gradients), (centred, residuals, x)))| {
                let mut part = Part::default();
                let from = own.start + turn * at_once;
                let mut block = encoders.take(BlockEncoder::default);
                part.fallback_rows = block.largest(
                    encoder,
                    packed,
                    packed_rows,
                    from,
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
                let x_hat = decoder.decode(sae, latents, values, keys, from);
                for (block, (x_hat, x)) in
                    x_hat.chunks_mut(BLOCK * d).zip(x.chunks(BLOCK * d)).enumerate()
                {
                    part.blocks.push(BlockSums::of_residuals(x_hat, x, d, scale));
                    for (i, r) in x_hat.chunks_exact(d).enumerate() {
                        write_row(residuals, block * BLOCK + i, r);
                    }
                }
                decoder.code_gradients(sae, values, gradients);
                encoders.give_back(block);
                part.stages.since(Stage::Decode, start);
                Ok(part)
            })
            .collect();

        let parts = parts.into_iter().collect::<Result<Vec<Part>, usize>>();
        let in_full = parts.as_ref().map(|parts| parts.iter().map(|part| part.fallback_rows).sum());
        let fallback_rows = scored_in_full(ranks, in_full.map_err(|row| *row))?;
        let mut blocks = Vec::new();
        for part in parts.into_iter().flatten() {
            blocks.extend(part.blocks);
            stages.add_of_threads(&part.stages);
        }
        for others in [0..own.start, own.end..n] {
            fill_centred(centred, others, x, &sae.b_dec);
        }
        let of_codes = |rows: Range<usize>| rows.start * k..rows.end * k;
        ranks.gather(latents, n, of_codes)?;
        ranks.gather(values, n, of_codes)?;
        ranks.gather(&mut recon.gradients, n, of_codes)?;
        recon.residuals[0].gather(n, ranks)?;
        recon.add_up(&blocks, n, d, ranks)?;
        Ok(fallback_rows)
    }
}
