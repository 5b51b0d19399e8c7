//! A batch on the device, packed once for all SAEs that train on it.

use std::sync::Arc;

use super::device::{Buffer, Device, Shape, launch};
use super::{BLOCK, OUTLIERS, width};
use crate::backend::cpu::screen::Exactness;
use crate::base::error::Result;

/// Rows `[n, d]`, and what a screen needs of them.
pub(crate) struct Batch {
    pub(super) n: usize,
    pub(super) x: Buffer<f32>,
    pub(super) mean: Buffer<f32>,
    /// For every coordinate, whether it leaves the bytes; then those that do, after their number.
    pub(super) is_outlier: Buffer<u32>,
    pub(super) outliers: Buffer<u32>,
    /// `[n, width]`, less the mean.
    pub(super) bytes: Buffer<u32>,
    /// `[5, n]`: see `pack_rows`.
    pub(super) scales: Buffer<f32>,
    pub(super) outlier_values: Buffer<f32>,
}

impl Batch {
    pub(super) fn new(
        device: &Arc<dyn Device>,
        x: &[f32],
        d: usize,
        exactness: Exactness,
    ) -> Result<Batch> {
        let n = x.len() / d;
        let blocks = n.div_ceil(BLOCK);
        let batch = Batch {
            n,
            x: Buffer::of(device, x)?,
            mean: Buffer::new(device, d)?,
            is_outlier: Buffer::new(device, d)?,
            outliers: Buffer::new(device, OUTLIERS + 1)?,
            bytes: Buffer::new(device, n * width(d) / 4)?,
            scales: Buffer::new(device, 5 * n)?,
            outlier_values: Buffer::new(device, n * OUTLIERS)?,
        };
        if n == 0 {
            return Ok(batch);
        }
        let (sums, squares) =
            (Buffer::<f32>::new(device, blocks * d)?, Buffer::<f32>::new(device, blocks * d)?);
        let deviation = Buffer::<f32>::new(device, d)?;
        launch!(
            device,
            "column_sums",
            Shape::columns(d, blocks),
            [&batch.x, n, d, &sums, &squares]
        )?;
        launch!(
            device,
            "column_moments",
            Shape::columns(d, 1),
            [&sums, &squares, blocks, n, d, &batch.mean, &deviation]
        )?;
        launch!(
            device,
            "find_outliers",
            Shape::blocks(1, 1024),
            [&deviation, d, &batch.is_outlier, &batch.outliers]
        )?;
        launch!(
            device,
            "pack_rows",
            Shape::blocks(n.div_ceil(8), 256),
            [
                &batch.x,
                &batch.mean,
                &batch.is_outlier,
                &batch.outliers,
                n,
                d,
                width(d),
                exactness == Exactness::Proven,
                &batch.bytes,
                &batch.scales,
                &batch.outlier_values,
            ]
        )?;
        Ok(batch)
    }
}
