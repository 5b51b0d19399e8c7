//! The forward pass of both families, as a walk from hook to hook.
//!
//! A pass stands at a hook with all that the rest of the model needs ([`Stage`]), and [`Transformer::advance`] takes it to the
//! next. Running to a hook is walking until it is reached; splicing is replacing the value of the stage and walking on. Nothing is
//! computed that lies after the place where the walk ends.

use candle_core::{Device, Module, Tensor};
use candle_nn::kv_cache::KvCache;
use candle_transformers::models::with_tracing::{Embedding, LayerNorm};

use crate::error::{Error, Result};
use crate::model::config::ModelConfig;
use crate::model::ops::{Dense, causal_attention};
use crate::model::weights::{BlockWeights, Gain, ModelWeights};
use crate::model::{HookPoint, Site};

/// A pass that has come as far as a hook.
#[derive(Clone)]
pub(super) struct Stage {
    /// Where it stands.
    pub hook: HookPoint,
    /// The activation there: `[n_seq, n_ctx, d_model]`.
    pub value: Tensor,
    /// What else the rest of the block needs. At `hook_attn_out`, the block's input. At `hook_mlp_out`, what it is added to.
    pub base: Option<Tensor>,
}

/// The keys and values of the positions read so far, block by block; kept outside the weights so that a model never changes.
pub(super) struct Cache {
    blocks: Vec<KvCache>,
    len: usize,
}

impl Cache {
    /// A cache for up to `n_ctx` positions.
    pub fn new(config: &ModelConfig, n_ctx: usize) -> Cache {
        Cache { blocks: vec![KvCache::new(1, n_ctx); config.n_layers], len: 0 }
    }

    /// How many positions have been read.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Notes that a pass over `n_new` more positions is complete.
    pub fn extend(&mut self, n_new: usize) {
        self.len += n_new;
    }
}

/// The cosines and sines by which queries and keys are turned: `[n_ctx, rotary_dim / 2]`.
struct Rotary {
    cos: Tensor,
    sin: Tensor,
    dim: usize,
}

struct Block {
    ln1: LayerNorm,
    qkv: Dense,
    out: Dense,
    ln2: LayerNorm,
    up: Dense,
    down: Dense,
}

/// A model ready to run.
pub(super) struct Transformer {
    config: ModelConfig,
    embed: Embedding,
    positions: Option<Tensor>,
    rotary: Option<Rotary>,
    blocks: Vec<Block>,
    ln_final: LayerNorm,
    unembed: Dense,
}

impl Rotary {
    fn new(config: &ModelConfig) -> Result<Rotary> {
        let half = config.rotary_dim / 2;
        let frequencies: Vec<f32> =
            (0..half).map(|i| (1.0 / config.rotary_base.powf(2.0 * i as f64 / config.rotary_dim as f64)) as f32).collect();
        let angles: Vec<f32> = (0..config.n_ctx).flat_map(|at| frequencies.iter().map(move |f| at as f32 * f)).collect();
        let table =
            |f: fn(f32) -> f32| Tensor::from_vec(angles.iter().map(|&a| f(a)).collect::<Vec<_>>(), (config.n_ctx, half), &Device::Cpu);
        Ok(Rotary { cos: table(f32::cos)?, sin: table(f32::sin)?, dim: config.rotary_dim })
    }

    /// Turns the first `dim` dimensions of every head of `x` `[n_seq, n_new, d_model]`, whose first position is `from`.
    fn turn(&self, x: &Tensor, n_heads: usize, from: usize) -> Result<Tensor> {
        let (n_seq, n_new, d_model) = x.dims3()?;
        let d_head = d_model / n_heads;
        let x = x.reshape((n_seq, n_new, n_heads, d_head))?;
        let (cos, sin) = (self.cos.narrow(0, from, n_new)?, self.sin.narrow(0, from, n_new)?);
        let turned = candle_nn::rotary_emb::rope_thd(&x.narrow(3, 0, self.dim)?.contiguous()?, &cos, &sin)?;
        let whole =
            if self.dim == d_head { turned } else { Tensor::cat(&[&turned, &x.narrow(3, self.dim, d_head - self.dim)?.contiguous()?], 3)? };
        Ok(whole.reshape((n_seq, n_new, d_model))?)
    }
}

impl Block {
    fn new(weights: BlockWeights, eps: f64) -> Result<Block> {
        Ok(Block {
            ln1: layer_norm(weights.ln1, eps),
            qkv: Dense::laid_out(weights.qkv)?,
            out: Dense::laid_out(weights.out)?,
            ln2: layer_norm(weights.ln2, eps),
            up: Dense::laid_out(weights.up)?,
            down: Dense::laid_out(weights.down)?,
        })
    }
}

fn layer_norm(gain: Gain, eps: f64) -> LayerNorm {
    LayerNorm::new(gain.weight, gain.bias, eps)
}

impl Transformer {
    pub fn new(config: ModelConfig, weights: ModelWeights) -> Result<Transformer> {
        let eps = config.layer_norm_eps;
        let rotary = if config.rotary_dim > 0 { Some(Rotary::new(&config)?) } else { None };
        // An unembedding that is the embedding itself is not copied.
        Ok(Transformer {
            unembed: if config.tied && !weights.unembed.weight.is_contiguous() {
                Dense::new(weights.unembed)?
            } else {
                Dense::laid_out(weights.unembed)?
            },
            embed: Embedding::from_weights(weights.embed)?,
            positions: weights.positions,
            rotary,
            blocks: weights.blocks.into_iter().map(|block| Block::new(block, eps)).collect::<Result<_>>()?,
            ln_final: layer_norm(weights.ln_final, eps),
            config,
        })
    }

    /// The last hook, from which only the unembedding is left.
    pub fn last_hook(&self) -> HookPoint {
        HookPoint { layer: self.config.n_layers - 1, site: Site::ResidPost }
    }

    /// Embeds `ids` `[n_seq, n_new]`, the first of which stand at position `from`: a pass at the first hook.
    pub fn start(&self, ids: &[u32], n_seq: usize, from: usize) -> Result<Stage> {
        let n_new = ids.len() / n_seq.max(1);
        let ids = Tensor::from_slice(ids, (n_seq, n_new), &Device::Cpu)?;
        let mut value = self.embed.forward(&ids)?; // [n_seq, n_new, d_model]
        if let Some(positions) = &self.positions {
            value = value.broadcast_add(&positions.narrow(0, from, n_new)?)?;
        }
        Ok(Stage { hook: HookPoint::resid_pre(0), value, base: None })
    }

    /// Walks on until `hook`, which must not lie behind.
    pub fn walk(&self, mut stage: Stage, hook: HookPoint) -> Result<Stage> {
        while stage.hook != hook {
            stage = self.advance(stage, None)?;
        }
        Ok(stage)
    }

    /// Walks to the last hook, reading and extending the cache.
    pub fn walk_cached(&self, mut stage: Stage, cache: &mut Cache) -> Result<Stage> {
        let n_new = stage.value.dim(1)?;
        while stage.hook != self.last_hook() {
            stage = self.advance(stage, Some(cache))?;
        }
        cache.extend(n_new);
        Ok(stage)
    }

    /// Takes a pass to the next hook.
    pub fn advance(&self, stage: Stage, cache: Option<&mut Cache>) -> Result<Stage> {
        let Stage { hook: HookPoint { layer, site }, value, base } = stage;
        let at = |site, value, base| Ok(Stage { hook: HookPoint { layer, site }, value, base });
        let base = || base.ok_or(Error::Candle(candle_core::Error::Msg("a pass that lacks the block's input".to_owned())));
        match site {
            Site::ResidPre => {
                let attn_out = self.attention(layer, &value, cache)?;
                at(Site::AttnOut, attn_out, Some(value))
            }
            Site::AttnOut if self.config.parallel => {
                let input = base()?;
                let mlp_out = self.mlp(layer, &input)?;
                at(Site::MlpOut, mlp_out, Some((input + value)?))
            }
            Site::AttnOut => at(Site::ResidMid, (base()? + value)?, None),
            Site::ResidMid => {
                let mlp_out = self.mlp(layer, &value)?;
                at(Site::MlpOut, mlp_out, Some(value))
            }
            Site::MlpOut => at(Site::ResidPost, (base()? + value)?, None),
            Site::ResidPost => Ok(Stage { hook: HookPoint::resid_pre(layer + 1), value, base: None }),
        }
    }

    fn attention(&self, layer: usize, resid: &Tensor, cache: Option<&mut Cache>) -> Result<Tensor> {
        let block = &self.blocks[layer];
        let (d, n_heads) = (self.config.d_model, self.config.n_heads);
        let qkv = block.qkv.forward(&block.ln1.forward(resid)?, None)?; // [n_seq, n_new, 3 d_model]
        let (mut q, mut k, v) = (qkv.narrow(2, 0, d)?, qkv.narrow(2, d, d)?, qkv.narrow(2, 2 * d, d)?);
        if let Some(rotary) = &self.rotary {
            let from = cache.as_ref().map_or(0, |c| c.len());
            q = rotary.turn(&q, n_heads, from)?;
            k = rotary.turn(&k, n_heads, from)?;
        }
        let (k, v) = match cache {
            Some(cache) => cache.blocks[layer].append(&k.contiguous()?, &v.contiguous()?)?,
            None => (k, v),
        };
        block.out.forward(&causal_attention(&q, &k, &v, n_heads, self.config.attn_scale)?, None)
    }

    fn mlp(&self, layer: usize, resid: &Tensor) -> Result<Tensor> {
        let block = &self.blocks[layer];
        block.down.forward(&block.up.forward(&block.ln2.forward(resid)?, Some(self.config.activation))?, None)
    }

    /// From the residual stream `[.., d_model]` after the last block to logits `[.., d_vocab]`.
    pub fn unembed(&self, resid: &Tensor) -> Result<Tensor> {
        self.unembed.forward(&self.ln_final.forward(resid)?, None)
    }

    /// Makes every matrix of block `layer` from `site` on unusable, so that a test notices if it is used.
    #[cfg(test)]
    pub fn break_from(&mut self, hook: HookPoint) {
        use crate::model::weights::Affine;
        let matrix = Tensor::zeros((1, 1), candle_core::DType::F32, &Device::Cpu).unwrap();
        let broken = || Dense::new(Affine { weight: matrix.clone(), bias: None }).unwrap();
        for (layer, block) in self.blocks.iter_mut().enumerate().skip(hook.layer) {
            if layer > hook.layer || hook.site < Site::AttnOut {
                (block.qkv, block.out) = (broken(), broken());
            }
            if layer > hook.layer || hook.site < Site::MlpOut {
                (block.up, block.down) = (broken(), broken());
            }
        }
        self.unembed = broken();
    }
}
