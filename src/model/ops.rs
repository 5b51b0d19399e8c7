//! The two operations in which a language model spends its time, on the CPU without needless passes over memory: a matrix with its
//! bias and activation, and causal attention.
//!
//! Each has a twin made of candle's own operations, which serves every other device and is what the tests hold the fast one to.
#![allow(unsafe_code)]

use candle_core::{CpuStorage, D, DType, Device, Module, Storage, Tensor};
use candle_nn::{Activation, Linear};
use candle_transformers::utils::build_causal_mask;
use gemm::Parallelism;
use rayon::prelude::*;

use crate::error::Result;
use crate::model::config::MlpActivation;
use crate::model::lanes;
use crate::model::weights::Affine;

/// Calls `f` with the numbers of a contiguous f32 tensor on the CPU.
///
/// # Errors
/// [`Error::Candle`](crate::error::Error::Candle) if the tensor is of another type or lies elsewhere.
pub(crate) fn with_f32<T>(x: &Tensor, f: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let x = if x.is_contiguous() { x.clone() } else { x.contiguous()? };
    let (storage, layout) = x.storage_and_layout();
    let data = cpu_f32(&storage)?;
    let start = layout.start_offset();
    Ok(f(&data[start..start + layout.shape().elem_count()]))
}

fn cpu_f32(storage: &Storage) -> Result<&[f32]> {
    match storage {
        Storage::Cpu(CpuStorage::F32(data)) => Ok(data),
        other => {
            Err(candle_core::Error::Msg(format!("need f32 numbers on the CPU, got {:?} on {:?}", other.dtype(), other.device())).into())
        }
    }
}

fn is_cpu_f32(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}

// ---- a matrix, its bias, an activation ----

/// `activation(x W + b)` for `x` of shape `[.., in]`.
#[derive(Clone)]
pub(super) struct Dense {
    linear: Linear,
}

impl Dense {
    /// Takes the matrix as it lies in memory: `[in, out]`, or the view of an `[out, in]`.
    pub fn new(affine: Affine) -> Result<Dense> {
        Ok(Dense { linear: Linear::new(affine.weight.t()?, affine.bias) })
    }

    /// Lays the matrix out as `[in, out]`, the order in which the product reads it. With few rows, as in sampling, a matrix that lies
    /// the other way takes longer to turn than to multiply.
    pub fn laid_out(affine: Affine) -> Result<Dense> {
        Dense::new(Affine { weight: affine.weight.contiguous()?, ..affine })
    }

    pub fn forward(&self, x: &Tensor, activation: Option<MlpActivation>) -> Result<Tensor> {
        if is_cpu_f32(x) && is_cpu_f32(self.linear.weight()) { self.forward_cpu(x, activation) } else { self.forward_any(x, activation) }
    }

    fn forward_any(&self, x: &Tensor, activation: Option<MlpActivation>) -> Result<Tensor> {
        let y = self.linear.forward(x)?;
        Ok(match activation {
            None => y,
            Some(MlpActivation::GeluTanh) => Activation::NewGelu.forward(&y)?,
            Some(MlpActivation::GeluErf) => Activation::Gelu.forward(&y)?,
            Some(MlpActivation::Relu) => Activation::Relu.forward(&y)?,
        })
    }

    fn forward_cpu(&self, x: &Tensor, activation: Option<MlpActivation>) -> Result<Tensor> {
        let (d_out, d_in) = self.linear.weight().dims2()?;
        if x.dim(D::Minus1)? != d_in {
            let what = format!("the input of a matrix [{d_out}, {d_in}]");
            return Err(crate::error::Error::Shape { what, want: vec![x.elem_count() / d_in.max(1), d_in], got: x.dims().to_vec() });
        }
        let rows = x.elem_count() / d_in;
        let mut shape = x.dims().to_vec();
        shape.pop();
        shape.push(d_out);
        let matrix = self.linear.weight().t()?; // [in, out]
        let is_laid_out = matrix.is_contiguous();
        let weight = if is_laid_out { matrix } else { self.linear.weight().clone() };
        let (row_stride, col_stride) = if is_laid_out { (d_out, 1) } else { (1, d_in) };
        let y = with_f32(x, |x| {
            with_f32(&weight, |w| {
                let mut y = vec![0f32; rows * d_out];
                let a = Matrix { data: x, rows, cols: d_in, row_stride: d_in, col_stride: 1 };
                let b = Matrix { data: w, rows: d_in, cols: d_out, row_stride, col_stride };
                matmul(&mut y, d_out, a, b, 1.0, Parallelism::Rayon(0));
                y
            })
        })??;
        let y = match self.linear.bias() {
            Some(bias) => with_f32(bias, |bias| finish(y, bias, d_out, activation))?,
            None => finish(y, &[], d_out, activation),
        };
        Ok(Tensor::from_vec(y, shape, &Device::Cpu)?)
    }
}

/// Adds the bias and applies the activation, some rows at a time.
fn finish(mut y: Vec<f32>, bias: &[f32], d_out: usize, activation: Option<MlpActivation>) -> Vec<f32> {
    /// How many numbers a thread takes at a time: 64 kB.
    const PIECE: usize = 16 * 1024;
    if !bias.is_empty() || activation.is_some() {
        let piece = d_out * (PIECE / d_out).max(1);
        let work = 8 * y.len();
        in_pieces(&mut y, piece, work, |_, rows| lanes::bias_and_activate(rows, bias, activation));
    }
    y
}

/// Calls `f` with each piece of `out` and its number: on all threads if there is enough `work` (about, in operations) to be worth
/// waking them.
fn in_pieces(out: &mut [f32], piece: usize, work: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    const WORTH_WAKING: usize = 1 << 20;
    let piece = piece.max(1);
    if work < WORTH_WAKING {
        out.chunks_mut(piece).enumerate().for_each(|(i, piece)| f(i, piece));
    } else {
        out.par_chunks_mut(piece).enumerate().for_each(|(i, piece)| f(i, piece));
    }
}

// ---- causal attention ----

/// Attention of `q` `[n_seq, n_new, d_model]` to `k` and `v` `[n_seq, n_all, d_model]`, whose last `n_new` positions are those of
/// `q`: each position sees itself and all before. Heads lie one after the other in `d_model`. Gives `[n_seq, n_new, d_model]`.
pub(super) fn causal_attention(q: &Tensor, k: &Tensor, v: &Tensor, n_heads: usize, scale: f64) -> Result<Tensor> {
    let rows_are_plain = |x: &Tensor| x.stride()[2] == 1;
    if [q, k, v].into_iter().all(|x| is_cpu_f32(x) && rows_are_plain(x)) {
        attention_cpu(q, k, v, n_heads, scale as f32)
    } else {
        attention_any(q, k, v, n_heads, scale)
    }
}

fn attention_any(q: &Tensor, k: &Tensor, v: &Tensor, n_heads: usize, scale: f64) -> Result<Tensor> {
    let (n_seq, n_new, d_model) = q.dims3()?;
    let n_all = k.dim(1)?;
    let heads = |x: &Tensor| x.reshape((n_seq, x.dim(1)?, n_heads, d_model / n_heads))?.transpose(1, 2)?.contiguous();
    let (q, k, v) = (heads(q)?, heads(k)?, heads(v)?);
    let scores = (q.matmul(&k.t()?)? * scale)?; // [n_seq, n_heads, n_new, n_all]
    let hidden = build_causal_mask(n_new, n_all - n_new, q.device())?.broadcast_as(scores.shape())?;
    let never = Tensor::new(f32::NEG_INFINITY, q.device())?.broadcast_as(scores.shape())?;
    let pattern = candle_nn::ops::softmax_last_dim(&hidden.where_cond(&never, &scores)?)?;
    Ok(pattern.matmul(&v)?.transpose(1, 2)?.reshape((n_seq, n_new, d_model))?)
}

/// One sequence's `[n, d_model]` rows within a tensor's storage.
#[derive(Clone, Copy)]
struct Rows<'a> {
    data: &'a [f32],
    start: usize,
    seq_stride: usize,
    row_stride: usize,
}

impl<'a> Rows<'a> {
    fn of(x: &Tensor, storage: &'a Storage) -> Result<Rows<'a>> {
        let layout = x.layout();
        Ok(Rows { data: cpu_f32(storage)?, start: layout.start_offset(), seq_stride: layout.stride()[0], row_stride: layout.stride()[1] })
    }

    /// Sequence `seq` and what follows it.
    fn seq(&self, seq: usize) -> &'a [f32] {
        &self.data[self.start + seq * self.seq_stride..]
    }

    /// Rows `from..from + n` of one head of one sequence: `[n, d_head]`.
    fn head(&self, seq: usize, from: usize, n: usize, head: usize, d_head: usize) -> Matrix<'a> {
        let start = self.start + seq * self.seq_stride + from * self.row_stride + head * d_head;
        Matrix { data: &self.data[start..], rows: n, cols: d_head, row_stride: self.row_stride, col_stride: 1 }
    }
}

fn attention_cpu(q: &Tensor, k: &Tensor, v: &Tensor, n_heads: usize, scale: f32) -> Result<Tensor> {
    /// How many queries of a head are worked on at once; no key after the last of them is looked at.
    const QUERIES: usize = 64;
    let (n_seq, n_new, d_model) = q.dims3()?;
    let (d_head, n_all) = (d_model / n_heads, k.dim(1)?);
    let before = n_all - n_new;
    let (q_storage, _) = q.storage_and_layout();
    let (k_storage, _) = k.storage_and_layout();
    let (v_storage, _) = v.storage_and_layout();
    let (q, k, v) = (Rows::of(q, &q_storage)?, Rows::of(k, &k_storage)?, Rows::of(v, &v_storage)?);

    if n_new == 1 && k.row_stride == v.row_stride {
        return attention_of_one(q, k, v, [n_seq, n_all, n_heads, d_head], scale);
    }
    let mut out = vec![0f32; n_seq * n_new * d_model];
    let work = 4 * n_seq * n_new * n_all * d_model;
    in_pieces(&mut out, n_new * d_model, work, |seq, out| {
        let mut scores = vec![0f32; n_new.min(QUERIES) * n_all];
        for head in 0..n_heads {
            for from in (0..n_new).step_by(QUERIES) {
                let n = QUERIES.min(n_new - from);
                let seen = before + from + n;
                let scores = &mut scores[..n * seen];
                let (keys, values) = (k.head(seq, 0, seen, head, d_head), v.head(seq, 0, seen, head, d_head));
                matmul(scores, seen, q.head(seq, from, n, head, d_head), keys.transposed(), scale, Parallelism::None);
                for (i, row) in scores.chunks_exact_mut(seen).enumerate() {
                    let (visible, hidden) = row.split_at_mut(before + from + i + 1);
                    lanes::softmax(visible);
                    hidden.fill(0.0);
                }
                let pattern = Matrix { data: scores, rows: n, cols: seen, row_stride: seen, col_stride: 1 };
                let out = &mut out[from * d_model + head * d_head..];
                matmul(out, d_model, pattern, values, 1.0, Parallelism::None);
            }
        }
    });
    Ok(Tensor::from_vec(out, (n_seq, n_new, d_model), &Device::Cpu)?)
}

/// As [`attention_cpu`] for a single new position of each sequence, as in sampling, where products of matrices would be of one row.
fn attention_of_one(q: Rows<'_>, k: Rows<'_>, v: Rows<'_>, [n_seq, n_all, n_heads, d_head]: [usize; 4], scale: f32) -> Result<Tensor> {
    let d_model = n_heads * d_head;
    let mut out = vec![0f32; n_seq * d_model];
    in_pieces(&mut out, d_model, 4 * n_seq * n_all * d_model, |seq, out| {
        let mut shares = vec![0f32; n_heads * n_all];
        lanes::attend(&q.seq(seq)[..d_model], [k.seq(seq), v.seq(seq)], k.row_stride, scale, &mut shares, n_heads, out);
    });
    Ok(Tensor::from_vec(out, (n_seq, 1, d_model), &Device::Cpu)?)
}

// ---- matrix product ----

/// A matrix within a slice: element `(i, j)` is `data[i * row_stride + j * col_stride]`.
#[derive(Clone, Copy)]
struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl Matrix<'_> {
    fn transposed(self) -> Self {
        Matrix { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }

    fn is_within(&self) -> bool {
        self.rows == 0 || self.cols == 0 || (self.rows - 1) * self.row_stride + (self.cols - 1) * self.col_stride < self.data.len()
    }
}

/// `dst = scale · a b`, where row `i` of the product begins at `dst[i * dst_stride]`.
fn matmul(dst: &mut [f32], dst_stride: usize, a: Matrix<'_>, b: Matrix<'_>, scale: f32, threads: Parallelism) {
    let (m, n, k) = (a.rows, b.cols, a.cols);
    if m == 0 || n == 0 {
        return;
    }
    assert!(k == b.rows && a.is_within() && b.is_within(), "matrices that do not fit");
    assert!(n <= dst_stride.max(n * usize::from(m == 1)) && (m - 1) * dst_stride + n <= dst.len(), "a product that does not fit");
    // SAFETY: every element of `a`, `b` and the product lies within its slice, as asserted; `dst` is borrowed mutably, so it
    // overlaps neither; the product's rows do not overlap each other.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            dst.as_mut_ptr(),
            1,
            dst_stride as isize,
            false,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            0.0,
            scale,
            false,
            false,
            false,
            threads,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};

    fn random(shape: &[usize], seed: u64) -> Tensor {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let n = shape.iter().product();
        Tensor::from_vec((0..n).map(|_| rng.random_range(-1.0f32..1.0)).collect::<Vec<_>>(), shape, &Device::Cpu).unwrap()
    }

    fn assert_close(a: &Tensor, b: &Tensor) {
        assert_eq!(a.dims(), b.dims());
        let far = (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
        assert!(far < 2e-5, "{far}");
    }

    #[test]
    fn a_dense_layer_equals_candles() {
        for (rows, d_in, d_out) in [(1, 8, 24), (2, 1, 1), (7, 32, 5), (130, 64, 33), (50, 20, 3000)] {
            let (x, matrix) = (random(&[1, rows, d_in], 2), random(&[d_in, d_out], 1));
            let view = matrix.t().unwrap().contiguous().unwrap().t().unwrap();
            for bias in [None, Some(random(&[d_out], 3))] {
                for activation in [None, Some(MlpActivation::GeluTanh), Some(MlpActivation::GeluErf), Some(MlpActivation::Relu)] {
                    let of = |weight: &Tensor| Affine { weight: weight.clone(), bias: bias.clone() };
                    let want = Dense::new(of(&matrix)).unwrap().forward_any(&x, activation).unwrap();
                    for dense in [Dense::new(of(&matrix)), Dense::new(of(&view)), Dense::laid_out(of(&view))].map(Result::unwrap) {
                        assert_close(&dense.forward_cpu(&x, activation).unwrap(), &want);
                        assert_close(&dense.forward_any(&x, activation).unwrap(), &want);
                    }
                }
            }
        }
        let dense = Dense::new(Affine { weight: random(&[3, 4], 1), bias: None }).unwrap();
        assert!(dense.forward(&random(&[2, 5], 1), None).is_err());
        // A view that is not contiguous is read in its own order.
        let turned = random(&[3, 6], 4).t().unwrap();
        assert_close(&dense.forward(&turned, None).unwrap(), &dense.forward_any(&turned.contiguous().unwrap(), None).unwrap());
    }

    #[test]
    fn attention_equals_candles_with_and_without_a_past() {
        for (n_seq, n_new, n_all, n_heads, d_head) in
            [(1, 1, 1, 1, 4), (2, 12, 12, 4, 8), (3, 1, 40, 2, 16), (2, 1, 33, 3, 20), (2, 150, 150, 3, 8), (1, 70, 201, 2, 4)]
        {
            let d = n_heads * d_head;
            // As in a model: views into one tensor of queries, keys and values.
            let qkv = random(&[n_seq, n_all, 3 * d], 5);
            let q = qkv.narrow(2, 0, d).unwrap().narrow(1, n_all - n_new, n_new).unwrap();
            let (k, v) = (qkv.narrow(2, d, d).unwrap(), qkv.narrow(2, 2 * d, d).unwrap());
            let fast = causal_attention(&q, &k, &v, n_heads, 0.7).unwrap();
            assert_close(&fast, &attention_any(&q, &k, &v, n_heads, 0.7).unwrap());
        }
    }
}
