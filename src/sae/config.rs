//! The settings of one SAE.

use serde::{Deserialize, Serialize};

use super::{Architecture, AuxK, Frozen, Lookup};
use crate::base::error::{Error, Result};
use crate::model::Model;

/// The settings of one SAE. The defaults are the authors' (expansion 16, k 30, values kept as TopK
/// gives them).
///
/// ```no_run
/// # use tokenized_sae::prelude::*;
/// # let model = Model::load("tiny-gpt2")?;
/// let sae = SaeConfig { k: 16, ..SaeConfig::for_model(&model) };
/// let tsae = sae.clone().with_lookup(Lookup::unigram(&model, HookPoint::resid_pre(2))?);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Serialize, Deserialize)]
pub struct SaeConfig {
    /// The width of the activations.
    pub d_model: usize,
    /// The size of the vocabulary: rows of a table, if there is one.
    pub d_vocab: usize,
    /// Latents per dimension: `d_sae = expansion · d_model`.
    pub expansion: usize,
    /// How many latents there are, if not a whole number per dimension; `expansion` then
    /// counts for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latents: Option<usize>,
    /// How many latents are active on every token.
    pub k: usize,
    /// Whether negative values among the k largest become 0, as in SAELens. The authors keep them.
    /// Of TopK alone: no other architecture has any.
    pub relu: bool,
    /// What makes a latent active.
    #[serde(default)]
    pub architecture: Architecture,
    /// How many latents are to be active on a token, on average, where a penalty and no `k` decides
    /// it. After every step the point from which latents are active moves against what is too many
    /// or too few: with JumpReLU all thresholds, by one step; with ReLU and Gated the biases, downward
    /// only those of latents that have fired on the batch. The penalty keeps its coefficient. Over
    /// [`sparsity_warmup`](crate::train::TrainConfig::sparsity_warmup) the aim falls from half of
    /// the latents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_l0: Option<f64>,
    /// Matryoshka: how many of the first latents make up each prefix, ascending, all latents last.
    /// The error that is trained on is the mean over the prefixes, each of which must reconstruct
    /// by itself ([Bussmann et al., 2025](https://arxiv.org/abs/2503.17547)). Empty: one prefix,
    /// all latents.
    #[serde(default)]
    pub prefixes: Vec<usize>,
    /// Help for dead latents.
    #[serde(default)]
    pub aux: Option<AuxK>,
    /// Whether rows of the decoder are kept at length 1. Always so with [`Architecture::Relu`] and
    /// [`Architecture::Gated`], and in an [aligned](SaeConfig::aligned) SAE.
    #[serde(default)]
    pub unit_norm: bool,
    /// Whether `b_dec` starts at the mean of the activations, less what a table says of them, and not
    /// at 0 as the authors have it. What all activations have in common is then no latent's task,
    /// and nearly all latents of an SAE stay alive (notebook 13). Only at the start: `b_dec` learns.
    #[serde(default, skip_serializing_if = "is_false")]
    pub centred: bool,
    /// In how many directions, those in which activations vary most, the rows of the decoder start;
    /// `None`, the authors' way, is the whole space. Where activations fill only a part of it, as
    /// attention's outputs do, latents that start outside never fire
    /// ([Wang et al., 2025](https://arxiv.org/abs/2508.16929)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subspace: Option<usize>,
    /// Whether training keeps the inner product of a latent's two rows at 1
    /// ([aligned training](https://arxiv.org/abs/2605.18629)), and rows of the decoder at length 1: a row
    /// of the encoder is that of the decoder and something across it, which learns. Of TopK and
    /// BatchTopK alone.
    #[serde(default, skip_serializing_if = "is_false")]
    pub aligned: bool,
    /// How many times, evenly over the first half of training, latents that have not fired for a
    /// [`dead_window`](crate::train::TrainConfig::dead_window) start anew, from rows that are
    /// reconstructed badly
    /// ([Bricken et al., 2023](https://transformer-circuits.pub/2023/monosemantic-features)). Of
    /// TopK, BatchTopK and ReLU alone.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub resamplings: u32,
    /// A control: the matrix that training leaves as it starts. None by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<Frozen>,
    /// The learning rate of the weights, if not [`TrainConfig::lr`](crate::train::TrainConfig::lr).
    pub lr: Option<f64>,
    /// Seeds the directions of the decoder.
    pub seed: u64,
    /// The token table of a TSAE.
    #[serde(skip)]
    pub lookup: Option<Lookup>,
}

impl SaeConfig {
    /// The authors' settings at a width and vocabulary given in numbers.
    pub fn new(d_model: usize, d_vocab: usize) -> SaeConfig {
        SaeConfig {
            d_model,
            d_vocab,
            expansion: 16,
            latents: None,
            k: 30,
            relu: false,
            architecture: Architecture::TopK,
            target_l0: None,
            prefixes: Vec::new(),
            aux: None,
            unit_norm: false,
            centred: false,
            subspace: None,
            aligned: false,
            resamplings: 0,
            frozen: None,
            lr: None,
            seed: 0,
            lookup: None,
        }
    }

    /// The authors' settings at this model's width and vocabulary.
    pub fn for_model(model: &Model) -> SaeConfig {
        SaeConfig::new(model.config().d_model, model.config().d_vocab)
    }

    /// The same settings with a token table: a TSAE.
    pub fn with_lookup(self, lookup: Lookup) -> SaeConfig {
        SaeConfig { lookup: Some(lookup), ..self }
    }

    /// The same settings with a learning rate of their own.
    pub fn with_lr(self, lr: f64) -> SaeConfig {
        SaeConfig { lr: Some(lr), ..self }
    }

    /// The same settings with another architecture.
    pub fn with_architecture(self, architecture: Architecture) -> SaeConfig {
        SaeConfig { architecture, ..self }
    }

    /// The same settings with this many active latents per token in place of what the penalty alone
    /// leads to.
    pub fn with_target_l0(self, target_l0: f64) -> SaeConfig {
        SaeConfig { target_l0: Some(target_l0), ..self }
    }

    /// The same settings as a Matryoshka SAE, with prefixes of these sizes; all latents are added
    /// as the last if they are not.
    pub fn with_prefixes(mut self, prefixes: &[usize]) -> SaeConfig {
        self.prefixes = prefixes.to_vec();
        if self.prefixes.last().is_some_and(|&last| last < self.d_sae()) {
            self.prefixes.push(self.d_sae());
        }
        self
    }

    /// The same settings with help for dead latents.
    pub fn with_aux(self, aux: AuxK) -> SaeConfig {
        SaeConfig { aux: Some(aux), ..self }
    }

    /// The same settings, with a `b_dec` that starts at the mean of the activations.
    pub fn centred(self) -> SaeConfig {
        SaeConfig { centred: true, ..self }
    }

    /// The same settings, with rows of the decoder that start in so many of the directions in which
    /// activations vary most.
    pub fn in_subspace(self, directions: usize) -> SaeConfig {
        SaeConfig { subspace: Some(directions), ..self }
    }

    /// The same settings, with latents whose two rows keep an inner product of 1.
    pub fn aligned(self) -> SaeConfig {
        SaeConfig { aligned: true, ..self }
    }

    /// The same settings, with dead latents that start anew so many times.
    pub fn with_resamplings(self, resamplings: u32) -> SaeConfig {
        SaeConfig { resamplings, ..self }
    }

    /// The same settings with a matrix that training leaves as it starts.
    pub fn with_frozen(self, frozen: Frozen) -> SaeConfig {
        SaeConfig { frozen: Some(frozen), ..self }
    }

    /// Whether training keeps the rows of the decoder at length 1.
    pub(crate) fn keeps_unit_norm(&self) -> bool {
        self.unit_norm || self.aligned || self.architecture.constrains_decoder()
    }

    /// How many latents there are.
    pub fn d_sae(&self) -> usize {
        self.latents.unwrap_or(self.expansion.saturating_mul(self.d_model))
    }

    /// How many numbers training moves: weights, biases and the table, whole. What only some
    /// architectures have besides, a number or two a latent, is not among them.
    pub fn parameters(&self) -> usize {
        let table = self.lookup.as_ref().map_or(0, |lookup| lookup.table().len());
        self.d_sae() * self.parameters_of_a_latent() + self.d_model + table
    }

    /// A latent's two rows and its bias.
    pub(crate) fn parameters_of_a_latent(&self) -> usize {
        2 * self.d_model + 1
    }

    /// The same settings with this many latents.
    pub fn with_latents(self, d_sae: usize) -> SaeConfig {
        let is_whole = d_sae > 0 && d_sae.is_multiple_of(self.d_model.max(1));
        match is_whole {
            true => SaeConfig { expansion: d_sae / self.d_model.max(1), latents: None, ..self },
            false => SaeConfig { latents: Some(d_sae), ..self },
        }
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first that cannot be used, or [`Error::Shape`] if the table
    /// does not fit.
    pub fn check(&self) -> Result<()> {
        for (field, value) in [
            ("d_model", self.d_model),
            ("d_vocab", self.d_vocab),
            ("expansion", self.expansion),
            ("latents", self.latents.unwrap_or(1)),
            ("k", self.k),
        ] {
            if value == 0 {
                return Err(Error::config(field, format!("{field} = 0; at least 1 is needed")));
            }
        }
        let d_sae = self.d_sae();
        if self.k > d_sae {
            let product = format!(" ({} · {})", self.expansion, self.d_model);
            let product = if self.latents.is_some() { "" } else { &product };
            let why = format!("k = {}, but there are only {d_sae} latents{product}", self.k);
            return Err(Error::config("k", why));
        }
        if d_sae > u32::MAX as usize {
            let why = format!("{d_sae} latents; at most {} can be numbered", u32::MAX);
            return Err(Error::config("expansion", why));
        }
        self.architecture.check()?;
        if let Some(l0) = self.target_l0 {
            let name = self.architecture.name();
            if self.architecture.uses_k() {
                let why = format!("{name} has k, which is its L0: set k to it, and this to None");
                return Err(Error::config("target_l0", why));
            }
            if !(l0 > 0.0 && l0 < d_sae as f64) {
                let why = format!("target_l0 = {l0}; it must lie between 0 and {d_sae} latents");
                return Err(Error::config("target_l0", why));
            }
        }
        let is_ascending = self.prefixes.is_sorted_by(|a, b| a < b);
        if !self.prefixes.is_empty()
            && (!is_ascending || self.prefixes[0] == 0 || self.prefixes.last() != Some(&d_sae))
        {
            let why = format!(
                "prefixes = {:?}; they must ascend from at least 1 to all {d_sae} latents",
                self.prefixes
            );
            return Err(Error::config("prefixes", why));
        }
        let name = self.architecture.name();
        if !self.architecture.uses_k() && self.aux.is_some() {
            let why = format!(
                "AuxK helps TopK and BatchTopK; {name} has a penalty instead: set aux to None"
            );
            return Err(Error::config("aux", why));
        }
        if !self.architecture.uses_k() && !self.prefixes.is_empty() {
            let why = format!("Matryoshka prefixes go with TopK and BatchTopK, not with {name}");
            return Err(Error::config("prefixes", why));
        }
        self.check_help()?;
        if let Some(aux) = self.aux {
            if aux.k == Some(0) {
                return Err(Error::config("aux.k", "aux.k = 0; at least 1 is needed".to_owned()));
            }
            check_rate("aux.alpha", aux.alpha)?;
        }
        if let Some(lr) = self.lr {
            check_rate("lr", lr)?;
        }
        if let Some(lookup) = &self.lookup {
            lookup.check(self)?;
        }
        Ok(())
    }

    /// Checks what keeps latents alive.
    fn check_help(&self) -> Result<()> {
        let (name, d) = (self.architecture.name(), self.d_model);
        if let Some(n) = self.subspace.filter(|n| !(1..=d).contains(n)) {
            let why = format!("subspace = {n}; it must lie between 1 and the width, {d}");
            return Err(Error::config("subspace", why));
        }
        if self.aligned && !self.architecture.uses_k() {
            let why =
                format!("{name} begins with a shorter encoder: TopK and BatchTopK can be aligned");
            return Err(Error::config("aligned", why));
        }
        if self.aligned && self.frozen == Some(Frozen::Encoder) {
            return Err(Error::config(
                "aligned",
                "the encoder is frozen: leave one of the two out",
            ));
        }
        let has_more_than_a_bias =
            matches!(self.architecture, Architecture::Gated { .. } | Architecture::JumpRelu { .. });
        if self.resamplings > 0 && has_more_than_a_bias {
            let why = format!(
                "{name} decides by more than a bias whether a latent fires: TopK, BatchTopK and ReLU can be resampled"
            );
            return Err(Error::config("resamplings", why));
        }
        if self.resamplings > 0 && self.aligned {
            let why = "a latent that starts anew starts with a small row of the encoder, and an aligned one cannot: leave one of the two out";
            return Err(Error::config("resamplings", why));
        }
        if self.resamplings > 0 && self.frozen.is_some() {
            let why = "a frozen matrix stays as it starts: leave one of the two out";
            return Err(Error::config("resamplings", why));
        }
        Ok(())
    }
}

fn is_false(it: &bool) -> bool {
    !it
}

fn is_zero(it: &u32) -> bool {
    *it == 0
}

/// Checks a learning rate or the like.
pub(crate) fn check_rate(field: &'static str, rate: f64) -> Result<()> {
    if rate.is_finite() && rate > 0.0 {
        Ok(())
    } else {
        Err(Error::config(field, format!("{field} = {rate}; it must be above 0")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_that_does_not_go_together_is_refused() {
        let plain = SaeConfig { k: 2, expansion: 2, ..SaeConfig::new(8, 5) };
        let resampled = plain.clone().with_resamplings(1);
        for (config, field) in [
            (plain.clone().in_subspace(0), "subspace"),
            (plain.clone().in_subspace(9), "subspace"),
            (plain.clone().aligned().with_architecture(Architecture::Relu { l1: 1.0 }), "aligned"),
            (plain.clone().aligned().with_frozen(Frozen::Encoder), "aligned"),
            (resampled.clone().with_architecture(Architecture::jump_relu(1.0)), "resamplings"),
            (resampled.clone().with_architecture(Architecture::Gated { l1: 1.0 }), "resamplings"),
            (resampled.clone().aligned(), "resamplings"),
            (resampled.clone().with_frozen(Frozen::Decoder), "resamplings"),
        ] {
            let refused = config.check().unwrap_err();
            assert!(matches!(refused, Error::Config { field: it, .. } if it == field), "{refused}");
        }
        for config in [
            plain.clone().in_subspace(8).aligned().with_frozen(Frozen::Decoder),
            resampled.with_architecture(Architecture::Relu { l1: 1.0 }),
        ] {
            config.check().unwrap();
        }
    }
}
