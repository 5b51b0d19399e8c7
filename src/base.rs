//! What every other room stands on: errors, files, the numbers of a forecast, how numbers are
//! written, and in whose words it is said what to do.

pub mod error;
pub mod files;
pub mod forecast;
pub mod format;
pub mod words;
