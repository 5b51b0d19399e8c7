//! AuxK: dead latents, asked to reconstruct what the living leave.
//!
//! The dead latents are an SAE of their own, which selects the k largest of theirs on each row,
//! without biases or table in its decoder, and whose target is the error of the first. So it runs
//! through the same parts, and its codes join the others' where gradients are formed.

use super::activate::Chosen;
use super::encode::largest;
use super::encoder::Encoder;
use super::reconstruct::{Decoding, Reconstruction};
use super::rows::stop_at_zeros;
use super::screen::PackedRows;
use crate::backend::ranks::Ranks;
use crate::base::error::Result;
use crate::sae::{AuxK, Sae};

/// Fills `help` from the codes of the dead latents, given that `x̂ − x` is `residuals` `[n, d]`.
/// Returns the codes and what the objective gains.
#[allow(clippy::too_many_arguments)]
pub(super) fn revive(
    sae: &Sae,
    aux: AuxK,
    dead: &[u32],
    x: &[f32],
    residuals: &[f32],
    rows: &PackedRows,
    ranks: &Ranks,
    aux_recon: &mut Reconstruction,
) -> Result<(Chosen, f64)> {
    let d = sae.d_model();
    let wanted = aux.k(d);
    let w: Vec<f32> =
        dead.iter().flat_map(|&latent| &sae.w_enc[latent as usize * d..][..d]).copied().collect();
    let b: Vec<f32> = dead.iter().map(|&latent| sae.b_enc[latent as usize]).collect();
    let encoder =
        Encoder { w: &w, b: &b, b_dec: &sae.b_dec, k: wanted.min(dead.len()), thresholds: &[] };
    let (mut codes, fallback_rows) = largest(encoder, x, rows, ranks)?;
    let (latents, values) = codes.arrays_mut();
    latents.iter_mut().for_each(|latent| *latent = dead[*latent as usize]);
    values.iter_mut().for_each(|value| *value = value.max(0.0));

    let n = codes.n().max(1) as f64;
    let weight = aux.alpha * (dead.len() as f64 / wanted as f64).min(1.0);
    let error: Vec<f32> = residuals.iter().map(|r| -r).collect();
    let scale = (2.0 * weight / n) as f32;
    aux_recon.fill(
        Decoding { w_dec: &sae.w_dec, prefixes: &[], base: None, target: &error, d, scale, ranks },
        &codes,
    )?;
    stop_at_zeros(codes.values(), &mut aux_recon.gradients);
    let objective = weight * aux_recon.squared_errors / n;
    Ok((Chosen { codes, scores: Vec::new(), fallback_rows }, objective))
}
