//! Tokenized sparse autoencoders.

pub mod activations;
pub mod corpus;
pub mod display;
pub mod error;
pub(crate) mod files;
pub mod model;
pub mod plot;
pub mod tokens;

/// Everything a notebook cell names.
pub mod prelude {
    pub use crate::activations::{ActivationStore, Batch, Dtype, HarvestConfig, Shuffle};
    pub use crate::corpus::{Corpus, TextCorpus};
    pub use crate::display::{Best, Cell, Column, Figure, Progress, Row, Table};
    pub use crate::error::{Error, Result};
    pub use crate::model::{HookPoint, Site};
    pub use crate::plot;
    pub use crate::tokens::Tokens;
}
