//! A checkpoint's `config.json`, every setting of which is accounted for.

use std::path::Path;

use serde_json::{Map, Value};

use super::config::{Family, ModelConfig};
use crate::base::error::Result;
use crate::cpu::matmul::Activation;
use crate::formats::settings::{Harmless, Setting, Settings};

/// The id that stands for "none given": outside every vocabulary, so that
/// [`ModelConfig::settle_bos`] passes over it.
const NONE: u32 = u32::MAX;

/// What transformers keeps in every `config.json` and a forward pass does not ask for.
const HARMLESS: Harmless = &[
    (
        "who wrote it, and in which numbers",
        "architectures transformers_version torch_dtype dtype _name_or_path auto_map use_bfloat16 \
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
        d_model,
        d_head,
        d_mlp: file.get("n_inner")?.unwrap_or(d_model.saturating_mul(4)),
        n_ctx: file.need(&["n_positions", "n_ctx", "max_position_embeddings"])?,
        d_vocab: file.need(&["vocab_size"])?,
        bos: id(file, "bos_token_id")?,
        eos: id(file, "eos_token_id")?,
        activation: activation(file, "activation_function", "gelu_new")?,
        layer_norm_eps: file.get("layer_norm_epsilon")?.unwrap_or(1e-5),
        attn_bias: true,
        attn_scale: if scales { 1.0 / (d_head as f64).sqrt() } else { 1.0 },
        attn_scale_by_layer: file.get("scale_attn_by_inverse_layer_idx")?.unwrap_or(false),
        rotary_dim: 0,
        rotary_base: 10_000.0,
        parallel: false,
        tied: file.get("tie_word_embeddings")?.unwrap_or(true),
    })
}

fn neox(file: &mut Settings) -> Result<ModelConfig> {
    // Newer files nest the rotary settings, older ones had a scaling alone.
    let mut nested = file.within("rope_parameters")?;
    let mut scaling = file.within("rope_scaling")?;
    for rope in [&mut nested, &mut scaling] {
        let kind: Option<String> = rope.first(&["rope_type", "type"])?;
        if let Some(kind) = kind.filter(|kind| kind != "default") {
            let why =
                format!("rotary positions of type \"{kind}\" are not supported, only \"default\"");
            return Err(rope.wrong(why));
        }
    }
    let share = nested.get("partial_rotary_factor")?;
    let share = share.or(file.first(&["partial_rotary_factor", "rotary_pct"])?).unwrap_or(0.25);
    if !(0.0..=1.0).contains(&share) {
        return Err(file.wrong(format!("the share of rotary dimensions is {share}: need 0 to 1")));
    }
    let base = nested.get("rope_theta")?;
    let base = base.or(file.first(&["rope_theta", "rotary_emb_base"])?).unwrap_or(10_000.0);
    nested.finish(&[])?;
    scaling.finish(&[])?;
    let d_model: usize = file.need(&["hidden_size"])?;
    let n_heads: usize = file.need(&["num_attention_heads"])?;
    let d_head = d_model / n_heads.max(1);
    Ok(ModelConfig {
        family: Family::NeoX,
        n_layers: file.need(&["num_hidden_layers"])?,
        n_heads,
        d_model,
        d_head,
        d_mlp: file.need(&["intermediate_size"])?,
        n_ctx: file.need(&["max_position_embeddings"])?,
        d_vocab: file.need(&["vocab_size"])?,
        bos: id(file, "bos_token_id")?,
        eos: id(file, "eos_token_id")?,
        activation: activation(file, "hidden_act", "gelu")?,
        layer_norm_eps: file.get("layer_norm_eps")?.unwrap_or(1e-5),
        attn_bias: file.get("attention_bias")?.unwrap_or(true),
        attn_scale: 1.0 / (d_head as f64).sqrt(),
        attn_scale_by_layer: false,
        rotary_dim: (d_head as f64 * share) as usize,
        rotary_base: base,
        parallel: file.get("use_parallel_residual")?.unwrap_or(true),
        tied: file.get("tie_word_embeddings")?.unwrap_or(false),
    })
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
        _ => Err(file.wrong(format!(
            "{key} \"{name}\" is not supported: known are gelu, gelu_new, gelu_pytorch_tanh, gelu_fast and relu"
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
            other => {
                let found =
                    other.map_or("no model_type".to_owned(), |m| format!("model_type \"{m}\""));
                let why = format!(
                    "has {found}: the families that can be read are gpt2 and gpt_neox (Pythia)"
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ModelConfig> {
        ModelConfig::parse(text.as_bytes(), Path::new("config.json"))
    }

    const GPT2: &str = r#"{"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024, "vocab_size": 50257,
        "bos_token_id": 50256, "eos_token_id": 50256, "n_inner": null, "layer_norm_epsilon": 1e-05}"#;
    /// As the Pythia suite's own files are written.
    const PYTHIA: &str = r#"{"model_type": "gpt_neox", "hidden_size": 2048, "num_hidden_layers": 24, "num_attention_heads": 16,
        "intermediate_size": 8192, "max_position_embeddings": 2048, "vocab_size": 50304, "bos_token_id": 0, "eos_token_id": 0,
        "hidden_act": "gelu", "rotary_pct": 0.25, "rotary_emb_base": 10000, "use_parallel_residual": true, "tie_word_embeddings": false}"#;

    #[test]
    fn gpt2_small_reads_with_the_defaults_it_leaves_out() {
        let c = parse(GPT2).unwrap();
        assert_eq!(
            (c.family, c.n_layers, c.d_head, c.d_mlp, c.tied, c.parallel),
            (Family::Gpt2, 12, 64, 3072, true, false)
        );
        assert_eq!(
            (c.bos, c.activation, c.attn_scale, c.rotary_dim),
            (50256, Activation::GeluTanh, 0.125, 0)
        );
    }

    #[test]
    fn pythia_reads_and_bos_0_counts() {
        let mut c = parse(PYTHIA).unwrap();
        assert_eq!(
            (c.family, c.d_head, c.rotary_dim, c.tied, c.parallel),
            (Family::NeoX, 128, 32, false, true)
        );
        c.settle_bos(Some(7));
        assert_eq!((c.bos, c.eos), (0, 0));
    }

    #[test]
    fn nested_rotary_settings_read_as_the_flat_ones() {
        let flat = r#""rotary_pct": 0.25, "rotary_emb_base": 10000"#;
        let nested = r#""rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25}"#;
        assert_eq!(parse(PYTHIA).unwrap(), parse(&PYTHIA.replace(flat, nested)).unwrap());
        let scaled = PYTHIA.replace(flat, r#""rope_scaling": {"type": "linear", "factor": 2.0}"#);
        assert!(parse(&scaled).unwrap_err().to_string().contains("linear"));
    }

    #[test]
    fn a_bos_outside_the_vocabulary_gives_way() {
        let set = |bos: &str, eos: &str, tokenizer| {
            let text = GPT2.replace(
                r#""bos_token_id": 50256, "eos_token_id": 50256,"#,
                &format!(r#""bos_token_id": {bos}, "eos_token_id": {eos},"#),
            );
            let mut c = parse(&text).unwrap();
            c.settle_bos(tokenizer);
            (c.bos, c.eos)
        };
        assert_eq!(set("0", "5", Some(9)), (0, 5));
        assert_eq!(set("null", "5", Some(9)), (5, 5));
        assert_eq!(set("60000", "60000", Some(9)), (9, 9));
        assert_eq!(set("3", "[6, 7]", None), (3, 6));
        assert_eq!(set("60000", "null", None).0, 60000);
    }

    #[test]
    fn sizes_that_no_model_has_are_refused_and_not_multiplied() {
        for size in ["0", "1073741825", "4611686018427387904", "18446744073709551615"] {
            for field in ["n_embd", "n_layer", "n_head", "n_positions", "vocab_size", "n_inner"] {
                let (before, after) = GPT2.split_once(&format!("\"{field}\": ")).unwrap();
                let text = format!(
                    "{before}\"{field}\": {size}{}",
                    after.trim_start_matches(|c: char| c.is_ascii_alphanumeric())
                );
                let error = parse(&text).unwrap_err().to_string();
                assert!(
                    error.contains(size) || error.contains("heads"),
                    "{field} = {size}: {error}"
                );
            }
        }
    }

    #[test]
    fn what_cannot_be_computed_is_refused_by_name() {
        for (change, told) in [
            (r#""model_type": "llama""#, "llama"),
            (r#""model_type": "gpt2", "alibi": true"#, "\"alibi\": true"),
            (r#""model_type": "gpt2", "pruned_heads": {"0": [1]}"#, "pruned_heads"),
            (r#""model_type": "gpt2", "activation_function": "swiglu""#, "swiglu"),
            (r#""model_type": "gpt2", "quantization_config": {"bits": 4}"#, "quantised"),
            (r#""model_type": "gpt2", "add_cross_attention": true"#, "add_cross_attention"),
        ] {
            let text = GPT2.replace(r#""model_type": "gpt2""#, change);
            let error = parse(&text).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
        for (from, to, told) in [
            (r#""n_head": 12"#, r#""n_head": 7"#, "heads"),
            (r#""n_head": 12"#, r#""n_head": 0"#, "heads"),
            (r#""n_embd": 768,"#, "", "n_embd"),
            (r#""n_embd": 768"#, r#""n_embd": "wide""#, "\"n_embd\" is \"wide\"; a whole number"),
        ] {
            let error = parse(&GPT2.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
        assert!(parse("{").is_err());
    }

    #[test]
    fn a_setting_of_another_kind_is_named_with_what_is_wanted() {
        for (from, to, told) in [
            (
                r#""bos_token_id": 50256"#,
                r#""bos_token_id": -1"#,
                "\"bos_token_id\" is -1; a token id",
            ),
            (
                r#""eos_token_id": 50256"#,
                r#""eos_token_id": "</s>""#,
                "\"eos_token_id\" is \"</s>\"",
            ),
            (r#""n_inner": null"#, r#""n_inner": 1.5"#, "\"n_inner\" is 1.5; a whole number"),
            (r#""vocab_size": 50257"#, r#""vocab_size": [1]"#, "\"vocab_size\" is [1]"),
        ] {
            let error = parse(&GPT2.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(told) && error.contains("config.json"), "{error}");
        }
    }
}
