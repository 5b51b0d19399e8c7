//! GPT-2's names and layouts.

use crate::base::error::Result;
use crate::formats::settings::Harmless;
use crate::model::checkpoint::Reader;
use crate::model::config::ModelConfig;
use crate::model::weights::{BlockWeights, Embeddings, Linear, ModelWeights};

/// A GPT-2 checkpoint, its names with or without the prefix `transformer.`.
pub(super) struct Gpt2<'a> {
    pub root: Reader,
    pub config: &'a ModelConfig,
}

impl ModelWeights for Gpt2<'_> {
    fn ends(&self) -> Result<Embeddings> {
        let names = ["wte.weight", "ln_f", "lm_head.weight"];
        let positions = Some("wpe.weight");
        Embeddings::read(&self.root, &self.root.body("transformer"), self.config, names, positions)
    }

    fn block(&self, layer: usize) -> Result<BlockWeights> {
        let (d, d_mlp) = (self.config.d_model, self.config.d_mlp);
        let block = self.root.body("transformer").pp("h").pp(layer);
        Ok(BlockWeights {
            ln1: block.pp("ln_1").norm(self.config)?,
            qkv: conv1d(&block.pp("attn.c_attn"), d, 3 * d)?,
            out: conv1d(&block.pp("attn.c_proj"), d, d)?,
            ln2: block.pp("ln_2").norm(self.config)?,
            gate: None,
            up: conv1d(&block.pp("mlp.c_fc"), d, d_mlp)?,
            down: conv1d(&block.pp("mlp.c_proj"), d_mlp, d)?,
        })
    }

    fn finish(&self) -> Result<()> {
        let blocks = self.root.body("transformer").pp("h");
        self.root.finish(&blocks, self.config.n_layers, HARMLESS)
    }
}

/// Tensors that change nothing of what is computed.
const HARMLESS: Harmless = &[
    ("the causal mask", "0.attn.bias 0.attn.masked_bias"),
    ("the embedding once more, if it is tied; if not, it is read", "lm_head.weight"),
    ("heads that do not predict tokens", "score.* multiple_choice_head.* classifier.*"),
];

/// GPT-2 stores its matrices `[in, out]`.
fn conv1d(at: &Reader, d_in: usize, d_out: usize) -> Result<Linear> {
    Ok(Linear::new(
        at.get_with_precision(&[d_in, d_out], "weight")?,
        Some(at.get(&[d_out], "bias")?),
    ))
}
