//! The weights of a model in one form for both families.
//!
//! A matrix is `[in, out]` and acts on a row vector `x` as `x W + b`. Query, key and value stand side by side: columns `0..d_model` of
//! `qkv` give the queries of all heads, head after head, the next `d_model` columns the keys, the last the values.

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::error::Result;
use crate::model::config::ModelConfig;
use crate::model::ops::with_f32;

/// A matrix `[in, out]`, which may be the view of an `[out, in]`, and a bias `[out]`.
#[derive(Clone)]
pub(super) struct Affine {
    pub weight: Tensor,
    pub bias: Option<Tensor>,
}

/// The gain and bias of a layer norm, `[d_model]` each.
#[derive(Clone)]
pub(super) struct Gain {
    pub weight: Tensor,
    pub bias: Tensor,
}

impl Gain {
    /// Gain 1, bias 0: what a layer norm is once it has been folded into the matrix behind it.
    pub fn none(d_model: usize) -> Result<Gain> {
        Ok(Gain { weight: Tensor::ones(d_model, DType::F32, &Device::Cpu)?, bias: Tensor::zeros(d_model, DType::F32, &Device::Cpu)? })
    }
}

/// The weights of a block.
#[derive(Clone)]
pub(super) struct BlockWeights {
    /// The layer norm before attention.
    pub ln1: Gain,
    /// Queries, keys and values: `[d_model, 3 · d_model]`.
    pub qkv: Affine,
    /// Attention's output: `[d_model, d_model]`.
    pub out: Affine,
    /// The layer norm before the MLP.
    pub ln2: Gain,
    /// Into the MLP: `[d_model, d_mlp]`.
    pub up: Affine,
    /// Out of the MLP: `[d_mlp, d_model]`.
    pub down: Affine,
}

/// The weights of a whole model.
#[derive(Clone)]
pub(super) struct ModelWeights {
    /// The embedding: `[d_vocab, d_model]`.
    pub embed: Tensor,
    /// Learned positions, GPT-2's: `[n_ctx, d_model]`.
    pub positions: Option<Tensor>,
    pub blocks: Vec<BlockWeights>,
    /// The layer norm before the unembedding.
    pub ln_final: Gain,
    /// The unembedding: `[d_model, d_vocab]`; if it is tied, a view of the embedding.
    pub unembed: Affine,
}

impl ModelWeights {
    /// Every tensor, in a fixed order.
    fn tensors(&self) -> Vec<&Tensor> {
        let mut all = vec![&self.embed];
        all.extend(&self.positions);
        for b in &self.blocks {
            all.extend([&b.ln1.weight, &b.ln1.bias]);
            all.push(&b.qkv.weight);
            all.extend(&b.qkv.bias);
            all.push(&b.out.weight);
            all.extend(&b.out.bias);
            all.extend([&b.ln2.weight, &b.ln2.bias]);
            all.push(&b.up.weight);
            all.extend(&b.up.bias);
            all.push(&b.down.weight);
            all.extend(&b.down.bias);
        }
        all.extend([&self.ln_final.weight, &self.ln_final.bias, &self.unembed.weight]);
        all.extend(&self.unembed.bias);
        all
    }

    /// How many numbers there are, a tied unembedding not counted.
    pub fn n_params(&self, config: &ModelConfig) -> usize {
        let all: usize = self.tensors().iter().map(|t| t.elem_count()).sum();
        if config.tied { all - self.unembed.weight.elem_count() } else { all }
    }

    /// The SHA-256, in hexadecimal, of the configuration, of every weight as f32, and of `note`.
    ///
    /// It is the same for one model in a single file or in shards, with prefixed names or without.
    pub fn fingerprint(&self, config: &ModelConfig, note: &str) -> Result<String> {
        let digests: Vec<_> = self
            .tensors()
            .par_iter()
            .map(|tensor| {
                // The view of a turned matrix is read as the matrix lies in memory.
                let tensor = if tensor.is_contiguous() { (*tensor).clone() } else { tensor.t()? };
                with_f32(&tensor, |values| {
                    let mut hash = Sha256::new();
                    hash.update(format!("{:?}", tensor.dims()));
                    // Little-endian machines only, as safetensors files are.
                    hash.update(bytemuck::cast_slice(values));
                    hash.finalize()
                })
            })
            .collect::<Result<_>>()?;
        let mut hash = Sha256::new();
        let config = serde_json::to_vec(config).map_err(crate::error::Error::json("model configuration"))?;
        hash.update(config);
        hash.update(note);
        for digest in digests {
            hash.update(digest);
        }
        Ok(format!("{:x}", hash.finalize()))
    }
}
