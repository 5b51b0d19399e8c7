//! The configuration of a model, in the words of this field.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::base::error::{Error, Result};
use crate::cpu::matmul::Activation;
use crate::cpu::matmul::pack::{SHORT_STRETCH, STRETCH};

/// A family of models with one architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Family {
    /// GPT-2: learned positions, attention and MLP one after the other.
    Gpt2,
    /// GPT-NeoX, the architecture of Pythia: rotary positions, attention and MLP in parallel.
    NeoX,
    /// Llama 2 and 3, SmolLM2, TinyLlama: rotary positions, RMS norms, a gated MLP.
    Llama,
    /// Mistral: Llama, with attention that sees a window.
    Mistral,
    /// Qwen 2 and 2.5: Llama, with biases on queries, keys and values.
    Qwen2,
}

impl Family {
    /// Whether its norms subtract the mean, and have a bias: layer norms, and not RMS norms.
    pub(super) fn centres(self) -> bool {
        matches!(self, Family::Gpt2 | Family::NeoX)
    }

    /// How much of the depth its products in f32 sum up at a time.
    ///
    /// A norm that subtracts no mean leaves a stream in which a few coordinates hold most of the
    /// energy, and sums that are rounded more. Over 2,000 tokens of prose SmolLM2's logits are within
    /// 1e-4 of those in f64 so, and 1.2e-4 off at most in long stretches; GPT-2 and GPT-NeoX keep
    /// those, and with them the bits of what was harvested before.
    pub(super) fn stretch(self) -> usize {
        if self.centres() { STRETCH } else { SHORT_STRETCH }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::Gpt2 => "GPT-2",
            Family::NeoX => "GPT-NeoX",
            Family::Llama => "Llama",
            Family::Mistral => "Mistral",
            Family::Qwen2 => "Qwen2",
        })
    }
}

/// How Llama 3.1 and later stretch their rotary positions to texts longer than those that Llama 3
/// was trained on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct RotaryScaling {
    /// What slow turns are slowed by.
    pub factor: f64,
    /// Turns that come round less often than this within `trained` are slowed.
    pub low: f64,
    /// Turns that come round more often than this within `trained` stay.
    pub high: f64,
    /// The length of the texts before.
    pub trained: f64,
}

impl RotaryScaling {
    /// A turn by position, in radians, as it is scaled.
    pub(super) fn apply(self, frequency: f64) -> f64 {
        let rounds = self.trained * frequency / std::f64::consts::TAU;
        let kept = ((rounds - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        (1.0 - kept) * frequency / self.factor + kept * frequency
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
    /// How many heads of keys and values a block has: as many, or fewer, each shared by
    /// `n_heads / n_key_value_heads` heads of queries.
    // What is skipped here shows in the shapes of the weights, which models are known by too.
    #[serde(skip)]
    pub n_key_value_heads: usize,
    /// The width of the residual stream.
    pub d_model: usize,
    /// The width of a head: `d_model / n_heads`, unless the file of a Llama says otherwise.
    pub d_head: usize,
    /// The width of the MLP's hidden layer.
    pub d_mlp: usize,
    /// The longest sequence the model can read. Of a Mistral, the window that its attention sees,
    /// where that is shorter: what lies further back is not computed as it should be.
    pub n_ctx: usize,
    /// How many token ids there are. May exceed the tokenizer's vocabulary: Pythia's is padded.
    pub d_vocab: usize,
    /// The token that stands at position 0; 0 is an id like any other.
    ///
    /// Of GPT-2 and GPT-NeoX it is the file's `bos_token_id`. Where that is absent, null or outside
    /// the vocabulary, it is `eos_token_id`, and else the tokenizer's `<|endoftext|>`. Of the Llama
    /// family it is the token that the tokenizer itself puts first. Where it puts none (SmolLM2,
    /// Qwen2), it is `<|endoftext|>`, which stood before every document in training: the file's
    /// `bos_token_id` may be the one that opens a chat. [`ModelConfig::table`] says which.
    pub bos: u32,
    /// How `bos` was chosen, if it is not simply what the file names.
    #[serde(skip)]
    pub(super) bos_is: &'static str,
    /// The token that ends a document.
    pub eos: u32,
    /// The non-linearity of the MLP.
    pub(super) activation: Activation,
    /// What norms add to the variance, or to the mean square.
    pub layer_norm_eps: f64,
    /// Whether attention's queries, keys and values have biases; its output has one too, but not
    /// Qwen2's.
    pub attn_bias: bool,
    /// Whether the MLP's matrices have biases.
    #[serde(skip)]
    pub mlp_bias: bool,
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
    /// How they are stretched, if they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rotary_scaling: Option<RotaryScaling>,
    /// Whether attention and MLP both read the block's input, so that there is no `hook_resid_mid`.
    pub parallel: bool,
    /// Whether the unembedding is the transposed embedding.
    pub tied: bool,
}

impl ModelConfig {
    /// The width of all heads of queries, and of what attention gives: `n_heads · d_head`.
    pub(crate) fn d_attn(&self) -> usize {
        self.n_heads * self.d_head
    }

    /// The width of all heads of keys, and of all of values.
    pub(crate) fn d_kv(&self) -> usize {
        self.n_key_value_heads * self.d_head
    }

    /// The width of queries, keys and values.
    pub(crate) fn d_qkv(&self) -> usize {
        self.d_attn() + 2 * self.d_kv()
    }

    /// Whether the MLP is gated (SwiGLU): three matrices `[d_model, d_mlp]` where others have two.
    pub fn gated(&self) -> bool {
        !self.family.centres()
    }

    /// How many positions at the start of a sequence training leaves out by default; see
    /// [`TrainConfig::skip_first`](crate::train::TrainConfig::skip_first).
    pub(crate) fn skip_first(&self) -> usize {
        usize::from(!self.family.centres())
    }

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
            ("the number of heads of keys and values", self.n_key_value_heads),
            ("the width of heads", self.d_head),
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
        let why = if self.family.centres() && self.d_attn() != self.d_model {
            format!("a hidden size of {} does not divide into {} heads", self.d_model, self.n_heads)
        } else if !self.n_heads.is_multiple_of(self.n_key_value_heads) {
            format!(
                "{} heads cannot share {} of keys and values alike",
                self.n_heads, self.n_key_value_heads
            )
        } else if !self.rotary_dim.is_multiple_of(2) || self.rotary_dim > self.d_head {
            format!(
                "{} rotary dimensions of a head of {}: need an even number, at most the head",
                self.rotary_dim, self.d_head
            )
        } else if !positive(self.layer_norm_eps) || !positive(self.rotary_base) {
            "the norms' epsilon and the rotary base must be positive numbers".to_owned()
        } else if let Some(RotaryScaling { factor, low, high, trained }) = self.rotary_scaling
            && !([factor, low, high, trained].into_iter().all(positive) && low < high)
        {
            "the factors and the length of stretched rotary positions must be positive numbers, low_freq_factor below high_freq_factor".to_owned()
        } else {
            return Ok(());
        };
        Err(Error::format(path, why))
    }
}

/// What models with one scale for all blocks hash to says nothing of it.
fn is_not(flag: &bool) -> bool {
    !flag
}

/// No model comes near it, and products of two such sizes are still numbers.
const LARGEST: usize = 1 << 30;
