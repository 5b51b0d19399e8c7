//! A matrix with its bias and activation, packed for tiles where the processor has them.

#[cfg(test)]
pub(super) mod tests;

use std::sync::{Arc, OnceLock};

use candle_core::{D, Device, Tensor};
use gemm::Parallelism;

use crate::base::error::{Error, Result};
use crate::cpu::matmul::activation::bias_and_activate;
use crate::cpu::matmul::pack::STRETCH;
use crate::cpu::matmul::portable::{Matrix, matmul};
use crate::cpu::matmul::{
    Activation, Compute, Out, Packed, Precision, Rows, RowsMut, View, bf16, has_tiles, in_pieces,
};
use crate::model::tensor::with_f32;
use crate::model::weights::Linear;

/// `activation(x W + b)` for `x` of shape `[.., in]`.
#[derive(Clone)]
pub(super) struct Dense {
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Packed(Arc<Packed>),
    Plain(Arc<Plain>),
}

/// A matrix `[in, out]` as it lies in memory: so, or as the view of an `[out, in]`.
struct Plain {
    weight: Tensor,
    /// `[out]`, or empty.
    bias: Vec<f32>,
    /// The matrix with every number rounded to bf16; made when it is first asked for.
    rounded: OnceLock<Tensor>,
}

impl Dense {
    /// Takes the matrix as it lies in memory: `[in, out]`, or the view of an `[out, in]`.
    pub fn as_it_lies(weights: Linear) -> Result<Dense> {
        let (weight, bias) = (weights.processed()?, weights.bias_numbers()?);
        Ok(Dense { kind: Kind::Plain(Arc::new(Plain { weight, bias, rounded: OnceLock::new() })) })
    }

    /// Lays the matrix out in the order in which products read it: packed where the processor has
    /// tiles, which sum up `stretch` of its rows at a time, and `[in, out]` elsewhere.
    pub fn laid_out(weights: Linear, stretch: usize) -> Result<Dense> {
        if has_tiles() {
            return Dense::packed(&weights, stretch);
        }
        let weight = weights.processed()?.contiguous()?;
        Dense::as_it_lies(Linear::new((weight, weights.precision), weights.bias))
    }

    fn packed(weights: &Linear, stretch: usize) -> Result<Dense> {
        let (depth, width) = weights.weight.dims2()?;
        let is_turned = !weights.weight.is_contiguous();
        let weight = if is_turned { weights.weight.t()? } else { weights.weight.clone() };
        let (row_stride, col_stride) = if is_turned { (1, depth) } else { (width, 1) };
        let bias = weights.bias_numbers()?;
        let bias = weights.bias.as_ref().map(|_| &bias[..]);
        let packed = with_f32(&weight, |data| {
            let view = View { data, depth, width, row_stride, col_stride };
            Packed::new(view, bias, weights.precision, weights.row_wise.clone(), stretch)
        })?;
        Ok(Dense { kind: Kind::Packed(Arc::new(packed)) })
    }

    /// The numbers that it takes and gives: `[in, out]`.
    pub fn dims(&self) -> [usize; 2] {
        match &self.kind {
            Kind::Packed(packed) => [packed.depth, packed.width],
            Kind::Plain(plain) => [plain.weight.dims()[0], plain.weight.dims()[1]],
        }
    }

    /// Whether it is packed for tiles.
    pub fn is_packed(&self) -> bool {
        matches!(self.kind, Kind::Packed(_))
    }

    /// The matrix in panels: those that it has, or a copy of what lies as it came.
    pub fn in_panels(&self) -> Result<Arc<Packed>> {
        match &self.kind {
            Kind::Packed(packed) => Ok(packed.clone()),
            Kind::Plain(plain) => {
                let Plain { weight, bias, .. } = &**plain;
                let bias = match bias.len() {
                    0 => None,
                    n => Some(Tensor::from_slice(bias, n, &Device::Cpu)?),
                };
                let linear = Linear::new((weight.clone(), Precision::Single), bias);
                Dense::packed(&linear, STRETCH)?.in_panels()
            }
        }
    }

    /// Bytes of the copy, rounded to bf16, that it makes when one is first asked for.
    pub fn bytes_to_round(&self) -> u64 {
        let [d_in, d_out] = self.dims();
        match &self.kind {
            Kind::Packed(packed) => packed.bytes_to_round(),
            Kind::Plain(_) => 4 * (d_in * d_out) as u64,
        }
    }

    /// As [`apply`](Dense::apply), for a tensor.
    pub fn forward(&self, x: &Tensor, activation: Activation, compute: Compute) -> Result<Tensor> {
        let [d_in, d_out] = self.dims();
        if x.dim(D::Minus1)? != d_in {
            let what = format!("the input of a matrix [{d_out}, {d_in}]");
            return Err(Error::Shape {
                what,
                want: vec![x.elem_count() / d_in.max(1), d_in],
                got: x.dims().to_vec(),
            });
        }
        let mut shape = x.dims().to_vec();
        shape.pop();
        shape.push(d_out);
        let mut y = vec![0f32; x.elem_count() / d_in * d_out];
        with_f32(x, |x| {
            self.apply(Rows::F32(x), Out::Write(RowsMut::F32(&mut y)), activation, compute)
        })??;
        Ok(Tensor::from_vec(y, shape, &Device::Cpu)?)
    }

    /// The product with rows in plain memory. Rows of bf16 are for a packed matrix on a processor
    /// that multiplies them.
    ///
    /// # Errors
    /// [`Error::Shape`] if the rows do not have the width of the matrix.
    pub fn apply(
        &self,
        rows: Rows<'_>,
        out: Out<'_>,
        activation: Activation,
        compute: Compute,
    ) -> Result<()> {
        let [d_in, d_out] = self.dims();
        let n = match &out {
            Out::Write(RowsMut::F32(y)) | Out::Add(y) | Out::Gated(_, RowsMut::F32(y)) => {
                y.len() / d_out
            }
            Out::Write(RowsMut::Bf16(y)) | Out::Gated(_, RowsMut::Bf16(y)) => {
                y.len() / d_out.div_ceil(2)
            }
        };
        let fits = match &rows {
            Rows::F32(x) => x.len() == n * d_in,
            Rows::Bf16(x) => x.len() == n * d_in.div_ceil(2),
        };
        if !fits {
            let got = match &rows {
                Rows::F32(x) => x.len(),
                Rows::Bf16(x) => 2 * x.len(),
            };
            return Err(Error::Shape {
                what: format!("the input of a matrix [{d_out}, {d_in}]"),
                want: vec![n, d_in],
                got: vec![got],
            });
        }
        match (&self.kind, rows, out) {
            #[cfg(target_arch = "x86_64")]
            (Kind::Packed(packed), rows, out) => packed.multiply(rows, out, activation, compute),
            (Kind::Plain(plain), Rows::F32(x), Out::Write(RowsMut::F32(y))) => {
                plain.multiply(x, y, activation, compute)?
            }
            (Kind::Plain(plain), Rows::F32(x), Out::Add(y)) => {
                let mut fresh = vec![0f32; y.len()];
                plain.multiply(x, &mut fresh, activation, compute)?;
                in_pieces(y, PIECE, 8 * fresh.len(), |i, y| {
                    y.iter_mut().zip(&fresh[i * PIECE..]).for_each(|(y, x)| *y += x)
                });
            }
            (Kind::Plain(plain), Rows::F32(x), Out::Gated(by, RowsMut::F32(y))) => {
                plain.multiply(x, y, activation, compute)?;
                in_pieces(y, PIECE, 8 * by.len(), |i, y| {
                    y.iter_mut().zip(&by[i * PIECE..]).for_each(|(y, by)| *y *= by)
                });
            }
            _ => unreachable!(
                "rows of bf16 are made only for packed matrices, which only processors with tiles have"
            ),
        }
        Ok(())
    }
}

/// How many numbers a thread takes at a time: 64 kB.
const PIECE: usize = 16 * 1024;

impl Plain {
    fn multiply(
        &self,
        x: &[f32],
        y: &mut [f32],
        activation: Activation,
        compute: Compute,
    ) -> Result<()> {
        let (d_in, d_out) = self.weight.dims2()?;
        let (row_stride, col_stride) =
            if self.weight.is_contiguous() { (d_out, 1) } else { (1, d_in) };
        let rounded: Vec<f32>;
        let (x, weight) = match compute {
            Compute::F32 => (x, self.lying()?),
            Compute::Bf16 => {
                rounded = round(x);
                (&rounded[..], self.rounded()?)
            }
        };
        with_f32(&weight, |w| {
            let a = Matrix {
                data: x,
                rows: y.len() / d_out,
                cols: d_in,
                row_stride: d_in,
                col_stride: 1,
            };
            let b = Matrix { data: w, rows: d_in, cols: d_out, row_stride, col_stride };
            matmul(y, d_out, a, b, 1.0, Parallelism::Rayon(0));
        })?;
        if !self.bias.is_empty() || activation != Activation::None {
            let work = 8 * y.len();
            in_pieces(y, d_out * (PIECE / d_out).max(1), work, |_, rows| {
                bias_and_activate(rows, &self.bias, activation)
            });
        }
        Ok(())
    }

    /// The matrix, turned if it lies so: contiguous in any case.
    fn lying(&self) -> Result<Tensor> {
        Ok(if self.weight.is_contiguous() { self.weight.clone() } else { self.weight.t()? })
    }

    fn rounded(&self) -> Result<Tensor> {
        if let Some(rounded) = self.rounded.get() {
            return Ok(rounded.clone());
        }
        let weight = self.lying()?;
        let rounded = Tensor::from_vec(with_f32(&weight, round)?, weight.dims(), &Device::Cpu)?;
        Ok(self.rounded.get_or_init(|| rounded).clone())
    }
}

/// Each number as the nearest that bf16 has.
fn round(x: &[f32]) -> Vec<f32> {
    x.iter().map(|x| bf16::widen(bf16::round(*x))).collect()
}
