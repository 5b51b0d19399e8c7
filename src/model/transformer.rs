//! The forward pass of all families, as a walk from hook to hook.
//!
//! A pass stands at a hook with all that the rest of the model needs ([`Stage`]), and
//! [`Transformer::advance`] takes it to the next. Running to a hook is walking until it is reached;
//! splicing is replacing the value of the stage and walking on. Nothing is computed that lies after
//! the place where the walk ends.

use std::sync::Mutex;

use candle_core::{D, DType, Device, Tensor};
use candle_nn::kv_cache::KvCache;

use crate::base::error::{Error, Result};
use crate::cpu::matmul::{Activation, Compute, RowWise};
use crate::model::attention::causal_attention;
use crate::model::block::{Block, Layout, Workspace};
use crate::model::config::ModelConfig;
use crate::model::embed::Embed;
use crate::model::norm::Norm;
use crate::model::ops::Dense;
use crate::model::rotary::Rotary;
use crate::model::tensor::with_f32;
use crate::model::weights::{BlockWeights, Embeddings};
use crate::model::{HookPoint, Site};

/// A pass that has come as far as a hook.
#[derive(Clone)]
pub(super) struct Stage {
    /// Where it stands.
    pub hook: HookPoint,
    /// The activation there: `[n_seq, n_ctx, d_model]`.
    pub value: Tensor,
    /// What else the rest of the block needs. At `hook_attn_out`, the block's input. At
    /// `hook_mlp_out`, what it is added to.
    pub base: Option<Tensor>,
}

/// The keys and values of the positions read so far, block by block; kept outside the weights so
/// that a model never changes.
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

/// A model ready to run.
pub(super) struct Transformer {
    pub config: ModelConfig,
    pub embed: Embed,
    pub rotary: Option<Rotary>,
    pub blocks: Vec<Block>,
    pub ln_final: Norm,
    pub unembed: Dense,
    /// One for each pass that has been under way at once.
    pub rooms: Mutex<Vec<Workspace>>,
}

impl Transformer {
    /// Lays out the weights around the blocks; [`push`](Transformer::push) adds those.
    pub fn new(config: ModelConfig, ends: Embeddings) -> Result<Transformer> {
        let eps = config.layer_norm_eps;
        let rotary = if config.rotary_dim > 0 { Some(Rotary::new(&config)) } else { None };
        let untouched = ends.unembed.row_wise == RowWise::Nothing;
        // An unembedding that is the embedding itself is not copied.
        Ok(Transformer {
            unembed: if config.tied && untouched {
                Dense::as_it_lies(ends.unembed)?
            } else {
                Dense::laid_out(ends.unembed, config.family.stretch())?
            },
            embed: Embed::new(ends.embed, ends.positions),
            rotary,
            // How many there are says the configuration, and no weights yet.
            blocks: Vec::new(),
            ln_final: Norm::new(&ends.ln_final, eps)?,
            rooms: Mutex::default(),
            config,
        })
    }

    /// Lays out the weights of the next block.
    pub fn push(&mut self, block: BlockWeights) -> Result<()> {
        self.blocks.push(Block::new(block, &self.config)?);
        Ok(())
    }

    /// The last hook, from which only the unembedding is left.
    pub fn last_hook(&self) -> HookPoint {
        HookPoint { layer: self.config.n_layers - 1, site: Site::ResidPost }
    }

    /// Embeds `ids` `[n_seq, n_new]`, the first of which stand at position `from`: a pass at the
    /// first hook.
    pub fn start(&self, ids: &[u32], n_seq: usize, from: usize) -> Result<Stage> {
        let value = self.embed.forward(ids, n_seq, from)?; // [n_seq, n_new, d_model]
        Ok(Stage { hook: HookPoint::resid_pre(0), value, base: None })
    }

    /// Walks on until `hook`, which must not lie behind.
    pub fn walk(&self, stage: Stage, hook: HookPoint, compute: Compute) -> Result<Stage> {
        self.walk_unless(stage, hook, compute, &|| false)
    }

    /// As [`walk`](Transformer::walk), unless `stop` says to give up.
    ///
    /// # Errors
    /// [`Error::Interrupted`] if it does.
    pub fn walk_unless(
        &self,
        mut stage: Stage,
        hook: HookPoint,
        compute: Compute,
        stop: &dyn Fn() -> bool,
    ) -> Result<Stage> {
        while stage.hook != hook {
            let n_whole = hook.layer - stage.hook.layer + usize::from(hook.site == Site::ResidPost);
            stage = if stage.hook.site == Site::ResidPre && n_whole > 0 {
                self.walk_blocks(stage, n_whole, compute, stop)?
            } else {
                self.advance(stage, None, compute)?
            };
        }
        Ok(stage)
    }

    /// Takes a pass from the input of a block to the output of the `n`-th from there, without a
    /// stop on the way.
    fn walk_blocks(
        &self,
        stage: Stage,
        n: usize,
        compute: Compute,
        stop: &dyn Fn() -> bool,
    ) -> Result<Stage> {
        let (first, last) = (stage.hook.layer, stage.hook.layer + n - 1);
        let (n_seq, n_ctx, d_model) = stage.value.dims3()?;
        let mut resid = with_f32(&stage.value, <[f32]>::to_vec)?;
        drop(stage);
        self.run_blocks(first..last + 1, &mut resid, Layout::whole([n_seq, n_ctx]), compute, stop)?;
        let value = Tensor::from_vec(resid, (n_seq, n_ctx, d_model), &Device::Cpu)?;
        Ok(Stage { hook: HookPoint { layer: last, site: Site::ResidPost }, value, base: None })
    }

    /// Walks to the last hook, reading and extending the cache.
    pub fn walk_cached(&self, stage: Stage, cache: &mut Cache, compute: Compute) -> Result<Stage> {
        let n_new = stage.value.dim(1)?;
        let stage = self.walk_cached_to(stage, self.last_hook(), cache, compute)?;
        cache.extend(n_new);
        Ok(stage)
    }

    /// Walks on until `hook`, which must not lie behind, reading the cache; the pass continues with
    /// [`walk_cached`](Transformer::walk_cached).
    pub fn walk_cached_to(
        &self,
        mut stage: Stage,
        hook: HookPoint,
        cache: &mut Cache,
        compute: Compute,
    ) -> Result<Stage> {
        while stage.hook != hook {
            stage = self.advance(stage, Some(cache), compute)?;
        }
        Ok(stage)
    }

    /// Takes a pass to the next hook.
    pub fn advance(
        &self,
        stage: Stage,
        cache: Option<&mut Cache>,
        compute: Compute,
    ) -> Result<Stage> {
        let Stage { hook: HookPoint { layer, site }, value, base } = stage;
        let at = |site, value, base| Ok(Stage { hook: HookPoint { layer, site }, value, base });
        let base = || {
            base.ok_or(Error::Candle(candle_core::Error::Msg(
                "a pass that lacks the block's input".to_owned(),
            )))
        };
        match site {
            Site::ResidPre => {
                let attn_out = self.attention(layer, &value, cache, compute)?;
                at(Site::AttnOut, attn_out, Some(value))
            }
            Site::AttnOut if self.config.parallel => {
                let input = base()?;
                let mlp_out = self.mlp(layer, &input, compute)?;
                at(Site::MlpOut, mlp_out, Some((input + value)?))
            }
            Site::AttnOut => at(Site::ResidMid, (base()? + value)?, None),
            Site::ResidMid => {
                let mlp_out = self.mlp(layer, &value, compute)?;
                at(Site::MlpOut, mlp_out, Some(value))
            }
            Site::MlpOut => at(Site::ResidPost, (base()? + value)?, None),
            Site::ResidPost => {
                Ok(Stage { hook: HookPoint::resid_pre(layer + 1), value, base: None })
            }
        }
    }

    fn attention(
        &self,
        layer: usize,
        resid: &Tensor,
        cache: Option<&mut Cache>,
        compute: Compute,
    ) -> Result<Tensor> {
        let block = &self.blocks[layer];
        let (d, d_kv, n_heads) = (self.config.d_attn(), self.config.d_kv(), self.config.n_heads);
        let mut qkv = block.qkv.forward(&block.ln1.forward(resid)?, Activation::None, compute)?; // [n_seq, n_new, d_qkv]
        if let Some(rotary) = &self.rotary {
            let (from, shape) = (cache.as_ref().map_or(0, |c| c.len()), qkv.dims3()?);
            let mut rows = with_f32(&qkv, <[f32]>::to_vec)?;
            rotary.turn(&mut rows, shape.1, from);
            qkv = Tensor::from_vec(rows, shape, &Device::Cpu)?;
        }
        let q = qkv.narrow(2, 0, d)?;
        let (k, v) = (qkv.narrow(2, d, d_kv)?, qkv.narrow(2, d + d_kv, d_kv)?);
        let (k, v) = match cache {
            Some(cache) => cache.blocks[layer].append(&k.contiguous()?, &v.contiguous()?)?,
            None => (k, v),
        };
        block.out.forward(
            &causal_attention(&q, &k, &v, n_heads, self.config.attn_scale_of(layer))?,
            Activation::None,
            compute,
        )
    }

    fn mlp(&self, layer: usize, resid: &Tensor, compute: Compute) -> Result<Tensor> {
        let (block, activation) = (&self.blocks[layer], self.config.activation);
        let normed = block.ln2.forward(resid)?;
        let hidden = match &block.gate {
            None => block.up.forward(&normed, activation, compute)?,
            Some(gate) => {
                let up = block.up.forward(&normed, Activation::None, compute)?;
                (up * gate.forward(&normed, activation, compute)?)?
            }
        };
        block.down.forward(&hidden, Activation::None, compute)
    }

    /// From the residual stream `[.., d_model]` after the last block to logits `[.., d_vocab]`, in
    /// f32.
    pub fn unembed(&self, resid: &Tensor) -> Result<Tensor> {
        self.unembed.forward(&self.ln_final.forward(resid)?, Activation::None, Compute::F32)
    }

    /// What directions `[n, d_model]` add to the logits by the direct path; see
    /// [`Model::logit_effects`](crate::model::Model::logit_effects).
    pub fn direct_path(&self, directions: &Tensor) -> Result<Tensor> {
        let linear = self.ln_final.linear_part(directions)?;
        // Of a direction of zeros the unembedding gives its bias, an effect of nothing.
        let bias = self.unembed.forward(
            &Tensor::zeros((1, self.config.d_model), DType::F32, &Device::Cpu)?,
            Activation::None,
            Compute::F32,
        )?;
        let effects =
            self.unembed.forward(&linear, Activation::None, Compute::F32)?.broadcast_sub(&bias)?;
        Ok(effects.broadcast_sub(&effects.mean_keepdim(D::Minus1)?)?)
    }

    /// The embedding `[d_vocab, d_model]`.
    pub fn embedding(&self) -> &Tensor {
        self.embed.tokens()
    }

    /// Makes every matrix of block `layer` from `site` on unusable, so that a test notices if it is
    /// used.
    #[cfg(test)]
    pub fn break_from(&mut self, hook: HookPoint) {
        use crate::model::weights::Linear;
        let matrix = Tensor::zeros((1, 1), candle_core::DType::F32, &Device::Cpu).unwrap();
        let broken =
            || Dense::as_it_lies(Linear::new((matrix.clone(), Default::default()), None)).unwrap();
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
