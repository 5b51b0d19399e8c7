//! From candidates to codes: exact scores in f32, and the k largest.
//!
//! [`score`] is the one definition of a latent's pre-activation. Every screen, the portable code and the fall-back end in it, so that codes
//! have the same bits whichever of them ran.

use super::topk::TopK;
use crate::sae::Sae;
use crate::simd::{dot, prefetch, vectorised};

/// Latents that the fall-back scores before it goes to the next row: their weights stay in the second-level cache.
const TILE: usize = 64;

/// The buffers of one thread.
#[derive(Default)]
pub(super) struct Rescorer {
    by_upper: Vec<(f32, u32)>,
    best: Vec<(f32, u32)>,
}

vectorised! {
    /// `(x − b_dec)·w + b` of the listed latents, for a row less `b_dec`.
    fn score(x: &[f32], w_enc: &[f32], b_enc: &[f32], latents: &[(f32, u32)], out: &mut Vec<(f32, u32)>) {
        let d = x.len();
        let row = |latent: u32| &w_enc[latent as usize * d..][..d];
        for (i, &(_, latent)) in latents.iter().enumerate() {
            if let Some(&(_, next)) = latents.get(i + 1) {
                prefetch(row(next));
            }
            out.push((dot(x, row(latent)) + b_enc[latent as usize], latent));
        }
    }
}

vectorised! {
    fn score_all(x: &[f32], w_enc: &[f32], b_enc: &[f32], out: &mut [f32]) {
        for ((out, w), b) in out.iter_mut().zip(w_enc.chunks_exact(x.len())).zip(b_enc) {
            *out = dot(x, w) + b;
        }
    }
}

/// Whether `a` is the better of two latents: the larger score, or among equals the lower latent.
fn is_better(a: (f32, u32), b: (f32, u32)) -> bool {
    a.0 > b.0 || (a.0 == b.0 && a.1 < b.1)
}

impl Rescorer {
    /// Writes the k largest of the candidates, in ascending order of latent, for a row less `b_dec`.
    ///
    /// In descending order of their upper bounds: the first k must be scored; after them, only those whose bound reaches the k-th best score so far.
    pub(super) fn select(&mut self, sae: &Sae, x: &[f32], candidates: (&[u32], &[f32]), latents: &mut [u32], values: &mut [f32]) {
        let k = latents.len();
        self.by_upper.clear();
        self.by_upper.extend(candidates.1.iter().copied().zip(candidates.0.iter().copied()));
        self.by_upper.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        self.best.clear();
        score(x, &sae.w_enc, &sae.b_enc, &self.by_upper[..k], &mut self.best);
        let worst = |best: &[(f32, u32)]| (1..k).fold(0, |worst, i| if is_better(best[worst], best[i]) { i } else { worst });
        let mut last = worst(&self.best);
        for candidate in &self.by_upper[k..] {
            if candidate.0 < self.best[last].0 {
                break;
            }
            score(x, &sae.w_enc, &sae.b_enc, std::slice::from_ref(candidate), &mut self.best);
            let found = self.best.swap_remove(k);
            if is_better(found, self.best[last]) {
                self.best[last] = found;
                last = worst(&self.best);
            }
        }
        self.best.sort_unstable_by_key(|&(_, latent)| latent);
        for (i, &(value, latent)) in self.best.iter().enumerate() {
            (latents[i], values[i]) = (latent, value);
        }
    }

    /// As [`Rescorer::select`] of all latents, for the listed rows of a block `x` `[rows, d]`. Fails with the first row that has fewer than k numbers among its scores.
    pub(super) fn select_in_full(sae: &Sae, x: &[f32], rows: &[usize], latents: &mut [u32], values: &mut [f32]) -> Result<(), usize> {
        let (d, k) = (sae.d_model(), sae.config.k);
        let mut tops: Vec<TopK> = rows.iter().map(|_| TopK::new(k)).collect();
        let mut scores = [0.0; TILE];
        for (tile, (w_enc, b_enc)) in sae.w_enc.chunks(TILE * d).zip(sae.b_enc.chunks(TILE)).enumerate() {
            for (top, &row) in tops.iter_mut().zip(rows) {
                let scores = &mut scores[..b_enc.len()];
                score_all(&x[row * d..][..d], w_enc, b_enc, scores);
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
}
