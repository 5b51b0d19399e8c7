//! Rewriting a model's weights so that its activations are easier to read and its predictions stay what they are.
//!
//! TransformerLens does this to every model it loads unless told otherwise, and the published numbers of tokenized SAEs were made
//! on such models, so it is the default here as well.
//!
//! **Folding layer norms.** A layer norm is `gain ∘ normalise(x) + bias`, and a matrix follows it: `(gain ∘ n + b) W + c` is
//! `n (diag(gain) W) + (b W + c)`. The gain and bias go into the matrix, and the layer norm only normalises.
//!
//! **Centring writing weights.** Whatever reads the residual stream normalises it first, which subtracts the mean over `d_model`.
//! So that mean never matters, and it can be taken out of everything that writes to the stream: embedding, positions, and the
//! outputs of attention and MLP. The residual stream is then the raw one minus its mean over `d_model` at each position.

use std::fmt;
use std::str::FromStr;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::config::ModelConfig;
use crate::model::weights::{Affine, Gain, ModelWeights};

/// What is done to a model's weights when it is loaded; the log-probabilities it predicts are the same either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Processing {
    /// Nothing: activations are those of the checkpoint.
    Raw,
    /// Layer norms are folded into the matrices behind them, and what writes to the residual stream is centred, so that every
    /// activation has mean 0 over `d_model`. TransformerLens' `fold_ln` and `center_writing_weights`.
    #[default]
    TransformerLens,
}

impl fmt::Display for Processing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Processing::Raw => "raw",
            Processing::TransformerLens => "transformer_lens",
        })
    }
}

impl FromStr for Processing {
    type Err = Error;

    fn from_str(s: &str) -> Result<Processing> {
        match s {
            "raw" => Ok(Processing::Raw),
            "transformer_lens" => Ok(Processing::TransformerLens),
            _ => Err(Error::config("processing", format!("\"{s}\" is neither raw nor transformer_lens"))),
        }
    }
}

impl Processing {
    pub(super) fn apply(self, weights: ModelWeights, config: &ModelConfig) -> Result<ModelWeights> {
        match self {
            Processing::Raw => Ok(weights),
            Processing::TransformerLens => centre_writing(fold_layer_norms(weights, config)?),
        }
    }
}

fn fold_layer_norms(mut weights: ModelWeights, config: &ModelConfig) -> Result<ModelWeights> {
    for block in &mut weights.blocks {
        block.qkv = fold(&block.ln1, &block.qkv)?;
        block.ln1 = Gain::none(config.d_model)?;
        block.up = fold(&block.ln2, &block.up)?;
        block.ln2 = Gain::none(config.d_model)?;
    }
    // A tied unembedding becomes a tensor of its own here; the embedding stays as it is.
    weights.unembed = fold(&weights.ln_final, &weights.unembed)?;
    weights.ln_final = Gain::none(config.d_model)?;
    Ok(weights)
}

/// The matrix `[d_model, out]` that does after a bare normalisation what `affine` does after `gain`.
fn fold(gain: &Gain, affine: &Affine) -> Result<Affine> {
    let added = gain.bias.unsqueeze(0)?.matmul(&affine.weight)?.squeeze(0)?; // [out]
    let bias = match &affine.bias {
        Some(bias) => (bias + added)?,
        None => added,
    };
    Ok(Affine { weight: affine.weight.broadcast_mul(&gain.weight.unsqueeze(1)?)?, bias: Some(bias) })
}

fn centre_writing(mut weights: ModelWeights) -> Result<ModelWeights> {
    weights.embed = centre(&weights.embed, 1)?;
    weights.positions = weights.positions.map(|p| centre(&p, 1)).transpose()?;
    for block in &mut weights.blocks {
        for writer in [&mut block.out, &mut block.down] {
            writer.weight = centre(&writer.weight, 1)?; // [in, d_model]
            writer.bias = writer.bias.as_ref().map(|b| centre(b, 0)).transpose()?;
        }
    }
    Ok(weights)
}

/// Subtracts the mean along `dim`, the one of size `d_model`.
fn centre(x: &Tensor, dim: usize) -> Result<Tensor> {
    Ok(x.broadcast_sub(&x.mean_keepdim(dim)?)?)
}
