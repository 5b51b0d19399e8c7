//! How the names of this room show themselves: each with what it means.

use crate::display::{Show, Shown, shows};
use crate::model::{Compute, Family, HookPoint, MlpActivation, Processing, Site};

shows!(HookPoint, Site, Family, MlpActivation, Compute, Processing);

impl Site {
    /// What the activation is, in words.
    fn meaning(self) -> &'static str {
        match self {
            Site::ResidPre => "the residual stream as it enters the block",
            Site::AttnOut => "what attention adds to the residual stream",
            Site::ResidMid => "the residual stream between attention and MLP",
            Site::MlpOut => "what the MLP adds to the residual stream",
            Site::ResidPost => "the residual stream as it leaves the block",
        }
    }
}

impl MlpActivation {
    /// `gelu_new`, `gelu` or `relu`, as a checkpoint's `config.json` has it.
    pub fn name(self) -> &'static str {
        match self {
            MlpActivation::GeluTanh => "gelu_new",
            MlpActivation::GeluErf => "gelu",
            MlpActivation::Relu => "relu",
        }
    }
}

impl Show for HookPoint {
    fn shown(&self) -> Shown {
        let (meaning, block) = (self.site.meaning(), format!("block {}", self.layer));
        let meaning = if meaning.contains("the block") {
            meaning.replace("the block", &block)
        } else {
            format!("{meaning} in {block}")
        };
        Shown::sentence(&self.to_string(), &meaning)
    }
}

impl Show for Site {
    fn shown(&self) -> Shown {
        Shown::sentence(self.name(), self.meaning())
    }
}

impl Show for Family {
    fn shown(&self) -> Shown {
        let meaning = match self {
            Family::Gpt2 => "learned positions, attention and MLP one after the other",
            Family::NeoX => {
                "Pythia's architecture: rotary positions, attention and MLP in parallel"
            }
        };
        Shown::sentence(&self.to_string(), meaning)
    }
}

impl Show for MlpActivation {
    fn shown(&self) -> Shown {
        let meaning = match self {
            MlpActivation::GeluTanh => "GELU by its tanh approximation",
            MlpActivation::GeluErf => "GELU by the error function",
            MlpActivation::Relu => "max(x, 0)",
        };
        Shown::sentence(self.name(), meaning)
    }
}

impl Show for Compute {
    fn shown(&self) -> Shown {
        let meaning = match self {
            Compute::F32 => "products in f32, as the checkpoint has it",
            Compute::Bf16 => "products of operands rounded to bf16: about half the time",
        };
        Shown::sentence(&self.to_string(), meaning)
    }
}

impl Show for Processing {
    fn shown(&self) -> Shown {
        let meaning = match self {
            Processing::Raw => "weights as the checkpoint has them",
            Processing::TransformerLens => {
                "layer norms folded in, and what writes to the residual stream centred"
            }
        };
        Shown::sentence(&self.to_string(), meaning)
    }
}
