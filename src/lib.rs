//! Tokenized sparse autoencoders.

pub mod display;
pub mod error;
pub(crate) mod files;
pub mod lab;
pub mod model;
pub mod tokens;

/// Everything a notebook cell names.
pub mod prelude {
    pub use crate::display::{Best, Cell, Column, Figure, Progress, Row, Table};
    pub use crate::error::{Error, Result};
    pub use crate::model::{HookPoint, Site};
    pub use crate::tokens::Tokens;
}
