//! Where `b_dec` starts in a centred SAE.

use super::trainer::Trainer;
use crate::activations::{Batch, Waiting};
use crate::base::error::Result;
use crate::sae::Sae;

/// Rows of which the mean is taken, at least: its error is then a 256th of the rows' deviation.
const ROWS: usize = 1 << 16;

impl Trainer {
    /// Starts `b_dec` at the mean of the first [`ROWS`] rows that it is trained on, less what its
    /// table says of them.
    pub(super) fn centre(&self, sae: &mut Sae) -> Result<()> {
        let (d, longest) = (sae.d_model(), self.longest()?);
        let steps = ROWS.div_ceil(self.config.batch) as u64;
        let (mut sum, mut n, mut batch) = (vec![0.0f64; d], 0, Batch::default());
        for step in 0..steps.min(self.config.steps()) {
            let mut rows = self.rows(step);
            self.gather(Waiting::Cell, longest, &mut rows, &mut batch)?;
            let keys = self.keys(sae, Waiting::Cell, &rows)?;
            for (i, row) in batch.x.chunks_exact(d).enumerate() {
                sum.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
                let Some(table) = &sae.lookup else { continue };
                let of_token = ([batch.tokens[i]], [1.0]);
                let (keys, weights) =
                    keys.as_ref().map_or((&of_token.0[..], &of_token.1[..]), |keys| keys.row(i));
                for (&key, &weight) in keys.iter().zip(weights) {
                    let said = &table[key as usize * d..][..d];
                    let weight = f64::from(weight);
                    sum.iter_mut().zip(said).for_each(|(sum, &t)| *sum -= weight * f64::from(t));
                }
            }
            n += rows.len();
        }
        sae.b_dec = sum.into_iter().map(|sum| (sum / n as f64) as f32).collect();
        Ok(())
    }
}
