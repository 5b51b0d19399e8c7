//! Tokenized sparse autoencoders.

pub mod activations;
pub(crate) mod arrays;
pub mod compare;
pub mod corpus;
pub mod display;
pub mod error;
pub mod eval;
pub(crate) mod files;
pub mod kernel;
pub mod lab;
pub mod model;
pub mod plot;
pub mod sae;
pub mod tokens;
pub mod train;

pub use error::{Error, Result};

/// Everything a notebook cell names.
pub mod prelude {
    pub use crate::activations::{ActivationStore, Batch, Dtype, HarvestConfig, Shuffle};
    pub use crate::compare::{CompareConfig, Report, Text, compare};
    pub use crate::corpus::{Corpus, TextCorpus};
    pub use crate::display::{Best, Cell, Column, Figure, Progress, Row, Table};
    pub use crate::error::{Error, Result};
    pub use crate::eval::{Evaluation, Evaluations, HeldOut, Metrics};
    pub use crate::model::{Candidate, Family, HookPoint, MlpActivation, Model, ModelConfig, Paused, Prediction, Processing, Site};
    pub use crate::sae::{Codes, Lookup, Origin, Sae, SaeConfig};
    pub use crate::plot;
    pub use crate::tokens::Tokens;
    pub use crate::train::{History, HeldOutPoint, Run, Runs, Speedup, TrainConfig, TrainPoint, Trainer, evaluate, speedup};
}
