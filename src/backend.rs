//! The training step of an SAE on a CPU: sparse forward, sparse backward and Adam, on all cores,
//! with the same bits for any number of threads. It is told here for TopK, for which it was made.
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
//!    them, and are compared with their row's bar. What reaches it joins the row's short list. `[n,
//!    d_sae]` is never stored.
//! 3. **Score again** (`rescore`): the candidates, about 1.2·k a row, in f32, latent by latent; the
//!    k best are the codes. A row whose list overflows is scored in full, and counted.
//! 4. **Decode** (`rows`): `x̂ = b_dec + Σ code·W_dec[latent] + W_lookup[token]`, the residual `r =
//!    x̂ − x`, and the gradient of each code, `(2/n)·r·W_dec[latent]`, again latent by latent over
//!    some hundred rows, so that a row of `W_dec` is read once for all of them.
//! 5. **Transpose** (`transpose`): the codes of the whole batch, listed by latent instead of by
//!    row, by a counting sort.
//! 6. **By latent** (`latents`): one thread forms the gradient of a latent's two rows, `Σ
//!    code·(2/n)·r` and `Σ gradient·(x − b_dec)`, in registers, strip by strip (`tiled`), and
//!    applies Adam to them at once. No gradient matrix exists, and no two threads write the same
//!    row, so there is nothing to lock and nothing whose order could vary.
//! 7. **The table** (`table`): rows grouped by token; Adam moves every row of the table, as
//!    PyTorch's does, since momentum moves a row whose token does not occur: at once, or, with the
//!    same bits, when the row is next looked at (`lazy`).
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
//! What is not TopK takes all latents above a bar (`activate`); the screens rule out the rest in
//! the same way. From the codes on all go one way: decoded block by block, prefix by prefix in a
//! Matryoshka SAE (`reconstruct`), then 5 to 7. Plain TopK does 1 to 4 in one pass while rows are
//! in cache (`fused`). AuxK (`revive`) is a second list of codes with an error of its own, whose
//! gradients join the first's in 6. A table that is subtracted before the encoder receives what
//! comes back through it.
//!
//! The oracles: `tests/step.rs` holds the step to candle's autograd and AdamW(weight_decay 0) on
//! the dense form, `tests/exact.rs` the codes of every kernel to a dense f32 top k;
//! `tests/architectures` holds every architecture, with every kind of table, to autograd.

mod activate;
pub mod adam;
mod candle;
mod cpu;
mod encode;
mod fused;
mod latents;
mod lazy;
mod pool;
mod reconstruct;
mod rescore;
mod revive;
pub(crate) mod rows;
mod screen;
mod show;
mod stages;
mod step;
mod table;
mod tiled;
mod topk;
mod transpose;

use std::fmt::Debug;
use std::sync::Arc;

use candle_core::Device;

pub use adam::{AdamState, Objective, Rates};
pub use candle::Candle;
pub use cpu::Cpu;
pub use rows::decode;
pub use screen::{Exactness, Screen};
pub use stages::{Stage, Stages};
pub use step::{Scratch, StepReport};

use crate::base::error::{Error, Result};
use crate::sae::{Codes, Keys, RowNorm, Sae};
use screen::PackedRows;

/// A batch, made ready for a kernel once and then given to every SAE that trains on it.
pub struct Prepared<'a> {
    x: &'a [f32],
    keys: Keys<'a>,
    d_model: usize,
    packed: Option<Arc<PackedRows>>,
}

/// A way to compute the training step. All give the same codes, and the same parameters within
/// rounding.
pub trait Kernel: Debug + Send + Sync {
    /// How it is called, as [`by_name`] takes it.
    fn name(&self) -> String;

    /// Makes a batch of rows `x` `[n, d_model]` and their `tokens` `[n]` ready.
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` is not a row of `d_model` numbers for every token.
    fn prepare<'a>(&self, x: &'a [f32], tokens: &'a [u32], d_model: usize) -> Result<Prepared<'a>>;

    /// The codes of the rows `x` `[n, d_model]`, in the scale that the SAE reads, from which a
    /// table that is subtracted has been taken.
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` is not whole rows of the SAE's `d_model`. [`Error::NotFinite`]
    /// naming the first row that has fewer than k pre-activations that are numbers.
    fn encode(&self, sae: &Sae, x: &[f32]) -> Result<Codes>;

    /// Moves an SAE one Adam step down the gradient of its loss on a batch that this kernel has
    /// prepared.
    ///
    /// With a state that is [`lazy`](AdamState::lazy), the rows of the table whose tokens do not
    /// occur stay behind.
    ///
    /// # Errors
    /// [`Error::NotFinite`] if the batch or the loss holds NaN or an infinity; the parameters have
    /// then not moved. [`Error::Shape`] or [`Error::TokenId`] if the tokens do not fit,
    /// [`Error::Config`] if the SAE [scales rows](Sae::row_norm).
    fn train_step(
        &self,
        sae: &mut Sae,
        state: &mut AdamState,
        batch: &Prepared<'_>,
        rates: &Rates,
        scratch: &mut Scratch,
    ) -> Result<StepReport>;
}

impl<'a> Prepared<'a> {
    /// The same rows, with keys for a table that is not indexed by token.
    ///
    /// # Errors
    /// [`Error::Shape`] if they are not for as many rows.
    pub fn with_keys<'b>(&'b self, keys: &'b Keys<'_>) -> Result<Prepared<'b>> {
        if keys.n() != self.keys.n() {
            return Err(Error::Shape {
                what: "keys of a batch".to_owned(),
                want: vec![self.keys.n()],
                got: vec![keys.n()],
            });
        }
        Ok(Prepared {
            x: self.x,
            keys: keys.into(),
            d_model: self.d_model,
            packed: self.packed.clone(),
        })
    }

    fn new(x: &'a [f32], tokens: &'a [u32], d_model: usize) -> Result<Prepared<'a>> {
        if d_model == 0 || x.len() != tokens.len() * d_model {
            return Err(Error::Shape {
                what: "a batch of activations".to_owned(),
                want: vec![tokens.len(), d_model],
                got: vec![x.len()],
            });
        }
        Ok(Prepared { x, keys: tokens.into(), d_model, packed: None })
    }

    /// Whether an SAE can train on the batch.
    fn check(&self, sae: &Sae) -> Result<()> {
        if sae.d_model() != self.d_model {
            return Err(Error::Shape {
                what: "the SAE's d_model".to_owned(),
                want: vec![self.d_model],
                got: vec![sae.d_model()],
            });
        }
        if sae.row_norm != RowNorm::None {
            let why = format!(
                "this SAE scales each row of activations by itself ({:?}), and is read, not trained",
                sae.row_norm
            );
            return Err(Error::config("row_norm", why));
        }
        sae.check_keys(&self.keys, self.keys.n())
    }
}

/// The fastest kernel of this processor.
pub fn fastest() -> Arc<dyn Kernel> {
    Arc::new(Cpu::fastest(Exactness::default()))
}

/// The kernel for a candle device: on the CPU the [`fastest`], on any other [`Candle`].
pub fn for_device(device: &Device) -> Arc<dyn Kernel> {
    if device.is_cpu() { fastest() } else { Arc::new(Candle::new(device.clone())) }
}

/// The kernel called `name`: `int8`, `bf16`, `f32` or `portable`, with [`Exactness::Proven`] if
/// `-proven` follows, as in `int8-proven` (in f32 both margins are the same); or `candle`, the
/// dense step, on the CPU.
///
/// # Errors
/// [`Error::Config`] if there is none of that name, or this processor cannot run it.
pub fn by_name(name: &str) -> Result<Arc<dyn Kernel>> {
    if name == "candle" {
        return Ok(Arc::new(Candle::new(Device::Cpu)));
    }
    let (plain, exactness) = match name.strip_suffix("-proven") {
        Some(plain) => (plain, Exactness::Proven),
        None => (name, Exactness::Statistical),
    };
    let why = || {
        format!(
            "there is none called \"{name}\": take int8, bf16, f32, portable, int8-proven, bf16-proven or candle"
        )
    };
    let screen = Screen::ALL
        .into_iter()
        .find(|screen| screen.name() == plain)
        .ok_or_else(|| Error::config("kernel", why()))?;
    Ok(Arc::new(Cpu::new(screen, exactness)?))
}
