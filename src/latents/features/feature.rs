//! What was found about all latents, and about one.

use std::cmp::Reverse;
use std::collections::HashSet;

use serde::Serialize;

use super::histogram::Bin;
use super::tally::{Kept, Tally};
use super::{Cofiring, FeaturesConfig};
use crate::base::error::{Error, Result};
use crate::model::HookPoint;

/// Bins that a latent's histogram is shown in, at most.
pub(super) const BINS: usize = 32;

/// Where each latent of an SAE fires, from one pass over activations; [`Features::collect`] makes
/// it.
#[derive(Clone)]
pub struct Features {
    /// The name of the model.
    pub model: String,
    /// The hook.
    pub hook: HookPoint,
    /// The settings.
    pub config: FeaturesConfig,
    /// Tokens that were read and counted: position 0 of each sequence is not.
    pub tokens: u64,
    /// Tokens on which it was counted which latents fire together: all, or a random sample of them.
    pub cofiring_tokens: u64,
    /// Whether everything was read; false after a stop, and all figures are then of the tokens read
    /// so far.
    pub finished: bool,
    pub(super) n_ctx: usize,
    /// The number in the source of each sequence, in the order of reading.
    pub(super) sequences: Vec<usize>,
    /// Every token that was read.
    pub(super) ids: Vec<u32>,
    pub(super) tallies: Vec<Tally>,
    pub(super) together: Vec<Vec<Cofiring>>,
}

/// One latent: how often and how strongly it fires, where, and together with which others.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Feature {
    /// The latent.
    pub latent: usize,
    /// Tokens on which its code is above 0.
    pub firings: u64,
    /// The same as a share of all tokens counted.
    pub density: f64,
    /// The mean of its activation over the tokens on which it fires; 0 if there are none.
    pub mean: f64,
    /// Its greatest activation; 0 if it never fires.
    pub max: f32,
    /// Its activations, counted in bins of equal width on a logarithmic axis.
    pub histogram: Vec<Bin>,
    /// Where it is strongest, at most one context a sequence; the strongest first, of equals the
    /// earlier.
    pub top: Vec<Context>,
    /// A random sample of where else it fires, by how strongly; the strongest band first.
    pub bands: Vec<Band>,
    /// The latents that most often fire with it, by Jaccard's index.
    pub cofiring: Vec<Cofiring>,
}

/// Firings of a latent that are about as strong: between two quantiles of its activations.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Band {
    /// The band holds the share of the firings from this quantile,
    pub from: f64,
    /// up to this one.
    pub to: f64,
    /// The least activation of the band, from the histogram.
    pub least: f64,
    /// The greatest activation of the band, from the histogram.
    pub most: f64,
    /// Some of them, in the order in which they were drawn: at most one a sequence, and none of the
    /// strongest contexts.
    pub contexts: Vec<Context>,
}

/// Some tokens of a text around one on which a latent fires.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Context {
    /// The sequence of the store or text, counted from 0.
    pub sequence: usize,
    /// Where the token stands in the sequence.
    pub position: usize,
    /// Where it stands in this context.
    pub at: usize,
    /// The tokens.
    pub ids: Vec<u32>,
    /// The latent's activation on each of them, 0 where it does not fire.
    pub activations: Vec<f32>,
}

impl Context {
    /// The activation on the token that the context is about.
    pub fn activation(&self) -> f32 {
        self.activations[self.at]
    }
}

impl Features {
    /// How many latents there are.
    pub fn d_sae(&self) -> usize {
        self.tallies.len()
    }

    /// The share of tokens on which each latent fires.
    pub fn densities(&self) -> Vec<f64> {
        self.tallies.iter().map(|tally| tally.firings as f64 / self.tokens as f64).collect()
    }

    /// The greatest activation of each latent; 0 for one that never fires.
    pub fn maxima(&self) -> Vec<f32> {
        self.tallies.iter().map(|tally| tally.max).collect()
    }

    /// Everything that was found about one latent.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no such latent.
    pub fn latent(&self, latent: usize) -> Result<Feature> {
        self.check(latent)?;
        let tally = &self.tallies[latent];
        Ok(Feature {
            latent,
            firings: tally.firings,
            density: tally.firings as f64 / self.tokens as f64,
            mean: if tally.firings == 0 { 0.0 } else { tally.sum / tally.firings as f64 },
            max: tally.max,
            histogram: tally.histogram.bins(BINS),
            top: tally.top.iter().map(|kept| self.context(kept)).collect(),
            bands: self.bands(tally),
            cofiring: self.together[latent].clone(),
        })
    }

    /// The latents that fire on the most tokens, the most frequent first; of equals, the lower
    /// latent.
    pub fn most_frequent(&self, n: usize) -> Vec<usize> {
        let mut latents: Vec<usize> = (0..self.d_sae()).collect();
        latents.sort_by_key(|&latent| Reverse(self.tallies[latent].firings));
        latents.truncate(n);
        latents
    }

    pub(super) fn check(&self, latent: usize) -> Result<()> {
        check_latent(latent, self.d_sae())
    }

    /// The rows of the context of `row`, and its place among them.
    pub(super) fn window(&self, row: u32) -> (std::ops::Range<usize>, usize) {
        let row = row as usize;
        let sequence = row / self.n_ctx * self.n_ctx;
        let start = row.saturating_sub(self.config.before).max(sequence);
        (start..(row + self.config.after + 1).min(sequence + self.n_ctx), row - start)
    }

    fn context(&self, kept: &Kept) -> Context {
        let (rows, at) = self.window(kept.row);
        let mut activations = vec![0.0; rows.len()];
        kept.around
            .iter()
            .for_each(|firing| activations[firing.row as usize - rows.start] = firing.value);
        Context {
            sequence: self.sequences[kept.row as usize / self.n_ctx],
            position: kept.row as usize % self.n_ctx,
            at,
            ids: self.ids[rows].to_vec(),
            activations,
        }
    }

    /// What was drawn, cut into bands, the strongest first; bands of which nothing is left are left
    /// out.
    pub(super) fn drawn<'a>(&self, tally: &'a Tally) -> Vec<([f64; 4], Vec<&'a Kept>)> {
        let shown: HashSet<u32> = tally.top.iter().map(|kept| kept.row).collect();
        let n = self.config.bands;
        let quantile = |share: f64| {
            if share >= 1.0 { f64::from(tally.max) } else { tally.histogram.quantile(share) }
        };
        let band = |i: usize| {
            let [from, to] = [i as f64 / n as f64, (i + 1) as f64 / n as f64];
            let (least, most) = (if i == 0 { 0.0 } else { quantile(from) }, quantile(to));
            let within = |value: f64| value > least && value <= most;
            let drawn = tally
                .drawn
                .iter()
                .map(|(_, kept)| kept)
                .filter(|kept| within(f64::from(kept.value)) && !shown.contains(&kept.row));
            ([from, to, least, most], drawn.take(self.config.per_band).collect())
        };
        (0..n).rev().map(band).filter(|(_, drawn): &(_, Vec<&Kept>)| !drawn.is_empty()).collect()
    }

    fn bands(&self, tally: &Tally) -> Vec<Band> {
        let bands = self.drawn(tally).into_iter();
        let contexts =
            |drawn: Vec<&Kept>| drawn.into_iter().map(|kept| self.context(kept)).collect();
        bands
            .map(|([from, to, least, most], drawn)| Band {
                from,
                to,
                least,
                most,
                contexts: contexts(drawn),
            })
            .collect()
    }
}

pub(super) fn check_latent(latent: usize, d_sae: usize) -> Result<()> {
    if latent >= d_sae {
        return Err(Error::config(
            "latent",
            format!(
                "there is no latent {latent}: they are numbered from 0 to {}",
                d_sae.saturating_sub(1)
            ),
        ));
    }
    Ok(())
}
