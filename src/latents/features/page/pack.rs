//! The data of the page, as bytes.
//!
//! ```text
//! columns   density, max, mean, embedding, table: f32 [d_sae] each
//! starts    u32 [d_sae + 1]     where each latent's record begins, and where the last one ends
//! pool      u16 [..]            tokens of the vocabulary of the page, every token of any context once, in the order of reading
//!                               (wide_pool, u32, if there are more than 65,536 of them)
//! records   bytes               per latent: top contexts; bands; histogram; tokens raised, lowered, embedding, table; latents that fire with it
//! ```
//!
//! In a record whole numbers take as many bytes as they need (LEB128), and scores are f16. An
//! activation is a share of the latent's greatest, in parts of 65,535. `page.js` reads it.

use std::collections::HashMap;

use half::f16;

use super::super::directions::Scores;
use super::super::feature::BINS;
use super::super::tally::{Kept, Tally};
use super::super::{FeatureDashboard, Features};
use crate::base::error::{Error, Result};
use crate::display::{Progress, interrupt};
use crate::model::Model;

/// Latents that are scored at a time: a twentieth of a second's work.
const LATENTS_AT_ONCE: usize = 64;

/// Tokens of each list.
const LISTED: usize = 10;

/// What the page is made of.
pub(super) struct Packed {
    pub bytes: Vec<u8>,
    /// Where each section begins, in bytes, and how many numbers it has.
    pub sections: HashMap<&'static str, [usize; 2]>,
    /// The texts of the tokens that occur, by their numbers on the page.
    pub vocabulary: Vec<String>,
}

/// Packs everything.
///
/// # Errors
/// [`Error::Interrupted`] if it is stopped; what scoring reports.
pub(super) fn pack(dashboard: &FeatureDashboard) -> Result<Packed> {
    let features = &*dashboard.features;
    let d_sae = features.d_sae();
    let mut vocabulary =
        Vocabulary { model: &dashboard.model, numbers: HashMap::new(), texts: Vec::new() };
    let (places, pool) = pool(features, &mut vocabulary);
    let (mut starts, mut records) = (vec![0], Record::default());
    let (mut embedding, mut table) = (Vec::new(), Vec::new());
    interrupt::watch();
    let mut progress = Progress::new("write features", d_sae as u64, "latents");
    for from in (0..d_sae).step_by(LATENTS_AT_ONCE) {
        if interrupt::requested() {
            interrupt::clear();
            let remedy = "nothing was written; the same call starts again".to_owned();
            return Err(Error::Interrupted { what: "writing features", remedy });
        }
        let latents: Vec<usize> = (from..d_sae.min(from + LATENTS_AT_ONCE)).collect();
        let scores = dashboard.scorer.scores(&dashboard.model, &dashboard.sae, &latents, LISTED)?;
        for (latent, scores) in latents.into_iter().zip(scores) {
            records.latent(features, latent, &places);
            records.scores(&scores, &mut vocabulary);
            records.cofiring(features, latent);
            starts.push(records.0.len() as u32);
            embedding.push(scores.embedding.first().map_or(0.0, |best| best.1));
            table.push(scores.table.first().map_or(0.0, |best| best.1));
        }
        progress.set(starts.len() as u64 - 1);
    }
    progress.finish();
    let densities: Vec<f32> =
        features.densities().into_iter().map(|density| density as f32).collect();
    let mean = |tally: &Tally| (tally.sum / tally.firings.max(1) as f64) as f32;
    let means: Vec<f32> = features.tallies.iter().map(mean).collect();
    let mut packed =
        Packed { bytes: Vec::new(), sections: HashMap::new(), vocabulary: vocabulary.texts };
    for (name, column) in [
        ("density", densities),
        ("max", features.maxima()),
        ("mean", means),
        ("embedding", embedding),
        ("table", table),
    ] {
        packed.section(name, bytemuck::cast_slice(&column), column.len());
    }
    packed.section("starts", bytemuck::cast_slice(&starts), starts.len());
    match pool.iter().map(|&token| u16::try_from(token)).collect::<Result<Vec<u16>, _>>() {
        Ok(short) => packed.section("pool", bytemuck::cast_slice(&short), pool.len()),
        Err(_) => packed.section("wide_pool", bytemuck::cast_slice(&pool), pool.len()),
    }
    packed.section("records", &records.0, records.0.len());
    Ok(packed)
}

impl Packed {
    /// Adds a section at a multiple of four bytes.
    fn section(&mut self, name: &'static str, bytes: &[u8], n: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self.sections.insert(name, [self.bytes.len(), n]);
        self.bytes.extend(bytes);
    }
}

/// The tokens that occur, numbered in the order in which they are met.
struct Vocabulary<'a> {
    model: &'a Model,
    numbers: HashMap<u32, u32>,
    texts: Vec<String>,
}

impl Vocabulary<'_> {
    fn number(&mut self, id: u32) -> u32 {
        *self.numbers.entry(id).or_insert_with(|| {
            self.texts.push(self.model.token_str(id));
            self.texts.len() as u32 - 1
        })
    }
}

/// For each row that was read its place in the pool, and the pool: the rows that lie in any
/// context.
fn pool(features: &Features, vocabulary: &mut Vocabulary<'_>) -> (Vec<u32>, Vec<u32>) {
    let mut is_needed = vec![false; features.ids.len()];
    for tally in &features.tallies {
        let drawn = features.drawn(tally).into_iter().flat_map(|(_, drawn)| drawn);
        for kept in tally.top.iter().chain(drawn) {
            is_needed[features.window(kept.row).0].fill(true);
        }
    }
    let (mut places, mut pool) = (vec![0; features.ids.len()], Vec::new());
    for (row, &id) in features.ids.iter().enumerate().filter(|(row, _)| is_needed[*row]) {
        places[row] = pool.len() as u32;
        pool.push(vocabulary.number(id));
    }
    (places, pool)
}

/// Records, one after the other.
#[derive(Default)]
struct Record(Vec<u8>);

impl Record {
    fn number(&mut self, mut value: u64) {
        while value > 127 {
            self.0.push(value as u8 | 128);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn half(&mut self, value: f32) {
        self.0.extend(f16::from_f32(value).to_le_bytes());
    }

    fn latent(&mut self, features: &Features, latent: usize, places: &[u32]) {
        let tally = &features.tallies[latent];
        self.number(tally.top.len() as u64);
        tally.top.iter().for_each(|kept| self.context(features, tally, kept, places));
        let bands = features.drawn(tally);
        self.number(bands.len() as u64);
        for ([from, _, least, most], drawn) in bands {
            self.number((from * features.config.bands as f64).round() as u64);
            for edge in [least, most] {
                self.half((edge / f64::from(tally.max)) as f32);
            }
            self.number(drawn.len() as u64);
            drawn.into_iter().for_each(|kept| self.context(features, tally, kept, places));
        }
        let (first, step, counts) = tally.histogram.joined(BINS);
        self.number(first as u64);
        self.number(step as u64);
        self.number(counts.len() as u64);
        counts.into_iter().for_each(|count| self.number(count));
    }

    fn context(&mut self, features: &Features, tally: &Tally, kept: &Kept, places: &[u32]) {
        let (rows, at) = features.window(kept.row);
        self.number(u64::from(places[rows.start]));
        self.number(rows.len() as u64);
        self.number(at as u64);
        self.number(features.sequences[kept.row as usize / features.n_ctx] as u64);
        self.number((kept.row as usize % features.n_ctx) as u64);
        self.number(kept.around.len() as u64);
        for firing in &kept.around {
            self.number((firing.row as usize - rows.start) as u64);
            let share = (firing.value / tally.max * 65_535.0).round().max(1.0);
            self.number(share as u64);
        }
    }

    fn scores(&mut self, scores: &Scores, vocabulary: &mut Vocabulary<'_>) {
        for list in [&scores.raised, &scores.lowered, &scores.embedding, &scores.table] {
            self.number(list.len() as u64);
            for &(id, score) in list {
                self.number(u64::from(vocabulary.number(id)));
                self.half(score);
            }
        }
    }

    fn cofiring(&mut self, features: &Features, latent: usize) {
        let others = &features.together[latent];
        self.number(others.len() as u64);
        for other in others {
            self.number(u64::from(other.latent));
            self.number(u64::from(other.tokens));
            self.half(other.jaccard);
        }
    }
}
