//! A matrix with its bias and activation, packed for tiles where the processor has them.
//!
//! The twin made of candle's own operations serves other devices, and is what the tests hold the
//! fast ones to.

use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, D, DType, Device, Module, Storage, Tensor};
use candle_nn::{Activation as CandleActivation, Linear as CandleLinear};
use gemm::Parallelism;

use crate::base::error::{Error, Result};
use crate::cpu::matmul::activation::bias_and_activate;
use crate::cpu::matmul::portable::{Matrix, matmul};
use crate::cpu::matmul::{
    Activation, Compute, Out, Packed, Rows, RowsMut, View, bf16, has_tiles, in_pieces,
};
use crate::model::config::MlpActivation;
use crate::model::weights::Linear;

/// Calls `f` with the numbers of a contiguous f32 tensor on the CPU.
///
/// # Errors
/// [`Error::Candle`](crate::base::error::Error::Candle) if the tensor is of another type or lies
/// elsewhere.
pub(crate) fn with_f32<T>(x: &Tensor, f: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let x = if x.is_contiguous() { x.clone() } else { x.contiguous()? };
    let (storage, layout) = x.storage_and_layout();
    let data = cpu_f32(&storage)?;
    let start = layout.start_offset();
    Ok(f(&data[start..start + layout.shape().elem_count()]))
}

pub(super) fn cpu_f32(storage: &Storage) -> Result<&[f32]> {
    match storage {
        Storage::Cpu(CpuStorage::F32(data)) => Ok(data),
        other => Err(candle_core::Error::Msg(format!(
            "need f32 numbers on the CPU, got {:?} on {:?}",
            other.dtype(),
            other.device()
        ))
        .into()),
    }
}

pub(super) fn is_cpu_f32(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}

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

/// A matrix as candle has it.
struct Plain {
    linear: CandleLinear,
    /// The matrix with every number rounded to bf16; made when it is first asked for.
    rounded: OnceLock<Tensor>,
}

impl Dense {
    /// Takes the matrix as it lies in memory: `[in, out]`, or the view of an `[out, in]`.
    pub fn as_it_lies(weights: Linear) -> Result<Dense> {
        let linear = CandleLinear::new(weights.processed()?.t()?, weights.bias);
        Ok(Dense { kind: Kind::Plain(Arc::new(Plain { linear, rounded: OnceLock::new() })) })
    }

    /// Lays the matrix out in the order in which products read it: packed where the processor has
    /// tiles, and `[in, out]` elsewhere.
    pub fn laid_out(weights: Linear) -> Result<Dense> {
        if has_tiles() && is_cpu_f32(&weights.weight) {
            return Dense::packed(&weights);
        }
        let weight = weights.processed()?.contiguous()?;
        Dense::as_it_lies(Linear::new((weight, weights.precision), weights.bias))
    }

    fn packed(weights: &Linear) -> Result<Dense> {
        let (depth, width) = weights.weight.dims2()?;
        let is_turned = !weights.weight.is_contiguous();
        let weight = if is_turned { weights.weight.t()? } else { weights.weight.clone() };
        let (row_stride, col_stride) = if is_turned { (1, depth) } else { (width, 1) };
        let bias = weights.bias.as_ref().map(|bias| with_f32(bias, <[f32]>::to_vec)).transpose()?;
        let packed = with_f32(&weight, |data| {
            let view = View { data, depth, width, row_stride, col_stride };
            Packed::new(view, bias.as_deref(), weights.precision, weights.row_wise.clone())
        })?;
        Ok(Dense { kind: Kind::Packed(Arc::new(packed)) })
    }

    /// The numbers that it takes and gives: `[in, out]`.
    fn dims(&self) -> [usize; 2] {
        match &self.kind {
            Kind::Packed(packed) => [packed.depth, packed.width],
            Kind::Plain(plain) => {
                [plain.linear.weight().dims()[1], plain.linear.weight().dims()[0]]
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

    /// As [`apply`](Dense::apply), for a tensor on any device.
    pub fn forward(
        &self,
        x: &Tensor,
        activation: Option<MlpActivation>,
        compute: Compute,
    ) -> Result<Tensor> {
        if let Kind::Plain(plain) = &self.kind
            && !(is_cpu_f32(x) && is_cpu_f32(plain.linear.weight()))
        {
            return forward_any(&plain.linear, x, activation);
        }
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
        activation: Option<MlpActivation>,
        compute: Compute,
    ) -> Result<()> {
        let [d_in, d_out] = self.dims();
        let n = match &out {
            Out::Write(RowsMut::F32(y)) | Out::Add(y) => y.len() / d_out,
            Out::Write(RowsMut::Bf16(y)) => y.len() / d_out.div_ceil(2),
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
        let activation = match activation {
            None => Activation::None,
            Some(MlpActivation::GeluTanh) => Activation::GeluTanh,
            Some(MlpActivation::GeluErf) => Activation::GeluErf,
            Some(MlpActivation::Relu) => Activation::Relu,
        };
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
        let (d_out, d_in) = self.linear.weight().dims2()?;
        let is_laid_out = self.linear.weight().t()?.is_contiguous();
        let rounded: Vec<f32>;
        let (x, weight) = match compute {
            Compute::F32 if is_laid_out => (x, self.linear.weight().t()?),
            Compute::F32 => (x, self.linear.weight().clone()),
            Compute::Bf16 => {
                rounded = x.iter().map(|x| bf16::widen(bf16::round(*x))).collect();
                (&rounded[..], self.rounded(is_laid_out)?)
            }
        };
        let (row_stride, col_stride) = if is_laid_out { (d_out, 1) } else { (1, d_in) };
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
        let bias = self
            .linear
            .bias()
            .map(|bias| with_f32(bias, <[f32]>::to_vec))
            .transpose()?
            .unwrap_or_default();
        if !bias.is_empty() || activation != Activation::None {
            let work = 8 * y.len();
            in_pieces(y, d_out * (PIECE / d_out).max(1), work, |_, rows| {
                bias_and_activate(rows, &bias, activation)
            });
        }
        Ok(())
    }

    fn rounded(&self, is_laid_out: bool) -> Result<Tensor> {
        if let Some(rounded) = self.rounded.get() {
            return Ok(rounded.clone());
        }
        let weight =
            if is_laid_out { self.linear.weight().t()? } else { self.linear.weight().clone() };
        let numbers = with_f32(&weight, |w| {
            w.iter().map(|x| bf16::widen(bf16::round(*x))).collect::<Vec<_>>()
        })?;
        let rounded = Tensor::from_vec(numbers, weight.dims(), &Device::Cpu)?;
        Ok(self.rounded.get_or_init(|| rounded).clone())
    }
}

fn forward_any(
    linear: &CandleLinear,
    x: &Tensor,
    activation: Option<MlpActivation>,
) -> Result<Tensor> {
    let y = linear.forward(x)?;
    Ok(match activation {
        None => y,
        Some(MlpActivation::GeluTanh) => CandleActivation::NewGelu.forward(&y)?,
        Some(MlpActivation::GeluErf) => CandleActivation::Gelu.forward(&y)?,
        Some(MlpActivation::Relu) => CandleActivation::Relu.forward(&y)?,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::cpu::matmul::Precision;
    use rand::{Rng, SeedableRng};

    pub fn random(shape: &[usize], seed: u64) -> Tensor {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let n = shape.iter().product();
        Tensor::from_vec(
            (0..n).map(|_| rng.random_range(-1.0f32..1.0)).collect::<Vec<_>>(),
            shape,
            &Device::Cpu,
        )
        .unwrap()
    }

    pub fn assert_close(a: &Tensor, b: &Tensor) {
        assert_eq!(a.dims(), b.dims());
        let far = (a - b)
            .unwrap()
            .abs()
            .unwrap()
            .flatten_all()
            .unwrap()
            .max(0)
            .unwrap()
            .to_scalar::<f32>()
            .unwrap();
        assert!(far < 2e-5, "{far}");
    }

    #[test]
    fn a_dense_layer_equals_candles() {
        for (rows, d_in, d_out) in
            [(1, 8, 24), (2, 1, 1), (7, 32, 5), (130, 64, 33), (50, 20, 3000)]
        {
            let (x, matrix) = (random(&[1, rows, d_in], 2), random(&[d_in, d_out], 1));
            let view = matrix.t().unwrap().contiguous().unwrap().t().unwrap();
            for bias in [None, Some(random(&[d_out], 3))] {
                for activation in [
                    None,
                    Some(MlpActivation::GeluTanh),
                    Some(MlpActivation::GeluErf),
                    Some(MlpActivation::Relu),
                ] {
                    let of = |weight: &Tensor| {
                        Linear::new((weight.clone(), Precision::Single), bias.clone())
                    };
                    let candle =
                        |weight: &Tensor| CandleLinear::new(weight.t().unwrap(), bias.clone());
                    let want = forward_any(&candle(&matrix), &x, activation).unwrap();
                    let rounded =
                        |x: &Tensor| x.to_dtype(DType::BF16).unwrap().to_dtype(DType::F32).unwrap();
                    let want_bf16 =
                        forward_any(&candle(&rounded(&matrix)), &rounded(&x), activation).unwrap();
                    let mut all = vec![
                        Dense::as_it_lies(of(&matrix)),
                        Dense::as_it_lies(of(&view)),
                        Dense::laid_out(of(&view)),
                    ];
                    if has_tiles() {
                        all.extend([Dense::packed(&of(&matrix)), Dense::packed(&of(&view))]);
                    }
                    for dense in all.into_iter().map(Result::unwrap) {
                        assert_close(&dense.forward(&x, activation, Compute::F32).unwrap(), &want);
                        assert_close(
                            &dense.forward(&x, activation, Compute::Bf16).unwrap(),
                            &want_bf16,
                        );
                    }
                }
            }
        }
        let dense =
            Dense::laid_out(Linear::new((random(&[3, 4], 1), Precision::Single), None)).unwrap();
        assert!(dense.forward(&random(&[2, 5], 1), None, Compute::F32).is_err());
        // A view that is not contiguous is read in its own order.
        let turned = random(&[3, 6], 4).t().unwrap();
        let of = |x: &Tensor| dense.forward(x, None, Compute::F32).unwrap();
        assert_close(&of(&turned), &of(&turned.contiguous().unwrap()));
    }
}
