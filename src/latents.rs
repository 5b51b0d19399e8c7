//! What the latents of an SAE have learned: [`features`], one by one; [`tokenness`], how many of
//! them only say which token this is; [`probe`], whether there are any for what is asked about;
//! [`absorption`], whether those are silent where others took their place.

pub mod absorption;
pub mod features;
pub mod probe;
mod source;
pub mod tokenness;

pub use source::ActivationSource;
