//! From candidates to codes: exact scores in f32, and the k largest, or all above their thresholds.
//!
//! `dot(x − b_dec, w) + b`, with [`dot`]'s order of summation, is the one definition of a latent's
//! pre-activation. Every screen, the portable code and the fall-back end in it, so that codes have
//! the same bits whichever of them ran.
//!
//! A block's candidates are scored latent by latent: the row of `W_enc` of a latent is read once,
//! in ascending order, for all rows of the block that may have it, and those lie in the
//! second-level cache.

use super::csr::Csr;
use super::encoder::Encoder;
use super::screen::Candidates;
use super::topk::TopK;
use crate::cpu::simd::{dot, vectorised};
use crate::sae::Codes;

/// Latents that the fall-back scores before it goes to the next row: their weights stay in the
/// second-level cache.
const TILE: usize = 64;

/// The buffers of one thread.
#[derive(Default)]
pub(super) struct Rescorer {
    /// The candidates of all rows, row by row, ascending within a row.
    latents: Vec<u32>,
    rows: Vec<u32>,
    /// Where each row's candidates begin, and their end.
    starts: Vec<usize>,
    scores: Vec<f32>,
    by_latent: Csr,
    sorted: Vec<f32>,
    /// A row's scores, and their latents, where a screen could not decide.
    all: Vec<f32>,
    every: Vec<u32>,
}

impl Rescorer {
    /// Writes the k largest of every row of a block `centred` `[rows, d]`, in ascending order of
    /// latent, and names the rows whose lists do not hold them.
    pub(super) fn select(
        &mut self,
        encoder: Encoder<'_>,
        centred: &[f32],
        lists: &mut [Candidates],
        latents: &mut [u32],
        values: &mut [f32],
        failed: &mut Vec<usize>,
    ) {
        self.score(encoder, centred, lists, failed);
        let k = encoder.k;
        for (row, range) in self.starts.windows(2).enumerate() {
            let range = range[0]..range[1];
            if !range.is_empty() {
                let (latents, values) = (&mut latents[row * k..][..k], &mut values[row * k..][..k]);
                choose(
                    &self.latents[range.clone()],
                    &self.scores[range],
                    &mut self.sorted,
                    latents,
                    values,
                );
            }
        }
    }

    /// Adds to `codes`, for every row of a block `centred` `[rows, d]`, the latents whose score
    /// lies above their threshold, with their scores. Fails with the first row that has a score
    /// that is no number.
    pub(super) fn above(
        &mut self,
        encoder: Encoder<'_>,
        centred: &[f32],
        lists: &mut [Candidates],
        codes: &mut Codes,
        failed: &mut Vec<usize>,
    ) -> Result<(), usize> {
        self.score(encoder, centred, lists, failed);
        for row in 0..lists.len() {
            let range = self.starts[row]..self.starts[row + 1];
            let (latents, scores) = match failed.binary_search(&row) {
                Err(_) => (&self.latents[range.clone()], &self.scores[range]),
                Ok(_) => {
                    self.all.resize(encoder.d_sae(), 0.0);
                    score_all(
                        &centred[row * encoder.d()..][..encoder.d()],
                        encoder.w,
                        encoder.b,
                        &mut self.all,
                    );
                    if self.all.iter().any(|score| !score.is_finite()) {
                        return Err(row);
                    }
                    self.every.clear();
                    self.every.extend(0..encoder.d_sae() as u32);
                    (&self.every[..], &self.all[..])
                }
            };
            codes.push_some(latents, scores, |latent, score| {
                score > encoder.threshold(latent as usize)
            });
        }
        Ok(())
    }

    /// Scores what the lists hold, latent by latent.
    fn score(
        &mut self,
        encoder: Encoder<'_>,
        centred: &[f32],
        lists: &mut [Candidates],
        failed: &mut Vec<usize>,
    ) {
        let d = encoder.d();
        self.latents.clear();
        self.rows.clear();
        self.starts.clear();
        for (row, list) in lists.iter_mut().enumerate() {
            self.starts.push(self.latents.len());
            match list.finish() {
                Some(found) => self.latents.extend_from_slice(found),
                None => failed.push(row),
            }
            self.rows.resize(self.latents.len(), row as u32);
        }
        self.starts.push(self.latents.len());

        self.by_latent.fill(&self.latents, encoder.d_sae());
        self.scores.resize(self.latents.len(), 0.0);
        for (latent, entries) in self.by_latent.keys() {
            score(
                centred,
                &encoder.w[latent * d..][..d],
                encoder.b[latent],
                entries,
                &self.rows,
                &mut self.scores,
            );
        }
    }
}

vectorised! {
    /// The pre-activations of one latent in the rows of the entries.
    fn score(centred: &[f32], w: &[f32], b: f32, entries: &[u32], rows: &[u32], scores: &mut [f32]) {
        let d = w.len();
        for &entry in entries {
            let row = rows[entry as usize] as usize;
            scores[entry as usize] = dot(&centred[row * d..][..d], w) + b;
        }
    }
}

/// Writes the k largest scores and their latents, in the order in which they come; of equal ones
/// the first.
pub(super) fn choose(
    candidates: &[u32],
    scores: &[f32],
    sorted: &mut Vec<f32>,
    latents: &mut [u32],
    values: &mut [f32],
) {
    let k = latents.len();
    sorted.clear();
    sorted.extend_from_slice(scores);
    let (larger, &mut last, _) = sorted.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
    let mut equals = k - larger.iter().filter(|&&score| score > last).count();
    let mut at = 0;
    for (&latent, &score) in candidates.iter().zip(scores) {
        let is_equal = score == last && equals > 0;
        if score > last || is_equal {
            (latents[at], values[at]) = (latent, score);
            at += 1;
            equals -= usize::from(is_equal);
        }
    }
}

/// The k largest of all latents, for the listed rows of a block `centred` `[rows, d]`. Fails with
/// the first row that has fewer than k numbers among its scores.
pub(super) fn select_in_full(
    encoder: Encoder<'_>,
    centred: &[f32],
    rows: &[usize],
    latents: &mut [u32],
    values: &mut [f32],
) -> Result<(), usize> {
    let (d, k) = (encoder.d(), encoder.k);
    let mut tops: Vec<TopK> = rows.iter().map(|_| TopK::new(k)).collect();
    let mut scores = [0.0; TILE];
    for (tile, (w_enc, b_enc)) in encoder.w.chunks(TILE * d).zip(encoder.b.chunks(TILE)).enumerate()
    {
        for (top, &row) in tops.iter_mut().zip(rows) {
            let scores = &mut scores[..b_enc.len()];
            score_all(&centred[row * d..][..d], w_enc, b_enc, scores);
            top.offer(scores, (tile * TILE) as u32);
        }
    }
    for (mut top, &row) in tops.into_iter().zip(rows) {
        if !top.finish(&mut latents[row * k..][..k], &mut values[row * k..][..k]) {
            return Err(row);
        }
    }
    Ok(())
}

vectorised! {
    fn score_all(x: &[f32], w_enc: &[f32], b_enc: &[f32], out: &mut [f32]) {
        for ((out, w), b) in out.iter_mut().zip(w_enc.chunks_exact(x.len())).zip(b_enc) {
            *out = dot(x, w) + b;
        }
    }
}
