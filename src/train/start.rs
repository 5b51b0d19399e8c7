//! What of an SAE's start the activations decide.

use super::trainer::Trainer;
use crate::activations::{Batch, Waiting};
use crate::base::error::Result;
use crate::cpu::linear::{add_squares, leading};
use crate::sae::Sae;

/// Rows of which the mean is taken, at least: its error is then a 256th of the rows' deviation.
const ROWS_OF_MEAN: usize = 1 << 16;

/// Rows in which directions are sought, at least: several for each dimension of the widest models.
const ROWS_OF_SPACE: usize = 1 << 14;

/// Rounds in which directions are sought: those that stay apart then hardly differ in how much
/// activations vary along them.
const ROUNDS: usize = 20;

/// Rows that are added to a covariance at a time.
const TOGETHER: usize = 256;

impl Trainer {
    /// Starts `b_dec` and the rows of the decoder where the settings say, by the first rows that the
    /// SAE is trained on.
    pub(super) fn start(&self, sae: &mut Sae) -> Result<()> {
        if sae.config.centred {
            sae.b_dec = self.mean_left(sae, ROWS_OF_MEAN)?.iter().map(|&x| x as f32).collect();
        }
        if let Some(directions) = sae.config.subspace {
            let basis = self.subspace(sae, directions)?;
            sae.start_in(&basis);
        }
        Ok(())
    }

    /// The mean of the first rows, less what the table says of them.
    fn mean_left(&self, sae: &Sae, rows: usize) -> Result<Vec<f64>> {
        let (mut sum, mut n) = (vec![0.0f64; sae.d_model()], 0);
        self.first_rows(sae, rows, |x, said| {
            n += 1;
            sum.iter_mut().zip(x).for_each(|(sum, &x)| *sum += f64::from(x));
            for &(weight, said) in said {
                sum.iter_mut().zip(said).for_each(|(sum, &t)| *sum -= weight * f64::from(t));
            }
        })?;
        Ok(sum.into_iter().map(|sum| sum / f64::from(n)).collect())
    }

    /// An orthonormal basis `[directions, d]` of where the first rows, less what the table says of
    /// them, vary most.
    fn subspace(&self, sae: &Sae, directions: usize) -> Result<Vec<f64>> {
        let d = sae.d_model();
        let mean = self.mean_left(sae, ROWS_OF_SPACE)?;
        let mut covariance = vec![0.0f64; d * d];
        let mut rows: Vec<f64> = Vec::with_capacity(TOGETHER * d);
        self.first_rows(sae, ROWS_OF_SPACE, |x, said| {
            let from = rows.len();
            rows.extend(x.iter().zip(&mean).map(|(&x, mean)| f64::from(x) - mean));
            for &(weight, said) in said {
                rows[from..].iter_mut().zip(said).for_each(|(x, &t)| *x -= weight * f64::from(t));
            }
            if rows.len() == TOGETHER * d {
                add_squares(&mut covariance, &rows, d);
                rows.clear();
            }
        })?;
        add_squares(&mut covariance, &rows, d);
        Ok(leading(&covariance, d, directions, ROUNDS))
    }

    /// Shows the first rows that an SAE is trained on, this many at least if there are as many, each
    /// with the rows of its table that are added to it, and by which weight.
    fn first_rows(
        &self,
        sae: &Sae,
        rows: usize,
        mut see: impl FnMut(&[f32], &[(f64, &[f32])]),
    ) -> Result<()> {
        let (d, longest) = (sae.d_model(), self.longest()?);
        let steps = rows.div_ceil(self.config.batch) as u64;
        let mut batch = Batch::default();
        for step in 0..steps.min(self.config.steps()) {
            let mut rows = self.rows(step);
            self.gather(Waiting::Cell, longest, &mut rows, &mut batch)?;
            let keys = self.keys(sae, Waiting::Cell, &rows)?;
            for (i, row) in batch.x.chunks_exact(d).enumerate() {
                let Some(table) = &sae.lookup else {
                    see(row, &[]);
                    continue;
                };
                let of_token = ([batch.tokens[i]], [1.0]);
                let (keys, weights) =
                    keys.as_ref().map_or((&of_token.0[..], &of_token.1[..]), |keys| keys.row(i));
                let said = |(&key, &weight): (&u32, &f32)| {
                    (f64::from(weight), &table[key as usize * d..][..d])
                };
                see(row, &keys.iter().zip(weights).map(said).collect::<Vec<_>>());
            }
        }
        Ok(())
    }
}
