//! By row: reconstructions, residuals and the gradients of the codes.

use rayon::prelude::*;

use super::csr::Csr;
use super::encoder::BLOCK;
use crate::cpu::simd::{add_scaled, dot, prefetch, vectorised};
use crate::sae::{Codes, Keys};
use crate::sae::{NMSE_EPSILON, Sae};

/// `x̂` `[n, d_model]` of the codes and, if there is a table, the keys of `n` rows, which must lie
/// inside it.
pub fn decode(sae: &Sae, codes: &Codes, keys: &Keys<'_>) -> Vec<f32> {
    let d = sae.d_model();
    let mut x_hat = vec![0.0; codes.n() * d];
    x_hat.par_chunks_mut(BLOCK * d).enumerate().for_each(|(block, rows)| {
        for (i, x_hat) in rows.chunks_exact_mut(d).enumerate() {
            let row = block * BLOCK + i;
            let (latents, values) = codes.row(row);
            begin_row(x_hat, sae, keys, row);
            add_codes(x_hat, &sae.w_dec, latents, values);
        }
    });
    x_hat
}

/// Begins a row of a reconstruction: `x̂ = b_dec + Σ weight·W_lookup[key]`.
#[inline]
pub(super) fn begin_row(x_hat: &mut [f32], sae: &Sae, keys: &Keys<'_>, row: usize) {
    x_hat.copy_from_slice(&sae.b_dec);
    if let Some(table) = &sae.lookup {
        let (keys, weights) = keys.row(row);
        add_codes(x_hat, table, keys, weights);
    }
}

/// `x` less the table's part: what the encoder of an SAE reads that subtracts it.
pub(crate) fn without_table(sae: &Sae, x: &[f32], keys: &Keys<'_>) -> Vec<f32> {
    let d = sae.d_model();
    let mut out = x.to_vec();
    if let Some(table) = &sae.lookup {
        out.par_chunks_mut(d).enumerate().for_each_init(
            || vec![0.0; d],
            |part, (row, x)| {
                part.fill(0.0);
                let (keys, weights) = keys.row(row);
                add_codes(part, table, keys, weights);
                add_scaled(x, -1.0, part);
            },
        );
    }
    out
}

vectorised! {
    /// `x̂ += Σ value·W[latent]`.
    pub(super) fn add_codes(x_hat: &mut [f32], w: &[f32], latents: &[u32], values: &[f32]) {
        let d = x_hat.len();
        let row = |latent: u32| &w[latent as usize * d..][..d];
        for (i, &value) in values.iter().enumerate() {
            if let Some(&next) = latents.get(i + 1) {
                prefetch(row(next));
            }
            add_scaled(x_hat, value, row(latents[i]));
        }
    }
}

/// Decodes a block of rows, latent by latent: the row of `W_dec` of a latent is read once for all
/// rows of the block that have it, in ascending order, and what is written, the block's `x̂`, stays
/// in the second-level cache. Each row's sum has the order of [`add_codes`].
#[derive(Default)]
pub(super) struct BlockDecoder {
    by_latent: Csr,
    /// The row of every code.
    rows: Vec<u32>,
    x_hat: Vec<f32>,
}

impl BlockDecoder {
    /// `x̂` of the codes `[rows, k]` of the rows `from..`.
    pub(super) fn decode(
        &mut self,
        sae: &Sae,
        latents: &[u32],
        values: &[f32],
        keys: &Keys<'_>,
        from: usize,
    ) -> &mut [f32] {
        let (d, k) = (sae.d_model(), sae.config.k);
        self.x_hat.resize(latents.len() / k * d, 0.0);
        for (i, x_hat) in self.x_hat.chunks_exact_mut(d).enumerate() {
            begin_row(x_hat, sae, keys, from + i);
        }
        if self.rows.len() < latents.len() {
            self.rows = (0..latents.len()).map(|code| (code / k) as u32).collect();
        }
        self.by_latent.fill(latents, sae.d_sae());
        for (latent, codes) in self.by_latent.keys() {
            add_latent(&mut self.x_hat, &sae.w_dec[latent * d..][..d], codes, &self.rows, values);
        }
        &mut self.x_hat
    }

    /// The gradients `[rows, k]` of the codes last decoded, whose `x̂` has been turned into
    /// residuals.
    ///
    /// A code that a ReLU has set to 0 passes no gradient on.
    pub(super) fn code_gradients(&self, sae: &Sae, values: &[f32], gradients: &mut [f32]) {
        let d = sae.d_model();
        for (latent, codes) in self.by_latent.keys() {
            products(&self.x_hat, &sae.w_dec[latent * d..][..d], codes, &self.rows, gradients);
        }
        if sae.config.relu {
            stop_at_zeros(values, gradients);
        }
    }
}

/// A code that a ReLU has set to 0 passes no gradient on.
pub(super) fn stop_at_zeros(values: &[f32], gradients: &mut [f32]) {
    gradients
        .iter_mut()
        .zip(values)
        .for_each(|(gradient, &value)| *gradient = if value == 0.0 { 0.0 } else { *gradient });
}

vectorised! {
    /// Adds `value·w` to the row of every code listed that is not 0.
    pub(super) fn add_latent(x_hat: &mut [f32], w: &[f32], codes: &[u32], rows: &[u32], values: &[f32]) {
        let d = w.len();
        for &code in codes {
            let code = code as usize;
            if values[code] != 0.0 {
                add_scaled(&mut x_hat[rows[code] as usize * d..][..d], values[code], w);
            }
        }
    }
}

vectorised! {
    /// The product of `w` with the row of every code listed, in the code's place.
    pub(super) fn products(x: &[f32], w: &[f32], codes: &[u32], rows: &[u32], out: &mut [f32]) {
        let d = w.len();
        for &code in codes {
            let code = code as usize;
            out[code] = dot(&x[rows[code] as usize * d..][..d], w);
        }
    }
}

/// What one row adds to the sums over a batch.
#[derive(Clone, Copy, Default)]
pub(super) struct RowSums {
    /// ‖x̂ − x‖²
    pub squared_error: f64,
    /// ‖x̂ − x‖² / (‖x‖² + 1e-4)
    pub nmse: f64,
}

impl RowSums {
    /// Adds another's.
    pub(super) fn add(&mut self, other: RowSums) {
        self.squared_error += other.squared_error;
        self.nmse += other.nmse;
    }
}

/// What a block of rows adds to the sums.
pub(super) struct BlockSums {
    pub sums: RowSums,
    pub squared_errors: f64,
    /// The sum of its first residuals.
    pub residual: Vec<f32>,
}

impl BlockSums {
    pub(super) fn zeros(d: usize) -> BlockSums {
        BlockSums { sums: RowSums::default(), squared_errors: 0.0, residual: vec![0.0; d] }
    }

    /// Turns a block's `x̂` `[rows, d]` into residuals times `scale`, and adds them up.
    pub(super) fn of_residuals(x_hat: &mut [f32], x: &[f32], d: usize, scale: f32) -> BlockSums {
        let mut sums = BlockSums::zeros(d);
        for (r, x) in x_hat.chunks_exact_mut(d).zip(x.chunks_exact(d)) {
            sums.sums.add(residual_row(r, x, scale));
            add_scaled(&mut sums.residual, 1.0, r);
        }
        sums.squared_errors = sums.sums.squared_error;
        sums
    }
}

vectorised! {
    /// Turns `x̂` into the scaled residual `scale·(x̂ − x)`.
    pub(super) fn residual_row(x_hat: &mut [f32], x: &[f32], scale: f32) -> RowSums {
        for (r, x) in x_hat.iter_mut().zip(x) {
            *r -= x;
        }
        let squared_error = f64::from(dot(x_hat, x_hat));
        let norm = f64::from(dot(x, x));
        x_hat.iter_mut().for_each(|r| *r *= scale);
        RowSums { squared_error, nmse: squared_error / (norm + NMSE_EPSILON) }
    }
}
