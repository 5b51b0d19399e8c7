//! Hooks, logits and settings against golden values made by `transformers`.

use serde_json::json;

use super::*;

#[test]
fn every_hook_and_the_logits_are_those_of_transformers() {
    for family in FAMILIES {
        let (model, golden) = (load(family, Processing::Raw), Golden::read(family));
        let tokens = golden.tokens();
        let hooks = model.hooks();
        assert_eq!(hooks.len(), if family == "neox" { 12 } else { 15 });
        let all = model.run_to_many(&tokens, &hooks).unwrap();
        for (hook, got) in hooks.iter().zip(&all) {
            let want = &golden.0[&hook.to_string()];
            assert!(distance(got, want) < 1e-4, "{family} {hook}: {}", distance(got, want));
            assert!(
                distance(&model.run_to(&tokens, *hook).unwrap(), want) < 1e-4,
                "{family} {hook} alone"
            );
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
            // What the change takes away must not be left over.
            if let Some(part) = match change.as_str() {
                "attention_bias=false" if family == "llama" => Some("attn."),
                "attention_bias=false" => Some("attention."),
                "mlp_bias=false" => Some("mlp."),
                _ => None,
            } {
                checkpoint
                    .tensors
                    .retain(|name, _| !(name.contains(part) && name.ends_with("bias")));
            }
            let model = checkpoint.load(Processing::Raw).unwrap();
            let far = distance(&model.logits(&golden.tokens()).unwrap(), want);
            assert!(far < 1e-4, "{family} with {change}: {far}");
            // One after the other, NeoX has a residual stream in between.
            let mid = model.check_hook("blocks.1.hook_resid_mid".parse().unwrap());
            assert_eq!(mid.is_ok(), family != "neox" || key == "use_parallel_residual");
            seen += 1;
        }
    }
    assert_eq!(seen, 18);
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

#[test]
fn processing_keeps_the_predictions_and_centres_what_is_normalised_about_its_mean() {
    for family in FAMILIES {
        let (raw, processed) =
            (load(family, Processing::Raw), load(family, Processing::TransformerLens));
        assert_eq!(
            Model::load(folder(family).to_str().unwrap()).unwrap().processing(),
            Processing::TransformerLens
        );
        let tokens = Golden::read(family).tokens();
        assert!(
            (raw.loss(&tokens).unwrap() - processed.loss(&tokens).unwrap()).abs() < 1e-5,
            "{family} loss"
        );
        let far = distance(
            &log_probs(&raw.logits(&tokens).unwrap()),
            &log_probs(&processed.logits(&tokens).unwrap()),
        );
        assert!(far < 1e-4, "{family} log-probs: {far}");
        for hook in raw.hooks() {
            let (raw, processed) =
                (raw.run_to(&tokens, hook).unwrap(), processed.run_to(&tokens, hook).unwrap());
            let mean = raw.mean_keepdim(2).unwrap();
            assert!(
                values(&mean).iter().any(|m| m.abs() > 1e-2),
                "{family} {hook}: the raw values are centred already"
            );
            // An RMS norm sees the mean: nothing is taken away.
            let want =
                if centres(family) { raw.broadcast_sub(&mean).unwrap() } else { raw.clone() };
            let far = distance(&want, &processed);
            assert!(far < 1e-4, "{family} {hook}: {far}");
        }
        assert_ne!(raw.fingerprint(), processed.fingerprint());
    }
}

#[test]
fn a_window_shorter_than_the_context_is_refused() {
    let mut checkpoint = Checkpoint::read("mistral");
    assert_eq!(checkpoint.load(Processing::Raw).unwrap().config().n_ctx, 16);
    checkpoint.config["sliding_window"] = json!(12);
    let model = checkpoint.load(Processing::Raw).unwrap();
    let told = model.loss(&Tokens::new(vec![1; 13], 13).unwrap()).unwrap_err().to_string();
    assert!(told.contains("13") && told.contains("12"), "{told}");
}
