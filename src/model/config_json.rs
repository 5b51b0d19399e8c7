//! A checkpoint's `config.json`, every setting of which is accounted for.

#[cfg(test)]
mod tests;

use std::path::Path;

use serde_json::{Map, Value};

use super::config::{Family, ModelConfig, RotaryScaling};
use crate::base::error::{Error, Result};
use crate::cpu::matmul::Activation;
use crate::formats::settings::{Harmless, Setting, Settings};

/// The id that stands for "none given": outside every vocabulary, so that
/// [`ModelConfig::settle_bos`] passes over it.
const NONE: u32 = u32::MAX;

/// What transformers keeps in every `config.json` and a forward pass does not ask for.
const HARMLESS: Harmless = &[
    (
        "who wrote it, and in which numbers",
        "architectures transformers_version torch_dtype dtype _name_or_path _model_name_or_path auto_map use_bfloat16 \
         tokenizer_class torchscript tf_legacy_loss _attn_implementation* attn_implementation \
         custom_pipelines _commit_hash",
    ),
    (
        "of training",
        "resid_pdrop embd_pdrop attn_pdrop attention_dropout hidden_dropout hidden_dropout_prob \
         attention_probs_dropout_prob loss_type initializer_range gradient_checkpointing \
         chunk_size_feed_forward",
    ),
    (
        "of heads other than the unembedding",
        "summary_* id2label label2id num_labels _num_labels problem_type classifier_dropout \
         finetuning_task task_specific_params n_special predict_special_tokens",
    ),
    ("what a call returns", "output_* return_dict* use_cache"),
    (
        "a decoder is what it is",
        "is_encoder_decoder is_decoder tie_encoder_decoder cross_attention_hidden_size",
    ),
    (
        "other tokens than those that delimit text, and how text is generated",
        "pad_token_id sep_token_id unk_token_id cls_token_id mask_token_id decoder_start_token_id \
         forced_* suppress_tokens begin_suppress_tokens bad_words_ids prefix max_length min_length \
         do_sample early_stopping num_beams num_beam_groups diversity_penalty temperature top_k top_p typical_p \
         repetition_penalty length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size \
         num_return_sequences remove_invalid_values exponential_decay_length_penalty",
    ),
    ("how other libraries run it", "pretraining_tp is_llama_config transformers.js_config"),
    ("the order of operations in f16: in f32 it changes nothing", "reorder_and_upcast_attn"),
];

fn gpt2(file: &mut Settings) -> Result<ModelConfig> {
    if file.get("add_cross_attention")? == Some(true) {
        let why = "add_cross_attention is true: encoder-decoder models are not supported";
        return Err(file.wrong(why));
    }
    let d_model: usize = file.need(&["n_embd", "hidden_size"])?;
    let n_heads: usize = file.need(&["n_head", "num_attention_heads"])?;
    let d_head = d_model / n_heads.max(1);
    let scales = file.get("scale_attn_weights")? != Some(false);
    Ok(ModelConfig {
        family: Family::Gpt2,
        n_layers: file.need(&["n_layer", "num_hidden_layers"])?,
        n_heads,
        n_key_value_heads: n_heads,
        d_model,
        d_head,
        d_mlp: file.get("n_inner")?.unwrap_or(d_model.saturating_mul(4)),
        n_ctx: file.need(&["n_positions", "n_ctx", "max_position_embeddings"])?,
        d_vocab: file.need(&["vocab_size"])?,
        bos: id(file, "bos_token_id")?,
        bos_is: "",
        eos: id(file, "eos_token_id")?,
        activation: activation(file, "activation_function", "gelu_new")?,
        layer_norm_eps: file.get("layer_norm_epsilon")?.unwrap_or(1e-5),
        attn_bias: true,
        mlp_bias: true,
        attn_scale: if scales { 1.0 / (d_head as f64).sqrt() } else { 1.0 },
        attn_scale_by_layer: file.get("scale_attn_by_inverse_layer_idx")?.unwrap_or(false),
        rotary_dim: 0,
        rotary_base: 10_000.0,
        rotary_scaling: None,
        parallel: false,
        tied: file.get("tie_word_embeddings")?.unwrap_or(true),
    })
}

fn neox(file: &mut Settings) -> Result<ModelConfig> {
    let Rope { share, base, scaling } = Rope::read(file, 0.25)?;
    if scaling.is_some() {
        return Err(file.wrong("rotary positions of type \"llama3\" are not GPT-NeoX's"));
    }
    let d_model: usize = file.need(&["hidden_size"])?;
    let n_heads: usize = file.need(&["num_attention_heads"])?;
    let d_head = d_model / n_heads.max(1);
    Ok(ModelConfig {
        family: Family::NeoX,
        n_layers: file.need(&["num_hidden_layers"])?,
        n_heads,
        n_key_value_heads: n_heads,
        d_model,
        d_head,
        d_mlp: file.need(&["intermediate_size"])?,
        n_ctx: file.need(&["max_position_embeddings"])?,
        d_vocab: file.need(&["vocab_size"])?,
        bos: id(file, "bos_token_id")?,
        bos_is: "",
        eos: id(file, "eos_token_id")?,
        activation: activation(file, "hidden_act", "gelu")?,
        layer_norm_eps: file.get("layer_norm_eps")?.unwrap_or(1e-5),
        attn_bias: file.get("attention_bias")?.unwrap_or(true),
        mlp_bias: true,
        attn_scale: 1.0 / (d_head as f64).sqrt(),
        attn_scale_by_layer: false,
        rotary_dim: (d_head as f64 * share) as usize,
        rotary_base: base,
        rotary_scaling: None,
        parallel: file.get("use_parallel_residual")?.unwrap_or(true),
        tied: file.get("tie_word_embeddings")?.unwrap_or(false),
    })
}

fn llama(file: &mut Settings, family: Family) -> Result<ModelConfig> {
    let Rope { share, base, scaling } = Rope::read(file, 1.0)?;
    if file.get("rope_interleaved")? == Some(true) {
        return Err(file.wrong("rope_interleaved is true: rotary pairs lie half a head apart here"));
    }
    if file.get("use_mrope")? == Some(true) {
        return Err(file.wrong("use_mrope is true: positions of pictures are not computed"));
    }
    let d_model: usize = file.need(&["hidden_size"])?;
    let n_heads: usize = file.need(&["num_attention_heads"])?;
    let d_head = file.get("head_dim")?.unwrap_or(d_model / n_heads.max(1));
    let flag = |file: &mut Settings, key| Ok::<bool, Error>(file.get(key)?.unwrap_or(false));
    let [attn_bias, mlp_bias] = match family {
        Family::Qwen2 => [true, false],
        Family::Mistral => [false; 2],
        _ => [flag(file, "attention_bias")?, flag(file, "mlp_bias")?],
    };
    let n_ctx = file.need(&["max_position_embeddings"])?;
    Ok(ModelConfig {
        family,
        n_layers: file.need(&["num_hidden_layers"])?,
        n_heads,
        n_key_value_heads: file.get("num_key_value_heads")?.unwrap_or(n_heads),
        d_model,
        d_head,
        d_mlp: file.need(&["intermediate_size"])?,
        n_ctx: window(file, family)?.map_or(n_ctx, |window| n_ctx.min(window)),
        d_vocab: file.need(&["vocab_size"])?,
        bos: id(file, "bos_token_id")?,
        bos_is: "",
        eos: id(file, "eos_token_id")?,
        activation: activation(file, "hidden_act", "silu")?,
        layer_norm_eps: file.get("rms_norm_eps")?.unwrap_or(1e-6),
        attn_bias,
        mlp_bias,
        attn_scale: 1.0 / (d_head as f64).sqrt(),
        attn_scale_by_layer: false,
        rotary_dim: (d_head as f64 * share) as usize,
        rotary_base: base,
        rotary_scaling: scaling,
        parallel: false,
        tied: file.get("tie_word_embeddings")?.unwrap_or(false),
    })
}

/// The positions that attention sees, if not all: a context no longer than that has the same
/// attention without a window.
fn window(file: &mut Settings, family: Family) -> Result<Option<usize>> {
    let window: Option<usize> = file.get("sliding_window")?;
    let used: bool = file.get("use_sliding_window")?.unwrap_or(family == Family::Mistral);
    // From which block on Qwen2's windows are used, and newer files' kinds of all blocks, which
    // follow from that: a context within the window has no need of either.
    let _: Option<usize> = file.get("max_window_layers")?;
    let _: Option<Value> = file.get("layer_types")?;
    Ok(window.filter(|_| used))
}

/// The settings of rotary positions.
struct Rope {
    /// Of the dimensions of a head.
    share: f64,
    base: f64,
    scaling: Option<RotaryScaling>,
}

impl Rope {
    /// Newer files nest them, older ones have a scaling alone.
    fn read(file: &mut Settings, share: f64) -> Result<Rope> {
        let mut nested = file.within("rope_parameters")?;
        let mut scaling = file.within("rope_scaling")?;
        let mut found = None;
        for rope in [&mut nested, &mut scaling] {
            let kind: Option<String> = rope.first(&["rope_type", "type"])?;
            match kind.as_deref() {
                None | Some("default") => {}
                Some("llama3") => {
                    found = Some(RotaryScaling {
                        factor: rope.need(&["factor"])?,
                        low: rope.need(&["low_freq_factor"])?,
                        high: rope.need(&["high_freq_factor"])?,
                        trained: rope.need(&["original_max_position_embeddings"])?,
                    });
                }
                Some(kind) => {
                    let why = format!(
                        "rotary positions of type \"{kind}\" are not supported, only \"default\" and \"llama3\""
                    );
                    return Err(rope.wrong(why));
                }
            }
        }
        let own = nested.get("partial_rotary_factor")?;
        let share = own.or(file.first(&["partial_rotary_factor", "rotary_pct"])?).unwrap_or(share);
        if !(0.0..=1.0).contains(&share) {
            let why = format!("the share of rotary dimensions is {share}: need 0 to 1");
            return Err(file.wrong(why));
        }
        let base = nested.get("rope_theta")?;
        let base = base.or(file.first(&["rope_theta", "rotary_emb_base"])?).unwrap_or(10_000.0);
        nested.finish(&[])?;
        scaling.finish(&[])?;
        Ok(Rope { share, base, scaling: found })
    }
}

fn id(file: &mut Settings, key: &str) -> Result<u32> {
    Ok(file.get(key)?.map_or(NONE, |TokenId(id)| id))
}

fn activation(file: &mut Settings, key: &str, otherwise: &str) -> Result<Activation> {
    let name = file.get(key)?.unwrap_or_else(|| otherwise.to_owned());
    match &name[..] {
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Ok(Activation::GeluTanh),
        "gelu" => Ok(Activation::GeluErf),
        "relu" => Ok(Activation::Relu),
        "silu" | "swish" => Ok(Activation::Silu),
        _ => Err(file.wrong(format!(
            "{key} \"{name}\" is not supported: known are gelu, gelu_new, gelu_pytorch_tanh, gelu_fast, relu and silu"
        ))),
    }
}

/// An id, or the first of a list of them.
struct TokenId(u32);

impl Setting for TokenId {
    const WANTED: &'static str = "a token id, a list of them or null";

    fn of(value: &Value) -> Option<TokenId> {
        let first = value.as_array().map_or(Some(value), |ids| ids.first())?;
        first.as_u64()?.try_into().ok().map(TokenId)
    }
}

impl ModelConfig {
    /// Reads the text of a `config.json` that lies at `path`.
    pub(super) fn parse(text: &[u8], path: &Path) -> Result<ModelConfig> {
        let mut file = Settings::parse(text, path)?;
        let config = match file.get::<String>("model_type")?.as_deref() {
            Some("gpt2") => gpt2(&mut file)?,
            Some("gpt_neox") => neox(&mut file)?,
            Some("llama") => llama(&mut file, Family::Llama)?,
            Some("mistral") => llama(&mut file, Family::Mistral)?,
            Some("qwen2") => llama(&mut file, Family::Qwen2)?,
            other => {
                let found =
                    other.map_or("no model_type".to_owned(), |m| format!("model_type \"{m}\""));
                let why = format!(
                    "has {found}: the families that can be read are gpt2, gpt_neox (Pythia), llama, mistral and qwen2"
                );
                return Err(file.wrong(why));
            }
        };
        for (key, why) in [
            (
                "quantization_config",
                "quantised checkpoints cannot be read; take one in f32, f16 or bf16",
            ),
            ("pruned_heads", "pruned heads are not computed"),
        ] {
            if file.get::<Map<String, Value>>(key)?.is_some_and(|map| !map.is_empty()) {
                return Err(file.wrong(format!("has a {key}: {why}")));
            }
        }
        file.finish(HARMLESS)?;
        config.check(path)?;
        Ok(config)
    }
}
