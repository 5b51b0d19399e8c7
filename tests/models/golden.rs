//! Hooks, logits and settings against golden values made by `transformers`.

use serde_json::json;

use super::*;

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
            if change == "attention_bias=false" {
                checkpoint
                    .tensors
                    .retain(|name, _| !(name.contains("attention.") && name.ends_with("bias")));
            }
            let model = checkpoint.load(Processing::Raw).unwrap();
            let far = distance(&model.logits(&golden.tokens()).unwrap(), want);
            assert!(far < 1e-4, "{family} with {change}: {far}");
            // One after the other, NeoX has a residual stream in between.
            let mid = model.check_hook("blocks.1.hook_resid_mid".parse().unwrap());
            assert_eq!(mid.is_ok(), family == "gpt2" || key == "use_parallel_residual");
            seen += 1;
        }
    }
    assert_eq!(seen, 11);
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
fn processing_keeps_the_predictions_and_centres_the_activations() {
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
            let far = distance(&raw.broadcast_sub(&mean).unwrap(), &processed);
            assert!(far < 1e-4, "{family} {hook}: {far}");
        }
        assert_ne!(raw.fingerprint(), processed.fingerprint());
    }
}
