//! SAEs that read each row of activations in a scale of its own.
//!
//! ```text
//! z  = (x − mean) / length          what the SAE reads, of each row x
//! x̂  = scale·ẑ + mean               what it reconstructs
//! ```
//!
//! A row's mean and scale are known only where the row is, so that no weights can hold them: they
//! travel with its [`Codes`](super::Codes).

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Result};

/// What OpenAI's code and SAELens add to the standard deviation that they divide by, though not to
/// the one that they multiply by.
const EPSILON: f64 = 1e-5;

/// How each row of activations is scaled before the SAE reads it.
///
/// SAEs that this crate trains read activations as they are. Those that others trained on
/// normalised rows, and say so, are read as they are meant: [`encode`](super::Sae::encode) takes
/// activations of the model, and [`decode`](super::Sae::decode) gives them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RowNorm {
    /// Not at all.
    #[default]
    None,
    /// Less its mean, divided by its standard deviation (of d − 1 degrees of freedom) + 1e-5:
    /// OpenAI's TopK SAEs, and SAELens' `layer_norm`.
    LayerNorm,
    /// Made √d long: SAELens' `constant_norm_rescale`, and Llamascopium's `token-wise`.
    ConstantNorm,
}

/// How a row of activations comes back from the scale in which the SAE read it: `x = scale·z +
/// mean`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RowScale {
    /// What was subtracted from all numbers of the row.
    pub mean: f32,
    /// What a number of 1 stands for.
    pub scale: f32,
}

impl RowNorm {
    /// What SAELens calls it.
    pub(super) fn saelens_name(self) -> &'static str {
        match self {
            RowNorm::None => "none",
            RowNorm::LayerNorm => "layer_norm",
            RowNorm::ConstantNorm => "constant_norm_rescale",
        }
    }

    /// Refuses rows of one number, which have no standard deviation.
    pub(super) fn check(self, d: usize) -> Result<()> {
        if self == RowNorm::LayerNorm && d < 2 {
            return Err(Error::config(
                "row_norm",
                "rows of one number have no standard deviation to divide by",
            ));
        }
        Ok(())
    }

    /// How a row comes back.
    pub(crate) fn of(self, x: &[f32]) -> RowScale {
        let d = x.len() as f64;
        let squares = |mean: f64| x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>();
        match self {
            RowNorm::None => RowScale { mean: 0.0, scale: 1.0 },
            RowNorm::LayerNorm => {
                let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / d;
                RowScale { mean: mean as f32, scale: (squares(mean) / (d - 1.0)).sqrt() as f32 }
            }
            RowNorm::ConstantNorm => {
                RowScale { mean: 0.0, scale: (squares(0.0) / d).sqrt() as f32 }
            }
        }
    }

    /// Rows `x` `[n, d]` as the SAE reads them, and how each comes back. A row of zeros that is to
    /// be made longer stays one.
    pub(crate) fn apply(self, x: &[f32], d: usize) -> (Vec<f32>, Vec<RowScale>) {
        let mut z = x.to_vec();
        let scales = z
            .par_chunks_mut(d)
            .map(|row| {
                let back = self.of(row);
                let length = match self {
                    RowNorm::LayerNorm => (f64::from(back.scale) + EPSILON) as f32,
                    _ if back.scale == 0.0 => 1.0,
                    _ => back.scale,
                };
                row.iter_mut().for_each(|x| *x = (*x - back.mean) / length);
                back
            })
            .collect();
        (z, scales)
    }

    /// Takes reconstructions back to the scale of activations.
    pub(crate) fn undo(x_hat: &mut [f32], scales: &[RowScale], d: usize) {
        x_hat
            .par_chunks_mut(d)
            .zip(scales)
            .for_each(|(row, back)| row.iter_mut().for_each(|x| *x = *x * back.scale + back.mean));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_scaled_and_come_back() {
        let x = [1.0, 2.0, 3.0, 6.0, -4.0, -4.0, 2.0, 2.0, 0.0, 0.0, 0.0, 0.0];
        let (z, scales) = RowNorm::LayerNorm.apply(&x, 4);
        // Mean 3, squares 4 + 1 + 0 + 9 of 3 degrees of freedom.
        assert!((f64::from(z[3]) - 3.0 / ((14.0f64 / 3.0).sqrt() + 1e-5)).abs() < 1e-7, "{z:?}");
        assert_eq!(
            (scales[0].mean, scales[1].mean, scales[2]),
            (3.0, -1.0, RowScale { mean: 0.0, scale: 0.0 })
        );
        let (z, scales) = RowNorm::ConstantNorm.apply(&x, 4);
        assert!(
            z[..8].chunks(4).all(|row| (row.iter().map(|z| z * z).sum::<f32>() - 4.0).abs() < 1e-6),
            "{z:?}"
        );
        assert_eq!(
            (&z[8..], scales[1]),
            (&[0.0; 4][..], RowScale { mean: 0.0, scale: 10f32.sqrt() })
        );
        for norm in [RowNorm::None, RowNorm::LayerNorm, RowNorm::ConstantNorm] {
            let (mut back, scales) = norm.apply(&x, 4);
            RowNorm::undo(&mut back, &scales, 4);
            assert!(back.iter().zip(&x).all(|(a, b)| (a - b).abs() < 1e-4), "{norm:?} {back:?}");
        }
    }
}
