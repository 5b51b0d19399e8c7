//! The mean and the scale of a hook's activations.

use rayon::prelude::*;

use super::{ActivationStore, Batch};
use crate::base::error::{Error, Result};
use crate::model::HookPoint;

impl ActivationStore {
    /// The mean activation `[d_model]` of `hook` over all rows; the same bits whatever the number
    /// of threads.
    ///
    /// # Errors
    /// As [`gather`](ActivationStore::gather).
    pub fn mean(&self, hook: HookPoint) -> Result<Vec<f32>> {
        self.mean_from(hook, 0)
    }

    /// As [`mean`](ActivationStore::mean), over the rows from position `first` of each sequence on.
    pub(super) fn mean_from(&self, hook: HookPoint, first: usize) -> Result<Vec<f32>> {
        /// Rows that are summed in order before the sums are added up in order.
        const CHUNK: usize = 4096;
        /// Chunks summed at once, which bounds the memory that their sums take.
        const ABREAST: usize = 64;
        let place = self.place(hook)?;
        self.verify_all(&[place])?;
        let (d_model, n_rows, n_ctx) = (self.d_model(), self.n_rows(), self.n_ctx());
        let counted = |row: &u64| (*row as usize % n_ctx) >= first;
        let n = (0..n_rows as u64).filter(counted).count();
        let chunks: Vec<usize> = (0..n_rows).step_by(CHUNK).collect();
        let mut total = vec![0f64; d_model];
        for chunks in chunks.chunks(ABREAST) {
            let sums = chunks.par_iter().map(|&start| {
                let rows = start as u64..n_rows.min(start + CHUNK) as u64;
                let rows: Vec<u64> = rows.filter(counted).collect();
                let mut batch = Batch::default();
                self.gather(hook, &rows, &mut batch)?;
                let mut sum = vec![0f64; d_model];
                for x in batch.x.chunks_exact(d_model) {
                    sum.iter_mut().zip(x).for_each(|(sum, &x)| *sum += f64::from(x));
                }
                Ok(sum)
            });
            for sum in sums.collect::<Result<Vec<_>>>()? {
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
        const SAMPLED: usize = 8192;
        let rows = self.shuffle(0).fill(0, SAMPLED.min(self.n_rows()));
        let mut batch = Batch::default();
        self.gather(hook, &rows, &mut batch)?;
        let d = self.d_model();
        let rows = batch.x.chunks_exact(d).zip(&batch.positions);
        let counted: Vec<&[f32]> =
            rows.filter(|(_, position)| **position > 0).map(|(x, _)| x).collect();
        if counted.is_empty() {
            let why =
                "the store holds nothing but first tokens: harvest longer sequences".to_owned();
            return Err(Error::EmptyCorpus { why });
        }
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
        Ok(*distances.select_nth_unstable_by(middle, f64::total_cmp).1 as f32)
    }
}
