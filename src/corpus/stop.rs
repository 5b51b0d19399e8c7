//! Stopping by hand.

use crate::base::error::Error;

/// Whether to stop.
pub type Stop<'a> = &'a dyn Fn() -> bool;

/// What is reported of a stop by hand.
pub fn stopped() -> Error {
    Error::Interrupted {
        what: "tokenising",
        remedy: "nothing is kept; the same call starts again".into(),
    }
}
