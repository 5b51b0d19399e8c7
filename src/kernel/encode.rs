//! Activations to codes: some rows at a time, scanned, scored again, and selected.

use std::time::Instant;

use rayon::prelude::*;

use super::Codes;
use super::rescore::{Rescorer, select_in_full};
use super::rows::BlockDecoder;
use super::screen::{Candidates, Exactness, PackedLatents, PackedRows, Screen, portable};
use super::stages::{Stage, Stages};
use crate::error::{Error, Result};
use crate::sae::Sae;
use crate::simd::tile::ROWS;

/// Rows in a block, the unit in which rows are summed and stored; whole tiles.
pub(super) const BLOCK: usize = 8 * ROWS;

/// How many of `n` rows a thread takes at once: whole blocks. The more there are, the more often a latent's weights serve once they are
/// read, up to where the rows outgrow the second-level cache; but every thread needs a few turns, to end when the others do.
///
/// It depends on the number of threads, and results do not depend on it.
pub(super) fn rows_at_once(n: usize) -> usize {
    let turns = 2 * rayon::current_num_threads();
    (1..=3).rev().map(|blocks| blocks * BLOCK).find(|rows| n.div_ceil(*rows) > turns).unwrap_or(BLOCK)
}

/// The codes of the rows `x` `[n, d_model]`, and how many of them had to be scored in full.
///
/// # Errors
/// [`Error::NotFinite`] naming the first row that has fewer than k pre-activations that are numbers.
pub(super) fn encode(sae: &Sae, x: &[f32], screen: Screen, exactness: Exactness) -> Result<(Codes, usize)> {
    let (d, k) = (sae.d_model(), sae.config.k);
    let mut codes = Codes::zeros(x.len() / d, k);
    let rows = PackedRows::new(x, d, screen, exactness);
    let mut packed = PackedLatents::default();
    packed.fill(sae, &rows);
    let (latents, values) = codes.arrays_mut();
    let at_once = rows_at_once(x.len() / d);
    let fallbacks = latents
        .par_chunks_mut(at_once * k)
        .zip(values.par_chunks_mut(at_once * k))
        .zip(x.par_chunks(at_once * d))
        .enumerate()
        .map_init(BlockEncoder::default, |encoder, (turn, ((latents, values), x))| {
            encoder.run(sae, &packed, &rows, turn * at_once, x, latents, values, &mut Stages::default())
        })
        .collect::<Vec<Result<usize, usize>>>();
    let fallbacks = fallbacks.into_iter().collect::<Result<Vec<usize>, usize>>().map_err(not_a_number)?;
    Ok((codes, fallbacks.iter().sum()))
}

/// The error for a row without k numbers among its pre-activations.
pub(super) fn not_a_number(row: usize) -> Error {
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

    /// Encodes the rows `x` `from..` of a batch into `latents` and `values` `[rows, k]`.
    ///
    /// Returns how many rows had to be scored in full; fails with the first row (counted from the batch's first) whose pre-activations are not
    /// numbers.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn run(
        &mut self,
        sae: &Sae,
        packed: &PackedLatents,
        rows: &PackedRows,
        from: usize,
        x: &[f32],
        latents: &mut [u32],
        values: &mut [f32],
        stages: &mut Stages,
    ) -> Result<usize, usize> {
        let start = Instant::now();
        let n = x.len() / sae.d_model();
        self.lists.resize_with(n.max(self.lists.len()), || Candidates::new(sae.config.k, rows.exactness.room()));
        let lists = &mut self.lists[..n];
        for (row, list) in lists.iter_mut().enumerate() {
            // What is not finite is left to f32, which says so or copes.
            if packed.is_finite && rows.is_finite(from + row) { list.clear() } else { list.close() }
        }
        match rows.screen {
            #[cfg(target_arch = "x86_64")]
            Screen::Int8 | Screen::Bf16 | Screen::F32 => super::screen::scan::scan(rows, from, packed, lists),
            _ => portable::scan(rows, from, sae, packed, lists, &mut self.scores),
        }
        let start = stages.since(Stage::Screen, start);
        self.centred.resize(x.len().max(self.centred.len()), 0.0);
        let centred = &mut self.centred[..x.len()];
        centre(x, &sae.b_dec, centred);
        self.failed.clear();
        self.rescorer.select(sae, centred, lists, latents, values, &mut self.failed);
        if !self.failed.is_empty() {
            select_in_full(sae, centred, &self.failed, latents, values).map_err(|row| from + row)?;
        }
        stages.since(Stage::Rescore, start);
        if sae.config.relu {
            values.iter_mut().for_each(|v| *v = v.max(0.0));
        }
        Ok(self.failed.len())
    }
}
