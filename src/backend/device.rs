//! Where a training step is computed.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use super::batch::Backend;
use super::cpu::screen::Exactness;
use super::fastest;
use super::gpu::{self, Driver, Gpu};
use crate::base::error::{Error, Result};
use crate::display::{Show, Shown, shows};
use crate::sae::SaeConfig;

/// Where the training step is computed: on the processor or on an NVIDIA card.
///
/// The result is the same, to the bit, so that a run may begin on one and go on on another; and
/// nothing that is written says where it was made.
///
/// ```
/// use tokenized_sae::prelude::*;
/// let device: Device = "cuda:0".parse()?;
/// assert_eq!(device, Device::Cuda(0));
/// println!("{}", Device::found()); // what cards there are, or why none can be used
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Device {
    /// What [`prefer`](Device::prefer) said, or else the environment variable `TSAE_DEVICE`; or
    /// else the first card if there is one and it can do what is asked, and the processor if not.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// The NVIDIA card of this number.
    Cuda(usize),
}

/// What [`Device::Auto`] means in this process, if somebody has said so.
static PREFERRED: Mutex<Device> = Mutex::new(Device::Auto);

/// The cards that have shown in this process that they give the processor's bits.
static PROVEN: Mutex<Vec<usize>> = Mutex::new(Vec::new());

/// A backend, and what there is to say about how it was chosen.
pub(crate) struct Chosen {
    pub backend: Arc<dyn Backend>,
    pub remark: Option<String>,
}

impl Device {
    /// What [`Device::Auto`] means in this process from now on.
    pub fn prefer(device: Device) {
        *PREFERRED.lock().unwrap_or_else(PoisonError::into_inner) = device;
    }

    /// One line on what cards there are, or why none can be used and what to do.
    pub fn found() -> String {
        match gpu::cards() {
            Ok(cards) if cards.is_empty() => "no card".to_owned(),
            Ok(cards) => listed(&cards),
            Err(why) => why,
        }
    }

    /// What trains these SAEs, with batches of so many rows.
    pub(crate) fn choose(self, saes: &[&SaeConfig], batch: usize) -> Result<Chosen> {
        let on_cpu = |remark| Chosen { backend: fastest(), remark };
        match self.meant()? {
            Device::Cpu => Ok(on_cpu(None)),
            Device::Cuda(ordinal) => on_card(ordinal, saes, batch),
            // What is not there is nothing to speak of; what is there and cannot be used is.
            Device::Auto => match gpu::cards() {
                Err(_) => Ok(on_cpu(None)),
                Ok(cards) if cards.is_empty() => Ok(on_cpu(None)),
                Ok(_) => Ok(on_card(0, saes, batch)
                    .unwrap_or_else(|error| on_cpu(Some(format!("{error}; trained on the CPU"))))),
            },
        }
    }

    /// The processor, which is what several ranks train on together.
    ///
    /// # Errors
    /// [`Error::Config`] if a card was asked for.
    pub(crate) fn processor(self) -> Result<Arc<dyn Backend>> {
        match self.meant()? {
            Device::Auto | Device::Cpu => Ok(fastest()),
            Device::Cuda(_) => Err(Error::config(
                "device",
                "several ranks train on their processors: use cpu, or one rank",
            )),
        }
    }

    /// With what [`Device::Auto`] stands for, if that was said.
    fn meant(self) -> Result<Device> {
        if self != Device::Auto {
            return Ok(self);
        }
        let preferred = *PREFERRED.lock().unwrap_or_else(PoisonError::into_inner);
        match std::env::var("TSAE_DEVICE") {
            Ok(text) if preferred == Device::Auto && !text.is_empty() => {
                text.parse().map_err(|_| Error::config("TSAE_DEVICE", unknown(&text)))
            }
            _ => Ok(preferred),
        }
    }
}

/// The card of this number.
fn open(ordinal: usize) -> Result<Arc<dyn Driver>> {
    let cards = gpu::cards().map_err(|why| Error::config("device", why))?;
    if ordinal >= cards.len() {
        let there = if cards.is_empty() { "no card".to_owned() } else { listed(&cards) };
        let why = format!("there is no cuda:{ordinal}; the driver finds {there}");
        return Err(Error::config("device", why));
    }
    gpu::open(ordinal).map_err(|why| Error::config("device", why))
}

/// The card of this number, which has to show first that it gives the processor's bits.
///
/// # Errors
/// [`Error::Config`] if there is none, it cannot be used, or it gives others; what the card says.
pub fn card(ordinal: usize) -> Result<Arc<dyn Driver>> {
    let card = open(ordinal)?;
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
    let card = open(ordinal)?;
    if let Some(what) = saes.iter().find_map(|sae| Gpu::lacks(sae)) {
        let remark = format!("the step on {} has no {what}: trained on the CPU", card.name());
        return Ok(Chosen { backend: fastest(), remark: Some(remark) });
    }
    gpu::check(saes, batch)?;
    let (needs, free) = (gpu::bytes(saes, batch), card.free_bytes()?);
    if needs > free {
        let what = format!("training on {}", card.name());
        let remedy = "train fewer or smaller SAEs at once, or on the CPU (device = cpu)".to_owned();
        return Err(Error::Memory { what, needs, free, remedy });
    }
    prove(ordinal, &card)?;
    Ok(Chosen { backend: Arc::new(Gpu::new(card, Exactness::default())), remark: None })
}

fn unknown(text: &str) -> String {
    format!("there is no device called \"{text}\": use auto, cpu, cuda or cuda:N")
}

fn listed(cards: &[String]) -> String {
    let named: Vec<String> =
        cards.iter().enumerate().map(|(i, name)| format!("cuda:{i} ({name})")).collect();
    named.join(", ")
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(text: &str) -> Result<Device> {
        let number = text.strip_prefix("cuda:").and_then(|number| number.parse().ok());
        match (text, number) {
            ("auto", _) => Ok(Device::Auto),
            ("cpu", _) => Ok(Device::Cpu),
            ("cuda", _) => Ok(Device::Cuda(0)),
            (_, Some(ordinal)) => Ok(Device::Cuda(ordinal)),
            _ => Err(Error::config("device", unknown(text))),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Auto => f.write_str("auto"),
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

impl Show for Device {
    fn shown(&self) -> Shown {
        let meaning = match self {
            Device::Auto => "the first card that can do what is asked, or else the processor",
            Device::Cpu => "the processor",
            Device::Cuda(_) => "the NVIDIA card of this number",
        };
        Shown::sentence(&self.to_string(), meaning)
    }
}

shows!(Device);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for device in [Device::Auto, Device::Cpu, Device::Cuda(0), Device::Cuda(3)] {
            assert_eq!(device.to_string().parse::<Device>().unwrap(), device);
        }
        assert_eq!("cuda".parse::<Device>().unwrap(), Device::Cuda(0));
        for text in ["", "gpu", "cuda1", "cuda:", "cuda:-1", "CPU"] {
            let told = text.parse::<Device>().unwrap_err().to_string();
            assert!(told.contains("use auto, cpu, cuda or cuda:N"), "{told}");
        }
    }
}
