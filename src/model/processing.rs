//! Rewriting a model's weights so that its activations are easier to read and its predictions stay
//! what they are.
//!
//! TransformerLens' `HookedTransformer` does this to every model by default (its `TransformerBridge`
//! in compatibility mode alone), and the published
//! numbers of tokenized SAEs were made on such models, so it is the default here as well.
//!
//! **Folding layer norms.** A layer norm is `gain ∘ normalise(x) + bias`, and a matrix follows it:
//! `(gain ∘ n + b) W + c` is `n (diag(gain) W) + (b W + c)`. The gain and bias go into the matrix,
//! and the layer norm only normalises.
//!
//! **Centring writing weights.** Whatever reads the residual stream normalises it first, which
//! subtracts the mean over `d_model`. So that mean never matters, and it can be taken out of
//! everything that writes to the stream: embedding, positions, and the outputs of attention and
//! MLP. The residual stream is then the raw one minus its mean over `d_model` at each position.
//!
//! An RMS norm, as the Llama family has it, is folded in the same way, but subtracts no mean:
//! nothing is centred in such a model, and its residual stream is the raw one.

use std::fmt;
use std::str::FromStr;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Result};
use crate::cpu::matmul::RowWise;
use crate::model::tensor::with_f32;
use crate::model::weights::{BlockWeights, Embeddings, LayerNormWeights, Linear};

/// What is done to a model's weights when it is loaded; the log-probabilities it predicts are the
/// same either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Processing {
    /// Nothing: activations are those of the checkpoint.
    Raw,
    /// Layer norms are folded into the matrices behind them, and what writes to the residual stream
    /// is centred, so that every activation has mean 0 over `d_model`. TransformerLens' `fold_ln`
    /// and `center_writing_weights`, the defaults of `HookedTransformer` and of the compatibility
    /// mode of `TransformerBridge`. In models with RMS norms (the Llama family) nothing is centred,
    /// as there, and activations are those of the checkpoint.
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
            _ => Err(Error::config(
                "processing",
                format!("\"{s}\" is neither raw nor transformer_lens"),
            )),
        }
    }
}

impl Processing {
    /// Does it to a block.
    pub(super) fn block(self, block: &mut BlockWeights) -> Result<()> {
        if self == Processing::Raw {
            return Ok(());
        }
        let centred = block.ln1.bias.is_some();
        fold(&mut block.ln1, [&mut block.qkv])?;
        fold(&mut block.ln2, std::iter::once(&mut block.up).chain(&mut block.gate))?;
        if !centred {
            return Ok(());
        }
        for writer in [&mut block.out, &mut block.down] {
            writer.row_wise = RowWise::Minus(numbers(&writer.weight.mean_keepdim(1)?)?); // [in, d_model]
            writer.bias = writer.bias.as_ref().map(|bias| centre(bias, 0)).transpose()?;
        }
        Ok(())
    }

    /// Does it to what lies around the blocks. A tied unembedding becomes a matrix of its own.
    pub(super) fn ends(self, ends: &mut Embeddings) -> Result<()> {
        if self == Processing::Raw {
            return Ok(());
        }
        let centred = ends.ln_final.bias.is_some();
        fold(&mut ends.ln_final, [&mut ends.unembed])?;
        if !centred {
            return Ok(());
        }
        ends.embed = centre(&ends.embed, 1)?;
        ends.positions =
            ends.positions.take().map(|positions| centre(&positions, 1)).transpose()?;
        Ok(())
    }
}

/// Makes of each matrix what does after a bare normalisation what it did after `gain`, and takes
/// the gain away.
fn fold<'a>(
    gain: &mut LayerNormWeights,
    readers: impl IntoIterator<Item = &'a mut Linear>,
) -> Result<()> {
    for linear in readers {
        if let Some(bias) = &gain.bias {
            let added = bias.unsqueeze(0)?.matmul(&linear.weight)?.squeeze(0)?; // [out]
            linear.bias = Some(match &linear.bias {
                Some(bias) => (bias + added)?,
                None => added,
            });
        }
        linear.row_wise = RowWise::Times(numbers(&gain.weight)?);
    }
    *gain = LayerNormWeights::none(gain.weight.elem_count(), gain.bias.is_some())?;
    Ok(())
}

/// Subtracts the mean along `dim`, the one of size `d_model`.
fn centre(x: &Tensor, dim: usize) -> Result<Tensor> {
    Ok(x.broadcast_sub(&x.mean_keepdim(dim)?)?)
}

fn numbers(x: &Tensor) -> Result<Vec<f32>> {
    with_f32(x, <[f32]>::to_vec)
}
