//! Causal attention, one head of one sequence at a time: keys and values packed as panels, a tile
//! of queries against them.
//!
//! For each head of keys and values, which a group of queries' heads may share, the keys become panels of 32 keys, `[d_head, 32]` each, and the values panels of
//! 32 dimensions, `[n_keys, 32]` each: 64 KiB apiece for 256 keys of 64 dimensions, in the
//! second-level cache. Fourteen queries at a time are multiplied with the panels of keys up to the
//! diagonal and no further; their scores, 14 KiB, become shares in place, and are multiplied with
//! the values. No matrix of scores of a whole head exists.
#![allow(unsafe_code)]

use std::cell::RefCell;

use rayon::prelude::*;

use super::cut::share;
use super::product::{Sums, as_words, tile_sums};
use super::target::Target;
use super::{Heads, Lines, Out, RowsMut, Shape};
use crate::cpu::simd::tile::{PANEL, ROWS};
use crate::cpu::simd::{LANES, exp, maximum, total, vectorised};

impl<'a> Heads<'a> {
    /// From row `row` of a head of a sequence on.
    fn from(&self, seq: usize, row: usize, column: usize) -> &'a [f32] {
        &self.data[seq * self.seq_stride + row * self.row_stride + column..]
    }
}

/// What a thread works in.
#[derive(Default)]
struct Desk {
    /// `[n_all / 32, d_head, 32]`.
    keys: Lines,
    /// `[d_head / 32, n_all, 32]`.
    values: Lines,
    /// `[14, n_all]`, rows of whole panels.
    scores: Lines,
}

thread_local! {
    /// No task of an attention begins another.
    static DESK: RefCell<Desk> = RefCell::default();
}

/// Attention of each position to itself and all before, `[n_seq, n_new, n_heads · d_head]`, on all
/// threads.
/// The processor must [have tiles](super::has_tiles).
///
/// # Panics
/// If the slices do not fit the shape: a bug of the caller.
pub(crate) fn causal(q: Heads<'_>, k: Heads<'_>, v: Heads<'_>, shape: Shape, out: RowsMut<'_>) {
    const WORTH_WAKING: usize = 1 << 20;
    assert!(super::has_tiles(), "a processor without tiles");
    let Shape { n_seq, n_new, n_all, n_heads, group, d_head, .. } = shape;
    let (width, n_kv_heads) = (n_heads * d_head, n_heads / group);
    let mut out = out;
    if let (RowsMut::Bf16(y), false) = (&mut out, width.is_multiple_of(2)) {
        y.fill(0); // what goes beyond the last of an odd number
    }
    let target = Target::of(Out::Write(out), width);
    assert!(n_new <= n_all && target.n == n_seq * n_new, "an attention that does not fit");
    let task = |task: usize| {
        DESK.with_borrow_mut(|desk| {
            group_of(desk, q, k, v, shape, [task / n_kv_heads, task % n_kv_heads], &target)
        });
    };
    if n_new == 0 || 4 * n_seq * n_new * n_all * width < WORTH_WAKING {
        (0..n_seq * n_kv_heads * usize::from(n_new > 0)).for_each(task);
    } else {
        (0..n_seq * n_kv_heads).into_par_iter().with_max_len(1).for_each(task);
    }
}

/// The heads of queries that share one head of keys and values.
fn group_of(
    desk: &mut Desk,
    q: Heads<'_>,
    k: Heads<'_>,
    v: Heads<'_>,
    shape: Shape,
    [seq, kv_head]: [usize; 2],
    target: &Target<'_>,
) {
    let Shape { n_all, group, d_head, .. } = shape;
    let column = kv_head * d_head;
    let padded = n_all.next_multiple_of(PANEL);
    let dimension_panels = d_head.div_ceil(PANEL);
    desk.keys.hold(padded * d_head);
    desk.values.hold(dimension_panels * n_all * PANEL);
    desk.scores.hold(ROWS * padded);
    turn(k.from(seq, 0, column), k.row_stride, [n_all, d_head], desk.keys.floats_mut());
    line_up(v.from(seq, 0, column), v.row_stride, [n_all, d_head], desk.values.floats_mut());
    for head in kv_head * group..(kv_head + 1) * group {
        attend(desk, q, shape, [seq, head], target);
    }
}

/// One head of queries, to the keys and values on the desk.
fn attend(
    desk: &mut Desk,
    q: Heads<'_>,
    shape: Shape,
    [seq, head]: [usize; 2],
    target: &Target<'_>,
) {
    let Shape { n_new, n_all, d_head, scale, .. } = shape;
    let (column, dimension_panels) = (head * d_head, d_head.div_ceil(PANEL));
    let mut sums: Sums = [[0.0; PANEL]; ROWS];
    let mut weights = [0f32; ROWS];
    let tiles = n_new.div_ceil(ROWS);
    for tile in 0..tiles {
        let rows = share(n_new, tiles, tile);
        let n = rows.len();
        let first = n_all - n_new + rows.start;
        let seen = first + n; // keys that the last of these queries sees
        let queries = as_words(q.from(seq, rows.start, column));
        let stride = seen.next_multiple_of(PANEL);
        let scores = &mut desk.scores.floats_mut()[..n * stride];
        for (panel, keys) in
            desk.keys.words().chunks_exact(d_head * PANEL).take(stride / PANEL).enumerate()
        {
            tile_sums(false, n, [queries, keys], q.row_stride, d_head, keys.as_ptr(), &mut sums);
            for (sums, scores) in sums[..n].iter().zip(scores.chunks_exact_mut(stride)) {
                scores[panel * PANEL..][..PANEL].copy_from_slice(sums);
            }
        }
        for (i, scores) in scores.chunks_exact_mut(stride).enumerate() {
            weights[i] = shares(scores, first + i + 1, scale);
        }
        for panel in 0..dimension_panels {
            let values = &desk.values.words()[panel * n_all * PANEL..][..seen * PANEL];
            tile_sums(
                false,
                n,
                [as_words(scores), values],
                stride,
                seen,
                values.as_ptr(),
                &mut sums,
            );
            let width = PANEL.min(d_head - panel * PANEL);
            for (i, sums) in sums[..n].iter_mut().enumerate() {
                sums.iter_mut().for_each(|x| *x *= weights[i]);
                let row = seq * n_new + rows.start + i;
                // SAFETY: the columns of this head in this row of this sequence, which no other
                // task writes.
                unsafe { target.put(row, column + panel * PANEL, &sums[..width]) };
            }
        }
    }
}

vectorised! {
    /// The first `seen` scores become `eˢᶜᵃˡᵉ⁽ˢ⁻ᵐᵃˣ⁾`, the rest 0. Gives 1 over their sum.
    fn shares(scores: &mut [f32], seen: usize, scale: f32) -> f32 {
        let whole = seen.next_multiple_of(LANES);
        scores[seen..whole].fill(f32::NEG_INFINITY);
        let max = maximum(&scores[..whole]);
        let (chunks, _) = scores[..whole].as_chunks_mut::<LANES>();
        for chunk in chunks.iter_mut() {
            for x in chunk {
                *x = exp((*x - max) * scale);
            }
        }
        scores[seen..].fill(0.0);
        let mut sums = [0f32; LANES];
        for chunk in scores[..whole].as_chunks::<LANES>().0 {
            for lane in 0..LANES {
                sums[lane] += chunk[lane];
            }
        }
        1.0 / total(sums)
    }
}

vectorised! {
    /// Rows `[n, d]` as panels of 32 rows, `[d, 32]` each; rows beyond the last are 0.
    fn turn(rows: &[f32], stride: usize, shape: [usize; 2], out: &mut [f32]) {
        let [n, d] = shape;
        for (panel, out) in out.chunks_exact_mut(d * PANEL).take(n.div_ceil(PANEL)).enumerate() {
            let in_panel = PANEL.min(n - panel * PANEL);
            if in_panel < PANEL {
                out.fill(0.0);
            }
            for i in 0..in_panel {
                let row = &rows[(panel * PANEL + i) * stride..][..d];
                for (out, x) in out.chunks_exact_mut(PANEL).zip(row) {
                    out[i] = *x;
                }
            }
        }
    }
}

vectorised! {
    /// Rows `[n, d]` as panels of 32 columns, `[n, 32]` each; columns beyond the last are 0.
    fn line_up(rows: &[f32], stride: usize, shape: [usize; 2], out: &mut [f32]) {
        let [n, d] = shape;
        for (panel, out) in out.chunks_exact_mut(n * PANEL).take(d.div_ceil(PANEL)).enumerate() {
            let width = PANEL.min(d - panel * PANEL);
            for (i, out) in out.chunks_exact_mut(PANEL).enumerate() {
                let row = &rows[i * stride + panel * PANEL..][..width];
                if let (Some(row), Some(out)) = (row.first_chunk::<PANEL>(), out.first_chunk_mut::<PANEL>()) {
                    *out = *row;
                } else {
                    out[..width].copy_from_slice(row);
                    out[width..].fill(0.0);
                }
            }
        }
    }
}
