//! The command's larger verbs, a file each.

mod features;

pub use features::Features;
