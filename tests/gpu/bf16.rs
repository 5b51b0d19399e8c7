//! Models in bf16 on the emulated device, close to the CPU's.

use std::path::Path;
use std::sync::Arc;

use candle_core::Tensor;
use tokenized_sae::backend::gpu::Driver;
use tokenized_sae::internal::{OnDevice, Precision};
use tokenized_sae::prelude::*;

use crate::compile::has_the_order;
use crate::emulated::Emulated;
use crate::model::{GPT2, LLAMA, NEOX, on_cpu, synthetic, tokens};
use crate::step::Forgetful;

/// How far two values are apart, as a share of the second's size.
fn apart(there: &[f32], here: &[f32]) -> f64 {
    assert_eq!(there.len(), here.len());
    let square = |x: f32| f64::from(x).powi(2);
    let difference: f64 = there.iter().zip(here).map(|(a, b)| square(a - b)).sum();
    (difference / here.iter().map(|x| square(*x)).sum::<f64>()).sqrt()
}

/// Holds every hook of a model in bf16 to the CPU's, all hooks in one pass and the last by itself, and
/// the logits with another value at one: the two may be half as far apart as the CPU's are from f32.
fn hold(model: &Model, tokens: &Tokens, seed: u64) {
    if !has_the_order() {
        return;
    }
    let Some(emulated) = Emulated::new(seed) else { return };
    let device: Arc<dyn Driver> = Arc::new(emulated);
    let (hooks, halves) = (model.hooks(), model.computing(Compute::Bf16));
    let last = hooks[hooks.len() - 1];
    let check = |what: String, there: &[f32], here: &[f32], exact: &[f32]| {
        let (distance, rounding) = (apart(there, here), apart(here, exact));
        assert!(distance <= rounding / 2.0, "{} {what}: {distance}, {rounding}", model.name());
    };
    let there = OnDevice::new(&device, &halves, last).unwrap();
    let (here, exact) = (on_cpu(&halves, tokens, &hooks), on_cpu(model, tokens, &hooks));
    let all = there.run_to_many(tokens, &hooks, &|| false).unwrap();
    for (i, hook) in hooks.iter().enumerate() {
        check(hook.to_string(), &all[i], &here[i], &exact[i]);
    }
    let (alone, i) = (there.run_to_many(tokens, &[last], &|| false).unwrap(), hooks.len() - 1);
    check(format!("{last} alone"), &alone[0], &here[i], &exact[i]);

    let Ok(there) = OnDevice::whole(&device, &halves) else {
        // The embedding itself, which is not packed.
        return assert!(model.config().tied && model.processing() == Processing::Raw);
    };
    let change = |value: &Tensor| Ok((value * 0.7)?);
    let logits = |model: &Model| -> Vec<f32> {
        let logits = model.run_with(tokens, hooks[1], change).unwrap();
        logits.flatten_all().unwrap().to_vec1().unwrap()
    };
    let on_device = there.run_with(tokens, hooks[1], change).unwrap();
    check(format!("logits from {}", hooks[1]), &on_device, &logits(&halves), &logits(model));
}

#[test]
fn every_hook_of_every_family_is_close_in_bf16() {
    for (seed, family) in (0..).zip(["gpt2", "neox", "llama", "mistral", "qwen2"]) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(family);
        for processing in [Processing::Raw, Processing::TransformerLens] {
            let model = Model::load_with(folder.to_str().unwrap(), processing).unwrap();
            hold(&model, &tokens(&model, 3, 12), seed);
        }
    }
    let model = Model::load("tiny-gpt2").unwrap();
    hold(&model, &model.sample(2, 48, 0).unwrap(), 1);
}

#[test]
fn shapes_that_fit_no_tile_are_close_in_bf16() {
    for (name, config, n_seq, n_ctx) in
        [("gpt2", GPT2, 3, 65), ("neox", NEOX, 1, 130), ("llama", LLAMA, 5, 3)]
    {
        for precision in [Precision::Single, Precision::F16, Precision::Bf16] {
            let model = Model::synthetic(name, config, precision).unwrap();
            hold(&model, &tokens(&model, n_seq, n_ctx), 3);
        }
    }
}

const PROSE: &str = "It was the best of times, it was the worst of times, it was the age of wisdom, it was the \
    age of foolishness, it was the epoch of belief, it was the epoch of incredulity, it was the season of Light, \
    it was the season of Darkness, it was the spring of hope, it was the winter of despair, we had everything \
    before us, we had nothing before us, we were all going direct to Heaven, we were all going direct the other way";

/// As `tests/real` has it.
#[test]
fn the_first_blocks_of_a_real_model_are_close_in_bf16() {
    let Some(folder) = std::env::var("TSAE_SMOLLM2").ok().filter(|folder| !folder.is_empty())
    else {
        return eprintln!("skipped: set TSAE_SMOLLM2=$(tests/real/smollm2.sh)");
    };
    if !has_the_order() {
        return;
    }
    let Some(emulated) = Emulated::new(6) else { return };
    let device: Arc<dyn Driver> = Arc::new(emulated);
    let model = Model::load(&folder).unwrap().computing(Compute::Bf16);
    let tokens = Tokens::new(model.encode(PROSE).unwrap()[..96].to_vec(), 96).unwrap();
    let hooks: Vec<HookPoint> = model.hooks().into_iter().filter(|hook| hook.layer < 5).collect();
    let there = OnDevice::new(&device, &model, hooks[hooks.len() - 1]).unwrap();
    let distance = there.distance(&tokens, &hooks).unwrap();
    assert!(distance > 0.0 && distance < 0.01, "{distance}");
}

#[test]
fn matrices_in_bf16_take_half_the_memory() {
    if !has_the_order() {
        return;
    }
    let config = NEOX.replace(": 97, \"rotary", ": 96, \"rotary");
    let [single, halves] = [Compute::F32, Compute::Bf16].map(|compute| {
        let emulated = Emulated::new(1).map(Arc::new)?;
        let device: Arc<dyn Driver> = emulated.clone();
        let model = synthetic("neox", &config).computing(compute);
        let there = OnDevice::new(&device, &model, HookPoint::resid_pre(1)).unwrap();
        let bytes = emulated.bytes();
        drop(there);
        Some(bytes)
    });
    let (Some(single), Some(halves)) = (single, halves) else { return };
    assert_eq!(single - halves, 2 * (160 * 480 + 160 * 160 + 2 * 160 * 96));
}

#[test]
fn a_card_runs_a_model_in_bf16_when_it_has_come_close() {
    if !has_the_order() {
        return;
    }
    let model = synthetic("neox", NEOX).computing(Compute::Bf16);
    let (tokens, hook) = (tokens(&model, 2, 20), HookPoint::resid_pre(1));
    for kernel in ["", "turn", "normalise"] {
        let Some(emulated) = Emulated::new(5) else { return };
        let device: Arc<dyn Driver> = Arc::new(Forgetful(emulated, kernel));
        let there = OnDevice::whole(&device, &model).unwrap();
        let of_logits = there.prove_logits(&tokens, hook);
        assert_eq!(of_logits.is_ok(), kernel.is_empty(), "{kernel}: {of_logits:?}");
        match (kernel, there.distance(&tokens, &[hook])) {
            // Not the processor's bits, or it would not be the matrix units that were asked.
            ("", Ok(distance)) => assert!(distance > 0.0 && distance < 0.005, "{distance}"),
            (_, Err(error)) => {
                let told = error.to_string();
                assert!(
                    told.contains("a forgetful card does not come close to the processor in bf16: for the first 40 tokens, blocks.1.hook_resid_pre differs by")
                        && told.contains("device = cpu"),
                    "{told}"
                );
            }
            (_, Ok(distance)) => panic!("{kernel} was not missed: {distance}"),
        }
    }
}
