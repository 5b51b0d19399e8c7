//! Which family of models reads a checkpoint.

use crate::model::checkpoint::Reader;
use crate::model::config::{Family, ModelConfig};
use crate::model::gpt2::Gpt2;
use crate::model::llama::Llama;
use crate::model::neox::NeoX;
use crate::model::weights::ModelWeights;

/// The weights of a checkpoint, of whichever family.
pub(super) fn of<'a>(root: Reader, config: &'a ModelConfig) -> Box<dyn ModelWeights + 'a> {
    match config.family {
        Family::Gpt2 => Box::new(Gpt2 { root, config }),
        Family::NeoX => Box::new(NeoX { root, config }),
        Family::Llama | Family::Mistral | Family::Qwen2 => Box::new(Llama { root, config }),
    }
}
