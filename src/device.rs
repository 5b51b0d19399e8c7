//! The processor or an NVIDIA card: which is meant, which there are, and what is asked of one.
//!
//! Who computes on a card is written against [`Driver`] alone: the training step
//! ([`backend::gpu`](crate::backend::gpu)) and the models ([`model::gpu`](crate::model)). `kernels`
//! holds the kernels of both, an essay on its memory traffic above each, compiled to PTX ahead of
//! time (`scripts/ptx.sh`), which the driver of any card from Ampere on translates when it is loaded:
//! nothing of CUDA is needed to build.

#[cfg(feature = "cuda")]
mod cuda;
mod driver;
mod timed;

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

pub use driver::{Argument, Driver, Shape};
pub(crate) use driver::{Buffer, launch};
pub use timed::Timed;

use crate::base::error::{Error, Result};
use crate::display::{Show, Shown, shows};

/// Where training steps, and a model's passes in a harvest, a token table, an evaluation or a text
/// that it writes, are computed: on the processor or on an NVIDIA card.
///
/// The result is the same, to the bit, so that a run may begin on one and go on on another; and
/// nothing that is written says where it was made. A model in [`Compute::Bf16`](crate::model::Compute)
/// is the exception: there a card comes close to the processor and a harvest says whose its rows are.
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

/// What a card is wanted for, in the forms of its verb that sentences about it need.
#[derive(Clone, Copy)]
pub(crate) struct Work {
    pub to: &'static str,
    pub doing: &'static str,
    pub done: &'static str,
}

impl Work {
    pub(crate) const TRAINING: Work = Work { to: "train", doing: "training", done: "trained" };
    pub(crate) const HARVESTING: Work =
        Work { to: "harvest", doing: "harvesting", done: "harvested" };
    pub(crate) const TABULATING: Work =
        Work { to: "make it", doing: "making a token table", done: "made" };
    pub(crate) const EVALUATING: Work =
        Work { to: "evaluate", doing: "evaluating", done: "evaluated" };
    pub(crate) const COMPUTING: Work = Work { to: "compute", doing: "computing", done: "computed" };
    pub(crate) const SAMPLING: Work = Work { to: "sample", doing: "sampling", done: "sampled" };
}

impl Device {
    /// What [`Device::Auto`] means in this process from now on.
    pub fn prefer(device: Device) {
        *PREFERRED.lock().unwrap_or_else(PoisonError::into_inner) = device;
    }

    /// One line on what cards there are, or why none can be used and what to do.
    pub fn found() -> String {
        match cards(Work::TRAINING) {
            Ok(cards) if cards.is_empty() => "no card".to_owned(),
            Ok(cards) => listed(&cards),
            Err(why) => why,
        }
    }

    /// What the card of this number gives, if one is meant and can be used; or what the processor
    /// gives, told what there is to say of that.
    ///
    /// # Errors
    /// What the card says, if it was asked for by its number.
    pub(crate) fn choose<T>(
        self,
        work: Work,
        on_card: impl FnOnce(usize) -> Result<T>,
        on_processor: impl Fn(Option<String>) -> T,
    ) -> Result<T> {
        match self.meant()? {
            Device::Cpu => Ok(on_processor(None)),
            Device::Cuda(ordinal) => on_card(ordinal),
            // What is not there is nothing to speak of; what is there and cannot be used is.
            Device::Auto => match cards(work) {
                Err(_) => Ok(on_processor(None)),
                Ok(cards) if cards.is_empty() => Ok(on_processor(None)),
                Ok(_) => Ok(on_card(0).unwrap_or_else(|error| {
                    on_processor(Some(format!("{error}; {} on the CPU", work.done)))
                })),
            },
        }
    }

    /// With what [`Device::Auto`] stands for, if that was said.
    pub(crate) fn meant(self) -> Result<Device> {
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

/// The card of this number, for this work.
///
/// # Errors
/// [`Error::Config`] if there is none, or it cannot be used.
pub(crate) fn open(ordinal: usize, work: Work) -> Result<Arc<dyn Driver>> {
    let cards = cards(work).map_err(|why| Error::config("device", why))?;
    if ordinal >= cards.len() {
        let there = if cards.is_empty() { "no card".to_owned() } else { listed(&cards) };
        let why = format!("there is no cuda:{ordinal}; the driver finds {there}");
        return Err(Error::config("device", why));
    }
    load(ordinal, work).map_err(|why| Error::config("device", why))
}

/// A name for every card that the driver finds, or why there is no using any, in the middle of a
/// sentence.
#[cfg(feature = "cuda")]
fn cards(work: Work) -> Result<Vec<String>, String> {
    cuda::cards(work)
}

/// The card of this number, or why it cannot be used.
#[cfg(feature = "cuda")]
fn load(ordinal: usize, work: Work) -> Result<Arc<dyn Driver>, String> {
    Ok(cuda::Cuda::open(ordinal, work)?)
}

#[cfg(not(feature = "cuda"))]
fn cards(work: Work) -> Result<Vec<String>, String> {
    Err(format!(
        "this program was built without the feature \"cuda\": build it with that, or {} on the CPU",
        work.to
    ))
}

#[cfg(not(feature = "cuda"))]
fn load(_ordinal: usize, work: Work) -> Result<Arc<dyn Driver>, String> {
    Err(cards(work).err().unwrap_or_default())
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
