//! GPT-NeoX's names and layouts: the Pythia models.

use candle_core::Tensor;

use crate::base::error::Result;
use crate::formats::settings::Harmless;
use crate::model::checkpoint::Reader;
use crate::model::config::ModelConfig;
use crate::model::weights::{BlockWeights, Embeddings, Linear, ModelWeights};

/// A GPT-NeoX checkpoint, its names with or without the prefix `gpt_neox.`.
pub(super) struct NeoX<'a> {
    pub root: Reader,
    pub config: &'a ModelConfig,
}

impl ModelWeights for NeoX<'_> {
    fn ends(&self) -> Result<Embeddings> {
        let names = ["embed_in.weight", "final_layer_norm", "embed_out.weight"];
        Embeddings::read(&self.root, &self.root.body("gpt_neox"), self.config, names, None)
    }

    fn block(&self, layer: usize) -> Result<BlockWeights> {
        let (d, d_mlp, attn_bias) = (self.config.d_model, self.config.d_mlp, self.config.attn_bias);
        let block = self.root.body("gpt_neox").pp("layers").pp(layer);
        Ok(BlockWeights {
            ln1: block.pp("input_layernorm").norm(self.config)?,
            qkv: qkv(&block.pp("attention.query_key_value"), self.config)?,
            out: block.pp("attention.dense").linear(d, d, attn_bias)?,
            ln2: block.pp("post_attention_layernorm").norm(self.config)?,
            gate: None,
            up: block.pp("mlp.dense_h_to_4h").linear(d, d_mlp, true)?,
            down: block.pp("mlp.dense_4h_to_h").linear(d_mlp, d, true)?,
        })
    }

    fn finish(&self) -> Result<()> {
        let blocks = self.root.body("gpt_neox").pp("layers");
        self.root.finish(&blocks, self.config.n_layers, HARMLESS)
    }
}

/// Tensors that change nothing of what is computed.
const HARMLESS: Harmless = &[
    ("the causal mask", "0.attention.bias 0.attention.masked_bias"),
    ("what positions turn by, which the settings say", "0.attention.rotary_emb.inv_freq"),
    ("the same, in newer versions", "gpt_neox.rotary_emb.* rotary_emb.*"),
    ("the embedding once more, if it is tied; if not, it is read", "embed_out.weight"),
    ("heads that do not predict tokens", "score.* classifier.* qa_outputs.*"),
];

/// The file's rows are `[n_heads, 3, d_head]`; they are put in the order `[3, n_heads, d_head]` of
/// [`BlockWeights`].
fn qkv(at: &Reader, config: &ModelConfig) -> Result<Linear> {
    let d = config.d_model;
    let Linear { weight, bias, precision, .. } = at.linear(d, 3 * d, config.attn_bias)?;
    let split = [config.n_heads, 3, config.d_head];
    let by_kind = |x: Tensor| x.transpose(0, 1)?.contiguous();
    let weight = by_kind(weight.t()?.reshape(&[split.as_slice(), &[d]].concat()[..])?)?
        .reshape((3 * d, d))?
        .t()?;
    let bias = bias.map(|b| by_kind(b.reshape(&split[..])?)?.reshape(3 * d)).transpose()?;
    Ok(Linear::new((weight, precision), bias))
}
