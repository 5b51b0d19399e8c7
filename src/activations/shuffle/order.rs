//! In which order a training reads a store.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Result};

/// In which order a training visits the rows of a store; the seed decides which of them it is.
///
/// ```
/// use tokenized_sae::prelude::*;
/// use tokenized_sae::activations::RowOrder;
/// let order = RowOrder::Blocks { rows: 4096, mixed: 64 };
/// let config = TrainConfig { order, ..Default::default() };
/// assert!(config.check().is_ok());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowOrder {
    /// Any row after any other, so that every batch is a fair sample of the whole store. Rows are
    /// read one by one, which is slow if the store lies on a disk that is slow to seek and does not
    /// fit into memory.
    #[default]
    Rows,
    /// Blocks of rows that lie side by side, in random order; the rows of so many blocks that
    /// follow each other in that order are mixed. A block is read in one go, while the rows before
    /// it are trained on: the system's memory has to hold `2 · mixed · rows` rows.
    Blocks {
        /// Rows in a block; at least 1. A few thousand make a read of some megabytes.
        rows: usize,
        /// Blocks that are mixed; at least 1. A batch has rows of at most twice as many.
        mixed: usize,
    },
}

impl RowOrder {
    /// Whether it is the default, which no file says.
    pub(crate) fn is_rows(&self) -> bool {
        *self == RowOrder::Rows
    }

    /// Checks that there is something in a block and something to mix.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub(crate) fn check(&self) -> Result<()> {
        match *self {
            RowOrder::Blocks { rows, mixed } if rows == 0 || mixed == 0 => {
                let why = format!("is {self}; a block has at least 1 row, and at least 1 is mixed");
                Err(Error::config("order", why))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for RowOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RowOrder::Rows => f.write_str("rows"),
            RowOrder::Blocks { rows, mixed } => {
                write!(f, "blocks of {rows} rows, {mixed} mixed")
            }
        }
    }
}
