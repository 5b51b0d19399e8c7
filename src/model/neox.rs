//! GPT-NeoX's names and layouts: the Pythia models.

use candle_core::Tensor;

use crate::error::Result;
use crate::model::checkpoint::Reader;
use crate::model::config::ModelConfig;
use crate::model::weights::{Affine, BlockWeights, Gain, ModelWeights};

/// Reads a GPT-NeoX checkpoint, its names with or without the prefix `gpt_neox.`.
pub(super) fn read(root: &Reader, config: &ModelConfig) -> Result<ModelWeights> {
    let body = root.body("gpt_neox");
    let (d, d_mlp) = (config.d_model, config.d_mlp);
    let embed = body.get(&[config.d_vocab, d], "embed_in.weight")?;
    let blocks = (0..config.n_layers)
        .map(|layer| {
            let block = body.pp("layers").pp(layer);
            Ok(BlockWeights {
                ln1: gain(&block.pp("input_layernorm"), d)?,
                qkv: qkv(&block.pp("attention.query_key_value"), config)?,
                out: linear(&block.pp("attention.dense"), d, d, config.attn_bias)?,
                ln2: gain(&block.pp("post_attention_layernorm"), d)?,
                up: linear(&block.pp("mlp.dense_h_to_4h"), d, d_mlp, true)?,
                down: linear(&block.pp("mlp.dense_4h_to_h"), d_mlp, d, true)?,
            })
        })
        .collect::<Result<_>>()?;
    let ln_final = gain(&body.pp("final_layer_norm"), d)?;
    let head = if config.tied { embed.clone() } else { root.get(&[config.d_vocab, d], "embed_out.weight")? };
    Ok(ModelWeights { embed, positions: None, blocks, ln_final, unembed: Affine { weight: head.t()?, bias: None } })
}

/// The file's rows are `[n_heads, 3, d_head]`; they are put in the order `[3, n_heads, d_head]` of [`ModelWeights`].
fn qkv(at: &Reader, config: &ModelConfig) -> Result<Affine> {
    let d = config.d_model;
    let Affine { weight, bias } = linear(at, d, 3 * d, config.attn_bias)?;
    let split = [config.n_heads, 3, config.d_head];
    let by_kind = |x: Tensor| x.transpose(0, 1)?.contiguous();
    let weight = by_kind(weight.t()?.reshape(&[split.as_slice(), &[d]].concat()[..])?)?.reshape((3 * d, d))?.t()?;
    let bias = bias.map(|b| by_kind(b.reshape(&split[..])?)?.reshape(3 * d)).transpose()?;
    Ok(Affine { weight, bias })
}

/// GPT-NeoX stores its matrices `[out, in]`; what is returned is the view of them as `[in, out]`.
fn linear(at: &Reader, d_in: usize, d_out: usize, bias: bool) -> Result<Affine> {
    let weight = at.get(&[d_out, d_in], "weight")?.t()?;
    let bias = if bias { Some(at.get(&[d_out], "bias")?) } else { None };
    Ok(Affine { weight, bias })
}

fn gain(at: &Reader, d_model: usize) -> Result<Gain> {
    Ok(Gain { weight: at.get(&[d_model], "weight")?, bias: at.get(&[d_model], "bias")? })
}
