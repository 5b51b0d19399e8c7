//! Token or context: what share of an SAE's latents does the current token alone explain, with and
//! without a table?
//!
//! A latent that fires on one token and nowhere else says nothing that the token's id does not say
//! already. [`token_or_context`] counts, for every latent, on which tokens and pairs of tokens it
//! fires and how strongly, and measures from the counts how closely it is tied to them: the share
//! of its top token, the entropy of its tokens, its mutual information with the token, and how far
//! its decoder row points where a row of a table points. [`ngram_r2`] asks the same of the
//! activations themselves, before any training.
//!
//! # The counts
//!
//! Codes are exact, position 0 is left out, and a latent fires where its value is greater than 0.
//! For every latent there is one sorted list: a token and those before it, how often the latent
//! fired there, and the sum of its values. Grouped by the first entry of its keys the list gives
//! the latent's tokens, by the first two its bigrams. Firings wait unsorted until they are half as
//! many as the list is long, and are then merged into it; so the memory is that of the distinct
//! n-grams of each latent, and every sum is formed in the order of the text. Sequences are read in
//! a seeded random order. When the lists have outgrown [`TokennessConfig::memory`], or
//! [`TokennessConfig::tokens`] have been read, or the stop button is pressed, what was counted is a
//! random sample of the sequences, and every table says how large it is.
//!
//! # Chance
//!
//! A finite text makes every latent look informed: one that fires at random a hundred times meets
//! mostly rare tokens, of which each has fired always or never. So beside the mutual information as
//! it is counted stands what it would be on average if the same number of firings were dealt out at
//! random over the text ([the permutation model](https://jmlr.org/papers/v11/vinh10a.html) of Vinh,
//! Epps and Bailey 2010, and of scikit-learn's `adjusted_mutual_info_score`), computed exactly.
//! What is left, `(MI − chance) / (H − chance)`, is about 0 for a latent that has nothing to do
//! with the token and 1 for one that it decides.
//!
//! # Weights
//!
//! "Share of token latents" means little without saying of what: of latents, of their firings, or
//! of their activation mass. And rare latents are tied to tokens more than frequent ones, so that
//! an SAE with other densities has another share for that reason alone: compare within bins of
//! firing frequency ([`TokenOrContext::by_frequency`]), or matched ([`Weighting::Matched`]).

mod chance;
mod cosine;
mod counts;
pub(crate) mod figures;
mod latent;
mod meter;
mod ngram_r2;
mod pass;
mod show;
mod summary;

use crate::base::error::{Error, Result};
use crate::display::interrupt;
use crate::eval::check_width;
use crate::latents::ActivationSource;
use crate::model::{HookPoint, Model};
use crate::sae::{Lookup, Sae};
use crate::train::{Run, Runs};

pub use latent::{LatentTokenness, NgramProfile, SaeTokenness, TableMatch};
pub use ngram_r2::{
    NgramR2, NgramR2Config, NgramR2s, NgramScore, ngram_r2, ngram_r2_of_all, ngram_r2_with,
};
pub use pass::Coverage;
pub use summary::{TokenOrContext, TokenTest, Weighting};

/// The longest n-gram that can be counted.
pub const LONGEST: usize = 3;

/// What [`token_or_context_with`] counts, and how much of it.
#[derive(Clone, Debug)]
pub struct TokennessConfig {
    /// Tokens to count, at most; if the source has more, sequences are chosen at random. Default
    /// 1,000,000.
    pub tokens: usize,
    /// The longest n-gram that is counted: 1 tokens, 2 (the default) also bigrams, 3 also trigrams.
    pub order: usize,
    /// Bytes that the counts may take, about; when they are used up, counting ends with the tokens
    /// read so far. Default 2 GiB.
    pub memory: u64,
    /// The table that decoder rows of every SAE are compared with; `None`, the default, is
    /// [`Lookup::unigram`] of the model and hook.
    pub table: Option<Lookup>,
    /// Latents that fire less often are counted apart as rare: nothing can be said of them. Default 10.
    pub min_firings: u64,
    /// Decides the order in which sequences are read.
    pub seed: u64,
}

impl Default for TokennessConfig {
    fn default() -> TokennessConfig {
        TokennessConfig {
            tokens: 1_000_000,
            order: 2,
            memory: 2 << 30,
            table: None,
            min_firings: 10,
            seed: 0,
        }
    }
}

impl TokennessConfig {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Config`] with the one that cannot be used.
    pub fn check(&self) -> Result<()> {
        check_order("order", self.order)?;
        if self.tokens == 0 {
            return Err(Error::config("tokens", "is 0; at least one token has to be counted"));
        }
        Ok(())
    }
}

fn check_order(field: &'static str, n: usize) -> Result<()> {
    if (1..=LONGEST).contains(&n) {
        return Ok(());
    }
    Err(Error::config(
        field,
        format!("{field} = {n}; n-grams of 1 to {LONGEST} tokens can be counted"),
    ))
}

/// SAEs by their names: [`Runs`], a [`Run`], or pairs such as `[("mine", &sae)]`.
#[doc(hidden)]
pub trait NamedSaes {
    /// Each SAE and its name.
    fn named(&self) -> Vec<(&str, &Sae)>;
}

impl NamedSaes for Runs {
    fn named(&self) -> Vec<(&str, &Sae)> {
        self.runs.iter().map(|run| (run.name.as_str(), &run.sae)).collect()
    }
}

impl NamedSaes for Run {
    fn named(&self) -> Vec<(&str, &Sae)> {
        vec![(&self.name, &self.sae)]
    }
}

impl NamedSaes for [(&str, &Sae)] {
    fn named(&self) -> Vec<(&str, &Sae)> {
        self.to_vec()
    }
}

impl<const N: usize> NamedSaes for [(&str, &Sae); N] {
    fn named(&self) -> Vec<(&str, &Sae)> {
        self.to_vec()
    }
}

/// How closely every latent of some SAEs is tied to the current token, and to the current bigram.
///
/// `source` is a store of the hook's activations or held-out
/// [`Tokens`](crate::model::tokens::Tokens), on which the model then runs.
///
/// ```no_run
/// use tokenized_sae::prelude::*;
/// # let (model, hook) = (Model::load("tiny-gpt2")?, HookPoint::resid_pre(2));
/// # let corpus = Corpus::sampled(&model, 500_000, 0)?;
/// let (sae, tsae) = (Sae::load("results/SAE")?, Sae::load("results/TSAE")?);
/// let found = token_or_context(&model, hook, &[("SAE", &sae), ("TSAE", &tsae)], &corpus.valid)?;
/// println!("{}", found.table(Weighting::Latents).text());
/// println!("{}", found["TSAE"].context_latents(10).text());
/// plot::top_token_shares(&found)?.save("top_token_shares.svg")?;
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// As [`token_or_context_with`].
pub fn token_or_context(
    model: &Model,
    hook: HookPoint,
    saes: &(impl NamedSaes + ?Sized),
    source: impl Into<ActivationSource>,
) -> Result<TokenOrContext> {
    token_or_context_with(model, hook, saes, source, &TokennessConfig::default())
}

/// As [`token_or_context`], with other settings.
///
/// Stopped by hand while it counts, it uses the sequences read so far. The same bits on any
/// number of threads.
///
/// # Errors
/// [`Error::Config`] for a setting that cannot be used, for a store of another model, or if there
/// is no SAE; [`Error::Shape`] if an SAE or the table does not fit the model;
/// [`Error::UnknownHook`]; [`Error::EmptyCorpus`] without a sequence of two tokens;
/// [`Error::Interrupted`] if it was stopped before anything was counted, or after, while it
/// measured; and what the model or the store report.
pub fn token_or_context_with(
    model: &Model,
    hook: HookPoint,
    saes: &(impl NamedSaes + ?Sized),
    source: impl Into<ActivationSource>,
    config: &TokennessConfig,
) -> Result<TokenOrContext> {
    config.check()?;
    let (saes, source) = (saes.named(), source.into());
    if saes.is_empty() {
        return Err(Error::config("saes", "there is no SAE to measure"));
    }
    for (name, sae) in &saes {
        check_width(model, &format!("the SAE \"{name}\""), sae.d_model())?;
    }
    if let Some(table) = &config.table {
        check_width(model, "the table that latents are compared with", table.d_model())?;
    }
    let reader = source.reader(model, hook)?;
    interrupt::watch();
    interrupt::clear();
    let table = match &config.table {
        Some(table) => table.clone(),
        None => Lookup::unigram(model, hook)?,
    };
    let counted = pass::count(&reader, &saes, config)?;
    Ok(TokenOrContext {
        saes: latent::measure(model, &saes, &counted, &table, config)?,
        model: model.name().to_owned(),
        processing: model.processing().to_string(),
        hook,
        order: config.order,
        min_firings: config.min_firings,
        tokens: counted.tokens,
        available: reader.n_seq * (reader.n_ctx - 1),
        coverage: counted.coverage,
        table: if config.table.is_some() { "the table given" } else { "the hook at [BOS, t]" }
            .to_owned(),
    })
}

/// The error of a call that was stopped by hand with nothing to return.
fn interrupted(what: &'static str) -> Error {
    interrupt::clear();
    Error::Interrupted {
        what,
        remedy: "nothing is kept; the same call starts again, and fewer tokens take less time"
            .to_owned(),
    }
}
