//! Language models.

mod hook;

pub use hook::{HookPoint, Site};
