//! The products of a forward pass on a CPU: rows of activations with matrices that never change.
//!
//! # The algorithm
//!
//! A matrix `[depth, width]` is **packed** once, when a model is loaded, into panels of 32 columns
//! ([`pack`]), the order in which the [tiles](crate::cpu::simd::tile) read it: nothing is packed,
//! turned or copied while a product is formed. Rows are read where they lie.
//!
//! 1. The rows are cut into blocks of about a hundred, the columns into groups of panels. A thread
//!    takes one block and one group at a time, so any number of threads shares the work and no two
//!    write the same number.
//! 2. The depth is cut into stretches of at most 768 words ([`pack::STRETCH`]; 288 where sums have to
//!    be closer). The rows' part of a stretch (a hundred times 3 KiB) and a panel's (96 KiB) stay in a
//!    core's second-level cache while every tile of the block passes by.
//! 3. A tile leaves its sums in 1.8 KiB, where bias and activation are applied before anything is
//!    written ([`product`]); the result is written, added to what is there (the residual stream),
//!    or written as bf16 for the next product to read.
//!
//! Each sum runs over the depth in one order, whatever the number of rows, their place in the block
//! or the number of threads: the bits of a row's product depend on nothing but the row and the
//! matrix.
//!
//! Attention ([`attention`]) packs the keys and values of one head at a time, and goes through the
//! same tiles.
//!
//! # bf16
//!
//! In [`Compute::Bf16`] both operands of a product are rounded to 8 bits of mantissa and summed in
//! f32, at twice the rate. A processor without such an instruction multiplies the same rounded
//! numbers in f32, with other last bits.

pub(crate) mod activation;
#[cfg(target_arch = "x86_64")]
pub(crate) mod attention;
pub(crate) mod bf16;
#[cfg(target_arch = "x86_64")]
mod cut;
mod half;
pub(crate) mod pack;
pub(crate) mod portable;
#[cfg(target_arch = "x86_64")]
pub(crate) mod product;
#[cfg(target_arch = "x86_64")]
mod target;
#[cfg(all(test, target_arch = "x86_64"))]
mod tests;

use std::fmt;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub(crate) use activation::Activation;
pub use half::Precision;
pub(crate) use half::RowWise;
pub(crate) use pack::{Lines, Packed, View};

/// In what the products of a model's blocks with their matrices are formed.
///
/// Sums, the residual stream, layer norms and attention's own products are f32 in any case, and so
/// is the unembedding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compute {
    /// f32, as the checkpoint has it.
    #[default]
    F32,
    /// Both operands rounded to bf16, 8 bits of mantissa: about half the time on AMD's processors,
    /// and the memory of the matrices half as large again. On Intel's, whose instruction for it does
    /// half as much in a cycle as that for f32, it takes longer than f32.
    ///
    /// On text that they sampled themselves, it moves the activations of the built-in models by 0.2
    /// to 0.3 % of their size at block 2 of 4 (root of the summed squares) and by 0.3 to 0.5 % at
    /// the end, and their loss by 0.0002 nats or less (4.2877 to 4.2879, and 4.0751 to 4.0752).
    /// Storing activations in f16 moves them by 0.02 %.
    ///
    /// A processor without an instruction for it multiplies the same rounded numbers in f32, with
    /// other last bits and no gain in time. A card has matrix units for it, which sum with other last
    /// bits too.
    Bf16,
}

impl fmt::Display for Compute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Compute::F32 => "f32",
            Compute::Bf16 => "bf16",
        })
    }
}

/// Whether this processor has the f32 tile; without it nothing is packed and products go through
/// the `gemm` crate.
pub(crate) fn has_tiles() -> bool {
    #[cfg(target_arch = "x86_64")]
    return crate::cpu::simd::level() == crate::cpu::simd::Level::Avx512;
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Whether this processor multiplies pairs of bf16.
pub(crate) fn has_bf16_tiles() -> bool {
    #[cfg(target_arch = "x86_64")]
    return has_tiles() && is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// What forms products here, for people: two processors with different ones give different last
/// bits.
pub(crate) fn kernel(compute: Compute) -> &'static str {
    match (has_tiles(), compute, has_bf16_tiles()) {
        (false, Compute::F32, _) => "the gemm crate in f32",
        (false, Compute::Bf16, _) => "the gemm crate on numbers rounded to bf16",
        (true, Compute::F32, _) => "AVX-512 tiles in f32",
        (true, Compute::Bf16, true) => "AVX-512 tiles in bf16",
        (true, Compute::Bf16, false) => "AVX-512 tiles on numbers rounded to bf16",
    }
}

/// Rows of a product, one after the other.
#[derive(Clone, Copy)]
pub(crate) enum Rows<'a> {
    /// `[n, depth]`.
    F32(&'a [f32]),
    /// `[n, depth / 2]`, rounded up: two bf16 a word, the first in its lower half.
    Bf16(&'a [u32]),
}

impl<'a> Rows<'a> {
    /// The first `n` rows of `width` numbers that lie in `lines`.
    pub fn of(lines: &'a Lines, n: usize, width: usize, pairs: bool) -> Rows<'a> {
        match pairs {
            true => Rows::Bf16(&lines.words()[..n * width.div_ceil(2)]),
            false => Rows::F32(&lines.floats()[..n * width]),
        }
    }
}

/// Rows to be written, in one of the forms of [`Rows`].
pub(crate) enum RowsMut<'a> {
    F32(&'a mut [f32]),
    Bf16(&'a mut [u32]),
}

impl<'a> RowsMut<'a> {
    /// As [`Rows::of`], with room made.
    pub fn of(lines: &'a mut Lines, n: usize, width: usize, pairs: bool) -> RowsMut<'a> {
        let words = n * if pairs { width.div_ceil(2) } else { width };
        lines.hold(words);
        match pairs {
            true => RowsMut::Bf16(&mut lines.words_mut()[..words]),
            false => RowsMut::F32(&mut lines.floats_mut()[..words]),
        }
    }
}

/// Where a product goes.
pub(crate) enum Out<'a> {
    /// Written to rows `[n, width]`.
    Write(RowsMut<'a>),
    /// Added to `[n, width]`.
    Add(&'a mut [f32]),
    /// Multiplied, number by number, with the first, `[n, width]`, and written to the second: a
    /// gated MLP's hidden layer.
    Gated(&'a [f32], RowsMut<'a>),
}

/// Rows of the queries, keys or values of some sequences, `[n, n_heads · d_head]` each, head after
/// head, within a slice.
#[derive(Clone, Copy)]
pub(crate) struct Heads<'a> {
    /// All sequences, from the first row of the first on.
    pub data: &'a [f32],
    /// Numbers from a sequence to the next.
    pub seq_stride: usize,
    /// Numbers from a row to the next.
    pub row_stride: usize,
}

/// The sizes of an attention.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub n_seq: usize,
    /// Queries of each sequence: its last positions.
    pub n_new: usize,
    /// Keys and values of each sequence.
    pub n_all: usize,
    /// Heads of queries.
    pub n_heads: usize,
    /// How many of them, one after the other, share a head of keys and values.
    pub group: usize,
    pub d_head: usize,
    /// What scores are multiplied by.
    pub scale: f32,
}

/// Calls `f` with each piece of `out` and its number: on all threads if there is enough `work`
/// (about, in operations) to be worth waking them.
pub(crate) fn in_pieces<T: Send>(
    out: &mut [T],
    piece: usize,
    work: usize,
    f: impl Fn(usize, &mut [T]) + Sync,
) {
    const WORTH_WAKING: usize = 1 << 20;
    let piece = piece.max(1);
    if work < WORTH_WAKING {
        out.chunks_mut(piece).enumerate().for_each(|(i, piece)| f(i, piece));
    } else {
        out.par_chunks_mut(piece).enumerate().for_each(|(i, piece)| f(i, piece));
    }
}
