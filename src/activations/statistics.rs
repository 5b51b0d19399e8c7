//! The mean and the scale of a hook's activations.

use rayon::prelude::*;

use super::{ActivationStore, Batch};
use crate::base::error::Result;
use crate::model::HookPoint;

impl ActivationStore {
    /// The mean activation `[d_model]` of `hook` over all rows; the same bits whatever the number
    /// of threads.
    ///
    /// # Errors
    /// As [`gather`](ActivationStore::gather).
    pub fn mean(&self, hook: HookPoint) -> Result<Vec<f32>> {
        self.mean_of(hook, 0, f32::INFINITY)
    }

    /// As [`mean`](ActivationStore::mean), over the rows from position `first` of each sequence on
    /// that are not longer than `longest`.
    pub(super) fn mean_of(&self, hook: HookPoint, first: usize, longest: f32) -> Result<Vec<f32>> {
        /// Rows that are summed in order before the sums are added up in order.
        const CHUNK: usize = 4096;
        /// Chunks summed at once, which bounds the memory that their sums take.
        const ABREAST: usize = 64;
        let place = self.place(hook)?;
        self.verify_all(&[place])?;
        let (d_model, n_rows, n_ctx) = (self.d_model(), self.n_rows(), self.n_ctx());
        let counted = |row: &u64| (*row as usize % n_ctx) >= first;
        let chunks: Vec<usize> = (0..n_rows).step_by(CHUNK).collect();
        let (mut n, mut total) = (0, vec![0f64; d_model]);
        for chunks in chunks.chunks(ABREAST) {
            let sums = chunks.par_iter().map(|&start| {
                let rows = start as u64..n_rows.min(start + CHUNK) as u64;
                let mut rows: Vec<u64> = rows.filter(counted).collect();
                let mut batch = Batch::default();
                self.gather(hook, &rows, &mut batch)?;
                batch.retain_up_to(longest, &mut rows);
                let mut sum = vec![0f64; d_model];
                for x in batch.x.chunks_exact(d_model) {
                    sum.iter_mut().zip(x).for_each(|(sum, &x)| *sum += f64::from(x));
                }
                Ok((rows.len(), sum))
            });
            for (counted, sum) in sums.collect::<Result<Vec<_>>>()? {
                n += counted;
                total.iter_mut().zip(sum).for_each(|(total, sum)| *total += sum);
            }
        }
        Ok(total.into_iter().map(|sum| (sum / n as f64) as f32).collect())
    }

    /// The scale of the activations of `hook`: the median over tokens of `‖x − x̄‖ / √d_model`, of
    /// up to 8,192 tokens without the first of their sequences.
    ///
    /// A median, because on a few tokens a residual stream is dozens of times longer than on all
    /// others.
    ///
    /// # Errors
    /// As [`gather`](ActivationStore::gather).
    pub fn scale(&self, hook: HookPoint) -> Result<f32> {
        Ok(scale_of(&self.sample(hook)?, self.d_model()))
    }
}

/// The median of `‖x − x̄‖ / √d_model` of the rows `x` `[n, d_model]`, `n` at least 1.
pub(crate) fn scale_of(x: &[f32], d: usize) -> f32 {
    let counted: Vec<&[f32]> = x.chunks_exact(d).collect();
    let n = counted.len() as f64;
    let mut mean = vec![0.0f64; d];
    for x in &counted {
        mean.iter_mut().zip(*x).for_each(|(mean, &x)| *mean += f64::from(x) / n);
    }
    let distance = |x: &[f32]| {
        (x.iter().zip(&mean).map(|(&x, mean)| (f64::from(x) - mean).powi(2)).sum::<f64>()
            / d as f64)
            .sqrt()
    };
    let mut distances: Vec<f64> = counted.into_iter().map(distance).collect();
    let middle = distances.len() / 2;
    *distances.select_nth_unstable_by(middle, f64::total_cmp).1 as f32
}
