//! The forward pass of a TopK SAE whose latents are shared out among ranks; see
//! [`ranks::chain`](crate::backend::ranks) for what travels.
//!
//! A rank encodes all rows by its own latents, with the same screen, and keeps its k best of each.
//! The k best of all are chosen as they go from rank to rank: each puts its own to those that the
//! lower latents have left, and keeps k. As ranks come in the order of latents, of equal ones the
//! lower wins, and a row's codes stay in ascending order. Then x̂ begins on the first rank, with
//! `b_dec` and the row of the table; each adds its own codes; the last turns it into residuals, and
//! has their sums. So every sum has the order that it has in one process.
//!
//! The gradient of a code is a product with a row of `W_dec`, which its owner has: it forms those of
//! its own codes, and those of others stay 0 and are never read.
//!
//! A row that has fewer numbers among a rank's own pre-activations than that rank has to give is an
//! error, where one process would only ask for k of all latents.

mod choice;

use std::ops::Range;
use std::time::Instant;

use rayon::prelude::*;

use super::activate::clamp;
use super::csr::Csr;
use super::encode::{fill_centred, largest_of, scored_in_full};
use super::encoder::{BLOCK, Encoder};
use super::latents::CHUNK;
use super::reconstruct::Reconstruction;
use super::rows::{BlockSums, RowSums, add_codes, begin_row, stop_at_zeros};
use super::screen::{PackedLatents, PackedRows};
use super::stages::{Stage, Stages};
use super::table;
use super::tiled::{Tiled, write_row};
use crate::backend::adam::Moments;
use crate::backend::ranks::{Exchange, HANDED_ON, Ranks};
use crate::backend::state::AdamState;
use crate::base::error::Result;
use crate::cpu::memory;
use crate::cpu::simd::{dot, vectorised};
use crate::sae::{Architecture, Codes, Keys, Lookup, Sae, SaeConfig};
use choice::{Choice, NONE};

/// What of an SAE cannot be shared out by latents, in the middle of a sentence; `None` if it can all.
pub(crate) fn lacks(sae: &SaeConfig) -> Option<&'static str> {
    match sae.architecture {
        Architecture::TopK if !sae.prefixes.is_empty() => Some("prefixes of a Matryoshka SAE"),
        Architecture::TopK if sae.aux.is_some() => Some("AuxK"),
        Architecture::TopK if sae.resamplings > 0 => Some("latents that start anew"),
        Architecture::TopK if sae.lookup.as_ref().is_some_and(Lookup::is_subtracted) => {
            Some("a table that is subtracted")
        }
        Architecture::TopK => None,
        Architecture::BatchTopK => Some("BatchTopK"),
        Architecture::Relu { .. } => Some("ReLU"),
        Architecture::Gated { .. } => Some("Gated"),
        Architecture::JumpRelu { .. } => Some("JumpReLU"),
    }
}

/// The ranks among which latents and rows of the table are shared out; this one, alone, if all move
/// everything.
pub(super) fn owners(sae: &SaeConfig, ranks: &Ranks) -> Ranks {
    match ranks.exchange() {
        Exchange::Latents if lacks(sae).is_none() => ranks.clone(),
        _ => Ranks::alone(),
    }
}

/// Gives all ranks the rows of the table whose keys occur.
pub(super) fn gather_rows(
    table: &mut [f32],
    by_token: &Csr,
    d: usize,
    owners: &Ranks,
) -> Result<()> {
    if owners.size() == 1 {
        return Ok(());
    }
    let place = |key: usize| key * d..(key + 1) * d;
    let occurring: Vec<usize> = by_token.keys().map(|(key, _)| key).collect();
    let mut rows: Vec<f32> =
        occurring.iter().flat_map(|&key| &table[place(key)]).copied().collect();
    let before = |key: usize| occurring.partition_point(|&it| it < key) * d;
    owners.gather_shares(&mut rows, table.len() / d, table::CHUNK, |keys| {
        before(keys.start)..before(keys.end)
    })?;
    for (&key, row) in occurring.iter().zip(rows.chunks_exact(d)) {
        table[place(key)].copy_from_slice(row);
    }
    Ok(())
}

/// Gives all ranks the whole SAE, and the first the whole optimiser, which it writes.
pub(super) fn settle(sae: &mut Sae, state: &mut AdamState, ranks: &Ranks) -> Result<()> {
    let (d, owners) = (sae.d_model(), owners(&sae.config, ranks));
    for (moments, wide, unit) in shared(state, d) {
        owners.to_first(&mut moments.m, wide, unit)?;
        owners.to_first(&mut moments.v, wide, unit)?;
    }
    // Last, what all wait for, so that none leaves while the first still receives.
    settle_table(sae, state, ranks)?;
    for (array, wide) in [(&mut sae.w_enc, d), (&mut sae.w_dec, d), (&mut sae.b_enc, 1)] {
        owners.spread_owned(array, wide, CHUNK)?;
    }
    Ok(())
}

/// Gives all ranks the whole table.
pub(super) fn settle_table(sae: &mut Sae, state: &AdamState, ranks: &Ranks) -> Result<()> {
    let (d, owners) = (sae.d_model(), owners(&sae.config, ranks));
    match sae.lookup.as_mut().filter(|_| state.lookup.is_some()) {
        Some(table) => owners.spread_owned(table, d, table::CHUNK),
        None => Ok(()),
    }
}

/// The moments of what is shared out, how many numbers one thing has, and in what units.
fn shared(state: &mut AdamState, d: usize) -> Vec<(&mut Moments, usize, usize)> {
    let latents = [(&mut state.w_enc, d), (&mut state.w_dec, d), (&mut state.b_enc, 1)];
    let latents = latents.into_iter().map(|(moments, wide)| (moments, wide, CHUNK));
    latents.chain(state.lookup.as_mut().map(|moments| (moments, d, table::CHUNK))).collect()
}

/// Buffers that one batch leaves for the next.
#[derive(Default)]
pub(super) struct Chain {
    packed: PackedLatents,
    /// A row's best so far: the latent, and the bits of its value. `[n, k]`
    best: Vec<[u32; 2]>,
    /// x̂, and then the residuals: `[n, d]`.
    x_hat: Vec<f32>,
    /// Whether moments of others' latents have been let go.
    has_begun: bool,
}

impl Chain {
    /// Before the first step, lets go of the moments that others own, which a checkpoint has brought.
    /// The first rank, which writes checkpoints, keeps room for all.
    pub(super) fn begin(&mut self, state: &mut AdamState, d: usize, owners: &Ranks) {
        if std::mem::replace(&mut self.has_begun, true) || owners.is_first() {
            return;
        }
        for (moments, wide, unit) in shared(state, d) {
            for array in [&mut moments.m, &mut moments.v] {
                let own = owners.share(array.len() / wide, unit);
                let own = own.start * wide..own.end * wide;
                let mut kept = memory::zeros(array.len());
                kept[own.clone()].copy_from_slice(&array[own]);
                *array = kept;
            }
        }
    }

    /// Encodes and decodes `x`, as [`Fused::forward`](super::fused::Fused::forward) does, but that
    /// the gradients are those of this rank's codes.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn forward(
        &mut self,
        sae: &Sae,
        x: &[f32],
        rows: &PackedRows,
        keys: &Keys<'_>,
        owners: &Ranks,
        codes: &mut Codes,
        centred: &mut Tiled,
        recon: &mut Reconstruction,
        stages: &mut Stages,
    ) -> Result<usize> {
        let (d, k) = (sae.d_model(), sae.config.k);
        let n = x.len() / d;
        let own = owners.share(sae.d_sae(), CHUNK);
        let fallback_rows = self.choose(sae, x, rows, &own, owners, stages)?;

        let start = Instant::now();
        if !codes.is_even(n, k) {
            *codes = Codes::zeros(n, k);
        }
        let (latents, values) = codes.arrays_mut();
        for (i, [latent, value]) in self.best.iter().enumerate() {
            (latents[i], values[i]) = (*latent, f32::from_bits(*value));
        }
        clamp(sae, values);
        centred.resize(n, d);
        fill_centred(centred, 0..n, x, &sae.b_dec);
        let sums = self.decode(sae, x, keys, &own, owners, codes)?;
        self.code_gradients(sae, &own, codes, recon);
        recon.add_up(&sums, n, d, &Ranks::alone())?;
        let RowSums { squared_error, nmse } = recon.sums;
        let mut sums = [squared_error, nmse, recon.squared_errors];
        owners.spread(owners.size() - 1, &mut sums)?;
        owners.spread(owners.size() - 1, &mut recon.residual)?;
        recon.sums = RowSums { squared_error: sums[0], nmse: sums[1] };
        recon.squared_errors = sums[2];
        stages.since(Stage::Decode, start);
        Ok(fallback_rows)
    }

    /// The k best of every row among all latents, on all ranks. Returns how many lists of rows could
    /// not be decided by the screen.
    fn choose(
        &mut self,
        sae: &Sae,
        x: &[f32],
        rows: &PackedRows,
        own: &Range<usize>,
        owners: &Ranks,
        stages: &mut Stages,
    ) -> Result<usize> {
        let (d, k) = (sae.d_model(), sae.config.k);
        let n = x.len() / d;
        let start = Instant::now();
        let encoder = Encoder {
            w: &sae.w_enc[own.start * d..own.end * d],
            b: &sae.b_enc[own.clone()],
            k: k.min(own.len()),
            ..Encoder::of(sae)
        };
        let mut given = Codes::zeros(n, encoder.k);
        let fallbacks = if own.is_empty() {
            Ok(0)
        } else {
            self.packed.fill(encoder, rows);
            largest_of(encoder, &self.packed, x, rows, 0..n, &mut given)
        };
        let fallback_rows = scored_in_full(owners, fallbacks)?;
        let start = stages.since(Stage::Screen, start);
        self.best.clear();
        self.best.resize(n * k, [NONE, 0]);
        owners.hand_on(&mut self.best, HANDED_ON * k, |at, best| {
            best.par_chunks_mut(k).enumerate().for_each_init(
                Choice::default,
                |choice, (i, best)| {
                    let row = at / k + i;
                    choice.put(best, own.start as u32, given.row(row));
                },
            );
        })?;
        stages.since(Stage::Rescore, start);
        Ok(fallback_rows)
    }

    /// Leaves the scaled residuals of all rows on all ranks, and returns their sums on the last.
    fn decode(
        &mut self,
        sae: &Sae,
        x: &[f32],
        keys: &Keys<'_>,
        own: &Range<usize>,
        owners: &Ranks,
        codes: &Codes,
    ) -> Result<Vec<BlockSums>> {
        let d = sae.d_model();
        let scale = 2.0 / codes.n() as f32;
        self.x_hat.resize(codes.n() * d, 0.0);
        let mut sums = Vec::new();
        owners.hand_on(&mut self.x_hat, HANDED_ON * d, |at, x_hat| {
            let blocks = x_hat.par_chunks_mut(BLOCK * d).zip(x[at..].par_chunks(BLOCK * d));
            let blocks = blocks.enumerate().map(|(block, (x_hat, x))| {
                let from = at / d + block * BLOCK;
                for (i, x_hat) in x_hat.chunks_exact_mut(d).enumerate() {
                    if owners.is_first() {
                        begin_row(x_hat, sae, keys, from + i);
                    }
                    let (latents, values) = codes.row(from + i);
                    let owned = owned(latents, own);
                    add_codes(x_hat, &sae.w_dec, &latents[owned.clone()], &values[owned]);
                }
                owners.is_last().then(|| BlockSums::of_residuals(x_hat, x, d, scale))
            });
            sums.par_extend(blocks.flatten_iter());
        })?;
        Ok(sums)
    }

    /// The gradients of the codes of this rank's latents, and the residuals, laid out for those of
    /// the weights.
    fn code_gradients(
        &self,
        sae: &Sae,
        own: &Range<usize>,
        codes: &Codes,
        recon: &mut Reconstruction,
    ) {
        let (d, k, n) = (sae.d_model(), sae.config.k, codes.n());
        recon.residuals.resize_with(1, Tiled::default);
        recon.residuals[0].resize(n, d);
        recon.gradients.clear();
        recon.gradients.resize(n * k, 0.0);
        let gradients = recon.gradients.par_chunks_mut(BLOCK * k);
        let blocks = recon.residuals[0].parts_mut(0..n, BLOCK).zip(gradients);
        let blocks = blocks.zip(self.x_hat.par_chunks(BLOCK * d)).enumerate();
        blocks.for_each(|(block, ((tiled, gradients), residuals))| {
            let rows = residuals.chunks_exact(d).zip(gradients.chunks_exact_mut(k));
            for (i, (residual, gradients)) in rows.enumerate() {
                write_row(tiled, i, residual);
                let latents = codes.row(block * BLOCK + i).0;
                let owned = owned(latents, own);
                products(residual, &sae.w_dec, &latents[owned.clone()], &mut gradients[owned]);
            }
        });
        if sae.config.relu {
            stop_at_zeros(codes.values(), &mut recon.gradients);
        }
    }
}

/// Where the latents of a range stand among a row's.
fn owned(latents: &[u32], own: &Range<usize>) -> Range<usize> {
    let before = |end: usize| latents.partition_point(|&latent| (latent as usize) < end);
    before(own.start)..before(own.end)
}

vectorised! {
    /// The products of `x` with the rows of `w` that the latents name.
    fn products(x: &[f32], w: &[f32], latents: &[u32], out: &mut [f32]) {
        let d = x.len();
        for (out, &latent) in out.iter_mut().zip(latents) {
            *out = dot(x, &w[latent as usize * d..][..d]);
        }
    }
}
