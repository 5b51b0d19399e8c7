//! Tokenized sparse autoencoders.

pub mod activations;
pub mod corpus;
pub mod display;
pub mod error;
pub(crate) mod files;
pub mod model;
pub mod tokens;

/// Everything a notebook cell names.
pub mod prelude {
    pub use crate::activations::{ActivationStore, Batch, Dtype, HarvestConfig, Shuffle};
    pub use crate::corpus::{Corpus, TextCorpus};
    pub use crate::display::{Best, Cell, Column, Figure, Progress, Row, Table};
    pub use crate::error::{Error, Result};
    pub use crate::model::{Candidate, Family, HookPoint, MlpActivation, Model, ModelConfig, Paused, Prediction, Processing, Site};
    pub use crate::tokens::Tokens;
}
