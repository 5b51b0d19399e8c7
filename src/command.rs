//! The command's larger verbs, a file each.

mod convert;
mod features;
mod sweep;

pub use convert::Convert;
pub use features::Features;
pub use sweep::{Results, Sweep};
