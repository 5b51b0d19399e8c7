//! The configuration of a model, in the words of this field.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::base::error::{Error, Result};
use crate::cpu::matmul::Activation;

/// A family of models with one architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Family {
    /// GPT-2: learned positions, attention and MLP one after the other.
    Gpt2,
    /// GPT-NeoX, the architecture of Pythia: rotary positions, attention and MLP in parallel.
    NeoX,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::Gpt2 => "GPT-2",
            Family::NeoX => "GPT-NeoX",
        })
    }
}

/// The shape and settings of a model.
///
/// ```
/// use tokenized_sae::prelude::*;
/// let config = Model::load("tiny-pythia")?.config().clone();
/// assert_eq!(config.d_model, config.n_heads * config.d_head);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelConfig {
    pub(crate) family: Family,
    /// How many blocks there are.
    pub n_layers: usize,
    /// How many attention heads a block has.
    pub n_heads: usize,
    /// The width of the residual stream.
    pub d_model: usize,
    /// The width of a head: `d_model / n_heads`.
    pub d_head: usize,
    /// The width of the MLP's hidden layer.
    pub d_mlp: usize,
    /// The longest sequence the model can read.
    pub n_ctx: usize,
    /// How many token ids there are. May exceed the tokenizer's vocabulary: Pythia's is padded.
    pub d_vocab: usize,
    /// The token that stands at position 0; 0 is an id like any other.
    ///
    /// It is the file's `bos_token_id`. Where that is absent, null or outside the vocabulary, it is
    /// `eos_token_id`, and else the tokenizer's `<|endoftext|>`.
    pub bos: u32,
    /// The token that ends a document.
    pub eos: u32,
    /// The non-linearity of the MLP.
    pub(super) activation: Activation,
    /// What layer norms add to the variance.
    pub layer_norm_eps: f64,
    /// Whether attention's matrices have biases.
    pub attn_bias: bool,
    /// What attention scores are multiplied by: `1/√d_head`, or 1 where the file says
    /// `"scale_attn_weights": false`.
    pub attn_scale: f64,
    /// Whether those of block `l` are divided by `l + 1` too, as Stanford's GPT-2s have it.
    #[serde(skip_serializing_if = "is_not")]
    pub attn_scale_by_layer: bool,
    /// How many dimensions of each head are rotated by position; 0 for GPT-2.
    pub rotary_dim: usize,
    /// The base of the rotation's wavelengths.
    pub rotary_base: f64,
    /// Whether attention and MLP both read the block's input, so that there is no `hook_resid_mid`.
    pub parallel: bool,
    /// Whether the unembedding is the transposed embedding.
    pub tied: bool,
}

impl ModelConfig {
    /// What the attention scores of a block are multiplied by.
    pub(super) fn attn_scale_of(&self, layer: usize) -> f64 {
        if self.attn_scale_by_layer {
            self.attn_scale / (layer as f64 + 1.0)
        } else {
            self.attn_scale
        }
    }

    pub(super) fn check(&self, path: &Path) -> Result<()> {
        let sizes = [
            ("the number of layers", self.n_layers),
            ("the number of heads", self.n_heads),
            ("the hidden size", self.d_model),
            ("the inner size", self.d_mlp),
            ("the number of positions", self.n_ctx),
            ("the vocabulary", self.d_vocab),
        ];
        if let Some((what, size)) =
            sizes.into_iter().find(|(_, size)| !(1..=LARGEST).contains(size))
        {
            return Err(Error::format(
                path,
                format!("{what} is {size}; it must lie between 1 and {LARGEST}"),
            ));
        }
        let positive = |x: f64| x > 0.0 && x.is_finite();
        let why = if self.d_head * self.n_heads != self.d_model {
            format!("a hidden size of {} does not divide into {} heads", self.d_model, self.n_heads)
        } else if !self.rotary_dim.is_multiple_of(2) || self.rotary_dim > self.d_head {
            format!(
                "{} rotary dimensions of a head of {}: need an even number, at most the head",
                self.rotary_dim, self.d_head
            )
        } else if !positive(self.layer_norm_eps) || !positive(self.rotary_base) {
            "the layer norms' epsilon and the rotary base must be positive numbers".to_owned()
        } else {
            return Ok(());
        };
        Err(Error::format(path, why))
    }

    /// Takes the first of the wanted ids that lies within the vocabulary, so that a `bos` which no
    /// embedding has is not used.
    pub(super) fn settle_bos(&mut self, from_tokenizer: Option<u32>) {
        let known = |id: &u32| (*id as usize) < self.d_vocab;
        if let Some(id) =
            [Some(self.bos), Some(self.eos), from_tokenizer].into_iter().flatten().find(known)
        {
            self.bos = id;
        }
        if self.eos as usize >= self.d_vocab {
            self.eos = self.bos;
        }
    }
}

/// What models with one scale for all blocks hash to says nothing of it.
fn is_not(flag: &bool) -> bool {
    !flag
}

/// No model comes near it, and products of two such sizes are still numbers.
const LARGEST: usize = 1 << 30;
