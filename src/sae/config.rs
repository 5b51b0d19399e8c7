//! The settings of one SAE.

use serde::{Deserialize, Serialize};

use super::Lookup;
use crate::error::{Error, Result};
use crate::model::Model;

/// The settings of one SAE. The defaults are the authors' (expansion 16, k 30, values kept as TopK gives them).
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
    /// How many latents are active on every token.
    pub k: usize,
    /// Whether negative values among the k largest become 0, as in SAELens. The authors keep them.
    pub relu: bool,
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
        SaeConfig { d_model, d_vocab, expansion: 16, k: 30, relu: false, lr: None, seed: 0, lookup: None }
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

    /// How many latents there are.
    pub fn d_sae(&self) -> usize {
        self.expansion * self.d_model
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first that cannot be used, or [`Error::Shape`] if the table does not fit.
    pub fn check(&self) -> Result<()> {
        let at_least_1 = |field, value: usize| match value {
            0 => Err(Error::config(field, format!("{field} = 0; at least 1 is needed"))),
            _ => Ok(()),
        };
        at_least_1("d_model", self.d_model)?;
        at_least_1("d_vocab", self.d_vocab)?;
        at_least_1("expansion", self.expansion)?;
        at_least_1("k", self.k)?;
        let d_sae = self.d_sae();
        if self.k > d_sae {
            return Err(Error::config(
                "k",
                format!("k = {}, but there are only {d_sae} latents ({} · {})", self.k, self.expansion, self.d_model),
            ));
        }
        if d_sae > u32::MAX as usize {
            return Err(Error::config("expansion", format!("{d_sae} latents; at most {} can be numbered", u32::MAX)));
        }
        if let Some(lr) = self.lr {
            crate::train::check_rate("lr", lr)?;
        }
        if let Some(lookup) = &self.lookup {
            let got = vec![lookup.d_vocab(), lookup.d_model()];
            if got != [self.d_vocab, self.d_model] {
                return Err(Error::Shape { what: "lookup table".to_owned(), want: vec![self.d_vocab, self.d_model], got });
            }
        }
        Ok(())
    }
}
