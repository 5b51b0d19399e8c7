//! Tokenized sparse autoencoders: load GPT-2 and Pythia, cache their activations, train sparse
//! autoencoders with and without a table indexed by the current token, evaluate them on held-out
//! text, and draw the result, cell by cell in a Rust notebook.
//!
//! # The maths
//!
//! ```text
//! pre   = W_enc (x − b_dec) + b_enc                 [n, d_sae]
//! codes = TopK(pre)                                 the k largest of each row, kept as they are (or clamped at 0 with `relu`)
//! x̂     = codes · W_dec + b_dec + W_lookup[token]   [n, d_model]     the last term only in a TSAE
//! loss  = mean over rows of ‖x̂ − x‖²                the sum over d_model
//!
//! Adam (0.9, 0.999), lr 1e-4, lookup lr 1e-2, both on a cosine to 3e-5
//! W_dec: random unit rows;  W_enc = (1 − α)·W_dec;  W_lookup = α·T;  T[t] = the hook at position 1 of [BOS, t];  α = 0.5, or 0 without a table
//! ```
//!
//! [`Architecture`](sae::Architecture) lists what can replace TopK,
//! [`Lookup`](sae::Lookup) what can replace the token's row.
//!
//! # The tour
//!
//! ```no_run
//! use tokenized_sae::prelude::*;
//!
//! let model = Model::load("tiny-gpt2")?; // built in; or "gpt2", "EleutherAI/pythia-70m", a folder
//! let hook: HookPoint = "blocks.2.hook_resid_pre".parse()?;
//! let corpus = Corpus::sampled_in(&model, 500_000, 0, "cache")?; // or Corpus::text_files(&model, "books/*.txt")?.split(0.02)?
//! let acts = ActivationStore::harvest(&model, &[hook], &corpus.train, "cache/tiny-gpt2", HarvestConfig::default())?;
//! let sae = SaeConfig { k: 16, ..SaeConfig::for_model(&model) };
//! let runs = Trainer::new(&acts, hook, TrainConfig { lr: 3e-3, ..Default::default() })?
//!     .held_out(&model, &corpus.valid)?
//!     .add("SAE", sae.clone())?
//!     .add("TSAE", sae.with_lookup(Lookup::unigram(&model, hook)?))?
//!     .fit("runs/quickstart")?;
//! plot::reconstruction(&runs)?.save("reconstruction.svg")?;
//! println!("{}", evaluate(&model, hook, &runs, &corpus.valid)?.table().text());
//! println!("{}", speedup(&runs)?.text());
//! # Ok::<(), Error>(())
//! ```
//!
//! # Hook points
//!
//! TransformerLens' names, `blocks.{layer}.{site}`, each a `[n_seq, n_ctx, d_model]` activation:
//!
//! | site | what it is |
//! | --- | --- |
//! | `hook_resid_pre` | the residual stream as it enters the block; the paper's hook |
//! | `hook_attn_out` | what attention adds |
//! | `hook_resid_mid` | the residual stream between attention and MLP (GPT-2 only) |
//! | `hook_mlp_out` | what the MLP adds |
//! | `hook_resid_post` | the residual stream as it leaves the block |
//!
//! # The rooms
//!
//! [`model`] and [`corpus`] → [`activations`] → [`train`] (of [`sae`]s) → [`eval`], [`latents`],
//! drawn by [`plot`] and shown by [`display`]; [`experiments`] does it all in one call, or a whole
//! grid of it; [`hub`] fetches models. ARCHITECTURE.md in the repository has the whole picture.

#![deny(clippy::unwrap_used)]

pub mod activations;
#[doc(hidden)]
pub mod backend;
mod base;
pub mod corpus;
mod cpu;
mod device;
pub mod display;
pub mod eval;
pub mod experiments;
mod formats;
pub mod hub;
pub mod latents;
pub mod model;
pub mod sae;
pub mod synthetic;
pub mod train;

pub use base::error::{Error, Result};
pub use base::share::Share;
pub use base::{error, forecast, format};

/// The figures of this field, and the charts they are built from.
pub mod plot {
    pub use crate::display::chart::*;
    pub use crate::latents::tokenness::figures::{
        ngram_r2, token_latents_by_frequency, top_token_shares,
    };
    pub use crate::train::figures::{courses, lookup_norms, reconstruction, training};
}

/// What the project's own command and benchmarks need internally. It may change at any time.
#[doc(hidden)]
pub mod internal {
    pub use crate::base::files;
    pub use crate::cpu::matmul::Precision;
    pub use crate::cpu::memory;
    pub use crate::cpu::simd::add_scaled;
    pub use crate::cpu::simd::peak::{
        multiply_and_add, multiply_and_add_bf16, multiply_and_add_int8,
    };
    pub use crate::model::block::Times;
    pub use crate::model::gpu::OnDevice;
}

/// What notebooks name most; everything else is found by its module.
pub mod prelude {
    pub use crate::activations::{ActivationStore, HarvestConfig};
    pub use crate::base::error::{Error, Result};
    pub use crate::corpus::{Corpus, Documents};
    pub use crate::eval::Measure;
    pub use crate::experiments::controls::{Control, ControlResults, Controls};
    pub use crate::experiments::paper;
    pub use crate::experiments::sweep::{Arm, Sweep, SweepResults};
    pub use crate::latents::absorption::{Absorptions, absorption};
    pub use crate::latents::features::{FeatureDashboard, Features, FeaturesConfig};
    pub use crate::latents::probe::{Probes, Task, probe};
    pub use crate::latents::tokenness::{
        NgramR2s, TokenOrContext, TokenTest, TokennessConfig, Weighting, ngram_r2, ngram_r2_of_all,
        token_or_context, token_or_context_with,
    };
    pub use crate::model::tokens::Tokens;
    pub use crate::model::{Compute, HookPoint, Model, Processing};
    pub use crate::plot;
    pub use crate::sae::{
        Architecture, AuxK, Codes, Frozen, Lookup, Ngrams, Sae, SaeConfig, SaeFormat, TableExport,
    };
    pub use crate::train::{Device, Run, Runs, TrainConfig, Trainer, Training, evaluate, speedup};
}
