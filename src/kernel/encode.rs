//! Activations to codes: blocks of rows against tiles of latents, the k best of each row kept as the tiles go by.
#![allow(unsafe_code)]

use rayon::prelude::*;

use super::Codes;
use super::topk::TopK;
use crate::error::{Error, Result};
use crate::sae::Sae;

/// Rows in a block: large enough that reading a tile of `W_enc` is paid for, small enough to share out.
pub(super) const BLOCK: usize = 256;

/// Latents in a tile: a block's buffer of pre-activations is then half a megabyte, and stays in the second-level cache.
const TILE: usize = 512;

/// The codes of the rows `x` `[n, d_model]`.
///
/// # Errors
/// [`Error::NotFinite`] naming the first row that has fewer than k pre-activations that are numbers.
pub fn encode(sae: &Sae, x: &[f32]) -> Result<Codes> {
    let (d, k) = (sae.d_model(), sae.config.k);
    let mut codes = Codes::zeros(x.len() / d, k);
    let (latents, values) = codes.arrays_mut();
    let failed = latents
        .par_chunks_mut(BLOCK * k)
        .zip(values.par_chunks_mut(BLOCK * k))
        .zip(x.par_chunks(BLOCK * d))
        .enumerate()
        .map_init(
            || (BlockEncoder::new(k), Vec::new()),
            |(encoder, centred), (block, ((latents, values), x))| {
                centre(x, &sae.b_dec, centred);
                encoder.run(sae, centred, latents, values).err().map(|row| block * BLOCK + row)
            },
        )
        .flatten()
        .min();
    match failed {
        Some(row) => Err(not_a_number(row)),
        None => Ok(codes),
    }
}

/// The error for a row without k numbers among its pre-activations.
pub(super) fn not_a_number(row: usize) -> Error {
    Error::NotFinite {
        what: "pre-activations".to_owned(),
        value: f32::NAN,
        at: format!("row {row}: check the activations and the learning rate"),
    }
}

/// `x − b_dec` for every row.
pub(super) fn centre(x: &[f32], b_dec: &[f32], out: &mut Vec<f32>) {
    out.clear();
    out.extend(x.chunks_exact(b_dec.len()).flat_map(|row| row.iter().zip(b_dec).map(|(x, b)| x - b)));
}

/// The buffers of one thread.
pub(super) struct BlockEncoder {
    pre: Vec<f32>, // [rows, tile]
    best: Vec<TopK>,
}

impl BlockEncoder {
    pub(super) fn new(k: usize) -> BlockEncoder {
        BlockEncoder { pre: Vec::new(), best: (0..BLOCK).map(|_| TopK::new(k)).collect() }
    }

    /// Encodes at most [`BLOCK`] rows, already centred, into `latents` and `values` `[rows, k]`.
    ///
    /// Fails with the first row whose pre-activations are not numbers.
    pub(super) fn run(&mut self, sae: &Sae, centred: &[f32], latents: &mut [u32], values: &mut [f32]) -> Result<(), usize> {
        let (d, k) = (sae.d_model(), sae.config.k);
        let rows = centred.len() / d;
        self.best[..rows].iter_mut().for_each(TopK::clear);
        for (i, (w_enc, b_enc)) in sae.w_enc.chunks(TILE * d).zip(sae.b_enc.chunks(TILE)).enumerate() {
            let tile = b_enc.len();
            self.pre.clear();
            (0..rows).for_each(|_| self.pre.extend_from_slice(b_enc));
            add_product(&mut self.pre, centred, w_enc, rows, tile, d);
            for (best, pre) in self.best.iter_mut().zip(self.pre.chunks_exact(tile)) {
                best.offer(pre, (i * TILE) as u32);
            }
        }
        for (row, best) in self.best[..rows].iter_mut().enumerate() {
            let at = row * k..(row + 1) * k;
            if !best.finish(&mut latents[at.clone()], &mut values[at.clone()]) {
                return Err(row);
            }
            if sae.config.relu {
                values[at].iter_mut().for_each(|v| *v = v.max(0.0));
            }
        }
        Ok(())
    }
}

/// `out [rows, tile] += x [rows, d] · wᵀ`, with `w [tile, d]`, on this thread alone.
fn add_product(out: &mut [f32], x: &[f32], w: &[f32], rows: usize, tile: usize, d: usize) {
    assert!(out.len() == rows * tile && x.len() == rows * d && w.len() == tile * d);
    // SAFETY: the three slices have exactly the sizes that the strides below reach (asserted above), and `out` overlaps neither.
    unsafe {
        gemm::gemm(
            rows,
            tile,
            d,
            out.as_mut_ptr(),
            1,
            tile as isize,
            true,
            x.as_ptr(),
            1,
            d as isize,
            w.as_ptr(),
            d as isize,
            1,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
