//! Llama's names and layouts, which Mistral and Qwen2 share.

use candle_core::Tensor;

use crate::base::error::Result;
use crate::formats::settings::Harmless;
use crate::model::checkpoint::Reader;
use crate::model::config::{Family, ModelConfig};
use crate::model::weights::{BlockWeights, Embeddings, Linear, ModelWeights};

/// A checkpoint of the Llama family, its names with or without the prefix `model.`.
pub(super) struct Llama<'a> {
    pub root: Reader,
    pub config: &'a ModelConfig,
}

impl ModelWeights for Llama<'_> {
    fn ends(&self) -> Result<Embeddings> {
        let names = ["embed_tokens.weight", "norm", "lm_head.weight"];
        Embeddings::read(&self.root, &self.root.body("model"), self.config, names, None)
    }

    fn block(&self, layer: usize) -> Result<BlockWeights> {
        let config = self.config;
        let (d, d_mlp, mlp_bias) = (config.d_model, config.d_mlp, config.mlp_bias);
        let out_bias = config.attn_bias && config.family != Family::Qwen2;
        let block = self.root.body("model").pp("layers").pp(layer);
        Ok(BlockWeights {
            ln1: block.pp("input_layernorm").norm(config)?,
            qkv: qkv(&block.pp("self_attn"), config)?,
            out: block.pp("self_attn.o_proj").linear(config.d_attn(), d, out_bias)?,
            ln2: block.pp("post_attention_layernorm").norm(config)?,
            gate: Some(block.pp("mlp.gate_proj").linear(d, d_mlp, mlp_bias)?),
            up: block.pp("mlp.up_proj").linear(d, d_mlp, mlp_bias)?,
            down: block.pp("mlp.down_proj").linear(d_mlp, d, mlp_bias)?,
        })
    }

    fn finish(&self) -> Result<()> {
        let blocks = self.root.body("model").pp("layers");
        self.root.finish(&blocks, self.config.n_layers, HARMLESS)
    }
}

/// Tensors that change nothing of what is computed.
const HARMLESS: Harmless = &[
    ("what positions turn by, which the settings say", "0.self_attn.rotary_emb.inv_freq"),
    ("the same, in newer versions", "model.rotary_emb.* rotary_emb.*"),
    ("the embedding once more, if it is tied; if not, it is read", "lm_head.weight"),
    ("heads that do not predict tokens", "score.* classifier.* qa_outputs.*"),
];

/// Three matrices of one number format side by side.
fn qkv(at: &Reader, config: &ModelConfig) -> Result<Linear> {
    let of = |name: &str, d_out| at.pp(name).linear(config.d_model, d_out, config.attn_bias);
    let (d_attn, d_kv) = (config.d_attn(), config.d_kv());
    let all = [of("q_proj", d_attn)?, of("k_proj", d_kv)?, of("v_proj", d_kv)?];
    // Each is the view of an `[out, in]`, and so is what they make together.
    let turned = all.iter().map(|linear| linear.weight.t()).collect::<Result<Vec<_>, _>>()?;
    let biases: Vec<&Tensor> = all.iter().filter_map(|linear| linear.bias.as_ref()).collect();
    let bias = if biases.is_empty() { None } else { Some(Tensor::cat(&biases, 0)?) };
    let precision = match all.each_ref().map(|linear| linear.precision) {
        [q, k, v] if q == k && k == v => q,
        _ => crate::cpu::matmul::Precision::Single,
    };
    Ok(Linear::new((Tensor::cat(&turned, 0)?.t()?, precision), bias))
}
