//! Layer norms, with and without their mean.

use candle_core::{D, Device, Tensor};

use crate::base::error::Result;
use crate::cpu::matmul::{RowsMut, in_pieces};
use crate::model::elementwise;
use crate::model::tensor::with_f32;
use crate::model::weights::LayerNormWeights;

/// A layer norm: `(x − mean) / √(variance + eps) · gain + bias`, or, where it is not centred, an
/// RMS norm: `x / √(mean of x² + eps) · gain`.
pub(super) struct Norm {
    pub gain: Vec<f32>,
    /// Zeros where there is none.
    pub bias: Vec<f32>,
    pub centred: bool,
    pub eps: f32,
}

impl Norm {
    pub fn new(gain: &LayerNormWeights, eps: f64) -> Result<Norm> {
        let of = |x| with_f32(x, <[f32]>::to_vec);
        let bias = gain.bias.as_ref().map(of).transpose()?;
        Ok(Norm {
            gain: of(&gain.weight)?,
            centred: bias.is_some(),
            bias: bias.unwrap_or_else(|| vec![0.0; gain.weight.elem_count()]),
            eps: eps as f32,
        })
    }

    /// Of a tensor `[.., d_model]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut out = vec![0f32; x.elem_count()];
        with_f32(x, |x| self.apply(x, RowsMut::F32(&mut out)))?;
        Ok(Tensor::from_vec(out, x.shape(), &Device::Cpu)?)
    }

    /// What of it is linear: of rows `[n, d_model]`, `(x − mean) · gain`, or `x · gain`.
    pub fn linear_part(&self, x: &Tensor) -> Result<Tensor> {
        let gain = Tensor::from_slice(&self.gain, self.gain.len(), &Device::Cpu)?;
        let x = match self.centred {
            true => x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?,
            false => x.clone(),
        };
        Ok(x.broadcast_mul(&gain)?)
    }

    /// Of rows in plain memory, on all threads.
    pub fn apply(&self, x: &[f32], out: RowsMut<'_>) {
        /// Rows that a thread takes at a time.
        const ROWS: usize = 32;
        let Norm { gain, bias, centred, eps } = self;
        let (affine, centred, eps) = ([&gain[..], bias], *centred, *eps);
        let (d, work) = (gain.len(), 8 * x.len());
        let rows = |piece: usize| x[piece * ROWS * d..].chunks_exact(d);
        match out {
            RowsMut::F32(out) => in_pieces(out, ROWS * d, work, |i, out| {
                out.chunks_exact_mut(d)
                    .zip(rows(i))
                    .for_each(|(out, x)| elementwise::normalise(x, affine, centred, eps, out));
            }),
            RowsMut::Bf16(out) => in_pieces(out, ROWS * d.div_ceil(2), work, |i, out| {
                out.chunks_exact_mut(d.div_ceil(2)).zip(rows(i)).for_each(|(out, x)| {
                    elementwise::normalise_to_bf16(x, affine, centred, eps, out)
                });
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::matmul::bf16;
    use crate::model::ops::tests::{assert_close, random};
    use candle_core::Module;

    #[test]
    fn norms_equal_candles() {
        for (n, d) in [(1, 1), (3, 5), (70, 48), (100, 33)] {
            let x = ((random(&[2, n, d], 1) * 3.0).unwrap() + 0.7).unwrap();
            let (weight, bias) = (random(&[d], 2), random(&[d], 3));
            let layer = candle_nn::LayerNorm::new(weight.clone(), bias.clone(), 1e-5).forward(&x);
            let rms = candle_nn::RmsNorm::new(weight.clone(), 1e-5).forward(&x);
            for (bias, want) in [(Some(bias), layer), (None, rms)] {
                let gain = LayerNormWeights { weight: weight.clone(), bias };
                let norm = Norm::new(&gain, 1e-5).unwrap();
                let got = norm.forward(&x).unwrap();
                assert_close(&got, &want.unwrap());
                let mut pairs = vec![u32::MAX; 2 * n * d.div_ceil(2)];
                with_f32(&x, |x| norm.apply(x, RowsMut::Bf16(&mut pairs))).unwrap();
                with_f32(&got, |rows| {
                    for (row, pairs) in rows.chunks(d).zip(pairs.chunks(d.div_ceil(2))) {
                        let mut want = vec![0; d.div_ceil(2)];
                        bf16::pair_up(row, &mut want);
                        assert_eq!(pairs, want);
                    }
                })
                .unwrap();
            }
        }
    }
}
