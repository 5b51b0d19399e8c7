//! Tables, as descriptions name them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::activations::ActivationStore;
use crate::base::error::Result;
use crate::model::tokens::Tokens;
use crate::model::{HookPoint, Model};
use crate::sae::{Lookup, Ngrams, Sae};

/// What a table has rows for, and where they start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum LookupRecipe {
    /// [`Lookup::unigram`].
    Unigram,
    /// [`Lookup::means`].
    Means,
    /// [`Lookup::shrunk_means`].
    #[serde(alias = "shrunk-means")]
    ShrunkMeans,
    /// [`Lookup::zeros`].
    Zeros,
    /// [`Lookup::ngrams`]: `lookup = { ngrams = { longest = 3, rows = 20_000 } }`.
    Ngrams {
        /// How many tokens an n-gram has at most.
        longest: usize,
        /// How many of the most common n-grams there are, at most, as [`Ngrams::most_common`] finds
        /// them in the training text.
        rows: usize,
    },
    /// [`Lookup::ngram_means`], likewise.
    #[serde(alias = "ngram-means")]
    NgramMeans {
        /// How many tokens an n-gram has at most.
        longest: usize,
        /// How many n-grams there are, at most.
        rows: usize,
    },
    /// [`Lookup::preceding`]: `lookup = { preceding = "runs/before/SAE" }`, the folder of an SAE of
    /// an earlier hook, which is harvested too.
    Preceding(PathBuf),
}

/// A table to make, and what training does with it.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub kind: LookupRecipe,
    pub learned: Option<bool>,
    pub balance: Option<f32>,
    pub subtracted: bool,
}

impl Table {
    /// Makes it for a hook. `text` is what the activations are of.
    pub(crate) fn make(
        &self,
        model: &Model,
        hook: HookPoint,
        acts: &ActivationStore,
        text: &Tokens,
    ) -> Result<Lookup> {
        let grams = |longest, rows| Ngrams::most_common(text, acts.d_vocab(), longest, rows);
        let lookup = match &self.kind {
            LookupRecipe::Unigram => acts.unigram(model, hook)?,
            LookupRecipe::Means => Lookup::means(acts, hook)?,
            LookupRecipe::ShrunkMeans => Lookup::shrunk_means(model, acts, hook)?,
            LookupRecipe::Zeros => Lookup::zeros(acts.d_vocab(), acts.d_model())?,
            LookupRecipe::Ngrams { longest, rows } => {
                Lookup::ngrams(model, hook, grams(*longest, *rows)?)?
            }
            LookupRecipe::NgramMeans { longest, rows } => {
                Lookup::ngram_means(acts, hook, grams(*longest, *rows)?)?
            }
            LookupRecipe::Preceding(folder) => Lookup::preceding(&Sae::load(folder)?)?,
        };
        let lookup = if self.learned == Some(false) { lookup.frozen() } else { lookup };
        let lookup = if self.subtracted { lookup.subtracted() } else { lookup };
        match self.balance {
            Some(alpha) => lookup.with_balance(alpha),
            None => Ok(lookup),
        }
    }
}
