//! Activations to codes: a block of rows at a time, scanned, scored again, and selected.

use std::time::Instant;

use rayon::prelude::*;

use super::Codes;
use super::rescore::{Rescorer, select_in_full};
use super::rows::BlockDecoder;
use super::screen::{Candidates, Exactness, PackedLatents, PackedRows, Screen, portable};
use super::stages::{Stage, Stages};
use super::tile::ROWS;
use crate::error::{Error, Result};
use crate::sae::Sae;

/// Rows in a block: whole tiles, large enough that reading the encoder is paid for, small enough for the block and its lists to stay in the
/// second-level cache and for blocks to be shared out evenly.
pub(super) const BLOCK: usize = 15 * ROWS;

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
    let fallbacks = latents
        .par_chunks_mut(BLOCK * k)
        .zip(values.par_chunks_mut(BLOCK * k))
        .zip(x.par_chunks(BLOCK * d))
        .enumerate()
        .map_init(
            || BlockEncoder::new(sae, exactness),
            |encoder, (block, ((latents, values), x))| {
                encoder.run(sae, &packed, &rows, block * BLOCK, x, latents, values, &mut Stages::default())
            },
        )
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

/// The buffers of one thread.
pub(super) struct BlockEncoder {
    lists: Vec<Candidates>,
    scores: Vec<f32>,
    centred: Vec<f32>,
    rescorer: Rescorer,
    decoder: BlockDecoder,
    failed: Vec<usize>,
}

impl BlockEncoder {
    pub(super) fn new(sae: &Sae, exactness: Exactness) -> BlockEncoder {
        BlockEncoder {
            lists: (0..BLOCK).map(|_| Candidates::new(sae.config.k, exactness.room())).collect(),
            scores: Vec::new(),
            centred: vec![0.0; BLOCK * sae.d_model()],
            rescorer: Rescorer::default(),
            decoder: BlockDecoder::default(),
            failed: Vec::new(),
        }
    }

    /// The first `len` numbers of the rows last encoded, less `b_dec`.
    pub(super) fn centred(&self, len: usize) -> &[f32] {
        &self.centred[..len]
    }

    /// What decodes the block.
    pub(super) fn decoder(&mut self) -> &mut BlockDecoder {
        &mut self.decoder
    }

    /// Encodes the rows `x` `from..`, at most [`BLOCK`] of them, into `latents` and `values` `[rows, k]`.
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
        let lists = &mut self.lists[..x.len() / sae.d_model()];
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
