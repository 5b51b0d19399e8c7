//! What can go wrong in the set-up and in notebooks, beside the library's own errors.

use std::fmt;
use std::path::{Path, PathBuf};

/// The result of every fallible call in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, where, and what to do about it.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The library's.
    #[error(transparent)]
    Library(#[from] tokenized_sae::Error),
    /// A step of the set-up of Jupyter or the kernel failed.
    #[error("set-up: {step} failed: {why}")]
    Setup {
        /// The step.
        step: String,
        /// What happened and what to do.
        why: String,
    },
    /// A parameter of a notebook cannot be set as asked.
    #[error("{}: parameter {name}: {why}", .notebook.display())]
    Parameter {
        /// The notebook.
        notebook: PathBuf,
        /// The parameter's name as given.
        name: String,
        /// What is wrong with it, and what exists or is allowed.
        why: String,
    },
    /// A cell of a notebook failed.
    #[error("{}: cell {cell} failed: {message}\n--- the cell ---\n{source_text}", .notebook.display())]
    Cell {
        /// The notebook.
        notebook: PathBuf,
        /// The cell's number, counted over code cells from 1.
        cell: usize,
        /// What it said.
        message: String,
        /// The cell's source.
        source_text: String,
    },
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error {
    /// Wraps an i/o error with the operation and the path it was about; for `map_err`.
    pub fn io(doing: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Error {
        let wrap = tokenized_sae::Error::io(doing, path);
        |source| wrap(source).into()
    }

    /// Wraps a JSON error with what was being read or written; for `map_err`.
    pub fn json(what: impl fmt::Display) -> impl FnOnce(serde_json::Error) -> Error {
        let wrap = tokenized_sae::Error::json(what);
        |source| wrap(source).into()
    }

    /// A file is not what it claims to be.
    pub fn format(path: impl AsRef<Path>, why: impl Into<String>) -> Error {
        tokenized_sae::Error::format(path, why).into()
    }

    /// A setting cannot be used.
    pub fn config(field: &'static str, why: impl Into<String>) -> Error {
        tokenized_sae::Error::config(field, why).into()
    }
}
