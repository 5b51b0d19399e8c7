//! What trains: the processor, or a card that gives its bits.

use std::sync::{Arc, Mutex, PoisonError};

use super::batch::Backend;
use super::cpu::screen::Exactness;
use super::fastest;
use super::gpu::{self, Gpu};
use crate::base::error::{Error, Result};
use crate::device::{Device, Driver, Work, open};
use crate::sae::SaeConfig;

/// The cards that have shown in this process that they give the processor's bits.
static PROVEN: Mutex<Vec<usize>> = Mutex::new(Vec::new());

/// A backend, and what there is to say about how it was chosen.
pub(crate) struct Chosen {
    pub backend: Arc<dyn Backend>,
    /// Bytes that its work takes on a card; 0 if it is none.
    pub card: u64,
    pub remark: Option<String>,
}

/// What trains these SAEs, with batches of so many rows, on this device.
pub(crate) fn choose(device: Device, saes: &[&SaeConfig], batch: usize) -> Result<Chosen> {
    let on_cpu = |remark| Chosen { backend: fastest(), card: 0, remark };
    device.choose(Work::TRAINING, |ordinal| on_card(ordinal, saes, batch), on_cpu)
}

/// The processor, which is what several ranks train on together.
///
/// # Errors
/// [`Error::Config`] if a card was asked for.
pub(crate) fn processor(device: Device) -> Result<Arc<dyn Backend>> {
    match device.meant()? {
        Device::Auto | Device::Cpu => Ok(fastest()),
        Device::Cuda(_) => Err(Error::config(
            "device",
            "several ranks train on their processors: use cpu, or one rank",
        )),
    }
}

/// The card of this number, which has to show first that it gives the processor's bits.
///
/// # Errors
/// [`Error::Config`] if there is none, it cannot be used, or it gives others; what the card says.
pub fn card(ordinal: usize) -> Result<Arc<dyn Driver>> {
    let card = open(ordinal, Work::COMPUTING)?;
    prove(ordinal, &card)?;
    Ok(card)
}

fn prove(ordinal: usize, card: &Arc<dyn Driver>) -> Result<()> {
    let mut proven = PROVEN.lock().unwrap_or_else(PoisonError::into_inner);
    if !proven.contains(&ordinal) {
        gpu::prove(card)?;
        proven.push(ordinal);
    }
    Ok(())
}

/// On the card of this number, which has to show first that it gives the processor's bits; or on the
/// CPU if the step there lacks something that one of the SAEs needs.
fn on_card(ordinal: usize, saes: &[&SaeConfig], batch: usize) -> Result<Chosen> {
    let card = open(ordinal, Work::TRAINING)?;
    if let Some(what) = saes.iter().find_map(|sae| Gpu::lacks(sae)) {
        let remark = format!("the step on {} has no {what}: trained on the CPU", card.name());
        return Ok(Chosen { backend: fastest(), card: 0, remark: Some(remark) });
    }
    gpu::check(saes, batch)?;
    let (needs, free) = (gpu::bytes(saes, batch), card.free_bytes()?);
    if needs > free {
        let what = format!("training on {}", card.name());
        let remedy = "train fewer or smaller SAEs at once, or on the CPU (device = cpu)".to_owned();
        return Err(Error::Memory { what, needs, free, remedy });
    }
    prove(ordinal, &card)?;
    let backend = Arc::new(Gpu::new(card, Exactness::default()));
    Ok(Chosen { backend, card: needs, remark: None })
}
