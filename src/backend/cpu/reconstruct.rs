//! Codes of any number a row to residuals and gradients, block by block.
//!
//! The TopK step does the same in one pass with its encoder (`fused`); what has penalties, prefixes
//! or a batch to wait for comes here with its codes. With one prefix both give the same bits.
//!
//! # Prefixes
//!
//! A Matryoshka SAE is trained on the mean over P prefixes of its latents of `‖x̂ₚ − x‖²`. Latents
//! come in ascending order, so `x̂ₚ` is what a row's sum has reached when the last latent of prefix
//! p is added: one pass gives all of them. A latent of prefix g takes part in all that follow, so
//! that its gradient is formed with `Rg = Σ_{p ≥ g} (x̂ₚ − x)`; `R₀` is what biases and the table
//! receive.

use rayon::prelude::*;

use super::csr::Csr;
use super::encoder::BLOCK;
use super::rows::{BlockSums, RowSums, add_latent, begin_row, products, residual_row};
use super::tiled::{Tiled, write_row};
use crate::backend::ranks::Ranks;
use crate::base::error::Result;
use crate::cpu::simd::add_scaled;
use crate::sae::Sae;
use crate::sae::{Codes, Keys};

/// What codes are decoded with, and what they are held to.
#[derive(Clone, Copy)]
pub(super) struct Decoding<'a> {
    /// `[d_sae, d]`
    pub w_dec: &'a [f32],
    /// The ends of the prefixes; empty for one.
    pub prefixes: &'a [usize],
    /// What a row starts with: bias and rows of the table, or nothing.
    pub base: Option<(&'a Sae, &'a Keys<'a>)>,
    /// `[n, d]`
    pub target: &'a [f32],
    pub d: usize,
    /// What residuals are multiplied by to be gradients.
    pub scale: f32,
    /// Who decodes which rows.
    pub ranks: &'a Ranks,
}

/// The prefix, counted from 0, that brings a latent in.
pub(super) fn prefix_of(prefixes: &[usize], latent: usize) -> usize {
    prefixes.partition_point(|&end| end <= latent)
}

/// What decoding gives; the buffers serve again.
#[derive(Default)]
pub(super) struct Reconstruction {
    /// For every prefix g, `scale/P · Rg`.
    pub residuals: Vec<Tiled>,
    /// The gradient of every code.
    pub gradients: Vec<f32>,
    /// The sum over rows of the first residuals.
    pub residual: Vec<f32>,
    /// Over all rows, of the whole reconstruction.
    pub sums: RowSums,
    /// The sum over rows of the mean over prefixes of ‖x̂ₚ − x‖².
    pub squared_errors: f64,
}

/// The buffers of one thread.
#[derive(Default)]
struct Buffers {
    by_latent: Csr,
    rows: Vec<u32>,
    x_hat: Vec<f32>,
    /// `[prefixes, rows, d]`
    residuals: Vec<Vec<f32>>,
}

impl Reconstruction {
    /// Decodes `codes`.
    ///
    /// # Errors
    /// [`Error::Rank`](crate::Error::Rank) if another rank has left.
    pub(super) fn fill(&mut self, decoding: Decoding<'_>, codes: &Codes) -> Result<()> {
        let Decoding { d, ranks, .. } = decoding;
        let n = codes.n();
        self.residuals.resize_with(decoding.prefixes.len().max(1), Tiled::default);
        self.residuals.iter_mut().for_each(|residuals| residuals.resize(n, d));
        self.gradients.clear();
        self.gradients.resize(codes.latents().len(), 0.0);

        let own = ranks.rows(n);
        let mut gradients = &mut self.gradients[codes.range(own.clone())];
        let mut residuals: Vec<_> =
            self.residuals.iter_mut().map(|residuals| residuals.blocks_mut(own.clone())).collect();
        let blocks: Vec<_> = own
            .clone()
            .step_by(BLOCK)
            .map(|from| {
                let rows = from..(from + BLOCK).min(n);
                let (here, rest) =
                    std::mem::take(&mut gradients).split_at_mut(codes.range(rows.clone()).len());
                gradients = rest;
                (rows, here, residuals.iter_mut().filter_map(Iterator::next).collect::<Vec<_>>())
            })
            .collect();
        let parts: Vec<BlockSums> = blocks
            .into_par_iter()
            .map_init(Buffers::default, |buffers, (rows, gradients, residuals)| {
                block(decoding, codes, rows, gradients, residuals, buffers)
            })
            .collect();

        ranks.gather(&mut self.gradients, n, |rows| codes.range(rows))?;
        self.residuals.iter_mut().try_for_each(|residuals| residuals.gather(n, ranks))?;
        self.add_up(&parts, n, d, ranks)
    }
}

fn block(
    decoding: Decoding<'_>,
    codes: &Codes,
    rows: std::ops::Range<usize>,
    gradients: &mut [f32],
    mut tiled: Vec<&mut [f32]>,
    buffers: &mut Buffers,
) -> BlockSums {
    let Decoding { w_dec, prefixes, base, target, d, scale, .. } = decoding;
    let (n, groups) = (rows.len(), tiled.len());
    let at = codes.range(rows.clone());
    let (latents, values) = (&codes.latents()[at.clone()], &codes.values()[at.clone()]);
    buffers.rows.clear();
    for (i, row) in rows.clone().enumerate() {
        buffers.rows.resize(codes.range(row..row + 1).end - at.start, i as u32);
    }
    buffers.by_latent.fill(latents, w_dec.len() / d);
    buffers.residuals.resize_with(groups, Vec::new);
    let x_hat = &mut buffers.x_hat;
    x_hat.clear();
    x_hat.resize(n * d, 0.0);
    if let Some((sae, keys)) = base {
        x_hat
            .chunks_exact_mut(d)
            .zip(rows.clone())
            .for_each(|(x_hat, row)| begin_row(x_hat, sae, keys, row));
    }

    let target = &target[rows.start * d..rows.end * d];
    let share = scale / groups as f32;
    let mut part = BlockSums::zeros(d);
    let mut reached = 0;
    let mut end_prefix = |x_hat: &[f32], residuals: &mut Vec<f32>| {
        residuals.clear();
        residuals.extend_from_slice(x_hat);
        part.sums = RowSums::default();
        for (r, x) in residuals.chunks_exact_mut(d).zip(target.chunks_exact(d)) {
            part.sums.add(residual_row(r, x, share));
        }
        part.squared_errors += part.sums.squared_error / groups as f64;
    };
    for (latent, entries) in buffers.by_latent.keys() {
        while reached < prefix_of(prefixes, latent) {
            end_prefix(x_hat, &mut buffers.residuals[reached]);
            reached += 1;
        }
        add_latent(x_hat, &w_dec[latent * d..][..d], entries, &buffers.rows, values);
    }
    for residuals in &mut buffers.residuals[reached..] {
        end_prefix(x_hat, residuals);
    }

    for g in (1..groups).rev() {
        let (before, from) = buffers.residuals.split_at_mut(g);
        add_scaled(&mut before[g - 1], 1.0, &from[0]);
    }
    for (latent, entries) in buffers.by_latent.keys() {
        let residuals = &buffers.residuals[prefix_of(prefixes, latent)];
        products(residuals, &w_dec[latent * d..][..d], entries, &buffers.rows, gradients);
    }
    for (residuals, tiled) in buffers.residuals.iter().zip(&mut tiled) {
        residuals.chunks_exact(d).enumerate().for_each(|(i, row)| write_row(tiled, i, row));
    }
    buffers.residuals[0].chunks_exact(d).for_each(|row| add_scaled(&mut part.residual, 1.0, row));
    part
}
