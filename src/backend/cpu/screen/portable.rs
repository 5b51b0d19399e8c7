//! The scan on any processor: products in f32, block by block, by the `gemm` crate, and a
//! comparison of every score with its row's threshold.

use gemm::Parallelism;

use super::{Candidates, PackedLatents, PackedRows};
use crate::backend::cpu::encoder::Encoder;
use crate::cpu::matmul::portable::{Matrix, matmul};
use crate::cpu::simd::tile::{PANEL, ROWS};
use crate::cpu::simd::vectorised;

/// Latents whose scores are computed at once; a whole number of panels. A block's scores, some 200
/// kB, then stay in the second-level cache.
const TILE: usize = 512;

/// As [`scan`](super::scan::scan), which it equals in what it promises. `scores` is a buffer.
pub(crate) fn scan(
    rows: &PackedRows,
    from: usize,
    encoder: Encoder<'_>,
    latents: &PackedLatents,
    lists: &mut [Candidates],
    scores: &mut Vec<f32>,
) {
    let (d, n) = (encoder.d(), lists.len());
    let x: &[f32] = bytemuck::cast_slice(&rows.data[from * d..(from + n) * d]);
    for (i, w_enc) in encoder.w.chunks(TILE * d).enumerate() {
        let tile = w_enc.len() / d;
        scores.resize(n * tile, 0.0);
        let x = Matrix { data: x, rows: n, cols: d, row_stride: d, col_stride: 1 };
        let w = Matrix { data: w_enc, rows: d, cols: tile, row_stride: 1, col_stride: d };
        matmul(scores, tile, x, w, 1.0, Parallelism::None);
        for (row, (list, scores)) in lists.iter_mut().zip(scores.chunks_exact(tile)).enumerate() {
            let row = from + row;
            let norms = 2.0 * (rows.scales[row / ROWS].norm[row % ROWS] + latents.offset_norm);
            for (j, scores) in scores.chunks(PANEL).enumerate() {
                let first = i * TILE + j * PANEL;
                let scale = &latents.scales[first / PANEL];
                offer(list, scores, norms, &scale.bias, &scale.norm, &scale.slack, first as u32);
            }
        }
    }
}

vectorised! {
    fn offer(list: &mut Candidates, scores: &[f32], norms: f32, bias: &[f32; PANEL], norm: &[f32; PANEL], slack: &[f32; PANEL], first: u32) {
        let (mut upper, mut lower) = ([f32::NEG_INFINITY; PANEL], [f32::NEG_INFINITY; PANEL]);
        for (i, score) in scores.iter().enumerate() {
            let (estimate, margin) = (score + bias[i], norms * norm[i] + slack[i]);
            (upper[i], lower[i]) = (estimate + margin, estimate - margin);
        }
        let threshold = list.threshold();
        if !upper.iter().fold(false, |any, &u| any | (u >= threshold)) {
            return;
        }
        for i in 0..scores.len() {
            if upper[i] >= list.threshold() {
                list.push(upper[i], lower[i], first + i as u32);
            }
        }
    }
}
