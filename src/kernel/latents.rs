//! By latent: the gradient of a latent's two rows, formed in cache by one thread, and Adam on them at once.

use rayon::prelude::*;

use super::adam::{AdamStep, adam_row};
use super::step::Scratch;
use super::{AdamState, Codes};
use crate::sae::Sae;
use crate::simd::{add_scaled, prefetch, vectorised};

/// Latents that one task takes; fixed, so that sums over latents are added in the same order on any number of threads.
const CHUNK: usize = 32;

/// Updates `W_enc`, `b_enc` and `W_dec`, and leaves `Σ_latent (gradient of its bias)·W_enc[latent]` in `scratch.through_encoder`:
/// what `b_dec` receives through the encoder, taken before the rows move.
pub(super) fn update(sae: &mut Sae, state: &mut AdamState, codes: &Codes, scratch: &mut Scratch, adam: AdamStep) {
    let d = sae.d_model();
    let k = codes.k();
    let (centred, residuals) = (&scratch.centred, &scratch.residuals);
    let (by_latent, gradients, values) = (&scratch.by_latent, &scratch.code_gradients, codes.values());

    let chunks = sae.d_sae().div_ceil(CHUNK);
    scratch.partial.clear();
    scratch.partial.resize(chunks * d, 0.0);
    let weights = (sae.w_enc.par_chunks_mut(CHUNK * d), sae.w_dec.par_chunks_mut(CHUNK * d), sae.b_enc.par_chunks_mut(CHUNK));
    let encoder = (state.w_enc.m.par_chunks_mut(CHUNK * d), state.w_enc.v.par_chunks_mut(CHUNK * d));
    let decoder = (state.w_dec.m.par_chunks_mut(CHUNK * d), state.w_dec.v.par_chunks_mut(CHUNK * d));
    let bias = (state.b_enc.m.par_chunks_mut(CHUNK), state.b_enc.v.par_chunks_mut(CHUNK));
    (weights.into_par_iter(), encoder.into_par_iter(), decoder.into_par_iter(), bias.into_par_iter(), scratch.partial.par_chunks_mut(d))
        .into_par_iter()
        .enumerate()
        .for_each_init(
            || vec![0.0f32; 2 * d],
            |buffer, (chunk, ((w_enc, w_dec, b_enc), (m_enc, v_enc), (m_dec, v_dec), (m_bias, v_bias), through))| {
                let (g_enc, g_dec) = buffer.split_at_mut(d);
                for i in 0..b_enc.len() {
                    let entries = by_latent.entries(chunk * CHUNK + i);
                    let g_bias = gather(g_enc, g_dec, entries, k, gradients, values, centred, residuals);
                    let row = i * d..(i + 1) * d;
                    if g_bias != 0.0 {
                        add_scaled(through, g_bias, &w_enc[row.clone()]);
                    }
                    adam_row(adam, &mut w_enc[row.clone()], &mut m_enc[row.clone()], &mut v_enc[row.clone()], g_enc);
                    adam_row(adam, &mut w_dec[row.clone()], &mut m_dec[row.clone()], &mut v_dec[row], g_dec);
                    adam_row(adam, &mut b_enc[i..=i], &mut m_bias[i..=i], &mut v_bias[i..=i], &[g_bias]);
                }
            },
        );

    scratch.through_encoder.clear();
    scratch.through_encoder.resize(d, 0.0);
    for partial in scratch.partial.chunks_exact(d) {
        add_scaled(&mut scratch.through_encoder, 1.0, partial);
    }
}

vectorised! {
    /// The gradients of one latent: of its encoder row, of its decoder row, and, returned, of its bias.
    ///
    /// `entries` number the codes `[n, k]` that stand on this latent.
    fn gather(
        g_enc: &mut [f32], g_dec: &mut [f32], entries: &[u32], k: usize, gradients: &[f32], values: &[f32], centred: &[f32], residuals: &[f32],
    ) -> f32 {
        let d = g_enc.len();
        g_enc.fill(0.0);
        g_dec.fill(0.0);
        let mut g_bias = 0.0;
        for (i, &entry) in entries.iter().enumerate() {
            if let Some(&next) = entries.get(i + 1) {
                let row = next as usize / k * d;
                prefetch(&centred[row..][..d]);
                prefetch(&residuals[row..][..d]);
            }
            let entry = entry as usize;
            let row = entry / k * d;
            add_scaled(g_enc, gradients[entry], &centred[row..][..d]);
            add_scaled(g_dec, values[entry], &residuals[row..][..d]);
            g_bias += gradients[entry];
        }
        g_bias
    }
}
