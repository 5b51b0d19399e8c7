//! The table: gradients grouped by key, and Adam on every row, as PyTorch's dense Adam moves it, or
//! on those whose keys occur.

use std::ops::Range;

use rayon::prelude::*;

use super::csr::Csr;
use super::tiled::{STRIP, Tiled};
use crate::backend::adam::{AdamStep, Moments, adam_row};
use crate::cpu::simd::add_scaled;

/// Rows of the table that one task takes; whoever owns some has whole chunks.
pub(super) const CHUNK: usize = 64;

/// Which rows a step moves.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Rows {
    All,
    Occurring,
}

/// Updates rows of the table from the scaled residuals `[n, d]`, listed by key; `places` says which
/// row and weight a key has, if it is not one a row. Moves those of its `own` rows.
#[allow(clippy::too_many_arguments)]
pub(super) fn update(
    table: &mut [f32],
    moments: &mut Moments,
    by_token: &Csr,
    places: Option<&[(u32, f32)]>,
    residuals: &Tiled,
    d: usize,
    adam: AdamStep,
    rows: Rows,
    own: Range<usize>,
) {
    let at = own.start * d..own.end * d;
    table[at.clone()]
        .par_chunks_mut(CHUNK * d)
        .zip(moments.m[at.clone()].par_chunks_mut(CHUNK * d))
        .zip(moments.v[at].par_chunks_mut(CHUNK * d))
        .enumerate()
        .for_each_init(
            || vec![0.0f32; d],
            |gradient, (chunk, ((table, m), v))| {
                for (i, row) in table.chunks_exact_mut(d).enumerate() {
                    let entries = by_token.entries(own.start + chunk * CHUNK + i);
                    if entries.is_empty() && rows == Rows::Occurring {
                        continue;
                    }
                    gradient.fill(0.0);
                    for &entry in entries {
                        let (row, weight) =
                            places.map_or((entry, 1.0), |places| places[entry as usize]);
                        for (strip, gradient) in gradient.chunks_mut(STRIP).enumerate() {
                            add_scaled(gradient, weight, residuals.piece(row as usize, strip));
                        }
                    }
                    let at = i * d..(i + 1) * d;
                    adam_row(adam, row, &mut m[at.clone()], &mut v[at], gradient);
                }
            },
        );
}
