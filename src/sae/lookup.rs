//! The table: what its rows stand for, where it starts, and whether it learns.

mod cached;
mod index;
mod init;
mod ngrams;

use std::sync::Arc;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::SaeConfig;
use crate::base::error::{Error, Result};
use crate::model::HookPoint;

pub use index::Index;
pub use ngrams::Ngrams;

/// Numbers that are summed at a time, so that the sum is the same on any number of threads.
const SUMMED: usize = 1 << 16;

/// `a · b`, summed in f64.
pub(super) fn wide_dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// A table before training: its directions `T` `[rows, d_model]`, what the rows stand for, its
/// balance α, and what training does with it.
///
/// A TSAE starts with `W_lookup = α·T` and `W_enc = (1 − α)·W_dec`: the two share the
/// reconstruction. A whole table that is [subtracted](Lookup::subtracted_in_full) leaves nothing to
/// share, and the encoder starts at `W_dec`.
///
/// | made by | a row for | starts at |
/// | --- | --- | --- |
/// | [`Lookup::unigram`], [`Lookup::unigram_in`] | every token | the hook at position 1 of `[BOS, t]`: the authors' |
/// | the same, [`without_outliers`](Lookup::without_outliers) | every token | the same, but for tokens that become attention sinks there |
/// | [`Lookup::means`] | every token | the mean activation on the token |
/// | [`Lookup::shrunk_means`] | every token | the same, drawn towards `[BOS, t]` where the token is rare |
/// | [`Lookup::zeros`] | every token | 0 |
/// | [`Lookup::ngrams`] | every token, and common n-grams | the hook at the end of `[BOS, t₁, …, tₙ]` |
/// | [`Lookup::preceding`] | every latent of an SAE of an earlier hook | that latent's decoder row |
/// | [`Lookup::from_table`] | every token | what you say |
#[derive(Clone)]
pub struct Lookup {
    table: Arc<Vec<f32>>,
    d_model: usize,
    index: Index,
    balance: f32,
    learned: bool,
    subtracted: bool,
    start: Start,
}

/// How the directions of a table were made, as far as a word can say: enough to make
/// them again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// What this hook of the model with this fingerprint holds after BOS and each of what the rows
    /// stand for.
    AfterBos(HookPoint, String),
    /// Means of this hook over the activations with this fingerprint.
    Means(HookPoint, String),
    /// The same, drawn towards what the hook holds after BOS.
    ShrunkMeans(HookPoint, String),
    /// Zeros.
    Zeros,
    /// In another way.
    Other,
}

impl Lookup {
    /// The share of the reconstruction that a table starts with by default: the
    /// authors' α.
    pub(crate) const BALANCE: f32 = 0.5;

    /// A table of your own: `[d_vocab, d_model]`, row by row.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is not whole rows, [`Error::NotFinite`] if it holds NaN or
    /// an infinity.
    pub fn from_table(table: Vec<f32>, d_model: usize) -> Result<Lookup> {
        if d_model == 0 || table.is_empty() || !table.len().is_multiple_of(d_model) {
            return Err(Error::Shape {
                what: "lookup table".to_owned(),
                want: vec![table.len() / d_model.max(1), d_model],
                got: vec![table.len()],
            });
        }
        if let Some(at) = table.iter().position(|v| !v.is_finite()) {
            return Err(Error::NotFinite {
                what: "lookup table".to_owned(),
                value: table[at],
                at: format!("row {}, dimension {}", at / d_model, at % d_model),
            });
        }
        Ok(Lookup::from_shared(Arc::new(table), d_model))
    }

    /// A table whose numbers have been looked at.
    fn from_shared(table: Arc<Vec<f32>>, d_model: usize) -> Lookup {
        let (index, balance) = (Index::Token, Lookup::BALANCE);
        Lookup {
            table,
            d_model,
            index,
            balance,
            learned: true,
            subtracted: false,
            start: Start::Other,
        }
    }

    /// The same directions, with how they were made.
    pub(crate) fn started(self, start: Start) -> Lookup {
        Lookup { start, ..self }
    }

    /// How its directions were made.
    pub(crate) fn start(&self) -> &Start {
        &self.start
    }

    /// The same directions, whose rows stand for something else.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are not as many.
    pub(crate) fn indexed_by(self, index: Index) -> Result<Lookup> {
        let rows = match &index {
            Index::Token => self.rows(),
            Index::Ngrams(grams) => grams.rows(),
            Index::Latents(sae) => sae.d_sae(),
        };
        if rows != self.rows() {
            let (want, got) = (vec![rows, self.d_model], vec![self.rows(), self.d_model]);
            return Err(Error::Shape { what: "lookup table".to_owned(), want, got });
        }
        Ok(Lookup { index, ..self })
    }

    /// The same table, kept as it is: no gradient reaches it.
    pub fn frozen(self) -> Lookup {
        Lookup { learned: false, ..self }
    }

    /// The same table with balance α: 0 starts it empty, 1 leaves the encoder at 0 unless the table
    /// is subtracted.
    ///
    /// # Errors
    /// [`Error::Config`] unless `0 ≤ α ≤ 1`.
    pub fn with_balance(self, alpha: f32) -> Result<Lookup> {
        if !(0.0..=1.0).contains(&alpha) {
            return Err(Error::config(
                "balance",
                format!("balance = {alpha}; it must lie between 0 and 1"),
            ));
        }
        Ok(Lookup { balance: alpha, ..self })
    }

    /// The same table, subtracted before the encoder as well as added after the decoder, so that
    /// latents read only what it leaves: the variant that the authors named and did not try.
    pub fn subtracted(self) -> Lookup {
        Lookup { subtracted: true, ..self }
    }

    /// The same table, [subtracted](Lookup::subtracted) and whole from the start (α = 1): the latents
    /// begin with just what the table leaves.
    ///
    /// With [shrunk means](Lookup::shrunk_means) this is what works best ([`SaeConfig::recommended`]).
    pub fn subtracted_in_full(self) -> Lookup {
        Lookup { balance: 1.0, ..self.subtracted() }
    }

    /// The share of `W_dec` that the encoder starts with.
    pub(super) fn share_of_encoder(&self) -> f32 {
        if self.subtracted && self.balance == 1.0 { 1.0 } else { 1.0 - self.balance }
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.table.len() / self.d_model
    }

    /// The width of a row.
    pub fn d_model(&self) -> usize {
        self.d_model
    }

    /// What its rows stand for.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The balance α.
    pub fn balance(&self) -> f32 {
        self.balance
    }

    /// Whether training moves it.
    pub fn is_learned(&self) -> bool {
        self.learned
    }

    /// Whether it is subtracted before the encoder.
    pub fn is_subtracted(&self) -> bool {
        self.subtracted
    }

    /// Its directions `T` `[rows, d_model]`, not yet scaled by α.
    pub fn table(&self) -> &[f32] {
        &self.table
    }

    /// `⟨W, W₀⟩ / ‖W₀‖²` of a table `W` trained from this one, `W₀ = α·T`: 1 at the start, the
    /// authors' `lookup_sim`. 0 if it started at 0.
    pub fn similarity(&self, trained: &[f32]) -> f64 {
        let pairs = self.table.par_chunks(SUMMED).zip(trained.par_chunks(SUMMED));
        let parts: Vec<[f64; 2]> = pairs
            .map(|(start, trained)| [wide_dot(start, trained), wide_dot(start, start)])
            .collect();
        let [dot, norm] =
            parts.iter().fold([0.0; 2], |sum, part| [sum[0] + part[0], sum[1] + part[1]]);
        dot / (f64::from(self.balance) * norm).max(f64::MIN_POSITIVE)
    }

    /// Checks that it fits an SAE.
    pub(super) fn check(&self, config: &SaeConfig) -> Result<()> {
        let (rows, what) = match &self.index {
            Index::Token => (config.d_vocab, "lookup table"),
            Index::Ngrams(grams) => {
                (config.d_vocab + grams.len(), "lookup table of tokens and n-grams")
            }
            Index::Latents(sae) => (sae.d_sae(), "lookup table of a preceding SAE's latents"),
        };
        let (want, got) = (vec![rows, config.d_model], vec![self.rows(), self.d_model]);
        if want == got { Ok(()) } else { Err(Error::Shape { what: what.to_owned(), want, got }) }
    }

    /// A checksum over everything that decides what training makes of it.
    pub(crate) fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(bytemuck::cast_slice::<f32, u8>(&self.table));
        hash.update(self.balance.to_le_bytes());
        hash.update([u8::from(self.learned)]);
        if self.subtracted {
            hash.update(b"subtracted");
        }
        match &self.index {
            Index::Token => {}
            Index::Ngrams(grams) => grams.grams().iter().for_each(|gram| {
                hash.update([gram.len() as u8]);
                hash.update(bytemuck::cast_slice::<u32, u8>(gram));
            }),
            Index::Latents(sae) => hash.update(sae.fingerprint()),
        }
        crate::base::files::hex(hash.finalize())
    }
}
