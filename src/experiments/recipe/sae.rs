//! The SAEs of a description.

use serde::{Deserialize, Serialize};

use super::lookup::{LookupRecipe, Table};
use crate::activations::ActivationStore;
use crate::base::error::{Error, Result};
use crate::model::HookPoint;
use crate::sae::{Architecture, AuxK, Frozen, Index, Lookup, Ngrams, SaeConfig, Start};

/// An SAE in a [`RunRecipe`](super::RunRecipe): the fields of [`SaeConfig`] that the model does not
/// decide, a name, and how its table is made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SaeRecipe {
    /// Its name, which is its folder's.
    pub name: String,
    /// Latents per dimension.
    pub expansion: usize,
    /// How many latents there are, if not a whole number per dimension; `expansion` then
    /// counts for nothing.
    pub latents: Option<usize>,
    /// How many latents are active on every token.
    pub k: usize,
    /// Whether negative values among the k largest become 0.
    pub relu: bool,
    /// What makes a latent active.
    pub architecture: Architecture,
    /// How many latents are to be active on a token where a penalty and no k decides it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_l0: Option<f64>,
    /// Matryoshka: how many of the first latents make up each prefix.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<usize>,
    /// Help for dead latents.
    pub aux: Option<AuxK>,
    /// Whether rows of the decoder are kept at length 1.
    pub unit_norm: bool,
    /// Whether `b_dec` starts at the mean of the activations.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub centred: bool,
    /// In how many directions, those in which activations vary most, the decoder starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subspace: Option<usize>,
    /// Whether the inner product of a latent's two rows is kept at 1.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub aligned: bool,
    /// How many times dead latents start anew.
    #[serde(skip_serializing_if = "is_zero")]
    pub resamplings: u32,
    /// The matrix that training leaves as it starts: "encoder" or "decoder".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frozen: Option<Frozen>,
    /// The learning rate of the weights, if not that of `[train]`.
    pub lr: Option<f64>,
    /// Seeds the directions of the decoder.
    pub seed: u64,
    /// The table; none in a plain SAE.
    pub lookup: Option<LookupRecipe>,
    /// Whether training moves the table.
    pub learned: Option<bool>,
    /// The balance α of the table.
    pub balance: Option<f32>,
    /// Whether the table is subtracted before the encoder.
    pub subtracted: Option<bool>,
}

impl Default for SaeRecipe {
    fn default() -> SaeRecipe {
        SaeRecipe::with("SAE", SaeConfig::new(1, 1))
    }
}

impl SaeRecipe {
    /// The authors' settings, without a table.
    pub fn new(name: &str) -> SaeRecipe {
        SaeRecipe { name: name.to_owned(), ..SaeRecipe::default() }
    }

    /// The same settings with a table.
    pub fn with_lookup(self, lookup: LookupRecipe) -> SaeRecipe {
        SaeRecipe { lookup: Some(lookup), ..self }
    }

    /// These settings under a name, without their table.
    fn with(name: &str, config: SaeConfig) -> SaeRecipe {
        let SaeConfig {
            d_model: _,
            d_vocab: _,
            expansion,
            latents,
            k,
            relu,
            architecture,
            target_l0,
            prefixes,
            aux,
            unit_norm,
            centred,
            subspace,
            aligned,
            resamplings,
            frozen,
            lr,
            seed,
            lookup: _,
        } = config;
        let name = name.to_owned();
        let (lookup, learned, balance, subtracted) = (None, None, None, None);
        SaeRecipe {
            name,
            expansion,
            latents,
            k,
            relu,
            architecture,
            target_l0,
            prefixes,
            aux,
            unit_norm,
            centred,
            subspace,
            aligned,
            resamplings,
            frozen,
            lr,
            seed,
            lookup,
            learned,
            balance,
            subtracted,
        }
    }

    /// The description of an SAE that is trained on `hook` of a store.
    ///
    /// # Errors
    /// [`Error::Config`] if it has a table that no file describes: one of your own, one that was
    /// made for another hook, or the latents of an SAE at hand.
    pub fn of(
        name: &str,
        config: &SaeConfig,
        acts: &ActivationStore,
        hook: HookPoint,
    ) -> Result<SaeRecipe> {
        let spec = SaeRecipe::with(name, config.clone());
        match &config.lookup {
            None => Ok(spec),
            Some(lookup) => Ok(SaeRecipe {
                lookup: Some(described(name, lookup, hook, acts)?),
                learned: Some(lookup.is_learned()),
                balance: Some(lookup.balance()),
                subtracted: Some(lookup.is_subtracted()),
                ..spec
            }),
        }
    }

    /// The configuration for a model of this width and vocabulary, without the table, which takes
    /// activations to make.
    pub fn config(&self, d_model: usize, d_vocab: usize) -> SaeConfig {
        SaeConfig {
            d_model,
            d_vocab,
            expansion: self.expansion,
            latents: self.latents,
            k: self.k,
            relu: self.relu,
            architecture: self.architecture,
            target_l0: self.target_l0,
            prefixes: self.prefixes.clone(),
            aux: self.aux,
            unit_norm: self.unit_norm,
            centred: self.centred,
            subspace: self.subspace,
            aligned: self.aligned,
            resamplings: self.resamplings,
            frozen: self.frozen,
            lr: self.lr,
            seed: self.seed,
            lookup: None,
        }
    }

    /// The table, if there is one.
    ///
    /// # Errors
    /// [`Error::Config`] if there is none, but settings for one.
    pub(super) fn table(&self) -> Result<Option<Table>> {
        let said = [
            ("learned", self.learned.is_some()),
            ("balance", self.balance.is_some()),
            ("subtracted", self.subtracted.is_some()),
        ];
        match (&self.lookup, said.into_iter().find(|(_, is_said)| *is_said)) {
            (None, Some((key, _))) => Err(Error::config(
                key,
                "there is no table that it applies to: give one, as lookup = \"unigram\"",
            )),
            (None, None) => Ok(None),
            (Some(kind), _) => {
                if let Some(alpha) = self.balance.filter(|alpha| !(0.0..=1.0).contains(alpha)) {
                    return Err(Error::config(
                        "balance",
                        format!("balance = {alpha}; it must lie between 0 and 1"),
                    ));
                }
                let subtracted = self.subtracted.unwrap_or(false);
                Ok(Some(Table {
                    kind: kind.clone(),
                    learned: self.learned,
                    balance: self.balance,
                    subtracted,
                }))
            }
        }
    }

    /// The same with all defaults filled in.
    pub(super) fn resolved(&self) -> SaeRecipe {
        let zeros = matches!(self.lookup, Some(LookupRecipe::Zeros));
        let there = self.lookup.is_some();
        SaeRecipe {
            learned: self.learned.or(there.then_some(true)),
            balance: self.balance.or(there.then_some(if zeros { 0.0 } else { Lookup::BALANCE })),
            subtracted: self.subtracted.or(there.then_some(false)),
            ..self.clone()
        }
    }
}

fn is_zero(it: &u32) -> bool {
    *it == 0
}

/// How a table is made.
fn described(
    name: &str,
    lookup: &Lookup,
    hook: HookPoint,
    acts: &ActivationStore,
) -> Result<LookupRecipe> {
    let is_made_here = match lookup.start() {
        Start::AfterBos(at, model) => *at == hook && model == acts.model_fingerprint(),
        Start::Means(at, of) | Start::ShrunkMeans(at, of) => {
            *at == hook && of == acts.fingerprint()
        }
        Start::Zeros => true,
        Start::Other => false,
    };
    let grams = match lookup.index() {
        Index::Ngrams(grams) => {
            let (longest, rows) = (grams.longest(), grams.len());
            (Ngrams::most_common(&acts.tokens()?, acts.d_vocab(), longest, rows)? == **grams)
                .then_some((longest, rows))
        }
        _ => None,
    };
    match (lookup.start(), lookup.index(), grams) {
        (Start::AfterBos(..), Index::Token, _) if is_made_here => Ok(LookupRecipe::Unigram),
        (Start::Means(..), Index::Token, _) if is_made_here => Ok(LookupRecipe::Means),
        (Start::ShrunkMeans(..), Index::Token, _) if is_made_here => Ok(LookupRecipe::ShrunkMeans),
        (Start::Zeros, Index::Token, _) => Ok(LookupRecipe::Zeros),
        (Start::AfterBos(..), _, Some((longest, rows))) if is_made_here => {
            Ok(LookupRecipe::Ngrams { longest, rows })
        }
        (Start::Means(..), _, Some((longest, rows))) if is_made_here => {
            Ok(LookupRecipe::NgramMeans { longest, rows })
        }
        _ => {
            let ways =
                "a table of your own, of another hook or text, or of the latents of an SAE at hand";
            Err(Error::config(
                "lookup",
                format!(
                    "the table of \"{name}\" was made in a way that a file does not describe ({ways})"
                ),
            ))
        }
    }
}
