//! Activations to codes: some rows at a time, scanned, scored again, and selected.

use std::time::Instant;

use rayon::prelude::*;

use super::encoder::{BLOCK, Encoder};
use super::rescore::{Rescorer, select_in_full};
use super::rows::BlockDecoder;
use super::screen::{Candidates, PackedLatents, PackedRows, Screen, portable};
use super::stages::{Stage, Stages};
use crate::base::error::{Error, Result};
use crate::sae::Codes;

/// How many of `n` rows a thread takes at once: whole blocks. The more there are, the more often a
/// latent's weights serve once they are read, up to where the rows outgrow the second-level cache;
/// but every thread needs a few turns, to end when the others do.
///
/// It depends on the number of threads, and results do not depend on it.
pub(super) fn rows_at_once(n: usize) -> usize {
    let turns = 2 * rayon::current_num_threads();
    (1..=3)
        .rev()
        .map(|blocks| blocks * BLOCK)
        .find(|rows| n.div_ceil(*rows) > turns)
        .unwrap_or(BLOCK)
}

/// The k largest of the rows `x` `[n, d_model]`, and how many rows had to be scored in full.
///
/// # Errors
/// [`Error::NotFinite`] naming the first row that has fewer than k pre-activations that are
/// numbers.
pub(super) fn largest(
    encoder: Encoder<'_>,
    x: &[f32],
    rows: &PackedRows,
) -> Result<(Codes, usize)> {
    let (d, k) = (encoder.d(), encoder.k);
    let mut codes = Codes::zeros(x.len() / d, k);
    let mut packed = PackedLatents::default();
    packed.fill(encoder, rows);
    let (latents, values) = codes.arrays_mut();
    let at_once = rows_at_once(x.len() / d);
    let fallbacks = latents
        .par_chunks_mut(at_once * k)
        .zip(values.par_chunks_mut(at_once * k))
        .zip(x.par_chunks(at_once * d))
        .enumerate()
        .map_init(BlockEncoder::default, |block, (turn, ((latents, values), x))| {
            block.largest(
                encoder,
                &packed,
                rows,
                turn * at_once,
                x,
                latents,
                values,
                &mut Stages::default(),
            )
        })
        .collect::<Vec<Result<usize, usize>>>();
    let fallbacks =
        fallbacks.into_iter().collect::<Result<Vec<usize>, usize>>().map_err(not_a_number)?;
    Ok((codes, fallbacks.iter().sum()))
}

/// The latents of the rows `x` `[n, d_model]` whose score exceeds their threshold, with their
/// scores, and how many rows had to be scored in full.
///
/// # Errors
/// [`Error::NotFinite`] naming the first row with a pre-activation that is not a number.
pub(super) fn above(encoder: Encoder<'_>, x: &[f32], rows: &PackedRows) -> Result<(Codes, usize)> {
    let d = encoder.d();
    let mut packed = PackedLatents::default();
    packed.fill(encoder, rows);
    let at_once = rows_at_once(x.len() / d);
    let parts = x
        .par_chunks(at_once * d)
        .enumerate()
        .map_init(BlockEncoder::default, |block, (turn, x)| {
            let mut codes = Codes::default();
            let fallbacks = block.above(encoder, &packed, rows, turn * at_once, x, &mut codes)?;
            Ok((codes, fallbacks))
        })
        .collect::<Vec<Result<(Codes, usize), usize>>>();
    let (mut codes, mut fallbacks) = (Codes::default(), 0);
    for part in parts {
        let (part, fell_back) = part.map_err(not_a_number)?;
        codes.append(&part);
        fallbacks += fell_back;
    }
    Ok((codes, fallbacks))
}

/// The error for a row without k numbers among its pre-activations.
pub(in crate::backend) fn not_a_number(row: usize) -> Error {
    Error::NotFinite {
        what: "pre-activations".to_owned(),
        value: f32::NAN,
        at: format!("row {row}: check the activations and the learning rate"),
    }
}

/// `x − b_dec` for every row.
pub(super) fn centre(x: &[f32], b_dec: &[f32], out: &mut [f32]) {
    for (out, x) in out.chunks_exact_mut(b_dec.len()).zip(x.chunks_exact(b_dec.len())) {
        out.iter_mut().zip(x).zip(b_dec).for_each(|((out, x), b)| *out = x - b);
    }
}

/// The buffers of one thread; they fit one SAE.
#[derive(Default)]
pub(super) struct BlockEncoder {
    lists: Vec<Candidates>,
    scores: Vec<f32>,
    centred: Vec<f32>,
    rescorer: Rescorer,
    decoder: BlockDecoder,
    failed: Vec<usize>,
}

impl BlockEncoder {
    /// The first `len` numbers of the rows last encoded, less `b_dec`.
    pub(super) fn centred(&self, len: usize) -> &[f32] {
        &self.centred[..len]
    }

    /// What decodes the block.
    pub(super) fn decoder(&mut self) -> &mut BlockDecoder {
        &mut self.decoder
    }

    /// Encodes the rows `x` `from..` of a batch into `latents` and `values` `[rows, k]`, their k
    /// largest.
    ///
    /// Returns how many rows had to be scored in full; fails with the first row (counted from the
    /// batch's first) whose pre-activations are not numbers.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn largest(
        &mut self,
        encoder: Encoder<'_>,
        packed: &PackedLatents,
        rows: &PackedRows,
        from: usize,
        x: &[f32],
        latents: &mut [u32],
        values: &mut [f32],
        stages: &mut Stages,
    ) -> Result<usize, usize> {
        let start = Instant::now();
        self.scan(encoder, packed, rows, from, x, || {
            Candidates::new(encoder.k, rows.exactness.room())
        });
        let start = stages.since(Stage::Screen, start);
        let (centred, lists) = (&self.centred[..x.len()], &mut self.lists[..x.len() / encoder.d()]);
        self.rescorer.select(encoder, centred, lists, latents, values, &mut self.failed);
        if !self.failed.is_empty() {
            select_in_full(encoder, centred, &self.failed, latents, values)
                .map_err(|row| from + row)?;
        }
        stages.since(Stage::Rescore, start);
        Ok(self.failed.len())
    }

    /// Encodes the rows `x` `from..` of a batch: adds to `codes`, for each, the latents above their
    /// thresholds. Otherwise as [`largest`](Self::largest).
    pub(super) fn above(
        &mut self,
        encoder: Encoder<'_>,
        packed: &PackedLatents,
        rows: &PackedRows,
        from: usize,
        x: &[f32],
        codes: &mut Codes,
    ) -> Result<usize, usize> {
        self.scan(encoder, packed, rows, from, x, Candidates::above);
        let (centred, lists) = (&self.centred[..x.len()], &mut self.lists[..x.len() / encoder.d()]);
        self.rescorer
            .above(encoder, centred, lists, codes, &mut self.failed)
            .map_err(|row| from + row)?;
        Ok(self.failed.len())
    }

    /// Fills a list for every row with the latents that the screen does not rule out, and centres
    /// the rows.
    fn scan(
        &mut self,
        encoder: Encoder<'_>,
        packed: &PackedLatents,
        rows: &PackedRows,
        from: usize,
        x: &[f32],
        empty: impl FnMut() -> Candidates,
    ) {
        let n = x.len() / encoder.d();
        self.lists.resize_with(n.max(self.lists.len()), empty);
        let lists = &mut self.lists[..n];
        for (row, list) in lists.iter_mut().enumerate() {
            // What is not finite is left to f32, which says so or copes.
            if packed.is_finite && rows.is_finite(from + row) { list.clear() } else { list.close() }
        }
        match rows.screen {
            #[cfg(target_arch = "x86_64")]
            Screen::Int8 | Screen::Bf16 | Screen::F32 => {
                super::screen::scan::scan(rows, from, packed, lists)
            }
            _ => portable::scan(rows, from, encoder, packed, lists, &mut self.scores),
        }
        self.centred.resize(x.len().max(self.centred.len()), 0.0);
        centre(x, encoder.b_dec, &mut self.centred[..x.len()]);
        self.failed.clear();
    }
}
