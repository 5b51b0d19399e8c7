//! What was found of absorption.

use serde::Serialize;

use crate::base::error::by_name;
use crate::base::number;
use crate::model::HookPoint;

/// First-letter absorption in some SAEs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Absorptions {
    /// The model's name.
    pub model: String,
    /// How its weights were processed.
    pub processing: String,
    /// The hook.
    pub hook: HookPoint,
    /// Tokens among which words were looked for.
    pub tokens: usize,
    /// Positions of words that probes learned from.
    pub train: usize,
    /// Positions of other words, on which all is measured.
    pub test: usize,
    /// The F1 above which letters are measured.
    #[serde(with = "number")]
    pub min_f1: f64,
    /// Every letter with enough words, and how well a probe on the activations finds it.
    pub letters: Vec<LetterProbe>,
    /// Each SAE.
    pub saes: Vec<SaeAbsorption>,
}

by_name!(Absorptions, saes: SaeAbsorption, "SAE");

/// How well a probe on the activations finds the words of a letter.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LetterProbe {
    /// The letter.
    pub letter: char,
    /// F1 on the test words.
    #[serde(with = "number")]
    pub f1: f64,
    /// Test positions of the letter that it finds: absorption is a share of these.
    pub found: usize,
}

/// Absorption in one SAE: means over the letters.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SaeAbsorption {
    /// The SAE's name.
    pub name: String,
    /// Mean [absorption fraction](LetterAbsorption::fraction).
    #[serde(with = "number")]
    pub fraction: f64,
    /// Mean rate of [full absorption](LetterAbsorption::full).
    #[serde(with = "number")]
    pub full: f64,
    /// Mean absorption fraction in which the table's row may absorb, too; `None` without a table.
    #[serde(with = "number::option")]
    pub with_table: Option<f64>,
    /// Mean share of words for which [the table speaks](LetterAbsorption::by_table); `None` without
    /// a table.
    #[serde(with = "number::option")]
    pub by_table: Option<f64>,
    /// Mean number of main latents of a letter; more than 1 is feature splitting.
    #[serde(with = "number")]
    pub main_latents: f64,
    /// Mean F1 of the probes on the main latents.
    #[serde(with = "number")]
    pub f1: f64,
    /// Mean of what each part carries.
    pub carried: Carried,
    /// Each letter.
    pub letters: Vec<LetterAbsorption>,
}

/// Absorption of one letter in one SAE.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LetterAbsorption {
    /// The letter.
    pub letter: char,
    /// Test positions of the letter that the probe on the activations finds.
    pub words: usize,
    /// The latents that stand for the letter, the best first.
    pub main: Vec<usize>,
    /// F1 of a probe on these.
    #[serde(with = "number")]
    pub f1: f64,
    /// Mean over the words of the share that other latents say in the place of the main ones.
    #[serde(with = "number")]
    pub fraction: f64,
    /// Share of the words on which all main latents are silent and another one speaks for them.
    #[serde(with = "number")]
    pub full: f64,
    /// As `fraction`, with the table's row as one more that may absorb; `None` without a table.
    #[serde(with = "number::option")]
    pub with_table: Option<f64>,
    /// Share of the words on which all main latents are silent and the table speaks for them, more
    /// than any latent; `None` without a table.
    #[serde(with = "number::option")]
    pub by_table: Option<f64>,
    /// What each part of the reconstruction carries of the letter.
    pub carried: Carried,
    /// Words that are absorbed by latents, in part or in full.
    pub absorbed: Vec<AbsorbedWord>,
}

/// A word whose letter another latent says.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct AbsorbedWord {
    /// The token.
    pub token: u32,
    /// Its text.
    pub text: String,
    /// The latent that says most of it.
    pub latent: usize,
    /// What that latent adds along the letter's direction, as a share of the activation's own
    /// projection.
    #[serde(with = "number")]
    pub share: f64,
    /// The word's absorption fraction.
    #[serde(with = "number")]
    pub fraction: f64,
    /// Whether the absorption is full.
    pub full: bool,
}

/// Who carries a letter: shares of the distance, along its direction, between the mean activation
/// on words of the letter and on other words. They add up to 1.
///
/// Means cancel what all words have in common, and with it the biases.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Carried {
    /// By the main latents.
    #[serde(with = "number")]
    pub main: f64,
    /// By all other latents.
    #[serde(with = "number")]
    pub others: f64,
    /// By the table, added or subtracted; `None` without one.
    #[serde(with = "number::option")]
    pub table: Option<f64>,
    /// By nobody: what the reconstruction lacks.
    #[serde(with = "number")]
    pub lost: f64,
}

impl Carried {
    fn mean(all: &[Carried]) -> Carried {
        let of = |value: fn(&Carried) -> f64| mean(all.iter().map(value));
        let table = all.iter().map(|it| it.table).collect::<Option<Vec<f64>>>();
        Carried {
            main: of(|it| it.main),
            others: of(|it| it.others),
            table: table.map(|it| mean(it.into_iter())),
            lost: of(|it| it.lost),
        }
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len() as f64;
    values.sum::<f64>() / n
}

impl SaeAbsorption {
    /// From its letters, of which there is at least one.
    pub(super) fn of(name: &str, letters: Vec<LetterAbsorption>) -> SaeAbsorption {
        let of = |value: fn(&LetterAbsorption) -> f64| mean(letters.iter().map(value));
        let option = |value: fn(&LetterAbsorption) -> Option<f64>| {
            letters.iter().map(value).collect::<Option<Vec<f64>>>().map(|it| mean(it.into_iter()))
        };
        let carried: Vec<Carried> = letters.iter().map(|it| it.carried).collect();
        SaeAbsorption {
            name: name.to_owned(),
            fraction: of(|it| it.fraction),
            full: of(|it| it.full),
            with_table: option(|it| it.with_table),
            by_table: option(|it| it.by_table),
            main_latents: of(|it| it.main.len() as f64),
            f1: of(|it| it.f1),
            carried: Carried::mean(&carried),
            letters,
        }
    }
}
