//! What is read of `config.json` files as people have them, and what is refused.

use tokenizers::Tokenizer;

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

/// As SmolLM2's own file is written.
const SMOLLM2: &str = r#"{"architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 1,
    "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 576, "initializer_range": 0.041666666666666664, "intermediate_size": 1536,
    "is_llama_config": true, "max_position_embeddings": 8192, "model_type": "llama", "num_attention_heads": 9, "num_hidden_layers": 30,
    "num_key_value_heads": 3, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_interleaved": false, "rope_scaling": null,
    "rope_theta": 100000, "tie_word_embeddings": true, "torch_dtype": "bfloat16", "use_cache": true, "vocab_size": 49152}"#;

/// A tokenizer whose `<|endoftext|>` has this id, and which puts what a post-processor says around
/// a text.
fn tokenizer(end_of_text: u32, post_processor: &str) -> Tokenizer {
    let json = format!(
        r#"{{"version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": null, "decoder": null,
            "post_processor": {post_processor}, "model": {{"type": "WordLevel", "vocab": {{"a": 1, "<|endoftext|>": {end_of_text}}}, "unk_token": "a"}}}}"#
    );
    Tokenizer::from_bytes(json).unwrap()
}

#[test]
fn smollm2_reads_and_its_chats_bos_gives_way_to_what_parts_documents() {
    let mut c = parse(SMOLLM2).unwrap();
    assert_eq!(
        (c.family, c.n_key_value_heads, c.d_head, c.d_qkv(), c.rotary_dim, c.tied, c.attn_bias),
        (Family::Llama, 3, 64, 576 + 2 * 192, 64, true, false)
    );
    assert_eq!((c.bos, c.eos, c.activation, c.rotary_base), (1, 2, Activation::Silu, 1e5));
    c.settle_bos(Some(&tokenizer(0, "null")));
    assert_eq!((c.bos, c.eos), (0, 0));
    // A tokenizer that puts a token first itself is believed.
    let template = r#"{"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [17], "tokens": ["<s>"]}}}"#;
    c.settle_bos(Some(&tokenizer(60_000, template)));
    assert_eq!(c.bos, 17);
    // Without one, the file is.
    let mut c = parse(SMOLLM2).unwrap();
    c.settle_bos(None);
    assert_eq!((c.bos, c.eos), (1, 2));
}

#[test]
fn a_window_shortens_the_context_where_it_is_used() {
    let n_ctx = |kind: &str, more: &str| {
        let text = SMOLLM2
            .replace(r#""llama""#, &format!("\"{kind}\""))
            .replace(r#""attention_bias": false, "#, more);
        parse(&text).unwrap().n_ctx
    };
    assert_eq!(n_ctx("mistral", r#""sliding_window": 4096, "#), 4096);
    assert_eq!(n_ctx("mistral", r#""sliding_window": null, "#), 8192);
    assert_eq!(n_ctx("mistral", ""), 8192);
    let qwen2 = |used: bool| {
        format!(
            r#""sliding_window": 32, "use_sliding_window": {used}, "max_window_layers": 21, "layer_types": ["full_attention"], "#
        )
    };
    assert_eq!(n_ctx("qwen2", &qwen2(false)), 8192);
    assert_eq!(n_ctx("qwen2", &qwen2(true)), 32);
}

#[test]
fn llama_3s_positions_are_stretched_and_others_refused() {
    let with = |scaling: &str| {
        parse(&SMOLLM2.replace(r#""rope_scaling": null"#, &format!("\"rope_scaling\": {scaling}")))
    };
    let llama3 = r#"{"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192, "rope_type": "llama3"}"#;
    let scaling = with(llama3).unwrap().rotary_scaling.unwrap();
    // A turn a position is quick and stays; one that does not come round in 8,192 is slowed.
    assert_eq!(scaling.apply(1.0), 1.0);
    assert_eq!(scaling.apply(1e-4), 1e-4 / 32.0);
    assert!(
        with(r#"{"rope_type": "yarn", "factor": 4.0}"#).unwrap_err().to_string().contains("yarn")
    );
    assert!(with(r#"{"rope_type": "llama3", "factor": 4.0}"#).is_err());
    assert!(
        with(&llama3.replace("4.0", "1.0")).unwrap_err().to_string().contains("low_freq_factor")
    );
    assert!(with(&llama3.replace("32.0", "0.0")).unwrap_err().to_string().contains("positive"));
    assert!(
        with(&llama3.replace(r#""factor""#, r#""beta": 1, "factor""#))
            .unwrap_err()
            .to_string()
            .contains("beta")
    );
}

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
    c.settle_bos(Some(&tokenizer(7, "null")));
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
    let set = |bos: &str, eos: &str, end_of_text: Option<u32>| {
        let text = GPT2.replace(
            r#""bos_token_id": 50256, "eos_token_id": 50256,"#,
            &format!(r#""bos_token_id": {bos}, "eos_token_id": {eos},"#),
        );
        let mut c = parse(&text).unwrap();
        c.settle_bos(end_of_text.map(|id| tokenizer(id, "null")).as_ref());
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
            assert!(error.contains(size) || error.contains("heads"), "{field} = {size}: {error}");
        }
    }
}

#[test]
fn what_cannot_be_computed_is_refused_by_name() {
    for (change, told) in [
        (r#""model_type": "gemma2""#, "gemma2"),
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
        (r#""bos_token_id": 50256"#, r#""bos_token_id": -1"#, "\"bos_token_id\" is -1; a token id"),
        (r#""eos_token_id": 50256"#, r#""eos_token_id": "</s>""#, "\"eos_token_id\" is \"</s>\""),
        (r#""n_inner": null"#, r#""n_inner": 1.5"#, "\"n_inner\" is 1.5; a whole number"),
        (r#""vocab_size": 50257"#, r#""vocab_size": [1]"#, "\"vocab_size\" is [1]"),
    ] {
        let error = parse(&GPT2.replace(from, to)).unwrap_err().to_string();
        assert!(error.contains(told) && error.contains("config.json"), "{error}");
    }
}
