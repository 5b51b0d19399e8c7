//! What a step leaves for the next: buffers without a meaning of their own, for batches of
//! as many rows or fewer.

use std::sync::Arc;

use super::batch::Batch;
use super::sizes::Sizes;
use super::{BLOCK, CHUNK, IN_FULL, OUTLIERS, Report, width};
use crate::base::error::Result;
use crate::device::{Buffer, Driver};

/// The buffers.
pub(super) struct Work {
    pub(super) capacity: usize,
    pub(super) report: Buffer<u32>,
    // The encoder, packed.
    pub(super) bytes: Buffer<u32>,
    pub(super) scales: Buffer<f32>, // [6, d_sae]
    pub(super) outlier_values: Buffer<f32>,
    pub(super) offset_norm: Buffer<f32>,
    // Lists of candidates.
    pub(super) bars: Buffer<f32>,
    pub(super) counts: Buffer<u32>,
    pub(super) listed: Buffer<u32>,      // [n, room]
    pub(super) bounds: Buffer<[f32; 2]>, // [n, room]
    pub(super) pending: Buffer<u32>,     // [n]
    pub(super) all_scores: Buffer<f32>,  // [IN_FULL, d_sae]
    // Codes and residuals.
    pub(super) latents: Buffer<u32>,       // [n, k]
    pub(super) values: Buffer<f32>,        // [n, k]
    pub(super) gradients: Buffer<f32>,     // [n, k]
    pub(super) residuals: Buffer<f32>,     // [n, d]
    pub(super) errors: Buffer<f32>,        // [n]
    pub(super) norms: Buffer<f32>,         // [n]
    pub(super) sums: Buffer<f64>,          // [2, blocks]
    pub(super) residual_sums: Buffer<f32>, // [blocks, d]
    // Codes by latent.
    pub(super) of_latents: Buffer<u32>,   // [d_sae]
    pub(super) starts: Buffer<u32>,       // [d_sae + 1]
    pub(super) places: Buffer<u32>,       // [d_sae]
    pub(super) laid: Buffer<u32>,         // [n, k]
    pub(super) ordered: Buffer<[u32; 4]>, // [n, k]
    pub(super) bias_gradients: Buffer<f32>,
    pub(super) through: Buffer<f32>, // [chunks, d]
    /// What a table leaves of a batch that is subtracted before the encoder.
    pub(super) left: Option<Batch>,
    /// `[n, d]` where a table learns that is subtracted; empty elsewhere.
    pub(super) of_table: Buffer<f32>,
}

impl Work {
    pub(super) fn new(device: &Arc<dyn Driver>, sizes: &Sizes) -> Result<Work> {
        let Sizes { n, d, d_sae, k, room, subtracts, returns, .. } = *sizes;
        let blocks = n.div_ceil(BLOCK);
        Ok(Work {
            capacity: n,
            report: Buffer::new(device, Report::EMPTY.len())?,
            bytes: Buffer::new(device, d_sae * width(d) / 4)?,
            scales: Buffer::new(device, 6 * d_sae)?,
            outlier_values: Buffer::new(device, d_sae * OUTLIERS)?,
            offset_norm: Buffer::new(device, 1)?,
            bars: Buffer::new(device, n)?,
            counts: Buffer::new(device, n)?,
            listed: Buffer::new(device, n * room)?,
            bounds: Buffer::new(device, n * room)?,
            pending: Buffer::new(device, n)?,
            all_scores: Buffer::new(device, IN_FULL * d_sae)?,
            latents: Buffer::new(device, n * k)?,
            values: Buffer::new(device, n * k)?,
            gradients: Buffer::new(device, n * k)?,
            residuals: Buffer::new(device, n * d)?,
            errors: Buffer::new(device, n)?,
            norms: Buffer::new(device, n)?,
            sums: Buffer::new(device, 2 * blocks)?,
            residual_sums: Buffer::new(device, blocks * d)?,
            of_latents: Buffer::new(device, d_sae)?,
            starts: Buffer::new(device, d_sae + 1)?,
            places: Buffer::new(device, d_sae)?,
            laid: Buffer::new(device, n * k)?,
            ordered: Buffer::new(device, n * k)?,
            bias_gradients: Buffer::new(device, d_sae)?,
            through: Buffer::new(device, d_sae.div_ceil(CHUNK) * d)?,
            left: match subtracts {
                true => Some(Batch::new(device, n, d)?),
                false => None,
            },
            of_table: Buffer::new(device, if returns { n * d } else { 0 })?,
        })
    }
}
