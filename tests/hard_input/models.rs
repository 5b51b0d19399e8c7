//! Models: their settings, their weights in three forms, their tokenizer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde_json::{Value, json};
use tokenized_sae::hub::Hub;
use tokenized_sae::prelude::*;

use super::hammer::{self, Reader, Seed, kind};
use super::memory;
use super::mutate::Kind;

fn golden(family: &str, file: &str) -> Vec<u8> {
    std::fs::read(
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(family).join(file),
    )
    .unwrap()
}

/// The built-in models' tokenizer with its first tokens only, as many as the golden models have.
fn tokenizer() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny-gpt2/tokenizer.json");
    let mut whole: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let model = whole["model"].as_object_mut().unwrap();
    model["vocab"].as_object_mut().unwrap().retain(|_, id| id.as_u64().unwrap() < 59);
    model["vocab"]["ab"] = json!(59);
    model["vocab"]["abc"] = json!(60);
    model["vocab"]["a"] = json!(57);
    model["vocab"]["b"] = json!(58);
    model["vocab"]["c"] = json!(56);
    model["merges"] = json!([["a", "b"], ["ab", "c"]]);
    whole.to_string().into_bytes()
}

/// The settings that transformers has for parts of a tokenizer, beside those that these families
/// use.
fn tokenizers() -> Vec<Seed> {
    let mut whole: Value = serde_json::from_slice(&tokenizer()).unwrap();
    whole["truncation"] =
        json!({"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0});
    whole["padding"] = json!({"strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": 8, "pad_id": 0, "pad_type_id": 0, "pad_token": "!"});
    whole["normalizer"] = json!({"type": "Sequence", "normalizers": [
        {"type": "NFC"}, {"type": "Prepend", "prepend": "a"}, {"type": "Replace", "pattern": {"Regex": "a+"}, "content": "a"},
        {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": false}]});
    whole["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": "[a-z]+|\\s+(?!\\S)"}, "behavior": "Isolated", "invert": false},
        {"type": "Digits", "individual_digits": true},
        {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]});
    whole["post_processor"] = json!({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "!", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"!": {"id": "!", "ids": [1], "tokens": ["!"]}}});
    whole["decoder"] = json!({"type": "Sequence", "decoders": [{"type": "Strip", "content": "a", "start": 1, "stop": 0}, {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}, {"type": "Fuse"}]});
    vec![gpt2(Some(whole.to_string().into_bytes())), gpt2(Some(tokenizer()))]
}

fn gpt2(tokenizer: Option<Vec<u8>>) -> Seed {
    let mut files = BTreeMap::from([
        ("config.json".to_owned(), golden("gpt2", "config.json")),
        ("model.safetensors".to_owned(), golden("gpt2", "model.safetensors")),
    ]);
    files.extend(tokenizer.map(|bytes| ("tokenizer.json".to_owned(), bytes)));
    with_targets(files)
}

fn with_targets(files: BTreeMap<String, Vec<u8>>) -> Seed {
    let targets = files.keys().map(|name| (name.clone(), kind(name).unwrap())).collect();
    Seed { files, targets, sign: None }
}

/// The same weights in two files and an index.
fn sharded(extension: &str) -> Seed {
    let names = [format!("part-1.{extension}"), format!("part-2.{extension}")];
    let mut files = BTreeMap::from([("config.json".to_owned(), golden("neox", "config.json"))]);
    let mut map = serde_json::Map::new();
    let whole = golden("neox", "model.safetensors");
    let tensors = SafeTensors::deserialize(&whole).unwrap();
    for (i, (name, _)) in tensors.iter().enumerate() {
        map.insert(name.to_owned(), json!(names[i % 2]));
    }
    if extension == "bin" {
        // Both shards hold everything: no writer of pickles is at hand.
        names
            .iter()
            .for_each(|name| drop(files.insert(name.clone(), golden("neox", "pytorch_model.bin"))));
        files.insert(
            "pytorch_model.bin.index.json".to_owned(),
            json!({ "weight_map": map }).to_string().into_bytes(),
        );
    } else {
        for (which, file) in names.iter().enumerate() {
            let part = tensors
                .iter()
                .enumerate()
                .filter(|(i, _)| i % 2 == which)
                .map(|(_, tensor)| tensor);
            files.insert(file.clone(), safetensors::serialize(part, None).unwrap());
        }
        files.insert(
            "model.safetensors.index.json".to_owned(),
            json!({ "metadata": { "total_size": 1 }, "weight_map": map }).to_string().into_bytes(),
        );
    }
    with_targets(files)
}

fn load(folder: &Path, processing: Processing) -> Result<Model> {
    let hub = Hub { cache: None, offline: true, ..Hub::from_env() };
    Model::load_from(&hub, folder.to_str().unwrap(), processing)
}

/// What is read runs, and turns text into ids and back.
fn used(model: &Model) {
    let config = model.config();
    assert!(config.gated() || config.d_head * config.n_heads == config.d_model);
    assert!(model.hooks().len() >= 4 * config.n_layers);
    assert!(!format!("{model:?}{config:?}").is_empty());
    for text in ["abc cab", "é\u{0}😀 12", ""] {
        if let Ok(ids) = model.encode(text) {
            let _ = (model.decode(&ids), model.decode(&[0, 60, 61, u32::MAX]));
        }
    }
    let shown: String =
        [0, 1, 60, 61, u32::MAX].into_iter().map(|id| model.token_str(id)).collect();
    assert!(!shown.is_empty());
    let n = 4.min(config.n_ctx);
    let tokens = Tokens::new((0..n as u32).collect(), n).unwrap();
    let last = *model.hooks().last().unwrap();
    if let Ok(value) = model.run_to(&tokens, last) {
        assert_eq!(value.dims(), [1, n, config.d_model]);
    }
    let _ = (model.loss(&tokens), model.sample(1, n, 0));
}

#[test]
fn a_model_with_spoilt_files_is_read_or_refused_and_nothing_else() {
    let _alone = hammer::alone();
    let without = |mut seed: Seed, file: &str| {
        seed.targets.retain(|(name, _)| name != file);
        seed
    };
    let mut whole = gpt2(None);
    // Settings and headers by themselves more often than numbers.
    let settings = without(without(gpt2(Some(tokenizer())), "model.safetensors"), "tokenizer.json");
    let neox = BTreeMap::from([
        ("config.json".to_owned(), golden("neox", "config.json")),
        ("pytorch_model.bin".to_owned(), golden("neox", "pytorch_model.bin")),
    ]);
    whole.targets.push(("model.safetensors".to_owned(), Kind::Bytes));
    let mut stretched: Value = serde_json::from_slice(&golden("llama", "config.json")).unwrap();
    stretched["rope_parameters"] = json!({"rope_type": "llama3", "rope_theta": 100.0, "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 16});
    let llama = BTreeMap::from([
        ("config.json".to_owned(), stretched.to_string().into_bytes()),
        ("model.safetensors".to_owned(), golden("llama", "model.safetensors")),
    ]);
    let seeds = [
        whole,
        settings.clone(),
        settings,
        without(with_targets(neox.clone()), "pytorch_model.bin"),
        with_targets(neox),
        without(with_targets(llama.clone()), "model.safetensors"),
        with_targets(llama),
        sharded("safetensors"),
        sharded("bin"),
    ];
    // Weights are there as bytes, as numbers, and as the processing and the passes lay them out; a
    // vocabulary of 4 GB could not be.
    let reader = Reader { name: "models", share: 9, times: 24, beside: 8 << 20, also: &[] };
    reader.hammer(&seeds, |folder| {
        used(&load(folder, Processing::TransformerLens)?);
        Ok(())
    });
}

#[test]
fn a_spoilt_tokenizer_is_read_or_refused_and_nothing_else() {
    let _alone = hammer::alone();
    let mut seeds = tokenizers();
    seeds.iter_mut().for_each(|seed| seed.targets.retain(|(name, _)| name == "tokenizer.json"));
    // A regular expression becomes automata, of some kilobytes for each dozen of its bytes, and of
    // up to 10 MB each.
    let reader = Reader { name: "tokenizers", share: 8, times: 1024, beside: 64 << 20, also: &[] };
    reader.hammer(&seeds, |folder| {
        used(&load(folder, Processing::Raw)?);
        Ok(())
    });
}

#[test]
fn sizes_that_only_the_settings_tell_take_no_memory() {
    let _alone = hammer::alone();
    for (family, field, size) in [
        ("gpt2", "\"n_layer\": 3", 1 << 30),
        ("neox", "\"num_hidden_layers\": 3", 1 << 30),
        ("neox", "\"max_position_embeddings\": 16", 1 << 30),
    ] {
        let dir = hammer::scratch();
        let config = String::from_utf8(golden(family, "config.json")).unwrap();
        assert!(config.contains(field), "{config}");
        let (name, _) = field.split_once(": ").unwrap();
        std::fs::write(
            dir.path().join("config.json"),
            config.replace(field, &format!("{name}: {size}")),
        )
        .unwrap();
        std::fs::write(dir.path().join("model.safetensors"), golden(family, "model.safetensors"))
            .unwrap();
        let (_, taken) = memory::taken(|| load(dir.path(), Processing::Raw).map(|_| ()));
        assert!(taken < 8 << 20, "{field}: {taken} bytes");
    }
}
