//! The training step of an SAE on a CPU: sparse forward, sparse backward and Adam, on all cores,
//! with the same bits for any number of threads. Described here for TopK, for which it was made.
//! [`gpu`] does the same on an NVIDIA card, to the same bits; [`Device`] chooses. Several processes
//! share the rows of a batch, or the latents, by [`Ranks`], to the same bits again.
//!
//! # The algorithm
//!
//! Written with dense matrices a step costs six products of `[n, d_model]` by `[d_model, d_sae]`.
//! Only the first is needed, because after it every row has `k` codes that are not zero, and `k` is
//! a few dozen of many thousands; and of the first, only the k largest of every row's results are
//! needed exactly:
//!
//! 1. **Pack** (`screen`): the batch, less its mean, once for all SAEs, and the encoder once a
//!    step, become bytes (or bf16, or stay f32) in the order in which the processor multiplies
//!    them.
//! 2. **Screen**: tiles of scores stay in registers, get a margin that bounds what rounding did to
//!    them, and are compared with their row's threshold. What reaches it joins the row's short list. `[n,
//!    d_sae]` is never stored.
//! 3. **Score again** (`rescore`): the candidates, about 1.2·k a row, in f32, latent by latent; the
//!    k best are the codes. A row whose list overflows is scored in full, and counted.
//! 4. **Decode** (`rows`): `x̂ = b_dec + Σ code·W_dec[latent] + W_lookup[token]`, the residual `r =
//!    x̂ − x`, and the gradient of each code, `(2/n)·r·W_dec[latent]`, again latent by latent over
//!    some hundred rows, so that a row of `W_dec` is read once for all of them.
//! 5. **Transpose** (`csr`): the codes of the whole batch, listed by latent instead of by
//!    row, by a counting sort.
//! 6. **By latent** (`latents`): one thread forms the gradient of a latent's two rows, `Σ
//!    code·(2/n)·r` and `Σ gradient·(x − b_dec)`, in registers, strip by strip (`tiled`), and
//!    applies Adam to them at once. No gradient matrix exists, and no two threads write the same
//!    row, so there is nothing to lock and nothing whose order could vary.
//! 7. **The table** (`table`): rows grouped by token; Adam moves every row of the table, as
//!    PyTorch's does, since momentum moves a row whose token does not occur: at once, or, with the
//!    same bits, when the row is next looked at (`deferred`).
//!
//! Reductions over rows (the loss, the gradient of `b_dec`) are summed in blocks of fixed size and
//! then in order. So the same seed gives the same bits on any number of threads, with any screen,
//! on any processor.
//!
//! Per token, with d = `d_model`, L = `d_sae`: 2·d·L operations for the encoder, most of them on
//! bytes, and 8·k·d for everything else, against 12·d·L.
//!
//! # Other architectures
//!
//! What is not TopK takes all latents above a threshold (`activate`); the screens rule out the rest in
//! the same way. From the codes on all go one way: decoded block by block, prefix by prefix in a
//! Matryoshka SAE (`reconstruct`), then 5 to 7. Plain TopK does 1 to 4 in one pass while rows are
//! in cache (`fused`), or latent by latent's owner (`chain`). AuxK (`revive`) is a second list of codes with an error of its own, whose
//! gradients join the first's in 6. A table that is subtracted before the encoder receives what
//! comes back through it.
//!
//! The oracles: `tests/step.rs` holds the step to candle's autograd and AdamW(weight_decay 0) on
//! the dense form, `tests/exact.rs` the codes of every screen to a dense f32 top k;
//! `tests/architectures` holds every architecture, with every kind of table, to autograd;
//! `tests/gpu` the step on a GPU to this one, `tests/ranks.rs` that of several ranks.

pub(crate) mod adam;
mod apply;
mod batch;
mod choose;
pub(crate) mod cpu;
pub(crate) mod deferred;
pub mod gpu;
mod ranks;
mod state;

use std::sync::Arc;

use crate::base::error::{Error, Result};
use cpu::Cpu;

pub use crate::device::Device;
pub use adam::{Moments, Rates};
pub use batch::{Backend, PreparedBatch, Sent};
pub use choose::card;
pub(crate) use choose::{Chosen, choose, processor};
pub(crate) use cpu::rows::without_table;
pub use cpu::screen::{Exactness, Screen};
pub use cpu::stages::{Stage, Stages};
pub use cpu::step::{Scratch, StepReport};
#[cfg(feature = "mpi")]
pub use ranks::World;
pub use ranks::{
    Collective, Exchange, HANDED_ON, Ranks, bytes_of_chain, bytes_of_step, in_threads,
    largest_share,
};
pub use state::{AdamState, Objective};

/// The fastest backend of this processor.
pub fn fastest() -> Arc<dyn Backend> {
    Arc::new(Cpu::fastest(Exactness::default()))
}

/// The backend called `name`: `int8`, `bf16`, `f32` or `portable`, with [`Exactness::Proven`] if
/// `-proven` follows, as in `int8-proven` (in f32 both margins are the same).
///
/// # Errors
/// [`Error::Config`] if there is none of that name, or this processor cannot run it.
pub fn by_name(name: &str) -> Result<Arc<dyn Backend>> {
    let (plain, exactness) = match name.strip_suffix("-proven") {
        Some(plain) => (plain, Exactness::Proven),
        None => (name, Exactness::Statistical),
    };
    let why = || {
        format!(
            "there is no backend called \"{name}\": use int8, bf16, f32, portable, int8-proven or bf16-proven"
        )
    };
    let screen = Screen::ALL
        .into_iter()
        .find(|screen| screen.name() == plain)
        .ok_or_else(|| Error::config("backend", why()))?;
    Ok(Arc::new(Cpu::new(screen, exactness)?))
}
