//! GPT-2's names and layouts.

use crate::base::error::Result;
use crate::model::checkpoint::Reader;
use crate::model::config::ModelConfig;
use crate::model::weights::{BlockWeights, Embeddings, LayerNormWeights, Linear, ModelWeights};

/// A GPT-2 checkpoint, its names with or without the prefix `transformer.`.
pub(super) struct Gpt2<'a> {
    pub root: Reader,
    pub config: &'a ModelConfig,
}

impl ModelWeights for Gpt2<'_> {
    fn ends(&self) -> Result<Embeddings> {
        let body = self.root.body("transformer");
        let d = self.config.d_model;
        let shape = [self.config.d_vocab, d];
        let (embed, precision) = body.get_with_precision(&shape, "wte.weight")?;
        let positions = Some(body.get(&[self.config.n_ctx, d], "wpe.weight")?);
        let ln_final = gain(&body.pp("ln_f"), d)?;
        let (head, precision) = match self.config.tied {
            true => (embed.clone(), precision),
            false => self.root.get_with_precision(&shape, "lm_head.weight")?,
        };
        Ok(Embeddings {
            embed,
            positions,
            ln_final,
            unembed: Linear::new((head.t()?, precision), None),
        })
    }

    fn block(&self, layer: usize) -> Result<BlockWeights> {
        let (d, d_mlp) = (self.config.d_model, self.config.d_mlp);
        let block = self.root.body("transformer").pp("h").pp(layer);
        Ok(BlockWeights {
            ln1: gain(&block.pp("ln_1"), d)?,
            qkv: conv1d(&block.pp("attn.c_attn"), d, 3 * d)?,
            out: conv1d(&block.pp("attn.c_proj"), d, d)?,
            ln2: gain(&block.pp("ln_2"), d)?,
            up: conv1d(&block.pp("mlp.c_fc"), d, d_mlp)?,
            down: conv1d(&block.pp("mlp.c_proj"), d_mlp, d)?,
        })
    }
}

/// GPT-2 stores its matrices `[in, out]`.
fn conv1d(at: &Reader, d_in: usize, d_out: usize) -> Result<Linear> {
    Ok(Linear::new(
        at.get_with_precision(&[d_in, d_out], "weight")?,
        Some(at.get(&[d_out], "bias")?),
    ))
}

fn gain(at: &Reader, d_model: usize) -> Result<LayerNormWeights> {
    Ok(LayerNormWeights {
        weight: at.get(&[d_model], "weight")?,
        bias: at.get(&[d_model], "bias")?,
    })
}
