//! Rows whose features are known, and how much of them an SAE has found.
//!
//! On a language model nobody knows the true features. A [`SyntheticModel`] has some: directions that
//! fire by known laws, the same as in **SynthSAEBench** ([Chanin and Garriga-Alonso,
//! 2026](https://arxiv.org/abs/2602.14687)), which SAELens brings as `sae_lens.synthetic`:
//!
//! ```text
//! x = Σ aⱼ dⱼ + b        aⱼ ~ N(mⱼ, sⱼ²), at least 0, where feature j fires, else 0
//! ```
//!
//! Firing probabilities fall off by Zipf's law; some features fire together; others form trees, in
//! which a child fires only where its parent does, and never beside a sibling.
//!
//! Here a row may also have a **token**, and features that fire [by it](Kind): so one can tell what a
//! token table takes away from a TSAE's latents, of what it should and of what it should not.
//!
//! A row is made from its number, whenever it is wanted: a stream of any length takes no space, and a
//! training can go on at any step.

mod assignment;
mod config;
mod directions;
mod draws;
mod file;
mod forest;
mod free;
mod matching;
mod means;
mod model;
mod normal;
mod rows;
mod scores;
mod show;
mod ties;

pub use config::{Correlation, Firing, Orthogonalize, SyntheticConfig, Tokens, Trees};
pub use model::SyntheticModel;
pub use rows::SyntheticBatch;
pub use scores::{KindScores, Scores};
pub use ties::Kind;
