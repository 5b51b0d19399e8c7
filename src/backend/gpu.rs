//! The step on a GPU, with the bits of the CPU.
//!
//! The algorithm is that of the CPU (see [`backend`](super)), and so is the order of every sum that
//! decides a bit: a score, an error, a gradient is formed lane by lane, latent by latent, row by
//! row, block by block as there, and where the CPU multiplies and adds in two roundings, so does
//! the GPU. So a run may begin on one and go on on the other, and nothing that is written says
//! where it was made. What differs is what decides no bit: how latents are screened, how lists are
//! kept, how codes are sorted.
//!
//! # The kernels
//!
//! | file | what it does |
//! | --- | --- |
//! | `pack.cu` | batch and encoder to bytes, with the bounds of their rounding |
//! | `screen.cu` | the product in bytes, which ends in lists of candidates |
//! | `codes.cu` | exact scores of the candidates, the k best; rows that no list could decide |
//! | `decode.cu` | residuals, gradients of the codes, sums over rows |
//! | `order.cu` | codes by latent |
//! | `latents.cu` | gradients by latent with Adam; the biases |
//! | `table.cu` | the table: steps owed, and steps made; what is left when it is subtracted |
//!
//! They lie in the room of the devices, where `device.cuh` holds what they share;
//! each begins with an essay on its memory traffic.
//!
//! # Where things are
//!
//! Parameters and moments stay on the device (`resident`) and are fetched when somebody looks at
//! them ([`Backend::settle`]). A step is some thirty kernels in a row (`step`) of which none waits
//! for the host: whether the loss is finite is decided on the device, and what must not move then
//! does not.
//!
//! # What travels when
//!
//! | what | how much of it, at 4,096 × 768 and k 30 | when |
//! | --- | --- | --- |
//! | rows, `[n, d]`, once for all SAEs ([`Backend::send`]) | 12.6 MB | beside the kernels of the step before |
//! | an empty report, tokens, which rows of the table occur, the steps they owe | 0.1 MB | in the order of the kernels |
//! | back: the report, `[n, k]` latents and values | 1 MB | when all kernels are done, which the host waits for, once |
//!
//! All of it goes by memory of the host that a card reads and writes by itself, so that no copy keeps
//! the host from launching the next kernel. There are two batches on the device: rows arrive in one
//! while a step reads the other. They are packed when the first SAE begins its step on them, after a
//! [`Driver::join`]. Whoever trains reads the next rows while this step runs (`train/ahead.rs`).
//!
//! A step is no CUDA graph. That would save the host some microseconds a launch, which hardly show:
//! no launch waits, so that the host is ahead of the card from the first kernels of a step to its end.
//! And a graph holds the arguments of its kernels, of which Adam's numbers, how many rows there are
//! and how many tokens occur are others at each step, so that it would have to be changed each time.
//!
//! All of it is written against [`Driver`]; the tests run the very same kernels on the CPU. A card is
//! not taken at its word: before it trains, it has to [`prove`] that it gives the processor's bits.

mod batch;
mod encode;
mod learned;
mod proof;
mod resident;
mod sizes;
mod step;
mod table;
mod work;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use batch::Batch;
pub use proof::prove;
use resident::Resident;
use sizes::Sizes;
pub(super) use sizes::{bytes, check};

use super::adam::Rates;
use super::batch::{Backend, PreparedBatch, Sent};
use super::cpu::screen::Exactness;
use super::cpu::step::{Scratch, StepReport, overflowed};
use super::fastest;
use super::state::AdamState;
use crate::base::error::{Error, Result};
pub use crate::device::{Argument, Driver, Shape, Timed};
use crate::sae::{Architecture, Codes, Index, Sae, SaeConfig};

/// Rows in a block, the unit in which rows are summed; latents in a chunk, likewise.
const BLOCK: usize = super::cpu::encoder::BLOCK;
const CHUNK: usize = super::cpu::latents::CHUNK;

/// Rows and latents of a tile of the screen.
const TILE: usize = 128;

/// Coordinates that leave the 8-bit product at most.
const OUTLIERS: usize = 32;

/// Rows that are scored in full side by side.
const IN_FULL: usize = 64;

/// Latents that a block of `order_codes` takes.
const WARPS_IN_ORDER: usize = 4;

/// Bytes of a packed row of `d` numbers: whole pieces of the screen.
fn width(d: usize) -> usize {
    d.next_multiple_of(64)
}

/// What a step reports: the kernels' struct of the same name, eight words.
struct Report {
    squared_error: f64,
    nmse: f64,
    in_full: u32,
    bad_row: u32,
    stop: bool,
}

impl Report {
    /// Before a step.
    const EMPTY: [u32; 8] = [0, 0, 0, 0, 0, u32::MAX, 0, 0];

    fn of([e0, e1, n0, n1, in_full, bad_row, stop, _unscreenable]: [u32; 8]) -> Report {
        let wide = |low: u32, high: u32| f64::from_bits(u64::from(high) << 32 | u64::from(low));
        let (squared_error, nmse) = (wide(e0, e1), wide(n0, n1));
        Report { squared_error, nmse, in_full, bad_row, stop: stop != 0 }
    }
}

/// The step on a device.
pub struct Gpu {
    device: Arc<dyn Driver>,
    exactness: Exactness,
    /// The batches before, whose buffers serve again when nobody trains on them any more: two, where
    /// one is sent while a step reads the other.
    batches: Mutex<Vec<Arc<Batch>>>,
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gpu({:?}, {:?})", self.device, self.exactness)
    }
}

impl Gpu {
    /// On a device, screened as said.
    pub fn new(device: Arc<dyn Driver>, exactness: Exactness) -> Gpu {
        Gpu { device, exactness, batches: Mutex::default() }
    }

    /// What of an SAE the step on a GPU cannot do, in the middle of a sentence; `None` if it can
    /// all.
    pub fn lacks(sae: &SaeConfig) -> Option<String> {
        let keys =
            sae.lookup.as_ref().is_some_and(|lookup| matches!(lookup.index(), Index::Latents(_)));
        let name = match sae.architecture {
            Architecture::TopK if !sae.prefixes.is_empty() => "prefixes of a Matryoshka SAE",
            Architecture::TopK if sae.aux.is_some() => "AuxK",
            Architecture::TopK if sae.frozen.is_some() => "a frozen encoder or decoder",
            Architecture::TopK if sae.aligned => "aligned encoder rows",
            Architecture::TopK if sae.resamplings > 0 => "latents that start anew",
            Architecture::TopK if sae.keeps_unit_norm() => "decoder rows of length 1",
            Architecture::TopK if keys => "a table indexed by the latents of another SAE",
            Architecture::TopK => return None,
            Architecture::BatchTopK => "BatchTopK",
            Architecture::Relu { .. } => "ReLU",
            Architecture::Gated { .. } => "Gated",
            Architecture::JumpRelu { .. } => "JumpReLU",
        };
        Some(name.to_owned())
    }
}

impl Backend for Gpu {
    fn name(&self) -> String {
        self.device.name()
    }

    fn prepare<'a>(
        &self,
        x: &'a [f32],
        tokens: &'a [u32],
        d_model: usize,
    ) -> Result<PreparedBatch<'a>> {
        self.prepare_sent(x, tokens, d_model, self.send(x, d_model)?)
    }

    fn send(&self, x: &[f32], d_model: usize) -> Result<Option<Sent>> {
        let n = x.len() / d_model.max(1);
        if x.len() != n * d_model {
            let (what, want) = ("rows of activations".to_owned(), vec![n, d_model]);
            return Err(Error::Shape { what, want, got: vec![x.len()] });
        }
        let batches = || self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        let free = {
            let mut batches = batches();
            // No kernel reads what nobody has: a step ends with its report.
            let free = batches.iter().position(|batch| Arc::strong_count(batch) == 1);
            free.and_then(|free| Arc::into_inner(batches.swap_remove(free)))
        };
        let mut batch = match free.filter(|free| free.fits(n, d_model)) {
            Some(free) => free,
            None => Batch::new(&self.device, n, d_model)?,
        };
        batch.fill(x)?;
        let batch = Arc::new(batch);
        batches().push(batch.clone());
        Ok(Some(Sent(batch)))
    }

    fn encode(&self, sae: &Sae, x: &[f32]) -> Result<Codes> {
        fastest().encode(sae, x)
    }

    fn train_step(
        &self,
        sae: &mut Sae,
        state: &mut AdamState,
        batch: &PreparedBatch<'_>,
        rates: &Rates,
        scratch: &mut Scratch,
    ) -> Result<StepReport> {
        batch.check(sae)?;
        if let Some(what) = Gpu::lacks(&sae.config) {
            return Err(Error::config(
                "device",
                format!("the GPU's step has no {what}: train on the CPU"),
            ));
        }
        if batch.keys.places().is_some() {
            let why = "the GPU's step takes one row of the table for each row of activations: train on the CPU";
            return Err(Error::config("device", why));
        }
        let sent = batch.elsewhere.as_ref().and_then(|Sent(sent)| sent.downcast_ref::<Batch>());
        let Some(on_device) = sent.filter(|sent| sent.is_of(batch.keys.n(), batch.d_model)) else {
            let why = "it was prepared by another backend, or other rows were sent";
            return Err(Error::config("batch", why));
        };
        if on_device.n == 0 {
            return Err(overflowed(f64::NAN));
        }
        let sizes = Sizes::of(&sae.config, on_device.n, self.exactness);
        sizes.check()?;
        let Scratch { codes, elsewhere, .. } = scratch;
        let held = elsewhere.take().and_then(|held| held.downcast::<Resident>().ok());
        let mut resident = match held.filter(|resident| resident.steps == state.steps) {
            Some(resident) => resident,
            None => Box::new(Resident::upload(&self.device, sae, state)?),
        };
        let report = resident.step(on_device, &batch.keys, rates, &sizes, codes);
        state.steps = resident.steps;
        *elsewhere = Some(resident);
        report
    }

    fn settle(&self, sae: &mut Sae, state: &mut AdamState, scratch: &mut Scratch) -> Result<()> {
        match resident(scratch) {
            Some(resident) => resident.download(sae, state),
            None => {
                state.flush(sae);
                Ok(())
            }
        }
    }

    fn settle_table(
        &self,
        sae: &mut Sae,
        state: &mut AdamState,
        scratch: &mut Scratch,
    ) -> Result<()> {
        match resident(scratch) {
            Some(resident) => resident.download_table(sae, state),
            None => {
                state.flush(sae);
                Ok(())
            }
        }
    }
}

/// What the device holds of the SAE that these buffers are of, if it has made a step there.
fn resident(scratch: &mut Scratch) -> Option<&mut Resident> {
    scratch.elsewhere.as_mut()?.downcast_mut()
}
