//! GPT-2's names and layouts.

use crate::error::Result;
use crate::model::checkpoint::Reader;
use crate::model::config::ModelConfig;
use crate::model::weights::{Affine, BlockWeights, Gain, ModelWeights};

/// Reads a GPT-2 checkpoint, its names with or without the prefix `transformer.`.
pub(super) fn read(root: &Reader, config: &ModelConfig) -> Result<ModelWeights> {
    let body = root.body("transformer");
    let (d, d_mlp) = (config.d_model, config.d_mlp);
    let embed = body.get(&[config.d_vocab, d], "wte.weight")?;
    let positions = body.get(&[config.n_ctx, d], "wpe.weight")?;
    let blocks = (0..config.n_layers)
        .map(|layer| {
            let block = body.pp("h").pp(layer);
            Ok(BlockWeights {
                ln1: gain(&block.pp("ln_1"), d)?,
                qkv: conv1d(&block.pp("attn.c_attn"), d, 3 * d)?,
                out: conv1d(&block.pp("attn.c_proj"), d, d)?,
                ln2: gain(&block.pp("ln_2"), d)?,
                up: conv1d(&block.pp("mlp.c_fc"), d, d_mlp)?,
                down: conv1d(&block.pp("mlp.c_proj"), d_mlp, d)?,
            })
        })
        .collect::<Result<_>>()?;
    let ln_final = gain(&body.pp("ln_f"), d)?;
    let head = if config.tied { embed.clone() } else { root.get(&[config.d_vocab, d], "lm_head.weight")? };
    Ok(ModelWeights { embed, positions: Some(positions), blocks, ln_final, unembed: Affine { weight: head.t()?, bias: None } })
}

/// GPT-2 stores its matrices `[in, out]`.
fn conv1d(at: &Reader, d_in: usize, d_out: usize) -> Result<Affine> {
    Ok(Affine { weight: at.get(&[d_in, d_out], "weight")?, bias: Some(at.get(&[d_out], "bias")?) })
}

fn gain(at: &Reader, d_model: usize) -> Result<Gain> {
    Ok(Gain { weight: at.get(&[d_model], "weight")?, bias: at.get(&[d_model], "bias")? })
}
