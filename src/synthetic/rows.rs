//! Rows: which features fire, how strongly, and what they add up to.
//!
//! # The algorithm
//!
//! Feature j has a normal number `zⱼ = fⱼ·ε + oⱼ ηⱼ` and fires where it exceeds its threshold `tⱼ`:
//! `ε` are a row's few common causes, `ηⱼ` what is the feature's own. Given `ε`, all fire by
//! themselves, j with probability `Q((tⱼ − fⱼ·ε)/oⱼ)`, `Q` the normal tail.
//!
//! A **child** matters only where its parent fired, so trees are walked from those roots that did: a
//! few hundred looks in place of 10,880.
//!
//! The thousands of features **without a parent** are rare ones, for most of which that probability
//! is far below `q` ([`free`]). Let `uⱼ` be uniform, and j fire where `uⱼ` is below it. The features
//! with `uⱼ < q` are found by geometric leaps, without a look at the others; those whose probability
//! exceeds `q` are found by comparing `fⱼ·ε` with a bound that is known beforehand, a pass of vector
//! instructions over `[rank, n]` numbers. Only these two sets, some 130 of 5,632 features, are drawn
//! one by one; all others have `uⱼ ≥ q` and a probability below it.
//!
//! A row of SynthSAEBench takes some ten microseconds of a core: five for the common causes, two for
//! the draws, three for adding up some 34 directions.

use std::ops::Range;

use rayon::prelude::*;

use super::draws::{Draws, Key, Purpose};
use super::free::{combine, exceeding};
use super::model::{Inner, SyntheticModel};
use crate::cpu::simd::add_scaled;
use crate::sae::Codes;

/// Rows that a thread makes at a time.
const PIECE: usize = 32;

/// Rows of a [`SyntheticModel`] with what is in them; keep one and use it again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SyntheticBatch {
    /// Activations `[n, d_model]`.
    pub x: Vec<f32>,
    /// The features that fired on each row, and how strongly.
    pub features: Codes,
    /// Token ids `[n]`, all 0 in a model without tokens.
    pub tokens: Vec<u32>,
    /// The token before each row's `[n]`.
    pub before: Vec<u32>,
}

impl SyntheticBatch {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }
}

impl SyntheticModel {
    /// Makes the rows `rows` of the stream `seed` into `batch`: any of them at once, with the same
    /// bits on any number of threads. Streams of different seeds have nothing in common. Cannot
    /// fail.
    pub fn fill(&self, seed: u64, rows: Range<u64>, batch: &mut SyntheticBatch) {
        let (d, inner) = (self.d_model(), &*self.inner);
        let n = rows.end.saturating_sub(rows.start) as usize;
        batch.x.resize(n * d, 0.0);
        batch.tokens.resize(n, 0);
        batch.before.resize(n, 0);
        let key = self.key(seed);
        let ids = batch.tokens.par_chunks_mut(PIECE).zip(batch.before.par_chunks_mut(PIECE));
        let pieces = batch.x.par_chunks_mut(PIECE * d).zip(ids).enumerate();
        let made = pieces.map(|(piece, (x, (tokens, before)))| {
            let (mut sampler, mut features) = (Sampler::new(inner), Codes::default());
            let ids = tokens.iter_mut().zip(before);
            for (i, (x, (token, before))) in x.chunks_exact_mut(d).zip(ids).enumerate() {
                let mut draws = key.stream(rows.start + (piece * PIECE + i) as u64);
                [*before, *token] = sampler.draw(&mut draws);
                x.copy_from_slice(&inner.bias);
                for &(feature, value) in &sampler.fired {
                    add_scaled(x, value, &inner.directions[feature as usize * d..][..d]);
                }
                sampler.fired.sort_unstable_by_key(|fired| fired.0);
                let (ids, values): (Vec<u32>, Vec<f32>) = sampler.fired.iter().copied().unzip();
                features.push_some(&ids, &values, |_, _| true);
            }
            features
        });
        batch.features = Codes::default();
        made.collect::<Vec<Codes>>().iter().for_each(|piece| batch.features.append(piece));
    }

    /// How many of its first `n` features are active on a row, on average over 8,192 rows.
    pub fn l0_of_first(&self, n: usize) -> f64 {
        const ROWS: u64 = 8_192;
        let mut batch = SyntheticBatch::default();
        self.fill(SyntheticModel::SCORED, 0..ROWS, &mut batch);
        let first = batch.features.latents().iter().filter(|&&id| (id as usize) < n);
        first.count() as f64 / ROWS as f64
    }

    /// The token before each row, and the row's, without the rest of it.
    pub(crate) fn tokens_of(&self, seed: u64, rows: Range<u64>) -> Vec<[u32; 2]> {
        let key = self.key(seed);
        let draw = |row| {
            let ties = self.inner.ties.as_ref();
            ties.map_or([0, 0], |ties| ties.draw(&mut key.stream(row)))
        };
        rows.map(draw).collect()
    }

    fn key(&self, seed: u64) -> Key {
        Key::new(Purpose::Rows, [self.config().seed, seed])
    }
}

/// Draws one row after another.
struct Sampler<'a> {
    model: &'a Inner,
    /// The common causes of the row.
    causes: Vec<f32>,
    /// What they add to the numbers of the free features.
    leans: Vec<f32>,
    /// Free features that fire more often than `q` on this row.
    near: Vec<u32>,
    /// Features that fired, and how strongly.
    fired: Vec<(u32, f32)>,
}

impl<'a> Sampler<'a> {
    fn new(model: &'a Inner) -> Sampler<'a> {
        let n = model.free.ids.len();
        let (causes, leans) = (vec![0.0; model.free.rank], vec![0.0; n]);
        Sampler { model, causes, leans, near: Vec::new(), fired: Vec::new() }
    }

    /// Draws a row: its tokens are returned, its features left in `fired`.
    fn draw(&mut self, draws: &mut Draws) -> [u32; 2] {
        let model = self.model;
        self.fired.clear();
        let tokens = model.ties.as_ref().map_or([0, 0], |ties| ties.draw(draws));
        self.causes.fill_with(|| draws.normal() as f32);
        self.draw_free(draws);
        if let Some(ties) = &model.ties {
            for feature in ties.features(tokens) {
                let is_drawn = draws.uniform() < ties.strength;
                if is_drawn && !self.fired.iter().any(|&(fired, _)| fired == feature) {
                    self.fire(feature as usize, draws);
                }
            }
        }
        tokens
    }

    /// The features without a parent, and below each that fires its tree.
    fn draw_free(&mut self, draws: &mut Draws) {
        let free = &self.model.free;
        combine(&mut self.leans, &self.causes, &free.factors);
        self.near.clear();
        exceeding(&self.leans, &free.bounds, &mut self.near);
        let leap = |draws: &mut Draws| ((1.0 - draws.uniform()).ln() * free.leap) as usize;
        let (mut leapt, mut near) = (leap(draws), 0);
        loop {
            let next = self.near.get(near).map_or(usize::MAX, |&place| place as usize);
            let place = leapt.min(next);
            if place >= free.ids.len() {
                return;
            }
            // Below q for those leapt to, at least q for the others.
            let u = match place == leapt {
                true => free.q * draws.uniform(),
                false => free.q + (1.0 - free.q) * draws.uniform(),
            };
            if place == leapt {
                leapt += 1 + leap(draws);
            }
            if place == next {
                near += 1;
            }
            let id = free.ids[place] as usize;
            if self.tries(id, self.leans[place], u) {
                let begin = self.fired.len();
                self.fire(id, draws);
                if self.fired.len() > begin {
                    self.descend(begin, draws);
                }
            }
        }
    }

    /// Whether a feature towards which the common causes lean fires at `u`.
    fn tries(&self, feature: usize, lean: f32, u: f64) -> bool {
        let model = self.model;
        let x = f64::from(model.thresholds[feature] - lean) / f64::from(model.own[feature]);
        model.tail.exceeds(u, x)
    }

    /// Draws the strength of a feature that fires: one that comes out below 0 does not.
    fn strength(&self, feature: usize, draws: &mut Draws) -> f32 {
        let (mean, std) = (self.model.mean_magnitudes[feature], self.model.std_magnitudes[feature]);
        (mean + std * draws.normal() as f32).max(0.0)
    }

    fn fire(&mut self, feature: usize, draws: &mut Draws) {
        let value = self.strength(feature, draws);
        if value > 0.0 {
            self.fired.push((feature as u32, value));
        }
    }

    /// Draws everything below the feature at the place `at` of `fired`.
    fn descend(&mut self, at: usize, draws: &mut Draws) {
        let mut at = at;
        while at < self.fired.len() {
            let (parent, value) = self.fired[at];
            let scale = value / self.model.mean_magnitudes[parent as usize];
            let rank = self.causes.len();
            let (mut winner, mut rivals) = (None, 0);
            for child in self.model.forest.children(parent as usize) {
                let factors = &self.model.factors[child * rank..][..rank];
                let lean = self.causes.iter().zip(factors).fold(0.0, |sum, (a, b)| sum + a * b);
                let u = draws.uniform();
                if !self.tries(child, lean, u) {
                    continue;
                }
                let value = self.strength(child, draws);
                if value > 0.0 {
                    rivals += 1;
                    // Each of k rivals remains with probability 1/k.
                    if rivals == 1 || draws.below(rivals) == 0 {
                        winner = Some((child as u32, value * scale));
                    }
                }
            }
            self.fired.extend(winner.filter(|winner| winner.1 > 0.0));
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests;
