//! Whose bits a pass has.

use serde::{Deserialize, Serialize};

use super::Computes;
use crate::model::Compute;

/// Whose bits a pass has: in f32 a card gives the processor's, and in bf16 its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bits {
    /// Those of a processor.
    #[default]
    Processor,
    /// Those of the matrix units of a card.
    Card,
}

impl Bits {
    /// What is not written down, as it was when there was nothing else.
    pub fn are_processors(&self) -> bool {
        *self == Bits::Processor
    }

    /// Whose they are, in the middle of a sentence.
    pub fn whose(self) -> &'static str {
        match self {
            Bits::Processor => "a processor's",
            Bits::Card => "a card's",
        }
    }

    /// The setting that goes on with them.
    pub fn setting(self) -> &'static str {
        match self {
            Bits::Processor => "device = cpu",
            Bits::Card => "device = cuda, on a machine with a card",
        }
    }
}

impl Computes {
    /// Whose bits it gives.
    pub fn bits(&self) -> Bits {
        match self {
            Computes::Card(card) if card.model.compute() == Compute::Bf16 => Bits::Card,
            _ => Bits::Processor,
        }
    }
}
