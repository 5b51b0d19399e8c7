//! The command's larger verbs, a file each.

mod features;
mod sweep;

pub use features::Features;
pub use sweep::{Results, Sweep};
