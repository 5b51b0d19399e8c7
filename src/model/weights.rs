//! The weights of a model in one form for all families.
//!
//! A matrix is `[in, out]` and acts on a row vector `x` as `x W + b`. Query, key and value stand
//! side by side: the first columns of `qkv` give the queries of all heads, head after head, the
//! next the keys, the last the values.

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::base::error::Result;
use crate::cpu::matmul::{Precision, RowWise};
use crate::model::checkpoint::Reader;
use crate::model::config::ModelConfig;
use crate::model::tensor::with_f32;

/// A matrix `[in, out]`, which may be the view of an `[out, in]`, and a bias `[out]`.
#[derive(Clone)]
pub(super) struct Linear {
    /// In f32, whatever it came in.
    pub weight: Tensor,
    /// What it came in: all its numbers are such.
    pub precision: Precision,
    /// What is still to be done to each of its rows.
    pub row_wise: RowWise,
    pub bias: Option<Tensor>,
}

impl Linear {
    /// A matrix with nothing to be done to it.
    pub fn new((weight, precision): (Tensor, Precision), bias: Option<Tensor>) -> Linear {
        Linear { weight, precision, row_wise: RowWise::Nothing, bias }
    }

    fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        std::iter::once(&self.weight).chain(&self.bias)
    }

    /// The numbers of the bias; none without one.
    pub fn bias_numbers(&self) -> Result<Vec<f32>> {
        self.bias.as_ref().map_or(Ok(Vec::new()), |bias| with_f32(bias, <[f32]>::to_vec))
    }

    /// The matrix that is multiplied, in f32.
    pub fn processed(&self) -> Result<Tensor> {
        let column = |by: &[f32]| Tensor::from_slice(by, (by.len(), 1), &Device::Cpu);
        Ok(match &self.row_wise {
            RowWise::Nothing => self.weight.clone(),
            RowWise::Times(by) => self.weight.broadcast_mul(&column(by)?)?,
            RowWise::Minus(by) => self.weight.broadcast_sub(&column(by)?)?,
        })
    }
}

/// The gain and bias of a layer norm, `[d_model]` each; without a bias it is an RMS norm, which
/// subtracts no mean either.
#[derive(Clone)]
pub(super) struct LayerNormWeights {
    pub weight: Tensor,
    pub bias: Option<Tensor>,
}

impl LayerNormWeights {
    /// Gain 1, and bias 0 if it has one: what a norm is once it has been folded into the matrix
    /// behind it.
    pub fn none(d_model: usize, centred: bool) -> Result<LayerNormWeights> {
        let zeros = || Tensor::zeros(d_model, DType::F32, &Device::Cpu);
        Ok(LayerNormWeights {
            weight: Tensor::ones(d_model, DType::F32, &Device::Cpu)?,
            bias: if centred { Some(zeros()?) } else { None },
        })
    }

    fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        std::iter::once(&self.weight).chain(&self.bias)
    }
}

/// The weights of a block.
pub(super) struct BlockWeights {
    /// The layer norm before attention.
    pub ln1: LayerNormWeights,
    /// Queries, keys and values: `[d_model, (n_heads + 2 · n_key_value_heads) · d_head]`.
    pub qkv: Linear,
    /// Attention's output: `[n_heads · d_head, d_model]`.
    pub out: Linear,
    /// The layer norm before the MLP.
    pub ln2: LayerNormWeights,
    /// Of a gated MLP, what its hidden layer is multiplied with: `[d_model, d_mlp]`. The
    /// activation is applied to this, and not to `up`.
    pub gate: Option<Linear>,
    /// Into the MLP: `[d_model, d_mlp]`.
    pub up: Linear,
    /// Out of the MLP: `[d_mlp, d_model]`.
    pub down: Linear,
}

impl BlockWeights {
    /// Every tensor, in a fixed order.
    pub fn tensors(&self) -> Vec<&Tensor> {
        let attention = [&self.qkv, &self.out].into_iter().flat_map(Linear::tensors);
        let mlp = self.gate.iter().chain([&self.up, &self.down]).flat_map(Linear::tensors);
        self.ln1.tensors().chain(attention).chain(self.ln2.tensors()).chain(mlp).collect()
    }
}

/// What lies before the first block and after the last.
pub(super) struct Embeddings {
    /// The embedding: `[d_vocab, d_model]`.
    pub embed: Tensor,
    /// Learned positions, GPT-2's: `[n_ctx, d_model]`.
    pub positions: Option<Tensor>,
    /// The layer norm before the unembedding.
    pub ln_final: LayerNormWeights,
    /// The unembedding: `[d_model, d_vocab]`; if it is tied, a view of the embedding.
    pub unembed: Linear,
}

impl Reader {
    /// The layer norm at this place, or the RMS norm.
    pub fn norm(&self, config: &ModelConfig) -> Result<LayerNormWeights> {
        let d = [config.d_model];
        let bias = if config.family.centres() { Some(self.get(&d, "bias")?) } else { None };
        Ok(LayerNormWeights { weight: self.get(&d, "weight")?, bias })
    }

    /// A matrix that is stored `[out, in]`, as the view of it `[in, out]`, and its bias if it has
    /// one.
    pub fn linear(&self, d_in: usize, d_out: usize, bias: bool) -> Result<Linear> {
        let (weight, precision) = self.get_with_precision(&[d_out, d_in], "weight")?;
        let bias = if bias { Some(self.get(&[d_out], "bias")?) } else { None };
        Ok(Linear::new((weight.t()?, precision), bias))
    }
}

impl Embeddings {
    /// Reads them by a family's names for embedding, last layer norm and unembedding, which stands
    /// at the root and not in the body, and for positions, if it has any.
    pub fn read(
        root: &Reader,
        body: &Reader,
        config: &ModelConfig,
        [embed, ln_final, head]: [&str; 3],
        positions: Option<&str>,
    ) -> Result<Embeddings> {
        let d = config.d_model;
        let shape = [config.d_vocab, d];
        let (embed, precision) = body.get_with_precision(&shape, embed)?;
        let positions = positions.map(|name| body.get(&[config.n_ctx, d], name)).transpose()?;
        let ln_final = body.pp(ln_final).norm(config)?;
        let (head, precision) = match config.tied {
            true => (embed.clone(), precision),
            false => root.get_with_precision(&shape, head)?,
        };
        let unembed = Linear::new((head.t()?, precision), None);
        Ok(Embeddings { embed, positions, ln_final, unembed })
    }

    /// The tensors before the first block, in a fixed order.
    pub fn first(&self) -> Vec<&Tensor> {
        std::iter::once(&self.embed).chain(&self.positions).collect()
    }

    /// The tensors after the last block, in a fixed order.
    pub fn last(&self) -> Vec<&Tensor> {
        self.ln_final.tensors().chain(self.unembed.tensors()).collect()
    }
}

/// The weights of a whole model, of which a block at a time is in memory.
pub(super) trait ModelWeights {
    /// What lies around the blocks.
    fn ends(&self) -> Result<Embeddings>;

    /// The weights of a block.
    fn block(&self, layer: usize) -> Result<BlockWeights>;

    /// Sees to it, once the ends and the first block have been read, that every tensor of the
    /// checkpoint is accounted for.
    fn finish(&self) -> Result<()>;
}

/// The SHA-256 of a tensor's shape and of its numbers as f32.
///
/// It is the same for one model in a single file or in shards, with prefixed names or without.
pub(super) fn digests(tensors: &[&Tensor]) -> Result<Vec<[u8; 32]>> {
    let digest = |tensor: &&Tensor| {
        // The view of a turned matrix is read as the matrix lies in memory.
        let tensor = if tensor.is_contiguous() { (*tensor).clone() } else { tensor.t()? };
        with_f32(&tensor, |values| {
            let mut hash = Sha256::new();
            hash.update(format!("{:?}", tensor.dims()));
            // Little-endian machines only, as safetensors files are.
            hash.update(bytemuck::cast_slice(values));
            hash.finalize().into()
        })
    };
    tensors.par_iter().map(digest).collect()
}

/// The SHA-256, in hexadecimal, of the configuration, of every weight as f32 by its digest, and of
/// `note`.
pub(super) fn fingerprint(
    config: &ModelConfig,
    note: &str,
    digests: &[[u8; 32]],
) -> Result<String> {
    let mut hash = Sha256::new();
    let config = serde_json::to_vec(config)
        .map_err(crate::base::error::Error::json("model configuration"))?;
    hash.update(config);
    hash.update(note);
    for digest in digests {
        hash.update(digest);
    }
    Ok(format!("{:x}", hash.finalize()))
}
