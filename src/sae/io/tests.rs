//! Every tensor and every setting of a file is accounted for, whichever library wrote it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::*;
use crate::formats::arrays::{self, Array};
use crate::formats::pickle::{self, Data};
use crate::model::Model;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/sae").join(name)
}

/// A copy of an SAE's folder, or of its file.
fn copy(name: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (golden(name), dir.path().join(Path::new(name).file_name().unwrap()));
    if from.is_file() {
        fs::copy(&from, &to).unwrap();
        return (dir, to);
    }
    fs::create_dir(&to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
    (dir, to)
}

fn told(path: &Path) -> String {
    Sae::load(path).err().unwrap_or_else(|| panic!("{} is read", path.display())).to_string()
}

/// All arrays of a file, by name.
fn taken(mut from: Arrays) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let names: Vec<String> = from.names().into_iter().map(str::to_owned).collect();
    let take = |name: String| {
        let (shape, numbers) = from.take_any(&name).unwrap();
        (name, shape, numbers)
    };
    names.into_iter().map(take).collect()
}

/// Writes a file of weights again, with its tensors changed.
fn rewrite(path: &Path, change: impl FnOnce(&mut Vec<(String, Vec<usize>, Vec<f32>)>)) {
    let is_torch = path.extension().is_some_and(|it| it == "pt");
    let mut tensors =
        taken(if is_torch { Arrays::load_torch(path) } else { Arrays::load(path) }.unwrap());
    change(&mut tensors);
    let arrays: Vec<Array<'_>> =
        tensors.iter().map(|(name, shape, data)| (&name[..], shape.clone(), &data[..])).collect();
    if is_torch {
        let data = arrays.into_iter().map(|(name, shape, data)| (name, shape, Data::F32(data)));
        pickle::save(path, &data.collect::<Vec<_>>()).unwrap();
    } else {
        arrays::save(path, &arrays, "{}").unwrap();
    }
}

/// Changes the settings in a file.
fn reset(path: &Path, change: impl FnOnce(&mut Map<String, Value>)) {
    let mut settings: Map<String, Value> =
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut settings);
    fs::write(path, Value::Object(settings).to_string()).unwrap();
}

/// Of every library: an SAE, its file of weights, its file of settings.
const ALL: [(&str, &str, &str); 14] = [
    ("saelens_standard", "sae_weights.safetensors", "cfg.json"),
    ("saelens_topk", "sae_weights.safetensors", "cfg.json"),
    ("saelens_jumprelu", "sae_weights.safetensors", "cfg.json"),
    ("saelens_gated", "sae_weights.safetensors", "cfg.json"),
    ("saelens_checkpoint", "sae_weights.safetensors", "cfg.json"),
    ("saelens5_standard", "sae_weights.safetensors", "cfg.json"),
    ("saelens5_topk", "sae_weights.safetensors", "cfg.json"),
    ("sparsify/layers.3", "sae.safetensors", "cfg.json"),
    ("dictionary_learning_AutoEncoderTopK", "ae.pt", "config.json"),
    ("dictionary_learning_MatryoshkaBatchTopKSAE", "ae.pt", "config.json"),
    ("dictionary_learning_GatedAutoEncoder", "ae.pt", "config.json"),
    ("llamascopium_topk", "sae_weights.safetensors", "config.json"),
    ("openai_relu.pt", "", ""),
    ("gpt2_resid_pre_8_ot3.pt", "", ""),
];

#[test]
fn a_tensor_too_many_is_refused_by_name() {
    for (name, weights, _) in ALL {
        let (_dir, path) = copy(name);
        let weights = if weights.is_empty() { path.clone() } else { path.join(weights) };
        rewrite(&weights, |_| {});
        Sae::load(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        rewrite(&weights, |tensors| tensors.push(("W_twist".into(), vec![2], vec![1.0, 2.0])));
        let told = told(&path);
        assert!(
            told.contains("\"W_twist\"") && told.contains(&*weights.to_string_lossy()),
            "{told}"
        );
    }
}

#[test]
fn a_setting_too_many_is_refused_by_name() {
    for (name, _, settings) in ALL.into_iter().filter(|(.., settings)| !settings.is_empty()) {
        let (_dir, path) = copy(name);
        reset(&path.join(settings), |all| drop(all.insert("twist".into(), json!(0.5))));
        let told = told(&path);
        assert!(told.contains("\"twist\": 0.5") && told.contains(settings), "{name}: {told}");
    }
    // And where settings are nested.
    for (name, file, above) in [
        ("dictionary_learning_AutoEncoderTopK", "config.json", "trainer"),
        ("dictionary_learning_AutoEncoderTopK", "config.json", "buffer"),
        ("saelens5_topk", "cfg.json", "activation_fn_kwargs"),
    ] {
        let (_dir, path) = copy(name);
        reset(&path.join(file), |all| all[above]["twist"] = json!([1]));
        assert!(told(&path).contains(&format!("\"{above}.twist\": [1]")), "{}", told(&path));
    }
}

#[test]
fn what_is_no_tensor_in_a_pickle_is_refused_by_name_too() {
    let (_dir, path) = copy("dictionary_learning_left");
    // Its own settings are in the file; a key of the same length stands for one that is not known.
    let file = path.join("ae.pt");
    let bytes = fs::read(&file).unwrap();
    let at = bytes.windows(11).position(|at| at == b"norm_factor").unwrap();
    let mut changed = bytes.clone();
    changed[at..at + 11].copy_from_slice(b"norm_fector");
    fs::write(&file, changed).unwrap();
    // The archive's own checksum may notice first.
    let told = told(&path);
    assert!(told.contains("norm_fector") || told.contains("checksum"), "{told}");
}

#[test]
fn a_finetuning_factor_of_saelens_5_is_folded_into_the_decoder() {
    let x = [0.5, -1.0, 2.0, 0.25, 1.5, -0.75, 1.0, 1.0, -2.0, 0.0, 0.5, 3.0];
    for tensor in ["finetuning_scaling_factor", "scaling_factor"] {
        let (_dir, path) = copy("saelens5_standard");
        let plain = Sae::load(&path).unwrap();
        let (cfg, weights) = (path.join("cfg.json"), path.join("sae_weights.safetensors"));
        let factors: Vec<f32> = (0..plain.d_sae()).map(|i| 0.8 + 0.05 * i as f32).collect();
        rewrite(&weights, |tensors| {
            tensors.retain(|(name, ..)| name != "scaling_factor");
            tensors.push((tensor.into(), vec![factors.len()], factors.clone()));
        });
        // Not without the flag: SAELens itself stops there.
        assert!(told(&path).contains(tensor), "{}", told(&path));
        let flag = |on: bool| reset(&cfg, |all| all["finetuning_scaling_factor"] = on.into());
        flag(true);
        let finetuned = Sae::load(&path).unwrap();
        let codes = finetuned.encode(&x).unwrap();
        assert_eq!(codes, plain.encode(&x).unwrap(), "codes stay as they are");
        let mut want = [0.0; 12];
        for (row, want) in want.chunks_exact_mut(6).enumerate() {
            want.copy_from_slice(&plain.b_dec);
            let (latents, values) = codes.row(row);
            for (&latent, value) in latents.iter().zip(values) {
                let decoder = &plain.w_dec[latent as usize * 6..][..6];
                let by = value * factors[latent as usize];
                want.iter_mut().zip(decoder).for_each(|(x, w)| *x += by * w);
            }
        }
        let got = finetuned.decode(&codes, &[0, 0]).unwrap();
        assert!(got.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-5), "{got:?} {want:?}");
        // Without the tensor that the flag promises.
        rewrite(&weights, |tensors| tensors.retain(|(name, ..)| name != tensor));
        assert!(told(&path).contains("finetuning_scaling_factor"), "{}", told(&path));
        flag(false);
        assert_eq!(Sae::load(&path).unwrap().w_dec, plain.w_dec);
    }
}

#[test]
fn k_of_dictionary_learning_may_stand_in_its_settings_alone() {
    for name in ["dictionary_learning_AutoEncoderTopK", "dictionary_learning_BatchTopKSAE"] {
        let (_dir, path) = copy(name);
        let whole = Sae::load(&path).unwrap();
        rewrite(&path.join("ae.pt"), |tensors| tensors.retain(|(name, ..)| name != "k"));
        assert_eq!(Sae::load(&path).unwrap().config.k, whole.config.k, "{name}");
        reset(&path.join("config.json"), |all| all["trainer"]["k"] = Value::Null);
        assert!(told(&path).contains("does not say k"), "{}", told(&path));
        assert_eq!(Sae::load_with_k(&path, 2).unwrap().config.k, 2);
    }
}

#[test]
fn prefixes_of_compiled_and_parallel_modules_are_taken_away() {
    for wrapping in ["_orig_mod.", "module.", "module._orig_mod."] {
        for (name, weights, _) in ALL {
            let (_dir, path) = copy(name);
            let want = Sae::load(&path).unwrap();
            let weights = if weights.is_empty() { path.clone() } else { path.join(weights) };
            rewrite(&weights, |tensors| {
                tensors.iter_mut().for_each(|(name, ..)| name.insert_str(0, wrapping));
            });
            let read = Sae::load(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(read.fingerprint(), want.fingerprint(), "{wrapping} {name}");
        }
    }
}

#[test]
fn an_sae_of_a_place_that_is_no_hook_here_encodes_and_decodes_and_keeps_the_name() {
    for (said, hook) in [
        ("transformer.h.2", Some("blocks.2.hook_resid_post")),
        ("model.layers.3.mlp", Some("blocks.3.hook_mlp_out")),
        ("blocks.2.ln1.hook_normalized", None),
        ("blocks.2.attn.hook_z", None),
    ] {
        let (_dir, path) = copy("saelens_standard");
        let want = Sae::load(&path).unwrap();
        reset(&path.join("cfg.json"), |all| all["metadata"]["hook_name"] = said.into());
        let sae = Sae::load(&path).unwrap();
        assert_eq!(sae.fingerprint(), want.fingerprint());
        assert_eq!(sae.origin.hook.map(|hook| hook.to_string()).as_deref(), hook, "{said}");
        if hook.is_none() {
            let told = sae.own_hook().unwrap_err().to_string();
            assert!(told.contains(said) && told.contains("origin.hook"), "{told}");
            assert!(sae.table().text().contains(said));
            let again = path.join("again");
            sae.save(&again).unwrap();
            assert_eq!(Sae::load(&again).unwrap().origin.place.as_deref(), Some(said));
        }
    }
    // Another library's SAE, and what it is for is said in the hook's place.
    let (_dir, path) = copy("llamascopium_topk");
    let hook = "blocks.3.attn.hook_z";
    reset(&path.join("config.json"), |all| {
        all["hook_point_in"] = hook.into();
        all["hook_point_out"] = hook.into();
    });
    assert_eq!(Sae::load(&path).unwrap().origin.place.as_deref(), Some(hook));
    assert!(Model::load("tiny-gpt2").unwrap().hooks().iter().all(|it| it.to_string() != hook));
}

#[test]
fn what_a_module_is_given_is_not_what_it_gives() {
    let (_dir, path) = copy("dictionary_learning_AutoEncoderTopK");
    let config = path.join("config.json");
    let text = fs::read_to_string(&config).unwrap();
    let origin = |module: &str, io: &str| {
        let text = text
            .replace("resid_post_layer_3", module)
            .replace(r#""ctx_len""#, &format!(r#""io": "{io}", "ctx_len""#));
        fs::write(&config, text).unwrap();
        let Origin { hook, place, .. } = Sae::load(&path).unwrap().origin;
        (hook.map(|hook| hook.to_string()), place)
    };
    let hook = |name: &str| (Some(name.to_owned()), None);
    assert_eq!(origin("resid_post_layer_3", "out"), hook("blocks.3.hook_resid_post"));
    assert_eq!(origin("resid_post_layer_3", "in"), hook("blocks.3.hook_resid_pre"));
    assert_eq!(origin("mlp_layer_3", "out"), hook("blocks.3.hook_mlp_out"));
    let (none, place) = origin("mlp_layer_3", "in");
    assert_eq!((none, place.as_deref()), (None, Some("the input of mlp_layer_3")));
}
