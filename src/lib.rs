//! Tokenized sparse autoencoders.

pub mod error;
pub mod model;
pub mod tokens;

/// Everything a notebook cell names.
pub mod prelude {
    pub use crate::error::{Error, Result};
    pub use crate::model::{Candidate, Family, HookPoint, MlpActivation, Model, ModelConfig, Paused, Prediction, Processing, Site};
    pub use crate::tokens::Tokens;
}
