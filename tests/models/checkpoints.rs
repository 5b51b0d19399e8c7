//! Files in every form they come in, and damaged ones.

use std::collections::BTreeMap;
use std::fs;

use safetensors::Dtype;
use serde_json::json;
use tempfile::TempDir;

use super::*;

fn load_dir(dir: &TempDir) -> Result<Model> {
    Model::load_with(dir.path().to_str().unwrap(), Processing::Raw)
}

fn body_prefix(family: &str) -> &'static str {
    match family {
        "gpt2" => "transformer.",
        "neox" => "gpt_neox.",
        _ => "model.",
    }
}

#[test]
fn half_precision_files_are_read_as_the_numbers_they_hold() {
    for family in FAMILIES {
        let checkpoint = Checkpoint::read(family);
        type Rounding = fn(f32) -> f32;
        let roundings: [(Dtype, Rounding); 3] = [
            (Dtype::F16, |x| half::f16::from_f32(x).to_f32()),
            (Dtype::BF16, |x| half::bf16::from_f32(x).to_f32()),
            (Dtype::F64, |x| x),
        ];
        for (dtype, round) in roundings {
            let dir = tempfile::tempdir().unwrap();
            checkpoint.write(dir.path(), dtype);
            let (rounded, tokens) = (checkpoint.rounded(round), Golden::read(family).tokens());
            for processing in [Processing::Raw, Processing::TransformerLens] {
                let model = Model::load_with(dir.path().to_str().unwrap(), processing).unwrap();
                let want = rounded.load(processing).unwrap();
                assert_eq!(
                    model.fingerprint(),
                    want.fingerprint(),
                    "{family} {dtype:?} {processing}"
                );
                for compute in [Compute::F32, Compute::Bf16] {
                    let [got, want] = [&model, &want]
                        .map(|model| values(&model.computing(compute).logits(&tokens).unwrap()));
                    assert_eq!(got, want, "{family} {dtype:?} {processing} {compute}");
                }
            }
        }
    }
}

#[test]
fn names_without_prefix_and_sharded_files_are_the_same_model() {
    for family in FAMILIES {
        let want = load(family, Processing::Raw);
        let mut bare = Checkpoint::read(family);
        bare.tensors = bare
            .tensors
            .into_iter()
            .map(|(name, t)| (name.trim_start_matches(body_prefix(family)).to_owned(), t))
            .collect();
        assert!(bare.tensors.keys().all(|name| !name.starts_with(body_prefix(family))));
        assert_eq!(
            bare.load(Processing::Raw).unwrap().fingerprint(),
            want.fingerprint(),
            "{family} without prefix"
        );

        let checkpoint = Checkpoint::read(family);
        let dir = tempfile::tempdir().unwrap();
        checkpoint.write(dir.path(), Dtype::F32);
        fs::remove_file(dir.path().join("model.safetensors")).unwrap();
        let shard_of = |name: &str| {
            if name.contains(".1.") {
                "model-00002-of-00002.safetensors"
            } else {
                "model-00001-of-00002.safetensors"
            }
        };
        for shard in ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"] {
            checkpoint
                .write_weights(&dir.path().join(shard), Dtype::F32, |name| shard_of(name) == shard);
        }
        let map: BTreeMap<&String, &str> =
            checkpoint.tensors.keys().map(|name| (name, shard_of(name))).collect();
        fs::write(
            dir.path().join("model.safetensors.index.json"),
            json!({"metadata": {}, "weight_map": map}).to_string(),
        )
        .unwrap();
        let sharded = load_dir(&dir).unwrap();
        assert_eq!(sharded.fingerprint(), want.fingerprint(), "{family} in shards");
        fs::remove_file(dir.path().join("model-00002-of-00002.safetensors")).unwrap();
        let told = load_dir(&dir).unwrap_err();
        assert!(
            matches!(told, Error::Io { .. }) && told.to_string().contains("model-00002-of-00002"),
            "{told}"
        );
    }
}

#[test]
fn heads_are_tied_as_the_configuration_says() {
    for (family, head, embedding) in [
        ("gpt2", "lm_head.weight", "transformer.wte.weight"),
        ("neox", "embed_out.weight", "gpt_neox.embed_in.weight"),
        ("llama", "lm_head.weight", "model.embed_tokens.weight"),
    ] {
        let mut tied = Checkpoint::read(family);
        tied.tensors.remove(head);
        let mut untied = tied.clone();
        tied.config["tie_word_embeddings"] = json!(true);
        untied.config["tie_word_embeddings"] = json!(false);
        let missing = untied.load(Processing::Raw).unwrap_err();
        assert!(matches!(&missing, Error::MissingTensor { name, .. } if name == head), "{missing}");
        untied.tensors.insert(head.to_owned(), untied.tensors[embedding].clone());

        let tokens = Golden::read(family).tokens();
        for processing in [Processing::Raw, Processing::TransformerLens] {
            let (tied, untied) = (tied.load(processing).unwrap(), untied.load(processing).unwrap());
            assert_eq!(
                values(&tied.logits(&tokens).unwrap()),
                values(&untied.logits(&tokens).unwrap())
            );
            assert_eq!(untied.n_params() - tied.n_params(), 61 * 32);
        }
        // Folding the last layer norm into a tied head must leave the embedding alone.
        let (raw, processed) =
            (tied.load(Processing::Raw).unwrap(), tied.load(Processing::TransformerLens).unwrap());
        assert!((raw.loss(&tokens).unwrap() - processed.loss(&tokens).unwrap()).abs() < 1e-5);

        // Another head, another model.
        untied.tensors.get_mut(head).unwrap().1[0] += 1.0;
        let other = untied.load(Processing::Raw).unwrap();
        assert!(distance(&other.logits(&tokens).unwrap(), &raw.logits(&tokens).unwrap()) > 1e-2);
        assert_ne!(other.fingerprint(), raw.fingerprint());
    }
}

#[test]
fn a_missing_or_misshapen_tensor_is_named() {
    for family in FAMILIES {
        let whole = Checkpoint::read(family);
        for name in whole.tensors.keys() {
            let mut missing = whole.clone();
            missing.tensors.remove(name);
            let told = missing.load(Processing::Raw).unwrap_err();
            assert!(matches!(&told, Error::MissingTensor { name: n, .. } if n == name), "{told}");
            assert!(told.to_string().contains("model.safetensors"), "{told}");

            let mut misshapen = whole.clone();
            let (shape, numbers) = misshapen.tensors.get_mut(name).unwrap();
            let row = shape[1..].iter().product::<usize>();
            shape[0] -= 1;
            numbers.truncate(numbers.len() - row);
            let told = misshapen.load(Processing::Raw).unwrap_err();
            assert!(
                matches!(&told, Error::Shape { .. }) && told.to_string().contains(name),
                "{told}"
            );
            assert!(told.to_string().contains("model.safetensors"), "{told}");
        }
    }
}

#[test]
fn a_tensor_or_a_setting_too_many_is_refused_by_name() {
    for family in FAMILIES {
        let whole = Checkpoint::read(family);
        let blocks = if family == "gpt2" { "h" } else { "layers" };
        let last = format!("{}{blocks}.2.", body_prefix(family));
        for name in
            ["twist.weight", &format!("{last}mlp.twist"), &last.replace(".2.", ".3.ln.weight")]
        {
            let mut more = whole.clone();
            more.tensors.insert(name.to_owned(), (vec![1], vec![1.0]));
            let told = more.load(Processing::Raw).unwrap_err().to_string();
            assert!(told.contains(name) && told.contains("model.safetensors"), "{told}");
        }
        // Masks and turns, which older versions of transformers kept, change nothing.
        let mut older = whole.clone();
        let masks: &[&str] = match family {
            "gpt2" => &["attn.bias", "attn.masked_bias"],
            "neox" => &["attention.bias", "attention.masked_bias"],
            _ => &["self_attn.rotary_emb.inv_freq"],
        };
        for mask in masks {
            older.tensors.insert(format!("{last}{mask}"), (vec![1], vec![-1e4]));
        }
        let want = whole.load(Processing::Raw).unwrap();
        assert_eq!(older.load(Processing::Raw).unwrap().fingerprint(), want.fingerprint());
        let mut set = whole.clone();
        set.config["twist"] = json!("much");
        let told = set.load(Processing::Raw).unwrap_err().to_string();
        assert!(told.contains("\"twist\": \"much\"") && told.contains("config.json"), "{told}");
    }
}

#[test]
fn prefixes_of_compiled_and_parallel_models_are_taken_away() {
    for family in FAMILIES {
        let whole = Checkpoint::read(family);
        let want = whole.load(Processing::Raw).unwrap();
        for wrapping in ["_orig_mod.", "module.", "module._orig_mod."] {
            let mut wrapped = whole.clone();
            wrapped.tensors = whole
                .tensors
                .iter()
                .map(|(name, tensor)| (format!("{wrapping}{name}"), tensor.clone()))
                .collect();
            let model = wrapped.load(Processing::Raw).unwrap();
            assert_eq!(model.fingerprint(), want.fingerprint(), "{family} {wrapping}");
        }
    }
}

#[test]
fn a_number_that_is_not_finite_is_found_wherever_it_is() {
    for family in FAMILIES {
        let whole = Checkpoint::read(family);
        for (i, (name, (shape, numbers))) in whole.tensors.iter().enumerate() {
            let mut damaged = whole.clone();
            let value = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][i % 3];
            let at = (i * 37) % numbers.len();
            damaged.tensors.get_mut(name).unwrap().1[at] = value;
            let told = damaged.load(Processing::Raw).unwrap_err();
            assert!(
                matches!(&told, Error::NotFinite { .. }) && told.to_string().contains(name),
                "{told}"
            );
            let width = shape[1..].iter().product::<usize>();
            assert!(
                told.to_string().contains(&format!("[{}", at / width)),
                "{told}, want row {}",
                at / width
            );
        }
    }
}

#[test]
fn a_damaged_file_is_refused_whatever_the_damage() {
    let whole = Checkpoint::read("gpt2");
    let dir = tempfile::tempdir().unwrap();
    whole.write(dir.path(), Dtype::F32);
    let path = dir.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    for damaged in [
        &bytes[..bytes.len() - 1],
        &bytes[..bytes.len() / 2],
        &bytes[..100],
        &bytes[..7],
        &[],
        &[bytes.as_slice(), &[0]].concat(),
    ] {
        fs::write(&path, damaged).unwrap();
        let told = load_dir(&dir).unwrap_err();
        assert!(
            matches!(&told, Error::Format { .. }) && told.to_string().contains("model.safetensors"),
            "{told}"
        );
    }
    whole.write_weights(&path, Dtype::I32, |_| true);
    let told = load_dir(&dir).unwrap_err();
    assert!(matches!(&told, Error::Format { .. }) && told.to_string().contains("I32"), "{told}");
}

#[test]
fn what_a_checkpoint_holds_besides_its_weights_does_no_harm() {
    let mut checkpoint = Checkpoint::read("gpt2");
    checkpoint
        .tensors
        .insert("transformer.h.0.attn.bias".to_owned(), (vec![1, 1, 16, 16], vec![1.0; 256]));
    checkpoint.tensors.insert("transformer.h.0.attn.masked_bias".to_owned(), (vec![], vec![-1e4]));
    assert_eq!(
        checkpoint.load(Processing::Raw).unwrap().fingerprint(),
        load("gpt2", Processing::Raw).fingerprint()
    );
}

/// A tokenizer of the words `w0 w1 …`.
fn write_tokenizer(dir: &Path, n: usize) {
    let vocab: BTreeMap<String, usize> = (0..n).map(|i| (format!("w{i}"), i)).collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}, "padding": null,
        "added_tokens": [], "normalizer": null, "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "w0"},
    });
    fs::write(dir.join("tokenizer.json"), tokenizer.to_string()).unwrap();
}

#[test]
fn without_a_tokenizer_token_ids_work_and_text_says_what_is_missing() {
    let model = load("neox", Processing::Raw);
    assert!(model.logits(&Tokens::new(vec![0, 5, 60], 3).unwrap()).is_ok());
    for told in [
        model.encode("text").unwrap_err(),
        model.decode(&[1]).unwrap_err(),
        model.tokenizer().err().unwrap(),
    ] {
        assert!(matches!(told, Error::NoTokenizer { .. }), "{told}");
    }
    assert_eq!(model.token_str(7), "#7");
    assert_eq!(model.bos(), 0);
}

#[test]
fn a_tokenizer_may_be_smaller_than_the_vocabulary_but_not_larger() {
    let dir = tempfile::tempdir().unwrap();
    Checkpoint::read("gpt2").write(dir.path(), Dtype::F32);
    write_tokenizer(dir.path(), 50);
    let model = load_dir(&dir).unwrap();
    assert_eq!(
        model.encode("w3 w49 w4 w5 w6").unwrap(),
        [3, 49, 4, 5, 6],
        "the file's own truncation must not apply"
    );
    assert_eq!(model.decode(&[3, 49]).unwrap(), "w3 w49");
    assert_eq!((model.token_str(49), model.token_str(55)), ("w49".to_owned(), "#55".to_owned()));
    write_tokenizer(dir.path(), 61);
    assert!(load_dir(&dir).is_ok());
    write_tokenizer(dir.path(), 62);
    let told = load_dir(&dir).unwrap_err().to_string();
    assert!(told.contains("tokenizer.json") && told.contains("61"), "{told}");
    fs::write(dir.path().join("tokenizer.json"), "{}").unwrap();
    assert!(matches!(load_dir(&dir), Err(Error::Format { .. })));
}

#[test]
fn a_checkpoint_that_pytorch_wrote_is_the_same_model() {
    let dir = tempfile::tempdir().unwrap();
    for file in ["config.json", "pytorch_model.bin"] {
        fs::copy(folder("neox").join(file), dir.path().join(file)).unwrap();
    }
    assert_eq!(load_dir(&dir).unwrap().fingerprint(), load("neox", Processing::Raw).fingerprint());
    let whole = fs::read(dir.path().join("pytorch_model.bin")).unwrap();
    fs::write(dir.path().join("pytorch_model.bin"), &whole[..whole.len() - 100]).unwrap();
    let told = load_dir(&dir).unwrap_err();
    assert!(
        matches!(&told, Error::Format { .. }) && told.to_string().contains("pytorch_model.bin"),
        "{told}"
    );
}
