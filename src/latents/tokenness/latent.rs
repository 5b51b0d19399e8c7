//! What the counts say of each latent.

use rayon::prelude::*;
use serde::Serialize;

use super::chance::{Margins, entropy};
use super::cosine::nearest;
use super::counts::{Counts, Entry, Gram, NOTHING, grouped};
use super::meter::Meter;
use super::pass::Counted;
use super::{TokenTest, TokennessConfig, interrupted};
use crate::base::error::Result;
use crate::display::interrupt;
use crate::model::Model;
use crate::sae::{Lookup, Sae};

/// Latents that are measured between two looks at the stop button.
const AT_ONCE: usize = 64;

/// What is left of an entropy within its rounding is nothing.
const ROUNDING: f64 = 1e-9;

/// How a latent's firings are spread over the tokens (or bigrams, or trigrams) on which they stand.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct NgramProfile {
    /// The n-gram that holds most of the latent's activation mass, as ids in the order of the text.
    pub top: Vec<u32>,
    /// The same as text.
    pub text: String,
    /// The share of the latent's mass that stands on it.
    pub mass_share: f64,
    /// The share of the latent's firings that stand on it.
    pub firing_share: f64,
    /// On how many different n-grams the latent fires.
    pub distinct: usize,
    /// Entropy in bits of the n-gram, weighted by activation mass: 0 if there is only one.
    pub mass_entropy: f64,
    /// Entropy in bits of the n-gram, each firing counting once.
    pub firing_entropy: f64,
    /// `mass_entropy` as a share of the log₂ of the number of different n-grams in the text: 1 if
    /// the mass is spread evenly over all.
    pub normalized_entropy: f64,
    /// Mutual information of firing and n-gram in bits, as counted.
    pub mi: f64,
    /// What it would be on average if as many firings were dealt out at random over the text, in
    /// bits.
    pub mi_by_chance: f64,
    /// `mi / H(fires)`: sparsify calls a latent trivial where that of the token is above 0.9. Rare
    /// latents have a high one by chance.
    pub mi_share: f64,
    /// `(mi − mi_by_chance) / (H(fires) − mi_by_chance)`: about 0 for a latent that ignores the
    /// n-gram, 1 for one that it decides; 0 where chance alone would tell everything, as when no
    /// n-gram occurs twice.
    pub mi_share_corrected: f64,
}

/// The row of a table that a decoder row resembles most.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TableMatch {
    /// The row's token.
    pub token: u32,
    /// The same as text.
    pub text: String,
    /// Its cosine with the decoder row.
    pub cosine: f64,
}

/// How closely one latent is tied to the tokens on which it fires.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LatentTokenness {
    /// The latent.
    pub latent: usize,
    /// On how many of the tokens counted it fires: its value is greater than 0.
    pub firings: u64,
    /// That as a share of the tokens counted.
    pub density: f64,
    /// The length of what it adds to reconstructions, summed over its firings: Σ value ·
    /// ‖W_dec\[latent\]‖.
    pub mass: f64,
    /// H(fires) in bits: the entropy of whether it fires.
    pub fires_entropy: f64,
    /// Tokens, bigrams, trigrams, as far as was counted; empty for a latent that never fires.
    pub ngrams: Vec<NgramProfile>,
    /// The nearest row of the table that all SAEs are compared with.
    pub table: TableMatch,
    /// The nearest row of the SAE's own table, if it has one.
    pub own_table: Option<TableMatch>,
}

/// One SAE and all its latents.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SaeTokenness {
    /// The SAE's name.
    pub name: String,
    /// Whether it has a table of its own.
    pub has_lookup: bool,
    /// Latents that fire less often are rare: nothing can be said of them.
    pub min_firings: u64,
    /// One for each latent, in order.
    pub latents: Vec<LatentTokenness>,
}

impl SaeTokenness {
    /// The latents that are neither dead nor rare.
    pub fn counted(&self) -> Vec<&LatentTokenness> {
        self.latents.iter().filter(|latent| latent.firings >= self.min_firings.max(1)).collect()
    }

    /// The numbers of the latents that pass a test (`true`) or do not (`false`), those with most
    /// activation mass first; to look at some of either kind.
    pub fn that(&self, test: TokenTest, pass: bool) -> Vec<usize> {
        let mut latents = self.counted();
        latents.retain(|latent| test.passes(latent) == Some(pass));
        latents.sort_by(|a, b| b.mass.total_cmp(&a.mass));
        latents.into_iter().map(|latent| latent.latent).collect()
    }
}

/// Measures every latent of every SAE.
pub(super) fn measure(
    model: &Model,
    saes: &[(&str, &Sae)],
    counted: &Counted,
    table: &Lookup,
    config: &TokennessConfig,
) -> Result<Vec<SaeTokenness>> {
    let margins: Vec<Margins> =
        (1..=config.order).map(|n| Margins::new(counted.text.entries(), n)).collect();
    let rows = saes
        .iter()
        .map(|(_, sae)| sae.d_sae() as u64 * if sae.lookup.is_some() { 3 } else { 2 })
        .sum();
    let mut meter = Meter::new("measure the latents", rows);
    let mut measured = Vec::new();
    for ((name, sae), counts) in saes.iter().zip(&counted.latents) {
        let d = sae.d_model();
        let matches = |table: &[f32], meter: &mut Meter| -> Result<Vec<TableMatch>> {
            let named = |(token, cosine)| TableMatch {
                token: token as u32,
                text: model.token_str(token as u32),
                cosine,
            };
            Ok(nearest(&sae.w_dec, table, d, meter)?.into_iter().map(named).collect())
        };
        let outside = matches(table.table(), &mut meter)?;
        let own = sae.lookup.as_ref().map(|own| matches(own, &mut meter)).transpose()?;
        let mut latents = Vec::with_capacity(sae.d_sae());
        for (block, counts) in counts.chunks(AT_ONCE).enumerate() {
            if interrupt::requested() {
                return Err(interrupted("the measurement of latents"));
            }
            let one = |(i, counts): (usize, &Counts)| {
                let latent = block * AT_ONCE + i;
                let norm = sae.w_dec[latent * d..][..d]
                    .iter()
                    .map(|w| f64::from(*w).powi(2))
                    .sum::<f64>()
                    .sqrt();
                let firings =
                    counts.entries().iter().map(|entry| u64::from(entry.count)).sum::<u64>();
                LatentTokenness {
                    latent,
                    firings,
                    density: firings as f64 / counted.tokens as f64,
                    mass: norm * counts.entries().iter().map(|entry| entry.mass).sum::<f64>(),
                    fires_entropy: margins[0].firing_entropy(firings),
                    ngrams: if firings > 0 {
                        profiles(model, counts.entries(), firings, &margins)
                    } else {
                        Vec::new()
                    },
                    table: outside[latent].clone(),
                    own_table: own.as_ref().map(|own| own[latent].clone()),
                }
            };
            latents.par_extend(counts.par_iter().enumerate().map(one));
            meter.advance(counts.len() as u64);
        }
        measured.push(SaeTokenness {
            name: (*name).to_owned(),
            has_lookup: own.is_some(),
            min_firings: config.min_firings,
            latents,
        });
    }
    meter.finish();
    Ok(measured)
}

/// The profiles over tokens, bigrams, … of a latent that fires.
fn profiles(
    model: &Model,
    entries: &[Entry],
    firings: u64,
    margins: &[Margins],
) -> Vec<NgramProfile> {
    let of_length = |n: usize, margins: &Margins| {
        let grams: Vec<Entry> = grouped(entries, n).collect();
        let mass: f64 = grams.iter().map(|gram| gram.mass).sum();
        // Of equals the first.
        let top =
            grams.iter().fold(grams[0], |top, gram| if gram.mass > top.mass { *gram } else { top });
        let ids = ids(top.gram);
        let mass_entropy = entropy(grams.iter().map(|gram| gram.mass));
        let (h, mi, chance) = (
            margins.firing_entropy(firings),
            margins.mutual_information(&grams),
            margins.by_chance(firings),
        );
        let room = h - chance;
        NgramProfile {
            text: ids.iter().map(|&id| model.token_str(id)).collect(),
            top: ids,
            mass_share: top.mass / mass,
            firing_share: f64::from(top.count) / firings as f64,
            distinct: grams.len(),
            mass_entropy,
            firing_entropy: entropy(grams.iter().map(|gram| f64::from(gram.count))),
            normalized_entropy: if margins.distinct() > 1 {
                mass_entropy / (margins.distinct() as f64).log2()
            } else {
                0.0
            },
            mi,
            mi_by_chance: chance,
            mi_share: if h > 0.0 { mi / h } else { 0.0 },
            mi_share_corrected: if room > ROUNDING * h { (mi - chance) / room } else { 0.0 },
        }
    };
    margins.iter().enumerate().map(|(i, margins)| of_length(i + 1, margins)).collect()
}

/// The tokens of an n-gram in the order of the text.
fn ids(gram: Gram) -> Vec<u32> {
    gram.into_iter().rev().filter(|id| *id != NOTHING).collect()
}
