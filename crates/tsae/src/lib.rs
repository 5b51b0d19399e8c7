//! What the command `tsae` does beyond the library `tokenized_sae`: it sets Jupyter up and runs
//! notebooks ([`lab`]), and measures ([`mod@bench`]).

#![deny(clippy::unwrap_used)]

pub mod bench;
pub mod error;
pub mod lab;

pub use error::{Error, Result};
