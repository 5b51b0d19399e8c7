//! The features without a parent: what is known of them before any row is drawn, and the two passes
//! over all of them that a row takes.

use super::forest::Forest;
use super::normal::upper_tail;
use crate::cpu::simd::vectorised;

/// How many standard deviations a feature's own part must exceed to be among the leaps: the tail
/// there is `q`. A lower one leaps more often, a higher one finds more features near their bound.
const RARE: f64 = 2.25;

/// The features without a parent, in order, and what is known of them beforehand.
pub struct Free {
    pub(super) ids: Vec<u32>,
    /// `[rank, n]`
    pub(super) factors: Vec<f32>,
    pub(super) rank: usize,
    /// Where the common causes add more than this, the feature fires more often than [`RARE`].
    pub(super) bounds: Vec<f32>,
    /// `1 / ln(1 − q)`
    pub(super) leap: f64,
    /// The tail beyond [`RARE`].
    pub(super) q: f64,
}

impl Free {
    pub fn new(forest: &Forest, factors: &[f32], own: &[f32], thresholds: &[f32]) -> Free {
        let n = own.len();
        let ids: Vec<u32> =
            (0..n).filter(|&it| forest.parent(it).is_none()).map(|it| it as u32).collect();
        let rank = factors.len() / n;
        let of = |r: usize| ids.iter().map(move |&id| factors[id as usize * rank + r]);
        let bound = |&id: &u32| thresholds[id as usize] - own[id as usize] * RARE as f32;
        let q = upper_tail(RARE);
        Free {
            factors: (0..rank).flat_map(of).collect(),
            bounds: ids.iter().map(bound).collect(),
            rank,
            leap: 1.0 / (1.0 - q).ln(),
            q,
            ids,
        }
    }
}

vectorised! {
    /// `sums[j] = Σ a[r] · rows[r][j]`, added in the order of r.
    pub(super) fn combine(sums: &mut [f32], a: &[f32], rows: &[f32]) {
        /// Sums that stay in registers and the first cache meanwhile.
        const STRIP: usize = 512;
        let n = sums.len();
        for from in (0..n).step_by(STRIP) {
            let to = (from + STRIP).min(n);
            let sums = &mut sums[from..to];
            sums.fill(0.0);
            for (r, &a) in a.iter().enumerate() {
                for (sum, x) in sums.iter_mut().zip(&rows[r * n + from..r * n + to]) {
                    *sum += a * x;
                }
            }
        }
    }
}

vectorised! {
    /// Adds the places to `found` at which `x` exceeds its bound.
    pub(super) fn exceeding(x: &[f32], bounds: &[f32], found: &mut Vec<u32>) {
        /// Places that are looked at together.
        const GROUP: usize = 32;
        for (group, (x, bounds)) in x.chunks(GROUP).zip(bounds.chunks(GROUP)).enumerate() {
            let any = x.iter().zip(bounds).fold(false, |any, (x, bound)| any | (x > bound));
            if any {
                let exceeds = |i: &usize| x[*i] > bounds[*i];
                found.extend((0..x.len()).filter(exceeds).map(|i| (group * GROUP + i) as u32));
            }
        }
    }
}
