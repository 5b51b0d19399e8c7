//! Adam on a table of which a step touches few rows: the others are moved when they are next looked
//! at, to the same bits.
//!
//! PyTorch's dense Adam moves every row of the token table at every step, whether or not its token
//! occurs, for as long as it has momentum: `m ← β₁m`, `v ← β₂v`, `w ← w − rate·m / (√v·scale + ε)`.
//! For 50,257 rows of 768 that is 930 MB read and written a step, more than all else together. But
//! between two occurrences of its token nobody looks at a row. So a step takes down its rates and
//! moves the rows whose tokens occur; the others **owe** it. Before a row is looked at, the steps
//! that it owes are replayed, in order, with the very same operations, while it stays in registers:
//! one read and one write for all of them.
//!
//! # When a row stands still
//!
//! Momentum fades by 0.9 a step, and after a hundred steps or so no update changes the last bit of
//! `w` any more. From there only `m` and `v` are replayed, two multiplications instead of a root
//! and a division. That no later step moves `w` is proven, not hoped: after `j` more steps `|m|` is
//! at most `β₁ʲ|m|` and `√v` at least `β₂^(j/2)·√v`, but for rounding, so that the update at step
//! `i` is at most `rateᵢ/scaleᵢ · qʲ · |m|/√v` with `q = β₁/√β₂`; the largest `rateᵢ/scaleᵢ · qʲ`
//! over all steps that are owed is the **reach** below. `w` keeps its bits if that is under a
//! quarter of its last one's worth, `2⁻²⁵|w|`.

use std::ops::Range;

use rayon::prelude::*;

use super::adam::{AdamStep, Moments, moved};
use super::cpu::csr::Csr;
use crate::cpu::simd::vectorised;

/// Steps that may be owed. Then all rows are brought up to date, whoever looks.
pub(super) const MAX_STEPS: usize = 1024;

/// Rows that one task takes.
const CHUNK: usize = 64;

/// Numbers of a row that are replayed at a time: w, m and v fill twelve vectors of sixteen.
const WIDTH: usize = 64;

/// Steps between two looks at whether a row stands still.
const LOOK: usize = 8;

/// What v must not fade below, so that its root keeps its precision.
const LEAST_V: f32 = 1e-30;

/// The steps that rows of a table have not made yet.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct DeferredAdam {
    /// The steps since all rows were last up to date.
    steps: Vec<AdamStep>,
    /// How many of them each row has made.
    made: Vec<u32>,
    /// The rows that are brought up to date here; the others are another rank's.
    own: Range<usize>,
}

impl DeferredAdam {
    /// For a table of this many rows, all up to date.
    pub(super) fn up_to_date(rows: usize) -> DeferredAdam {
        DeferredAdam { steps: Vec::new(), made: vec![0; rows], own: 0..rows }
    }

    /// Leaves all rows but these to others.
    pub(super) fn restrict(&mut self, own: Range<usize>) {
        self.own = own;
    }

    /// The steps since all rows were last up to date, and how many of them each row has made.
    pub(super) fn owed(&self) -> (&[AdamStep], &[u32]) {
        (&self.steps, &self.made)
    }

    /// Brings the rows whose tokens occur up to date.
    pub(super) fn replay(&mut self, by_token: &Csr, table: &mut [f32], moments: &mut Moments) {
        self.replay_where(|row| !by_token.entries(row).is_empty(), table, moments);
    }

    /// Brings all rows up to date.
    pub(super) fn flush(&mut self, table: &mut [f32], moments: &mut Moments) {
        self.replay_where(|_| true, table, moments);
        self.steps.clear();
        self.made.fill(0);
    }

    /// Records a step that the rows whose tokens occur have made.
    pub(super) fn record(
        &mut self,
        step: AdamStep,
        by_token: &Csr,
        table: &mut [f32],
        moments: &mut Moments,
    ) {
        self.steps.push(step);
        by_token.keys().for_each(|(row, _)| self.made[row] = self.steps.len() as u32);
        if self.steps.len() == MAX_STEPS {
            self.flush(table, moments);
        }
    }

    fn replay_where(
        &mut self,
        wanted: impl Fn(usize) -> bool + Sync,
        table: &mut [f32],
        moments: &mut Moments,
    ) {
        if self.steps.is_empty() || self.made.is_empty() {
            return;
        }
        let d = table.len() / self.made.len();
        let (own, ahead) = (self.own.clone(), Ahead::of(&self.steps));
        let (steps, all) = (&self.steps[..], self.steps.len() as u32);
        let moments = moments.m.par_chunks_mut(CHUNK * d).zip(moments.v.par_chunks_mut(CHUNK * d));
        let rows =
            table.par_chunks_mut(CHUNK * d).zip(moments).zip(self.made.par_chunks_mut(CHUNK));
        rows.enumerate().for_each(|(chunk, ((table, (m, v)), made))| {
            for (i, made) in made.iter_mut().enumerate() {
                let row = chunk * CHUNK + i;
                if *made < all && own.contains(&row) && wanted(row) {
                    let (from, at) = (*made as usize, i * d..(i + 1) * d);
                    replay_row(
                        &steps[from..],
                        &ahead[from..],
                        &mut table[at.clone()],
                        &mut m[at.clone()],
                        &mut v[at],
                    );
                    *made = all;
                }
            }
        });
    }
}

/// What the steps from one on can do to a row at most.
#[derive(Clone, Copy)]
struct Ahead {
    /// The largest update of any of them, over `|m|/√v` before the first.
    reach: f32,
    /// What v will be multiplied by in all.
    fade: f32,
    /// The least |w| for which the reach says anything: below, numbers too small for full precision
    /// could matter.
    least_w: f32,
}

impl Ahead {
    /// For every step, looking forward from there.
    fn of(steps: &[AdamStep]) -> Vec<Ahead> {
        let largest = steps.iter().map(AdamStep::rate_over_scale).fold(1.0, f32::max);
        let mut ahead =
            vec![Ahead { reach: 0.0, fade: 1.0, least_w: 1e-12 * largest }; steps.len()];
        let (mut reach, mut fade) = (0.0f32, 1.0f32);
        for (ahead, step) in ahead.iter_mut().zip(steps).rev() {
            // A little more, for the rounding of m and v.
            reach = step.fade_of_ratio() * (1.0 + 1e-5) * reach.max(step.rate_over_scale());
            fade *= step.fade_of_v();
            (ahead.reach, ahead.fade) = (reach, fade);
        }
        ahead
    }
}

/// For every step, what it and those after it can do to a row at most: reach, fade, and the least
/// |w| for which that holds.
pub(super) fn bounds_ahead(steps: &[AdamStep]) -> Vec<[f32; 3]> {
    Ahead::of(steps).into_iter().map(|ahead| [ahead.reach, ahead.fade, ahead.least_w]).collect()
}

vectorised! {
    /// Makes the steps that a row owes; no gradient came with them.
    fn replay_row(steps: &[AdamStep], ahead: &[Ahead], w: &mut [f32], m: &mut [f32], v: &mut [f32]) {
        let (w, w_rest) = w.as_chunks_mut::<WIDTH>();
        let (m, m_rest) = m.as_chunks_mut::<WIDTH>();
        let (v, v_rest) = v.as_chunks_mut::<WIDTH>();
        for ((w, m), v) in w.iter_mut().zip(m).zip(v) {
            replay(steps, ahead, w, m, v);
        }
        let n = w_rest.len();
        if n > 0 {
            let mut padded = [[0.0; WIDTH]; 3];
            for (padded, rest) in padded.iter_mut().zip([&*w_rest, m_rest, v_rest]) {
                padded[..n].copy_from_slice(rest);
            }
            let [w, m, v] = &mut padded;
            replay(steps, ahead, w, m, v);
            for (rest, padded) in [w_rest, m_rest, v_rest].into_iter().zip(padded) {
                rest.copy_from_slice(&padded[..n]);
            }
        }
    }
}

#[inline(always)]
fn replay(
    steps: &[AdamStep],
    ahead: &[Ahead],
    w: &mut [f32; WIDTH],
    m: &mut [f32; WIDTH],
    v: &mut [f32; WIDTH],
) {
    if m.iter().zip(v.iter()).fold(true, |zero, (m, v)| zero & (*m == 0.0) & (*v == 0.0)) {
        return; // a token that has not occurred yet
    }
    let mut made = 0;
    while made < steps.len() && !stands_still(&ahead[made], w, m, v) {
        let until = (made + LOOK).min(steps.len());
        for step in &steps[made..until] {
            for i in 0..WIDTH {
                (w[i], m[i], v[i]) = moved(step, w[i], m[i], v[i], 0.0);
            }
        }
        made = until;
    }
    for step in &steps[made..] {
        for i in 0..WIDTH {
            (_, m[i], v[i]) = moved(step, w[i], m[i], v[i], 0.0);
        }
    }
}

/// Whether no step ahead changes a bit of `w`.
#[inline(always)]
fn stands_still(ahead: &Ahead, w: &[f32; WIDTH], m: &[f32; WIDTH], v: &[f32; WIDTH]) -> bool {
    const QUARTER: f32 = 0.999 / (1 << 25) as f32;
    let mut still = true;
    for i in 0..WIDTH {
        let (m, w) = (m[i].abs(), w[i].abs());
        let small = ahead.reach * m <= QUARTER * w * v[i].sqrt();
        still &= (m == 0.0) | (small & (w >= ahead.least_w) & (v[i] * ahead.fade >= LEAST_V));
    }
    still
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::backend::Rates;
    use crate::backend::adam::adam_row;

    const D: usize = 70;
    const ROWS: usize = 90;

    /// Steps as training makes them, with a rate that changes.
    fn adam_step(t: u64, peak: f64) -> AdamStep {
        let rates = Rates {
            lr: 0.0,
            bias_lr: 0.0,
            lookup_lr: 0.0,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
        };
        AdamStep::new(
            &rates,
            peak * ((t as f64 / 20.0).min(1.0)) * (1.0 + (t as f64 * 0.3).sin() / 2.0),
            t,
        )
    }

    /// Trains a table both ways, with synthetic gradients; `every` says how rare tokens are.
    fn both(seed: u64, steps: u64, every: u64, peak: f64) {
        let mut state = seed | 1;
        let mut draw = move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f32 / (1u64 << 31) as f32
        };
        let mut dense: Vec<f32> = (0..ROWS * D).map(|_| draw() - 0.5).collect();
        let mut lazy = dense.clone();
        let zeros = || Moments { m: vec![0.0; ROWS * D], v: vec![0.0; ROWS * D] };
        let (mut of_dense, mut of_lazy) = (zeros(), zeros());
        let (mut owed, mut by_token) = (DeferredAdam::up_to_date(ROWS), Csr::default());
        for t in 1..=steps {
            let tokens: Vec<u32> = (0..ROWS as u64)
                .filter(|row| draw() < 1.0 / (1.0 + (row * every) as f32))
                .map(|row| row as u32)
                .collect();
            by_token.fill(&tokens, ROWS);
            owed.replay(&by_token, &mut lazy, &mut of_lazy);
            for &token in &tokens {
                let at = token as usize * D..(token as usize + 1) * D;
                assert_eq!(lazy[at.clone()], dense[at], "step {t}, row {token} is looked at");
            }
            let step = adam_step(t, peak);
            for row in 0..ROWS {
                let at = row * D..(row + 1) * D;
                let occurs = !by_token.entries(row).is_empty();
                let size = 10f32.powf(-6.0 * draw());
                let gradient: Vec<f32> =
                    (0..D).map(|_| if occurs { size * (draw() - 0.5) } else { 0.0 }).collect();
                adam_row(
                    step,
                    &mut dense[at.clone()],
                    &mut of_dense.m[at.clone()],
                    &mut of_dense.v[at.clone()],
                    &gradient,
                );
                if occurs {
                    adam_row(
                        step,
                        &mut lazy[at.clone()],
                        &mut of_lazy.m[at.clone()],
                        &mut of_lazy.v[at],
                        &gradient,
                    );
                }
            }
            owed.record(step, &by_token, &mut lazy, &mut of_lazy);
        }
        owed.flush(&mut lazy, &mut of_lazy);
        let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&lazy), bits(&dense));
        assert_eq!(bits(&of_lazy.m), bits(&of_dense.m));
        assert_eq!(bits(&of_lazy.v), bits(&of_dense.v));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn replayed_steps_give_the_bits_of_steps_made_at_once(seed: u64, steps in 1u64..300, every in 1u64..20, peak in -5f64..0.0) {
            both(seed, steps, every, 10f64.powf(peak));
        }
    }

    #[test]
    fn steps_owed_for_long_give_the_same_bits() {
        // Longer than the list of steps, and until momentum has faded to the smallest numbers there
        // are.
        both(5, 2 * MAX_STEPS as u64 + 300, 400, 1e-2);
    }

    #[test]
    fn a_row_that_faded_stands_still_and_one_in_motion_does_not() {
        let steps: Vec<AdamStep> = (1000..1200).map(|t| adam_step(t, 1e-3)).collect();
        let ahead = Ahead::of(&steps);
        let (w, v) = ([0.5; WIDTH], [1e-6; WIDTH]);
        assert!(stands_still(&ahead[0], &w, &[1e-10; WIDTH], &v));
        assert!(!stands_still(&ahead[0], &w, &[1e-4; WIDTH], &v));
        // One number in motion is enough, and nothing is known of one that is not a number.
        let mut m = [1e-10; WIDTH];
        m[63] = 1e-4;
        assert!(!stands_still(&ahead[0], &w, &m, &v));
        m[63] = f32::NAN;
        assert!(!stands_still(&ahead[0], &w, &m, &v));
    }
}
