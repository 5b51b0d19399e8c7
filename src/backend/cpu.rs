//! The step on a CPU.

pub(super) mod activate;
pub(crate) mod chain;
pub(super) mod csr;
pub(super) mod encode;
pub(super) mod encoder;
mod fused;
pub(super) mod latents;
mod pool;
mod reconstruct;
mod rescore;
mod revive;
pub(crate) mod rows;
pub(super) mod screen;
pub(super) mod stages;
pub(super) mod step;
mod sums;
mod table;
mod tiled;
mod topk;

use std::sync::Arc;

use super::adam::Rates;
use super::batch::{Backend, PreparedBatch};
use super::ranks::Ranks;
use super::state::AdamState;
use crate::base::error::{Error, Result};
use crate::sae::{Codes, Sae};
use activate::encode;
use screen::{Exactness, PackedRows, Screen};
use step::{Scratch, StepReport};

/// The sparse step, screened in the numbers of a [`Screen`].
#[derive(Clone, Debug)]
pub struct Cpu {
    screen: Screen,
    exactness: Exactness,
    /// Who has a part in the steps.
    ranks: Ranks,
}

impl Cpu {
    /// A backend with the screen of your choice.
    ///
    /// # Errors
    /// [`Error::Config`] if this processor cannot run it.
    pub fn new(screen: Screen, exactness: Exactness) -> Result<Cpu> {
        if !screen.is_supported() {
            let why = format!(
                "this processor cannot screen in {}; it can in {}",
                screen.name(),
                Screen::fastest().name()
            );
            return Err(Error::config("screen", why));
        }
        Ok(Cpu { screen, exactness, ranks: Ranks::alone() })
    }

    /// The fastest that this processor can run.
    pub fn fastest(exactness: Exactness) -> Cpu {
        Cpu { screen: Screen::fastest(), exactness, ranks: Ranks::alone() }
    }
}

impl Backend for Cpu {
    fn name(&self) -> String {
        match self.exactness {
            Exactness::Proven => format!("{}-proven", self.screen.name()),
            Exactness::Statistical => self.screen.name().to_owned(),
        }
    }

    fn prepare<'a>(
        &self,
        x: &'a [f32],
        tokens: &'a [u32],
        d_model: usize,
    ) -> Result<PreparedBatch<'a>> {
        let batch = PreparedBatch::new(x, tokens, d_model)?;
        Ok(PreparedBatch {
            packed: Some(Arc::new(PackedRows::new(x, d_model, self.screen, self.exactness))),
            ..batch
        })
    }

    fn encode(&self, sae: &Sae, x: &[f32]) -> Result<Codes> {
        sae.check_rows("activations", x)?;
        encode(sae, x, &PackedRows::new(x, sae.d_model(), self.screen, self.exactness))
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
        match &batch.packed {
            Some(rows) => {
                let (x, keys) = (batch.x, &batch.keys);
                step::train_step(sae, state, x, rows, keys, rates, &self.ranks, scratch)
            }
            None => Err(Error::config("batch", "it was prepared by another backend".to_owned())),
        }
    }

    fn settle(&self, sae: &mut Sae, state: &mut AdamState, _: &mut Scratch) -> Result<()> {
        state.flush(sae);
        chain::settle(sae, state, &self.ranks)
    }

    fn settle_table(&self, sae: &mut Sae, state: &mut AdamState, _: &mut Scratch) -> Result<()> {
        state.flush(sae);
        chain::settle_table(sae, state, &self.ranks)
    }

    fn over(&self, ranks: &Ranks) -> Option<Arc<dyn Backend>> {
        Some(Arc::new(Cpu { ranks: ranks.clone(), ..self.clone() }))
    }
}
