//! Activations to codes: some rows at a time, scanned, scored again, and selected.

use std::ops::Range;
use std::time::Instant;

use rayon::prelude::*;

use super::encoder::{BLOCK, Encoder};
use super::rescore::{Rescorer, select_in_full};
use super::rows::BlockDecoder;
use super::screen::{Candidates, PackedLatents, PackedRows, Screen, portable};
use super::stages::{Stage, Stages};
use super::tiled::{Tiled, write_row};
use crate::backend::ranks::Ranks;
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
    ranks: &Ranks,
) -> Result<(Codes, usize)> {
    let (d, k) = (encoder.d(), encoder.k);
    let n = x.len() / d;
    let mut codes = Codes::zeros(n, k);
    let mut packed = PackedLatents::default();
    packed.fill(encoder, rows);
    let fallbacks = largest_of(encoder, &packed, x, rows, ranks.rows(n), &mut codes);
    let fallbacks = scored_in_full(ranks, fallbacks)?;
    let (latents, values) = codes.arrays_mut();
    ranks.gather(latents, n, |rows| rows.start * k..rows.end * k)?;
    ranks.gather(values, n, |rows| rows.start * k..rows.end * k)?;
    Ok((codes, fallbacks))
}

/// The k largest of some of the rows `x` `[n, d_model]`, which begin with a block, in their places in
/// `codes`. Returns how many had to be scored in full, or the first whose pre-activations are not
/// numbers.
pub(super) fn largest_of(
    encoder: Encoder<'_>,
    packed: &PackedLatents,
    x: &[f32],
    rows: &PackedRows,
    own: Range<usize>,
    codes: &mut Codes,
) -> Result<usize, usize> {
    let (d, k) = (encoder.d(), encoder.k);
    let (latents, values) = codes.arrays_mut();
    let of_codes = own.start * k..own.end * k;
    let at_once = rows_at_once(own.len());
    let fallbacks = latents[of_codes.clone()]
        .par_chunks_mut(at_once * k)
        .zip(values[of_codes].par_chunks_mut(at_once * k))
        .zip(x[own.start * d..own.end * d].par_chunks(at_once * d))
        .enumerate()
        .map_init(BlockEncoder::default, |block, (turn, ((latents, values), x))| {
            block.largest(
                encoder,
                packed,
                rows,
                own.start + turn * at_once,
                x,
                latents,
                values,
                &mut Stages::default(),
            )
        })
        .collect::<Vec<Result<usize, usize>>>();
    fallbacks.into_iter().sum()
}

/// The latents of the rows `x` `[n, d_model]` whose score exceeds their threshold, with their
/// scores, and how many rows had to be scored in full.
///
/// # Errors
/// [`Error::NotFinite`] naming the first row with a pre-activation that is not a number.
pub(super) fn above(
    encoder: Encoder<'_>,
    x: &[f32],
    rows: &PackedRows,
    ranks: &Ranks,
) -> Result<(Codes, usize)> {
    let d = encoder.d();
    let n = x.len() / d;
    let mut packed = PackedLatents::default();
    packed.fill(encoder, rows);
    let own = ranks.rows(n);
    let at_once = rows_at_once(own.len());
    let parts = x[own.start * d..own.end * d]
        .par_chunks(at_once * d)
        .enumerate()
        .map_init(BlockEncoder::default, |block, (turn, x)| {
            let mut codes = Codes::default();
            let from = own.start + turn * at_once;
            let fallbacks = block.above(encoder, &packed, rows, from, x, &mut codes)?;
            Ok((codes, fallbacks))
        })
        .collect::<Vec<Result<(Codes, usize), usize>>>();
    let mut codes = Codes::default();
    let fallbacks = parts.into_iter().map(|part| {
        let (part, fell_back) = part?;
        codes.append(&part);
        Ok(fell_back)
    });
    let fallbacks = fallbacks.sum::<Result<usize, usize>>();
    let fallbacks = scored_in_full(ranks, fallbacks)?;
    Ok((of_all_rows(codes, n, ranks)?, fallbacks))
}

/// How many rows of all were scored in full, from how many of this rank's were, or which of them is
/// the first whose pre-activations are not numbers.
///
/// # Errors
/// [`Error::NotFinite`] naming the first such row of all.
pub(super) fn scored_in_full(ranks: &Ranks, own: Result<usize, usize>) -> Result<usize> {
    let all = ranks.each(match own {
        Ok(rows) => [rows as u64, u64::MAX],
        Err(row) => [0, row as u64],
    })?;
    match all.iter().map(|[_, row]| *row).min() {
        Some(row) if row < u64::MAX => Err(not_a_number(row as usize)),
        _ => Ok(all.iter().map(|[rows, _]| *rows as usize).sum()),
    }
}

/// The codes of all `n` rows from those of this rank's.
fn of_all_rows(own: Codes, n: usize, ranks: &Ranks) -> Result<Codes> {
    if ranks.size() == 1 {
        return Ok(own);
    }
    let rows = ranks.rows(n);
    let mut lengths = vec![0u32; n];
    for (i, length) in lengths[rows].iter_mut().enumerate() {
        *length = own.range(i..i + 1).len() as u32;
    }
    ranks.gather(&mut lengths, n, |rows| rows)?;
    let mut starts = vec![0];
    lengths.iter().for_each(|len| starts.push(starts[starts.len() - 1] + *len as usize));
    let part = |rows: Range<usize>| starts[rows.start]..starts[rows.end];
    let (mut latents, mut values) = (vec![0; starts[n]], vec![0.0; starts[n]]);
    latents[part(ranks.rows(n))].copy_from_slice(own.latents());
    values[part(ranks.rows(n))].copy_from_slice(own.values());
    ranks.gather(&mut latents, n, part)?;
    ranks.gather(&mut values, n, part)?;
    Ok(Codes::from_parts(starts, latents, values))
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
fn centre(x: &[f32], b_dec: &[f32], out: &mut [f32]) {
    for (out, x) in out.chunks_exact_mut(b_dec.len()).zip(x.chunks_exact(b_dec.len())) {
        out.iter_mut().zip(x).zip(b_dec).for_each(|((out, x), b)| *out = x - b);
    }
}

/// `x − b_dec` of some rows, which begin with a block, laid out for the gradients.
pub(super) fn fill_centred(centred: &mut Tiled, rows: Range<usize>, x: &[f32], b_dec: &[f32]) {
    let d = b_dec.len();
    let x = x[rows.start * d..rows.end * d].par_chunks(BLOCK * d);
    centred.parts_mut(rows, BLOCK).zip(x).for_each_init(
        || vec![0.0; d],
        |row, (part, x)| {
            for (i, x) in x.chunks_exact(d).enumerate() {
                centre(x, b_dec, row);
                write_row(part, i, row);
            }
        },
    );
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
