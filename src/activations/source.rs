//! Whose activations a store holds.

use serde::{Deserialize, Serialize};

use crate::model::Model;

/// What a store needs to know about whatever computes its activations; for
/// [`ActivationStore::harvest_with`](super::ActivationStore::harvest_with).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The model's name, for people.
    pub name: String,
    /// The commit of its repository on the hub, if it came from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// What tells it from every other: a checksum of its configuration and weights.
    pub fingerprint: String,
    /// What was done to its weights, such as folding layer norms.
    pub processing: String,
    /// Numbers in an activation.
    pub d_model: usize,
    /// Number of token ids.
    pub d_vocab: usize,
    /// How many positions at the start of each sequence training leaves out, if it is not told
    /// otherwise: see [`TrainConfig::skip_first`](crate::train::TrainConfig::skip_first).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skip_first: usize,
}

/// What stores that leave nothing out do not write.
fn is_zero(n: &usize) -> bool {
    *n == 0
}

impl Source {
    /// What a store needs to know about a model of this crate.
    pub fn of(model: &Model) -> Source {
        Source {
            name: model.name().to_owned(),
            revision: model.revision().map(str::to_owned),
            fingerprint: model.fingerprint().to_owned(),
            processing: model.processing().to_string(),
            d_model: model.config().d_model,
            d_vocab: model.config().d_vocab,
            skip_first: model.config().skip_first(),
        }
    }
}
