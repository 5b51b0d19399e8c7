//! Text that models write on the emulated device: the CPU's tokens.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use tokenized_sae::backend::gpu::Driver;
use tokenized_sae::internal::OnDevice;
use tokenized_sae::prelude::*;

use crate::compile::has_the_order;
use crate::emulated::Emulated;
use crate::model::{GPT2, NEOX, synthetic};
use crate::step::Forgetful;

/// All weights of a model on a device.
fn on_device(model: &Model, device: impl Driver + 'static) -> OnDevice {
    let device: Arc<dyn Driver> = Arc::new(device);
    OnDevice::whole(&device, model).unwrap()
}

/// Has a model write some sequences: the CPU's tokens, from logits of the CPU's bits.
fn hold(model: &Model, sequences: Range<usize>, n_ctx: usize, seed: u64) {
    if !has_the_order() {
        return;
    }
    let Some(emulated) = Emulated::new(seed) else { return };
    let there = on_device(model, emulated);
    let here = model.sample_range(sequences.start, sequences.end, n_ctx, seed).unwrap();
    let texts = there.write(sequences, n_ctx - 1, seed).unwrap();
    assert_eq!(texts.len(), here.n_seq());
    for (i, text) in texts.iter().enumerate() {
        assert_eq!(text[..], here.row(i)[1..], "sequence {i} of {}", model.name());
    }
    there.prove_text(n_ctx).unwrap();
}

#[test]
fn text_of_every_family_is_that_of_the_cpu() {
    let both = [Processing::Raw, Processing::TransformerLens];
    let families = ["gpt2", "neox", "llama", "mistral", "qwen2"];
    for ((seed, family), processing) in (0..).zip(families).zip(both.into_iter().cycle()) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(family);
        let model = Model::load_with(folder.to_str().unwrap(), processing).unwrap();
        hold(&model, 3..8, 9, seed);
    }
}

#[test]
fn texts_longer_than_a_softmax_has_lanes_are_those_of_the_cpu() {
    hold(&synthetic("gpt2", GPT2), 0..1, 21, 5);
    hold(&synthetic("neox", NEOX), 1..4, 19, 6);
}

#[test]
fn a_card_writes_text_when_it_has_shown_the_processors_bits() {
    if !has_the_order() {
        return;
    }
    let model = synthetic("neox", NEOX);
    for kernel in ["turn", "attend_next"] {
        let Some(emulated) = Emulated::new(5) else { return };
        let told = on_device(&model, Forgetful(emulated, kernel)).prove_text(5).unwrap_err();
        let told = told.to_string();
        assert!(told.contains("for the first 32 tokens, a logit differs in "), "{kernel}: {told}");
    }
}
