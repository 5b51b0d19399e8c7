//! What the latents of an SAE have learned: [`features`], one by one; [`tokenness`], how many of
//! them only say which token this is.

pub mod features;
mod source;
pub mod tokenness;

pub use source::ActivationSource;
