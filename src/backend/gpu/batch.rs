//! A batch on the device, packed once for all SAEs that train on it.

use std::sync::{Arc, Mutex, PoisonError};

use super::{BLOCK, OUTLIERS, width};
use crate::backend::cpu::screen::Exactness;
use crate::base::error::Result;
use crate::device::{Buffer, Driver, Shape, launch};

/// Rows `[n, d]`, and what a screen needs of them. The buffers serve every batch of as many rows or
/// fewer: rows that are left out of training make batches of many sizes.
pub(super) struct Batch {
    device: Arc<dyn Driver>,
    pub(super) n: usize,
    d: usize,
    capacity: usize,
    pub(super) x: Buffer<f32>,
    /// Whether what follows has been made of them.
    is_packed: Mutex<bool>,
    /// Over blocks of rows `[2, blocks, d]`: sums, and sums of squares.
    sums: [Buffer<f32>; 2],
    pub(super) mean: Buffer<f32>,
    deviation: Buffer<f32>,
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
    /// Room for `capacity` rows of `d`, and none yet.
    pub(super) fn new(device: &Arc<dyn Driver>, capacity: usize, d: usize) -> Result<Batch> {
        let n = capacity;
        let sums = n.div_ceil(BLOCK) * d;
        Ok(Batch {
            device: device.clone(),
            n: 0,
            d,
            capacity,
            x: Buffer::new(device, n * d)?,
            is_packed: Mutex::new(false),
            sums: [Buffer::new(device, sums)?, Buffer::new(device, sums)?],
            mean: Buffer::new(device, d)?,
            deviation: Buffer::new(device, d)?,
            is_outlier: Buffer::new(device, d)?,
            outliers: Buffer::new(device, OUTLIERS + 1)?,
            bytes: Buffer::new(device, n * width(d) / 4)?,
            scales: Buffer::new(device, 5 * n)?,
            outlier_values: Buffer::new(device, n * OUTLIERS)?,
        })
    }

    /// Whether it has room for these rows.
    pub(super) fn fits(&self, n: usize, d: usize) -> bool {
        n <= self.capacity && d == self.d
    }

    /// Whether it has so many rows.
    pub(super) fn is_of(&self, n: usize, d: usize) -> bool {
        n == self.n && d == self.d
    }

    /// Takes rows `x` `[n, d]`, beside the kernels that run, of which none may read those before.
    pub(super) fn fill(&mut self, x: &[f32]) -> Result<()> {
        self.n = x.len() / self.d.max(1);
        self.is_packed = Mutex::new(false);
        self.x.write_beside(x)
    }

    /// Has the kernels that follow wait for its rows, and packs them, if nobody has yet.
    pub(super) fn arrive(&self, exactness: Exactness) -> Result<()> {
        let mut is_packed = self.is_packed.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_packed {
            self.device.join()?;
            self.pack(exactness)?;
            *is_packed = true;
        }
        Ok(())
    }

    /// Takes what is left of another's rows when those of a table are taken from them, and packs it.
    pub(super) fn fill_without(
        &mut self,
        other: &Batch,
        tokens: &Buffer<u32>,
        table: &Buffer<f32>,
        exactness: Exactness,
    ) -> Result<()> {
        self.n = other.n;
        launch!(
            self.device,
            "without_table",
            Shape::blocks(self.n, 128),
            [&other.x, tokens, table, self.d, &self.x]
        )?;
        self.pack(exactness)
    }

    fn pack(&self, exactness: Exactness) -> Result<()> {
        let (device, n, d) = (&self.device, self.n, self.d);
        if n == 0 {
            return Ok(());
        }
        let ([sums, squares], blocks) = (&self.sums, n.div_ceil(BLOCK));
        launch!(device, "column_sums", Shape::columns(d, blocks), [&self.x, n, d, sums, squares])?;
        launch!(
            device,
            "column_moments",
            Shape::columns(d, 1),
            [sums, squares, blocks, n, d, &self.mean, &self.deviation]
        )?;
        launch!(
            device,
            "find_outliers",
            Shape::blocks(1, 1024),
            [&self.deviation, d, &self.is_outlier, &self.outliers]
        )?;
        launch!(
            device,
            "pack_rows",
            Shape::blocks(n.div_ceil(8), 256),
            [
                &self.x,
                &self.mean,
                &self.is_outlier,
                &self.outliers,
                n,
                d,
                width(d),
                exactness == Exactness::Proven,
                &self.bytes,
                &self.scales,
                &self.outlier_values,
            ]
        )
    }
}
