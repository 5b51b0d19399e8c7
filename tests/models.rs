//! Models against golden values made by `transformers` (see `golden/make_golden.py`), and against damaged checkpoints.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokenized_sae::prelude::*;

const FAMILIES: [&str; 2] = ["gpt2", "neox"];

fn folder(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(family)
}

fn load(family: &str, processing: Processing) -> Model {
    Model::load_with(folder(family).to_str().unwrap(), processing).unwrap()
}

// ---- golden values ----

struct Golden(std::collections::HashMap<String, Tensor>);

impl Golden {
    fn read(family: &str) -> Golden {
        Golden(candle_core::safetensors::load(folder(family).join("golden.safetensors"), &Device::Cpu).unwrap())
    }

    fn tokens(&self) -> Tokens {
        let ids = values(&self.0["tokens"].to_dtype(candle_core::DType::F32).unwrap());
        Tokens::new(ids.into_iter().map(|id| id as u32).collect(), 12).unwrap()
    }
}

fn values(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

/// The largest difference between two tensors of one shape.
fn distance(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let (a, b) = (values(a), values(b));
    // A NaN is infinitely far from everything.
    a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, |far, d| {
        if d <= far {
            far
        } else if d.is_nan() {
            f32::INFINITY
        } else {
            d
        }
    })
}

fn log_probs(logits: &Tensor) -> Tensor {
    candle_nn::ops::log_softmax(logits, candle_core::D::Minus1).unwrap()
}

#[test]
fn every_hook_and_the_logits_are_those_of_transformers() {
    for family in FAMILIES {
        let (model, golden) = (load(family, Processing::Raw), Golden::read(family));
        let tokens = golden.tokens();
        let hooks = model.hooks();
        assert_eq!(hooks.len(), if family == "gpt2" { 15 } else { 12 });
        let all = model.run_to_many(&tokens, &hooks).unwrap();
        for (hook, got) in hooks.iter().zip(&all) {
            let want = &golden.0[&hook.to_string()];
            assert!(distance(got, want) < 1e-4, "{family} {hook}: {}", distance(got, want));
            assert!(distance(&model.run_to(&tokens, *hook).unwrap(), want) < 1e-4, "{family} {hook} alone");
        }
        let logits = model.logits(&tokens).unwrap();
        assert!(distance(&logits, &golden.0["logits"]) < 1e-4, "{family} logits");
        let want = values(&golden.0["loss"])[0];
        let per_token = model.loss_per_token(&logits, &tokens).unwrap();
        assert_eq!(per_token.len(), 2 * 11);
        for loss in [model.loss(&tokens).unwrap() as f32, per_token.iter().sum::<f32>() / 22.0] {
            assert!((loss - want).abs() < 1e-4, "{family} loss {loss}, want {want}");
        }
    }
}

#[test]
fn settings_of_the_configuration_do_what_they_do_in_transformers() {
    let mut seen = 0;
    for family in FAMILIES {
        let golden = Golden::read(family);
        for (change, want) in golden.0.iter().filter(|(name, _)| name.contains('=')) {
            let (key, value) = change.split_once('=').unwrap();
            let mut checkpoint = Checkpoint::read(family);
            checkpoint.config[key] = serde_json::from_str(value).unwrap();
            let model = checkpoint.load(Processing::Raw).unwrap();
            let far = distance(&model.logits(&golden.tokens()).unwrap(), want);
            assert!(far < 1e-4, "{family} with {change}: {far}");
            // One after the other, NeoX has a residual stream in between.
            let mid = model.check_hook("blocks.1.hook_resid_mid".parse().unwrap());
            assert_eq!(mid.is_ok(), family == "gpt2" || key == "use_parallel_residual");
            seen += 1;
        }
    }
    assert_eq!(seen, 9);
}

#[test]
fn the_older_names_of_rotary_settings_count_as_the_newer() {
    let mut checkpoint = Checkpoint::read("neox");
    checkpoint.config.as_object_mut().unwrap().remove("rope_parameters");
    checkpoint.config["rotary_pct"] = json!(0.5);
    checkpoint.config["rotary_emb_base"] = json!(10000);
    let model = checkpoint.load(Processing::Raw).unwrap();
    let golden = Golden::read("neox");
    assert!(distance(&model.logits(&golden.tokens()).unwrap(), &golden.0["logits"]) < 1e-4);
}

// ---- splicing ----

#[test]
fn a_hooks_own_value_put_back_changes_nothing() {
    for family in FAMILIES {
        for processing in [Processing::Raw, Processing::TransformerLens] {
            let (model, tokens) = (load(family, processing), Golden::read(family).tokens());
            let logits = model.logits(&tokens).unwrap();
            for hook in model.hooks() {
                let paused = model.pause_at(&tokens, hook).unwrap();
                assert_eq!(paused.hook(), hook);
                assert_eq!(values(&paused.value), values(&model.run_to(&tokens, hook).unwrap()));
                assert_eq!(values(&model.resume(&paused, &paused.value).unwrap()), values(&logits), "{family} {hook}");
                // A copy that is laid out otherwise is the same value.
                let turned = paused.value.transpose(0, 1).unwrap().contiguous().unwrap().transpose(0, 1).unwrap();
                assert_eq!(values(&model.resume(&paused, &turned).unwrap()), values(&logits), "{family} {hook}");
                if hook.site.is_resid() {
                    assert_eq!(values(&model.run_from(hook, &paused.value).unwrap()), values(&logits), "{family} {hook}");
                } else {
                    assert!(matches!(model.run_from(hook, &paused.value), Err(Error::UnknownHook { .. })));
                }
            }
        }
    }
}

#[test]
fn another_value_takes_effect_from_its_position_on() {
    for family in FAMILIES {
        let (model, tokens) = (load(family, Processing::Raw), Golden::read(family).tokens());
        let logits = model.logits(&tokens).unwrap();
        for hook in model.hooks() {
            let paused = model.pause_at(&tokens, hook).unwrap();
            let mut changed = values(&paused.value);
            changed[5 * 32 + 3] += 1.0; // sequence 0, position 5
            let changed = Tensor::from_vec(changed, (2, 12, 32), &Device::Cpu).unwrap();
            let spliced = model.resume(&paused, &changed).unwrap();
            let at = |seq, position: usize| {
                distance(
                    &spliced.narrow(0, seq, 1).unwrap().narrow(1, position, 1).unwrap(),
                    &logits.narrow(0, seq, 1).unwrap().narrow(1, position, 1).unwrap(),
                )
            };
            assert!((0..5).all(|p| at(0, p) == 0.0) && (0..12).all(|p| at(1, p) == 0.0), "{family} {hook} reaches back or across");
            assert!(at(0, 5) > 1e-4, "{family} {hook} does nothing");
            // What is written in the last block can no longer reach other positions.
            let later = (6..12).map(|p| at(0, p)).fold(0.0, f32::max);
            assert_eq!(later > 0.0, hook.layer < 2 || hook.site == Site::ResidPre, "{family} {hook}: {later}");
        }
    }
}

#[test]
fn zeroing_what_the_last_mlp_writes_leaves_the_stream_before_it() {
    let (model, tokens) = (load("gpt2", Processing::Raw), Golden::read("gpt2").tokens());
    let paused = model.pause_at(&tokens, "blocks.2.hook_mlp_out".parse().unwrap()).unwrap();
    let ablated = model.resume(&paused, &paused.value.zeros_like().unwrap()).unwrap();
    let mid = model.run_to(&tokens, "blocks.2.hook_resid_mid".parse().unwrap()).unwrap();
    let want = model.run_from("blocks.2.hook_resid_post".parse().unwrap(), &mid).unwrap();
    assert_eq!(values(&ablated), values(&want));
}

#[test]
fn values_of_the_wrong_shape_are_refused() {
    let (model, tokens) = (load("gpt2", Processing::Raw), Golden::read("gpt2").tokens());
    let hook = HookPoint::resid_pre(1);
    let paused = model.pause_at(&tokens, hook).unwrap();
    let of = |shape: &[usize]| Tensor::zeros(shape, candle_core::DType::F32, &Device::Cpu).unwrap();
    for shape in [&[2, 12, 31][..], &[1, 12, 32], &[2, 11, 32], &[24, 32]] {
        assert!(matches!(model.resume(&paused, &of(shape)), Err(Error::Shape { .. })), "{shape:?}");
    }
    for shape in [&[2, 12, 31][..], &[24, 32], &[32]] {
        assert!(matches!(model.run_from(hook, &of(shape)), Err(Error::Shape { .. })), "{shape:?}");
    }
    assert!(matches!(model.run_from(hook, &of(&[1, 17, 32])), Err(Error::Config { .. })));
    assert!(matches!(model.loss_per_token(&of(&[2, 12, 60]), &tokens), Err(Error::Shape { .. })));
}

// ---- processing ----

#[test]
fn processing_keeps_the_predictions_and_centres_the_activations() {
    for family in FAMILIES {
        let (raw, processed) = (load(family, Processing::Raw), load(family, Processing::TransformerLens));
        assert_eq!(Model::load(folder(family).to_str().unwrap()).unwrap().processing(), Processing::TransformerLens);
        let tokens = Golden::read(family).tokens();
        assert!((raw.loss(&tokens).unwrap() - processed.loss(&tokens).unwrap()).abs() < 1e-5, "{family} loss");
        let far = distance(&log_probs(&raw.logits(&tokens).unwrap()), &log_probs(&processed.logits(&tokens).unwrap()));
        assert!(far < 1e-4, "{family} log-probs: {far}");
        for hook in raw.hooks() {
            let (raw, processed) = (raw.run_to(&tokens, hook).unwrap(), processed.run_to(&tokens, hook).unwrap());
            let mean = raw.mean_keepdim(2).unwrap();
            assert!(values(&mean).iter().any(|m| m.abs() > 1e-2), "{family} {hook}: the raw values are centred already");
            let far = distance(&raw.broadcast_sub(&mean).unwrap(), &processed);
            assert!(far < 1e-4, "{family} {hook}: {far}");
        }
        assert_ne!(raw.fingerprint(), processed.fingerprint());
    }
}

// ---- forms of one checkpoint ----

/// A checkpoint in memory, to be changed and written.
#[derive(Clone)]
struct Checkpoint {
    config: Value,
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl Checkpoint {
    fn read(family: &str) -> Checkpoint {
        let config = serde_json::from_slice(&fs::read(folder(family).join("config.json")).unwrap()).unwrap();
        let bytes = fs::read(folder(family).join("model.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let numbers = |view: &TensorView| view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        let tensors = tensors.iter().map(|(name, view)| (name.to_owned(), (view.shape().to_vec(), numbers(&view)))).collect();
        Checkpoint { config, tensors }
    }

    fn write(&self, dir: &Path, dtype: Dtype) {
        fs::write(dir.join("config.json"), self.config.to_string()).unwrap();
        self.write_weights(&dir.join("model.safetensors"), dtype, |_| true);
    }

    fn write_weights(&self, path: &Path, dtype: Dtype, keep: impl Fn(&str) -> bool) {
        let bytes = |numbers: &[f32]| -> Vec<u8> {
            match dtype {
                Dtype::F16 => numbers.iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes()).collect(),
                Dtype::BF16 => numbers.iter().flat_map(|&x| half::bf16::from_f32(x).to_le_bytes()).collect(),
                Dtype::F64 => numbers.iter().flat_map(|&x| (x as f64).to_le_bytes()).collect(),
                Dtype::I32 => numbers.iter().flat_map(|&x| (x as i32).to_le_bytes()).collect(),
                _ => numbers.iter().flat_map(|&x| x.to_le_bytes()).collect(),
            }
        };
        let data: Vec<(&String, &Vec<usize>, Vec<u8>)> =
            self.tensors.iter().filter(|(name, _)| keep(name)).map(|(name, (shape, numbers))| (name, shape, bytes(numbers))).collect();
        let views = data.iter().map(|(name, shape, bytes)| (*name, TensorView::new(dtype, shape.to_vec(), bytes).unwrap()));
        safetensors::serialize_to_file(views, None, path).unwrap();
    }

    /// Writes to a fresh folder and loads from it.
    fn load(&self, processing: Processing) -> Result<Model> {
        let dir = tempfile::tempdir().unwrap();
        self.write(dir.path(), Dtype::F32);
        Model::load_with(dir.path().to_str().unwrap(), processing)
    }

    fn rounded(&self, round: impl Fn(f32) -> f32) -> Checkpoint {
        let mut rounded = self.clone();
        rounded.tensors.values_mut().for_each(|(_, numbers)| numbers.iter_mut().for_each(|x| *x = round(*x)));
        rounded
    }
}

fn load_dir(dir: &TempDir) -> Result<Model> {
    Model::load_with(dir.path().to_str().unwrap(), Processing::Raw)
}

fn body_prefix(family: &str) -> &'static str {
    if family == "gpt2" { "transformer." } else { "gpt_neox." }
}

#[test]
fn half_precision_files_are_read_as_the_numbers_they_hold() {
    for family in FAMILIES {
        let checkpoint = Checkpoint::read(family);
        type Rounding = fn(f32) -> f32;
        let roundings: [(Dtype, Rounding); 3] =
            [(Dtype::F16, |x| half::f16::from_f32(x).to_f32()), (Dtype::BF16, |x| half::bf16::from_f32(x).to_f32()), (Dtype::F64, |x| x)];
        for (dtype, round) in roundings {
            let dir = tempfile::tempdir().unwrap();
            checkpoint.write(dir.path(), dtype);
            let (model, want) = (load_dir(&dir).unwrap(), checkpoint.rounded(round).load(Processing::Raw).unwrap());
            assert_eq!(model.fingerprint(), want.fingerprint(), "{family} {dtype:?}");
            let tokens = Golden::read(family).tokens();
            assert_eq!(values(&model.logits(&tokens).unwrap()), values(&want.logits(&tokens).unwrap()));
        }
    }
}

#[test]
fn names_without_prefix_and_sharded_files_are_the_same_model() {
    for family in FAMILIES {
        let want = load(family, Processing::Raw);
        let mut bare = Checkpoint::read(family);
        bare.tensors = bare.tensors.into_iter().map(|(name, t)| (name.trim_start_matches(body_prefix(family)).to_owned(), t)).collect();
        assert!(bare.tensors.keys().all(|name| !name.starts_with(body_prefix(family))));
        assert_eq!(bare.load(Processing::Raw).unwrap().fingerprint(), want.fingerprint(), "{family} without prefix");

        let checkpoint = Checkpoint::read(family);
        let dir = tempfile::tempdir().unwrap();
        checkpoint.write(dir.path(), Dtype::F32);
        fs::remove_file(dir.path().join("model.safetensors")).unwrap();
        let shard_of =
            |name: &str| if name.contains(".1.") { "model-00002-of-00002.safetensors" } else { "model-00001-of-00002.safetensors" };
        for shard in ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"] {
            checkpoint.write_weights(&dir.path().join(shard), Dtype::F32, |name| shard_of(name) == shard);
        }
        let map: BTreeMap<&String, &str> = checkpoint.tensors.keys().map(|name| (name, shard_of(name))).collect();
        fs::write(dir.path().join("model.safetensors.index.json"), json!({"metadata": {}, "weight_map": map}).to_string()).unwrap();
        let sharded = load_dir(&dir).unwrap();
        assert_eq!(sharded.fingerprint(), want.fingerprint(), "{family} in shards");
        fs::remove_file(dir.path().join("model-00002-of-00002.safetensors")).unwrap();
        let told = load_dir(&dir).unwrap_err();
        assert!(matches!(told, Error::Io { .. }) && told.to_string().contains("model-00002-of-00002"), "{told}");
    }
}

#[test]
fn heads_are_tied_as_the_configuration_says() {
    for (family, head, embedding) in
        [("gpt2", "lm_head.weight", "transformer.wte.weight"), ("neox", "embed_out.weight", "gpt_neox.embed_in.weight")]
    {
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
            assert_eq!(values(&tied.logits(&tokens).unwrap()), values(&untied.logits(&tokens).unwrap()));
            assert_eq!(untied.n_params() - tied.n_params(), 61 * 32);
        }
        // Folding the last layer norm into a tied head must leave the embedding alone.
        let (raw, processed) = (tied.load(Processing::Raw).unwrap(), tied.load(Processing::TransformerLens).unwrap());
        assert!((raw.loss(&tokens).unwrap() - processed.loss(&tokens).unwrap()).abs() < 1e-5);

        // Another head, another model.
        untied.tensors.get_mut(head).unwrap().1[0] += 1.0;
        let other = untied.load(Processing::Raw).unwrap();
        assert!(distance(&other.logits(&tokens).unwrap(), &raw.logits(&tokens).unwrap()) > 1e-2);
        assert_ne!(other.fingerprint(), raw.fingerprint());
    }
}

// ---- damage ----

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
            assert!(matches!(&told, Error::Shape { .. }) && told.to_string().contains(name), "{told}");
            assert!(told.to_string().contains("model.safetensors"), "{told}");
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
            assert!(matches!(&told, Error::NotFinite { .. }) && told.to_string().contains(name), "{told}");
            let width = shape[1..].iter().product::<usize>();
            assert!(told.to_string().contains(&format!("[{}", at / width)), "{told}, want row {}", at / width);
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
    for damaged in
        [&bytes[..bytes.len() - 1], &bytes[..bytes.len() / 2], &bytes[..100], &bytes[..7], &[], &[bytes.as_slice(), &[0]].concat()]
    {
        fs::write(&path, damaged).unwrap();
        let told = load_dir(&dir).unwrap_err();
        assert!(matches!(&told, Error::Format { .. }) && told.to_string().contains("model.safetensors"), "{told}");
    }
    whole.write_weights(&path, Dtype::I32, |_| true);
    let told = load_dir(&dir).unwrap_err();
    assert!(matches!(&told, Error::Format { .. }) && told.to_string().contains("I32"), "{told}");
}

#[test]
fn what_a_checkpoint_holds_besides_its_weights_does_no_harm() {
    let mut checkpoint = Checkpoint::read("gpt2");
    checkpoint.tensors.insert("transformer.h.0.attn.bias".to_owned(), (vec![1, 1, 16, 16], vec![1.0; 256]));
    checkpoint.tensors.insert("transformer.h.0.attn.masked_bias".to_owned(), (vec![], vec![-1e4]));
    assert_eq!(checkpoint.load(Processing::Raw).unwrap().fingerprint(), load("gpt2", Processing::Raw).fingerprint());
}

// ---- tokenizers ----

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
    for told in [model.encode("text").unwrap_err(), model.decode(&[1]).unwrap_err(), model.tokenizer().err().unwrap()] {
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
    assert_eq!(model.encode("w3 w49 w4 w5 w6").unwrap(), [3, 49, 4, 5, 6], "the file's own truncation must not apply");
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

// ---- asking for what there is not ----

#[test]
fn hooks_tokens_and_lengths_that_the_model_lacks_are_refused() {
    let (gpt2, neox) = (load("gpt2", Processing::Raw), load("neox", Processing::Raw));
    let tokens = Tokens::new(vec![1; 12], 12).unwrap();
    let beyond: HookPoint = "blocks.3.hook_resid_pre".parse().unwrap();
    let mid: HookPoint = "blocks.1.hook_resid_mid".parse().unwrap();
    for told in [
        gpt2.run_to(&tokens, beyond).unwrap_err(),
        gpt2.run_to_many(&tokens, &[HookPoint::resid_pre(0), beyond]).unwrap_err(),
        gpt2.pause_at(&tokens, beyond).err().unwrap(),
        gpt2.check_hook(beyond).unwrap_err(),
    ] {
        assert!(matches!(&told, Error::UnknownHook { .. }) && told.to_string().contains("3 blocks"), "{told}");
    }
    assert!(gpt2.check_hook(mid).is_ok());
    let told = neox.check_hook(mid).unwrap_err().to_string();
    assert!(told.contains("parallel"), "{told}");
    assert!(gpt2.hooks().iter().all(|&hook| gpt2.check_hook(hook).is_ok()) && gpt2.hooks().is_sorted());

    let stranger = Tokens::new(vec![1, 2, 61, 3], 2).unwrap();
    for told in [gpt2.logits(&stranger).unwrap_err(), gpt2.loss(&stranger).unwrap_err(), gpt2.run_to(&stranger, mid).unwrap_err()] {
        assert!(matches!(told, Error::TokenId { id: 61, position: 2, d_vocab: 61 }), "{told}");
    }
    let long = Tokens::new(vec![1; 17], 17).unwrap();
    for told in [gpt2.logits(&long).unwrap_err(), neox.loss(&long).unwrap_err(), gpt2.sample(1, 17, 0).unwrap_err()] {
        assert!(matches!(&told, Error::Config { field: "n_ctx", .. }) && told.to_string().contains("16"), "{told}");
    }
    assert!(matches!(gpt2.loss(&Tokens::new(vec![1, 2], 1).unwrap()), Err(Error::Config { .. })));
    assert!(matches!(gpt2.loss(&Tokens::new(vec![], 4).unwrap()), Err(Error::Config { .. })));
    assert!(matches!(gpt2.sample(1, 0, 0), Err(Error::Config { .. })));
    assert_eq!(gpt2.run_to(&Tokens::new(vec![], 4).unwrap(), mid).unwrap().dims(), &[0, 4, 32]);
    assert!(matches!(Model::load("no/such/model"), Err(Error::UnknownModel { .. })));
}

// ---- sampling and prediction ----

#[test]
fn samples_depend_on_the_seed_and_on_nothing_else() {
    for family in FAMILIES {
        let model = load(family, Processing::TransformerLens);
        let all = model.sample(9, 16, 7).unwrap();
        assert_eq!((all.n_seq(), all.n_ctx()), (9, 16));
        assert!((0..9).all(|i| all.row(i)[0] == model.bos()) && all.check(61).is_ok());
        assert_eq!(all, model.sample(9, 16, 7).unwrap());
        assert_ne!(all, model.sample(9, 16, 8).unwrap());
        assert!((1..9).all(|i| all.row(i) != all.row(0)), "sequences of one batch differ");
        // However they are split, the same sequences.
        for cuts in [vec![0, 9], vec![0, 1, 9], vec![0, 4, 5, 9], (0..=9).collect()] {
            let ids: Vec<u32> = cuts.windows(2).flat_map(|c| model.sample_range(c[0], c[1], 16, 7).unwrap().ids().to_vec()).collect();
            assert_eq!(ids, all.ids(), "{family} cut at {cuts:?}");
        }
        // A shorter row is the beginning of a longer one.
        assert_eq!(model.sample(9, 5, 7).unwrap().row(8), &all.row(8)[..5]);
        assert_eq!(model.sample(2, 1, 7).unwrap().ids(), [model.bos(); 2]);
        assert!(model.sample(0, 4, 7).unwrap().is_empty());
    }
}

#[test]
fn a_sequence_does_not_depend_on_the_size_of_its_batch() {
    for name in ["tiny-gpt2", "tiny-pythia"] {
        let model = Model::load(name).unwrap();
        let all = model.sample(70, 24, 3).unwrap();
        for (from, to) in [(0, 1), (5, 7), (20, 53), (69, 70)] {
            let some = model.sample_range(from, to, 24, 3).unwrap();
            assert_eq!(some, all.rows(from, to), "{name} {from}..{to}");
        }
    }
}

#[test]
fn samples_are_drawn_with_the_models_probabilities() {
    for family in FAMILIES {
        let model = load(family, Processing::Raw);
        let n = 20_000;
        let sampled = model.sample(n, 3, 1).unwrap();
        let mut second = vec![0f64; 61];
        (0..n).for_each(|i| second[sampled.row(i)[1] as usize] += 1.0);
        let p = log_probs(&model.logits(&Tokens::new(vec![model.bos()], 1).unwrap()).unwrap());
        for (id, (count, p)) in second.iter().zip(values(&p)).enumerate() {
            let p = (p as f64).exp();
            let sigma = (n as f64 * p * (1.0 - p)).sqrt();
            assert!((count - n as f64 * p).abs() < 5.0 * sigma + 1.0, "{family} token {id}: {count} of {}", n as f64 * p);
        }
        // The loss of what it wrote, given all before, is its own entropy: near the mean over positions, and not above chance.
        let loss = model.loss(&sampled.rows(0, 4000)).unwrap();
        assert!(loss < (61f64).ln(), "{loss}");
    }
}

#[test]
fn a_bos_that_no_embedding_has_is_told_when_it_is_needed() {
    let mut checkpoint = Checkpoint::read("gpt2");
    checkpoint.config["bos_token_id"] = json!(50256);
    checkpoint.config["eos_token_id"] = json!(50256);
    let model = checkpoint.load(Processing::Raw).unwrap();
    assert!(model.predict(&[1, 2, 3], 1).is_ok());
    let told = model.sample(1, 4, 0).unwrap_err();
    assert!(matches!(told, Error::Config { field: "bos_token_id", .. }), "{told}");
    checkpoint.config["eos_token_id"] = json!(0);
    assert_eq!(checkpoint.load(Processing::Raw).unwrap().bos(), 0);
}

#[test]
fn predictions_are_the_best_of_the_last_position() {
    for family in FAMILIES {
        let golden = Golden::read(family);
        let model = load(family, Processing::Raw);
        let tokens = golden.tokens();
        let prediction = model.predict(tokens.row(1), 61).unwrap();
        let want = values(&log_probs(&golden.0["logits"].narrow(0, 1, 1).unwrap().narrow(1, 11, 1).unwrap()));
        assert_eq!(prediction.top.len(), 61);
        for candidate in &prediction.top {
            assert!((candidate.logprob - want[candidate.id as usize] as f64).abs() < 1e-4);
            assert_eq!(candidate.token, format!("#{}", candidate.id));
        }
        assert!(prediction.top.is_sorted_by(|a, b| a.logprob >= b.logprob));
        assert!((prediction.top.iter().map(|c| c.logprob.exp()).sum::<f64>() - 1.0).abs() < 1e-9);
        assert!((prediction.loss.unwrap() - model.loss(&tokens.rows(1, 2)).unwrap()).abs() < 1e-6);

        assert_eq!(model.predict(tokens.row(1), 3).unwrap().top, prediction.top[..3]);
        assert_eq!(model.predict(&[5], 1).unwrap().loss, None);
        assert!(matches!(model.predict(&[], 1), Err(Error::Config { .. })));
        assert!(matches!(model.predict(&[61], 1), Err(Error::TokenId { .. })));
        assert!(matches!(model.predict(&[1; 17], 1), Err(Error::Config { .. })));
        let text = serde_json::to_value(model.predict(&[5], 1).unwrap()).unwrap();
        assert!(text["top"][0]["id"].is_u64() && text["top"][0]["token"].is_string() && text["loss"].is_null(), "{text}");
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    for name in ["tiny-gpt2", "tiny-pythia"] {
        let model = Model::load(name).unwrap();
        let tokens = Tokens::new((0..4 * 130).map(|i| (i * 997) % 4096).collect(), 130).unwrap();
        let hook = model.hooks()[model.hooks().len() - 1];
        let work = || (values(&model.run_to(&tokens, hook).unwrap()), model.loss(&tokens).unwrap(), model.sample(3, 12, 5).unwrap());
        let with = |threads: usize| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work);
        let one = with(1);
        assert!(one == with(2) && one == with(5), "{name}");
    }
}

#[test]
fn a_model_can_be_shared_between_threads() {
    let model = load("gpt2", Processing::Raw);
    let tokens = Golden::read("gpt2").tokens();
    let want = model.loss(&tokens).unwrap();
    let losses: Vec<f64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(|| model.clone().loss(&tokens).unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(losses, [want; 3]);
}

// ---- the built-in models ----

#[test]
fn the_built_in_models_load_and_have_learned_something() {
    for name in ["tiny-gpt2", "tiny-pythia"] {
        let model = Model::load(name).unwrap();
        assert_eq!(model.name(), name);
        let text = "It was the best of times, it was the worst of times, and there was nothing to be done but to wait for the morning.";
        let ids = model.encode(text).unwrap();
        assert_eq!(model.decode(&ids).unwrap(), text);
        let with_bos: Vec<u32> = std::iter::once(model.bos()).chain(ids).collect();
        let loss = model.predict(&with_bos, 1).unwrap().loss.unwrap();
        assert!(loss < (model.config().d_vocab as f64).ln() - 2.0, "{name}: {loss}");
        let raw = Model::load_with(name, Processing::Raw).unwrap();
        assert!((raw.predict(&with_bos, 1).unwrap().loss.unwrap() - loss).abs() < 1e-4);
        model.evcxr_display();
        model.config().evcxr_display();
    }
}

// ---- bf16 ----

/// What rounding the operands to bf16 does to activations (relative to their size, over all tokens) and to the loss.
#[test]
fn products_in_bf16_change_activations_by_less_than_a_hundredth_and_hardly_the_loss() {
    for name in ["tiny-gpt2", "tiny-pythia"] {
        let exact = Model::load(name).unwrap();
        let rounded = exact.computing(Compute::Bf16);
        assert_eq!((exact.compute(), rounded.compute()), (Compute::F32, Compute::Bf16));
        let tokens = exact.sample(16, 128, 3).unwrap();
        for hook in [HookPoint::resid_pre(2), HookPoint { layer: exact.config().n_layers - 1, site: Site::ResidPost }] {
            let of = |model: &Model| model.run_to(&tokens, hook).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let (a, b) = (of(&exact), of(&rounded));
            let square = |x: f32| f64::from(x) * f64::from(x);
            let error = a.iter().zip(&b).map(|(a, b)| square(a - b)).sum::<f64>() / a.iter().map(|a| square(*a)).sum::<f64>();
            println!("{name} {hook}: relative error {:.2e}", error.sqrt());
            assert!(error.sqrt() < 1e-2 && error > 0.0, "{name} {hook}: {}", error.sqrt());
        }
        let (loss, loss_bf16) = (exact.loss(&tokens).unwrap(), rounded.loss(&tokens).unwrap());
        println!("{name}: loss {loss:.5}, in bf16 {loss_bf16:.5}, {:+.5}", loss_bf16 - loss);
        assert!((loss - loss_bf16).abs() < 5e-3, "{name}: {loss} {loss_bf16}");
    }
}

/// A pass that stops nowhere goes through whole blocks at once; one that asks for every hook goes step by step. Both are one pass.
#[test]
fn whole_blocks_give_what_their_steps_give() {
    for name in ["tiny-gpt2", "tiny-pythia", "tests/golden/gpt2", "tests/golden/neox"] {
        for compute in [Compute::F32, Compute::Bf16] {
            let model = Model::load(name).unwrap().computing(compute);
            let n = model.config().n_ctx.min(12);
            let tokens = Tokens::new((0..4 * n as u32).map(|i| i * 7 % 61).collect(), n).unwrap();
            let stepwise = model.run_to_many(&tokens, &model.hooks()).unwrap();
            for (hook, want) in model.hooks().into_iter().zip(stepwise) {
                let far = (model.run_to(&tokens, hook).unwrap() - &want).unwrap().abs().unwrap().max_all().unwrap();
                let size = want.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
                let allowed = if compute == Compute::F32 { 2e-6 } else { 1e-2 } * size.max(1.0);
                assert!(far.to_scalar::<f32>().unwrap() <= allowed, "{name} {hook} {compute}");
            }
        }
    }
}
