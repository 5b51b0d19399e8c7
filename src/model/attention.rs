//! Causal attention: by tiles where the processor has them, by `gemm` where not.

use candle_core::{Device, Storage, Tensor};
use gemm::Parallelism;

use crate::base::error::Result;
use crate::cpu::matmul::portable::{Matrix, matmul};
use crate::cpu::matmul::{Heads, RowsMut, Shape, in_pieces};
use crate::model::elementwise;
use crate::model::tensor::cpu_f32;

/// Attention of `q` `[n_seq, n_new, n_heads · d_head]` to `k` and `v` `[n_seq, n_all, n_kv_heads ·
/// d_head]`, whose last `n_new` positions are those of `q`: each position sees itself and all
/// before. Heads lie one after the other, and as many of the queries' share one of keys and values
/// as there are more of them. Gives `[n_seq, n_new, n_heads · d_head]`.
pub(super) fn causal_attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    n_heads: usize,
    scale: f64,
) -> Result<Tensor> {
    let (n_seq, n_new, width) = q.dims3()?;
    let shape = Shape {
        n_seq,
        n_new,
        n_all: k.dim(1)?,
        n_heads,
        group: width / k.dim(2)?,
        d_head: width / n_heads,
        scale: scale as f32,
    };
    let (q_storage, _) = q.storage_and_layout();
    let (k_storage, _) = k.storage_and_layout();
    let (v_storage, _) = v.storage_and_layout();
    let mut out = vec![0f32; n_seq * n_new * width];
    attend(
        [heads(q, &q_storage)?, heads(k, &k_storage)?, heads(v, &v_storage)?],
        shape,
        RowsMut::F32(&mut out),
    );
    Ok(Tensor::from_vec(out, (n_seq, n_new, width), &Device::Cpu)?)
}

fn heads<'a>(x: &Tensor, storage: &'a Storage) -> Result<Heads<'a>> {
    let layout = x.layout();
    let data = &cpu_f32(storage)?[layout.start_offset()..];
    Ok(Heads { data, seq_stride: layout.stride()[0], row_stride: layout.stride()[1] })
}

/// Attention of queries, keys and values that lie in plain memory. On a processor without tiles,
/// the output is f32.
pub(super) fn attend([q, k, v]: [Heads<'_>; 3], shape: Shape, out: RowsMut<'_>) {
    match out {
        RowsMut::F32(out) if shape.n_new == 1 && k.row_stride == v.row_stride => {
            of_one([q, k, v], shape, out)
        }
        #[cfg(target_arch = "x86_64")]
        out if crate::cpu::matmul::has_tiles() => {
            crate::cpu::matmul::attention::causal(q, k, v, shape, out)
        }
        RowsMut::F32(out) => by_gemm([q, k, v], shape, out),
        RowsMut::Bf16(_) => unreachable!("rows of bf16 are asked for only where there are tiles"),
    }
}

fn by_gemm([q, k, v]: [Heads<'_>; 3], shape: Shape, out: &mut [f32]) {
    /// How many queries of a head are worked on at once; no key after the last of them is looked
    /// at.
    const QUERIES: usize = 64;
    let Shape { n_seq, n_new, n_all, n_heads, group, d_head, scale } = shape;
    let (width, before) = (n_heads * d_head, n_all - n_new);
    let work = 4 * n_seq * n_new * n_all * width;
    in_pieces(out, n_new * width, work, |seq, out| {
        let mut scores = vec![0f32; n_new.min(QUERIES) * n_all];
        for head in 0..n_heads {
            for from in (0..n_new).step_by(QUERIES) {
                let n = QUERIES.min(n_new - from);
                let seen = before + from + n;
                let scores = &mut scores[..n * seen];
                let [keys, values] = [k, v].map(|x| rows(x, [seq, head / group], 0..seen, d_head));
                let queries = rows(q, [seq, head], from..from + n, d_head);
                matmul(scores, seen, queries, keys.transposed(), scale, Parallelism::None);
                for (i, row) in scores.chunks_exact_mut(seen).enumerate() {
                    let (visible, hidden) = row.split_at_mut(before + from + i + 1);
                    elementwise::softmax(visible);
                    hidden.fill(0.0);
                }
                let pattern =
                    Matrix { data: scores, rows: n, cols: seen, row_stride: seen, col_stride: 1 };
                matmul(
                    &mut out[from * width + head * d_head..],
                    width,
                    pattern,
                    values,
                    1.0,
                    Parallelism::None,
                );
            }
        }
    });
}

/// Some rows of one head of one sequence: `[n, d_head]`.
fn rows(
    x: Heads<'_>,
    [seq, head]: [usize; 2],
    rows: std::ops::Range<usize>,
    d_head: usize,
) -> Matrix<'_> {
    let data = &x.data[seq * x.seq_stride + rows.start * x.row_stride + head * d_head..];
    Matrix { data, rows: rows.len(), cols: d_head, row_stride: x.row_stride, col_stride: 1 }
}

/// For a single new position of each sequence, as in sampling, where products of matrices would be
/// of one row.
fn of_one([q, k, v]: [Heads<'_>; 3], shape: Shape, out: &mut [f32]) {
    let Shape { n_seq, n_all, n_heads, group, d_head, scale, .. } = shape;
    let width = n_heads * d_head;
    in_pieces(out, width, 4 * n_seq * n_all * width, |seq, out| {
        let mut shares = vec![0f32; n_heads * n_all];
        let of = |x: Heads<'_>| seq * x.seq_stride;
        let keys_and_values = [&k.data[of(k)..], &v.data[of(v)..]];
        elementwise::attend(
            &q.data[of(q)..][..width],
            keys_and_values,
            k.row_stride,
            scale,
            &mut shares,
            [n_heads, group],
            out,
        );
    });
}

#[cfg(test)]
mod tests {
    use candle_transformers::utils::build_causal_mask;

    use super::*;
    use crate::model::ops::tests::{assert_close, random};

    /// The same by candle's own operations.
    fn attention_any(
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        n_heads: usize,
        scale: f64,
    ) -> Result<Tensor> {
        let (n_seq, n_new, width) = q.dims3()?;
        let (n_all, d_head) = (k.dim(1)?, width / n_heads);
        let heads = |x: &Tensor| {
            let n = x.dim(2)? / d_head;
            let x = x.reshape((n_seq, x.dim(1)?, n, 1, d_head))?;
            let (n_rows, group) = (x.dim(1)?, n_heads / n);
            let each = x.broadcast_as((n_seq, n_rows, n, group, d_head))?;
            each.reshape((n_seq, n_rows, n_heads, d_head))?.transpose(1, 2)?.contiguous()
        };
        let (q, k, v) = (heads(q)?, heads(k)?, heads(v)?);
        let scores = (q.matmul(&k.t()?)? * scale)?; // [n_seq, n_heads, n_new, n_all]
        let hidden =
            build_causal_mask(n_new, n_all - n_new, q.device())?.broadcast_as(scores.shape())?;
        let never = Tensor::new(f32::NEG_INFINITY, q.device())?.broadcast_as(scores.shape())?;
        let pattern = candle_nn::ops::softmax_last_dim(&hidden.where_cond(&never, &scores)?)?;
        Ok(pattern.matmul(&v)?.transpose(1, 2)?.reshape((n_seq, n_new, width))?)
    }

    #[test]
    fn attention_equals_candles_with_and_without_a_past() {
        for (n_seq, n_new, n_all, n_heads, group, d_head) in [
            (1, 1, 1, 1, 1, 4),
            (2, 12, 12, 4, 1, 8),
            (3, 1, 40, 2, 1, 16),
            (2, 1, 33, 3, 1, 20),
            (2, 150, 150, 3, 1, 8),
            (1, 70, 201, 2, 1, 4),
            (2, 1, 33, 6, 3, 20),
            (2, 150, 150, 6, 2, 8),
            (1, 70, 201, 9, 3, 36),
        ] {
            let (d, d_kv) = (n_heads * d_head, n_heads / group * d_head);
            // As in a model: views into one tensor of queries, keys and values.
            let qkv = random(&[n_seq, n_all, d + 2 * d_kv], 5);
            let q = qkv.narrow(2, 0, d).unwrap().narrow(1, n_all - n_new, n_new).unwrap();
            let (k, v) = (qkv.narrow(2, d, d_kv).unwrap(), qkv.narrow(2, d + d_kv, d_kv).unwrap());
            let want = attention_any(&q, &k, &v, n_heads, 0.7).unwrap();
            assert_close(&causal_attention(&q, &k, &v, n_heads, 0.7).unwrap(), &want);
            let shape = Shape { n_seq, n_new, n_all, n_heads, group, d_head, scale: 0.7 };
            let storages = [&q, &k, &v].map(|x| x.storage_and_layout().0);
            let [q, k, v] = [(&q, &storages[0]), (&k, &storages[1]), (&v, &storages[2])]
                .map(|(x, storage)| heads(x, storage).unwrap());
            let mut out = vec![0f32; n_seq * n_new * d];
            by_gemm([q, k, v], shape, &mut out);
            assert_close(&Tensor::from_slice(&out, want.dims(), &Device::Cpu).unwrap(), &want);
            #[cfg(target_arch = "x86_64")]
            if crate::cpu::matmul::has_tiles() {
                out.fill(f32::NAN);
                crate::cpu::matmul::attention::causal(q, k, v, shape, RowsMut::F32(&mut out));
                assert_close(&Tensor::from_slice(&out, want.dims(), &Device::Cpu).unwrap(), &want);
                let mut pairs = vec![u32::MAX; n_seq * n_new * d / 2];
                crate::cpu::matmul::attention::causal(q, k, v, shape, RowsMut::Bf16(&mut pairs));
                let rounded: Vec<u16> =
                    out.iter().map(|x| crate::cpu::matmul::bf16::round(*x)).collect();
                assert_eq!(bytemuck::cast_slice::<u32, u16>(&pairs), rounded);
            }
        }
    }
}
