//! Feature absorption: does the latent of a first letter fall silent where a latent of the word
//! speaks for it?
//!
//! An SAE that has latents for "begins with s" and for " snake" reconstructs as well, and sparser,
//! if the first is silent on snakes and the second says the s too. Then "begins with s" is not what
//! it seems: [Chanin et al. 2024](https://arxiv.org/abs/2409.14507) call this absorption. It is
//! measured here as in the paper and, for the fraction, in SAEBench 0.6, on other positions; and
//! for a tokenized SAE, whose table can say the letter itself, the table's part is told apart.
//!
//! # Definitions
//!
//! Words are tokens that are a space and ASCII letters; a fifth of them is for tests. For every
//! letter
//!
//! - a logistic regression on the activations (C = 1, classes weighted evenly) gives the direction
//!   `p`, of length 1. Letters that it finds with an F1 of [`min_f1`](AbsorptionConfig::min_f1) or less are left out. The words are
//!   the test positions of the letter on which it says yes.
//! - The main latents: latents in falling order of `mean on the letter − mean on other words`, as far
//!   as that is positive. The first is taken, and the next of up to ten as long as a logistic
//!   regression on all so far raises the F1 on test positions by more than 0.03 (feature splitting).
//! - A latent adds `value · W_dec[latent] · p` to the projection `x · p`. With `m` what the main
//!   latents add, and `a` what those three others add that add most, among those whose decoder row
//!   has a cosine with `p` of at least 0.1: the **absorption fraction** of the word is 0 if `m ≥ x·p`
//!   or `a < 0.4 x·p`, 1 if `m ≤ 0`, and else `a' / (a' + m)` with `a' = min(a, x·p − m)`.
//! - **Full absorption**: no main latent fires, and the latent that adds most has a cosine with `p`
//!   of at least 0.025 and adds at least `0.4 x·p`.
//!
//! Scores are means over the words of a letter, and then over letters.
//!
//! # Tables
//!
//! Whether a table is added alone or [subtracted](crate::sae::Lookup::subtracted) as well, the
//! reconstruction is `codes · W_dec + b_dec + W_lookup[token]`, so that in both cases the table adds
//! `W_lookup[token] · p`; what differs is whether the latents have seen the letter. The scores above
//! count latents alone. [`with_table`](SaeAbsorption::with_table) and
//! [`by_table`](SaeAbsorption::by_table) treat the row as one more latent, which may absorb and is
//! never a main one. As published, projections are not centred, and a row holds what all words have
//! in common as well; [`Carried`] is free of that: of the distance between words with and without
//! the letter it says how much each part carries. Read it first: where latents carry next to
//! nothing of a letter, their main ones have an F1 near 0, and no absorption among them only says
//! that there was nothing to absorb.
//!
//! # What differs from what is published
//!
//! The words stand in running text, where the context is theirs, each at
//! [`per_word`](AbsorptionConfig::per_word) positions chosen at random; published is one prompt for
//! each word of the vocabulary, which asks for its spelling after ten examples. Main latents are
//! ranked by means and not by an L1-penalised probe. Both make scores comparable among SAEs of one
//! run, not with those of a leaderboard.
//!
//! Memory is as for [`probe`](crate::latents::probe).

mod letter;
mod result;
mod show;

use crate::base::error::{Error, Result};
use crate::latents::ActivationSource;
use crate::latents::probe::Task;
use crate::latents::probe::rows::{Rows, Text, in_parallel};
use crate::latents::probe::sample::{FEWEST, Sampler, too_few};
use crate::latents::tokenness::NamedSaes;
use crate::model::{HookPoint, Model};
use letter::{Side, Truth, Words};

pub use result::{
    AbsorbedWord, Absorptions, Carried, LetterAbsorption, LetterProbe, SaeAbsorption,
};

/// By more than this the F1 must rise for one more main latent: SAEBench's `f1_jump_threshold`.
const F1_JUMP: f64 = 0.03;

/// SAEBench's `max_k_value`.
const MOST_MAIN: usize = 10;

/// Of the latent that absorbs in full: its least cosine with the letter's direction.
const FULL_COSINE: f64 = 0.025;

/// Of latents that absorb a fraction.
const PARTIAL_COSINE: f64 = 0.1;

/// The least share of the activation's projection that absorbing latents must add.
const WORD_SHARE: f64 = 0.4;

/// How many latents may absorb a fraction together.
const MOST_ABSORBERS: usize = 3;

/// A main latent below this does not fire.
const SILENT: f64 = 1e-8;

/// How much [`absorption_with`] reads.
#[derive(Clone, Debug, PartialEq)]
pub struct AbsorptionConfig {
    /// Tokens among which words are looked for, at most; if the source has more, sequences are
    /// chosen at random. Default 300,000.
    pub tokens: usize,
    /// Positions of one word, at most. Default 2; 1 is published.
    pub per_word: usize,
    /// Letters are left out if the probe on the activations finds them with no higher F1 than this.
    /// Default 0.6, SAEBench's `min_GT_probe_f1`.
    pub min_f1: f64,
    /// Decides which positions are chosen, and which words are for tests.
    pub seed: u64,
}

impl Default for AbsorptionConfig {
    fn default() -> AbsorptionConfig {
        AbsorptionConfig { tokens: 300_000, per_word: 2, min_f1: 0.6, seed: 0 }
    }
}

impl AbsorptionConfig {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Config`] with the one that cannot be used.
    pub fn check(&self) -> Result<()> {
        Error::at_least_1("tokens", self.tokens as u64)?;
        Error::at_least_1("per_word", self.per_word as u64)?;
        match (0.0..1.0).contains(&self.min_f1) {
            true => Ok(()),
            false => {
                let why =
                    format!("min_f1 = {}; it must be 0 or more, and less than 1", self.min_f1);
                Err(Error::config("min_f1", why))
            }
        }
    }
}

/// Measures first-letter absorption in SAEs.
///
/// `source` is a store of the hook's activations or held-out
/// [`Tokens`](crate::model::tokens::Tokens), on which the model then runs.
///
/// ```no_run
/// use tokenized_sae::latents::absorption::absorption;
/// use tokenized_sae::prelude::*;
/// # let (model, hook) = (Model::load("tiny-gpt2")?, HookPoint::resid_pre(2));
/// # let corpus = Corpus::sampled(&model, 500_000, 0)?;
/// let (sae, tsae) = (Sae::load("results/SAE")?, Sae::load("results/TSAE")?);
/// let found = absorption(&model, hook, &[("SAE", &sae), ("TSAE", &tsae)], &corpus.valid)?;
/// println!("{}", found.table().text());
/// println!("{}", found["SAE"].table().text());
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// As [`absorption_with`].
pub fn absorption(
    model: &Model,
    hook: HookPoint,
    saes: &(impl NamedSaes + ?Sized),
    source: impl Into<ActivationSource>,
) -> Result<Absorptions> {
    absorption_with(model, hook, saes, source, &AbsorptionConfig::default())
}

/// As [`absorption`], with other settings. The same bits on any number of threads.
///
/// # Errors
/// [`Error::Config`] for a setting that cannot be used, for a store of another model, or if there is
/// no SAE; [`Error::Shape`] if an SAE does not fit the model; [`Error::NoTokenizer`];
/// [`Error::UnknownHook`]; [`Error::EmptyCorpus`] if no letter has enough words, or none is found in
/// the activations; [`Error::Interrupted`]; and what the model or the store report.
pub fn absorption_with(
    model: &Model,
    hook: HookPoint,
    saes: &(impl NamedSaes + ?Sized),
    source: impl Into<ActivationSource>,
    config: &AbsorptionConfig,
) -> Result<Absorptions> {
    config.check()?;
    let (saes, source) = (saes.named(), source.into());
    let reader = source.reader(model, hook)?;
    let text = Text::of(&reader, &saes, config.tokens, config.seed)?;
    let answers = text.vocabulary.answers(Task::FirstLetter, &text.tokens);
    let sampler = Sampler::new(&text.tokens, model.config().d_vocab, config.seed);
    let chosen = sampler.words(&answers, config.per_word);
    let rows = text.rows(&saes, chosen.concat())?;
    let words = words(&rows, &text, &answers, &chosen);
    let letters = enough(&words);
    if letters.is_empty() {
        return Err(too_few(&text.tokens));
    }
    let truths = in_parallel("find letters", &letters, |&letter| Truth::of(letter, &words))?;
    let clear: Vec<&Truth> = truths.iter().filter(|it| it.f1 > config.min_f1).collect();
    if clear.is_empty() {
        return Err(none_found(&truths, config.min_f1));
    }
    let jobs: Vec<(usize, &Truth)> =
        (0..saes.len()).flat_map(|sae| clear.iter().map(move |&it| (sae, it))).collect();
    let mut found = in_parallel("measure absorption", &jobs, |&(at, truth)| {
        truth.measure(saes[at].1, &rows.saes[at], &words, |id| model.token_str(id))
    })?
    .into_iter();
    let of_sae =
        |(name, _): &(&str, _)| SaeAbsorption::of(name, found.by_ref().take(clear.len()).collect());
    Ok(Absorptions {
        model: model.name().to_owned(),
        processing: model.processing().to_string(),
        hook,
        tokens: text.tokens.len(),
        train: words.train.rows.len(),
        test: words.test.rows.len(),
        saes: saes.iter().map(of_sae).collect(),
        min_f1: config.min_f1,
        letters: truths
            .iter()
            .map(|it| LetterProbe {
                letter: char::from(it.letter),
                f1: it.f1,
                found: it.found.len(),
            })
            .collect(),
    })
}

fn words<'a>(
    rows: &'a Rows,
    text: &Text<'_>,
    answers: &[Option<u8>],
    chosen: &[Vec<usize>; 2],
) -> Words<'a> {
    let [train, test] = [0, 1].map(|side| Side {
        rows: rows.at(&chosen[side]),
        letters: chosen[side].iter().map(|&it| answers[it].unwrap_or_default()).collect(),
        tokens: chosen[side].iter().map(|&it| text.tokens.ids()[it]).collect(),
    });
    Words { rows, train, test }
}

/// The letters with enough words on both sides.
fn enough(words: &Words<'_>) -> Vec<u8> {
    let count = |side: &Side, letter| side.letters.iter().filter(|it| **it == letter).count();
    let is_enough = |letter: &u8| {
        let counts = [&words.train, &words.test].map(|side| count(side, *letter));
        counts.iter().zip(FEWEST).all(|(&n, fewest)| n >= fewest)
            && counts[0] < words.train.letters.len()
            && counts[1] < words.test.letters.len()
    };
    (b'a'..=b'z').filter(is_enough).collect()
}

fn none_found(truths: &[Truth], min_f1: f64) -> Error {
    let best = truths.iter().map(|it| it.f1).fold(0.0, f64::max);
    let why = format!(
        "a probe on the activations finds none of {} letters with an F1 above {min_f1} (the best has {best:.2}): give more text, another hook, or a lower `min_f1`",
        truths.len()
    );
    Error::EmptyCorpus { why }
}
