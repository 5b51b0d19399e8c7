//! What every other room stands on: errors, files, the numbers of a forecast, shares of work, and how
//! numbers are written.

pub mod error;
pub mod files;
pub mod forecast;
pub mod format;
pub(crate) mod number;
pub mod share;
