//! Models on the emulated device and on the CPU, to the same bits.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use candle_core::Tensor;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokenized_sae::backend::gpu::{Argument, Driver, Shape, Timed};
use tokenized_sae::internal::{OnDevice, Precision};
use tokenized_sae::model::Site;
use tokenized_sae::prelude::*;

use crate::compile::{has_the_order, sources};
use crate::emulated::{Emulated, Emulator, kernels};
use crate::step::Forgetful;

/// So many sequences of tokens that differ.
pub fn tokens(model: &Model, n_seq: usize, n_ctx: usize) -> Tokens {
    let d_vocab = model.config().d_vocab;
    let ids = (0..n_seq * n_ctx).map(|i| ((i * 7 + i / n_ctx + i * i / 5) % d_vocab) as u32);
    Tokens::new(ids.collect(), n_ctx).unwrap()
}

pub fn on_cpu(model: &Model, tokens: &Tokens, hooks: &[HookPoint]) -> Vec<Vec<f32>> {
    let values = model.run_to_many(tokens, hooks).unwrap();
    values.into_iter().map(|value| value.flatten_all().unwrap().to_vec1().unwrap()).collect()
}

fn assert_same(what: &str, there: &[f32], here: &[f32]) {
    assert_eq!(there.len(), here.len(), "{what}");
    let differ = there.iter().zip(here).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
    let first = there.iter().zip(here).position(|(a, b)| a.to_bits() != b.to_bits());
    assert_eq!(differ, 0, "{what}: differs in {differ} of {} places, first {first:?}", here.len());
}

/// Holds every hook of a model to the CPU's bits, all hooks in one pass and the last by itself, and
/// the logits with another value at each of those of one block.
fn hold(model: &Model, tokens: &Tokens, seed: u64) {
    if !has_the_order() {
        return;
    }
    let Some(emulated) = Emulated::new(seed) else { return };
    let device: Arc<dyn Driver> = Arc::new(emulated);
    let hooks = model.hooks();
    let last = hooks[hooks.len() - 1];
    let there = OnDevice::new(&device, model, last).unwrap();
    let here = on_cpu(model, tokens, &hooks);
    let all = there.run_to_many(tokens, &hooks, &|| false).unwrap();
    for (hook, (there, here)) in hooks.iter().zip(all.iter().zip(&here)) {
        assert_same(&format!("{} {hook}", model.name()), there, here);
    }
    // Without a stop on the way, where products are added to the stream at once.
    let alone = there.run_to_many(tokens, &[last], &|| false).unwrap();
    assert_same(&format!("{} {last} alone", model.name()), &alone[0], &here[hooks.len() - 1]);

    let there = OnDevice::whole(&device, model).unwrap();
    let middle = model.config().n_layers / 2;
    for hook in hooks.into_iter().filter(|hook| hook.layer == middle) {
        let change = |value: &Tensor| Ok((value * 0.7)?);
        let here = model.run_with(tokens, hook, change).unwrap();
        let here: Vec<f32> = here.flatten_all().unwrap().to_vec1().unwrap();
        let there = there.run_with(tokens, hook, change).unwrap();
        assert_same(&format!("{}, logits from {hook}", model.name()), &there, &here);
    }
}

pub fn synthetic(name: &str, config: &str) -> Model {
    Model::synthetic(name, config, Precision::Single).unwrap()
}

pub const GPT2: &str = r#"{"model_type": "gpt2", "n_embd": 72, "n_layer": 2, "n_head": 2, "n_inner": 203, "n_positions": 140,
    "vocab_size": 259, "bos_token_id": 0, "eos_token_id": 0, "scale_attn_by_inverse_layer_idx": true}"#;
pub const NEOX: &str = r#"{"model_type": "gpt_neox", "hidden_size": 160, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 97, "rotary_pct": 0.25, "max_position_embeddings": 140, "vocab_size": 97, "bos_token_id": 0, "eos_token_id": 0}"#;
pub const LLAMA: &str = r#"{"model_type": "llama", "hidden_size": 52, "num_hidden_layers": 1, "num_attention_heads": 6, "head_dim": 48,
    "num_key_value_heads": 2, "intermediate_size": 1611, "max_position_embeddings": 140, "vocab_size": 97, "rope_theta": 10000.0,
    "rms_norm_eps": 1e-5, "tie_word_embeddings": false, "bos_token_id": 0, "eos_token_id": 0, "attention_bias": true, "mlp_bias": true}"#;

#[test]
fn every_hook_of_every_family_has_the_bits_of_the_cpu() {
    for (seed, family) in (0..).zip(["gpt2", "neox", "llama", "mistral", "qwen2"]) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(family);
        for processing in [Processing::Raw, Processing::TransformerLens] {
            let model = Model::load_with(folder.to_str().unwrap(), processing).unwrap();
            hold(&model, &tokens(&model, 3, 12), seed);
        }
    }
}

#[test]
fn shapes_that_fit_no_tile_have_the_same_bits() {
    // Heads of 36, 80, 48 and 128 dimensions; stretches of the depth that are no multiple of four.
    let wide = LLAMA.replace("\"head_dim\": 48", "\"head_dim\": 128").replace("1611", "17");
    let apart = NEOX.replace("{\"model", "{\"use_parallel_residual\": false, \"model");
    for (name, config, n_seq, n_ctx) in [
        ("gpt2", GPT2, 2, 1),
        ("gpt2", GPT2, 3, 65),
        ("neox", NEOX, 1, 130),
        ("neox, one after the other", &apart, 2, 7),
        ("llama", LLAMA, 5, 3),
        ("llama, wide heads", &wide, 2, 64),
    ] {
        let model = synthetic(&format!("{name} {n_seq} x {n_ctx}"), config);
        hold(&model, &tokens(&model, n_seq, n_ctx), n_ctx as u64);
    }
}

#[test]
fn an_unembedding_that_is_the_embedding_itself_has_the_same_bits() {
    if !has_the_order() {
        return;
    }
    // Two stretches of 288, where the tiles would have one of 576.
    let config = GPT2.replace("72", "576").replace("\"n_layer\": 2", "\"n_layer\": 1");
    let model = synthetic("gpt2, wide", &config);
    let tokens = tokens(&model, 2, 5);
    let Some(emulated) = Emulated::new(7) else { return };
    let device: Arc<dyn Driver> = Arc::new(emulated);
    let there = OnDevice::whole(&device, &model).unwrap();
    there.prove_logits(&tokens, HookPoint { layer: 0, site: Site::ResidPost }).unwrap();
}

#[test]
fn every_activation_has_the_same_bits() {
    for activation in ["gelu_new", "gelu", "relu", "silu"] {
        let config = GPT2
            .replace("{\"model", &format!("{{\"activation_function\": \"{activation}\", \"model"));
        let model = synthetic(activation, &config);
        hold(&model, &tokens(&model, 1, 9), 1);
    }
}

#[test]
fn weights_of_sixteen_bits_have_the_same_bits() {
    for precision in [Precision::F16, Precision::Bf16] {
        let model = Model::synthetic("half", NEOX, precision).unwrap();
        hold(&model, &tokens(&model, 2, 5), 2);
    }
}

#[test]
fn passes_of_many_sizes_share_their_arrays() {
    if !has_the_order() {
        return;
    }
    let model = synthetic("neox", NEOX);
    let Some(device) = Emulated::new(3).map(Arc::new) else { return };
    let hook = HookPoint { layer: 1, site: Site::MlpOut };
    let driver: Arc<dyn Driver> = device.clone();
    let there = OnDevice::new(&driver, &model, hook).unwrap();
    let mut allocations = None;
    for (n_seq, n_ctx) in [(4, 9), (1, 9), (7, 5), (4, 9)] {
        let tokens = tokens(&model, n_seq, n_ctx);
        let values = there.run_to_many(&tokens, &[hook], &|| false).unwrap();
        assert_same("passes of many sizes", &values[0], &on_cpu(&model, &tokens, &[hook])[0]);
        let so_far = device.allocations.load(Ordering::Relaxed);
        assert_eq!(*allocations.get_or_insert(so_far), so_far, "{n_seq} x {n_ctx} took new arrays");
    }
}

#[test]
fn nothing_behind_the_last_hook_is_computed_or_taken_along() {
    if !has_the_order() {
        return;
    }
    let model = synthetic("gpt2", GPT2);
    let Some(emulated) = Emulated::new(4) else { return };
    let device: Arc<dyn Driver> = Arc::new(emulated);
    let timed = Arc::new(Timed::new(&device).unwrap());
    let driver: Arc<dyn Driver> = timed.clone();
    let mid = HookPoint { layer: 0, site: Site::AttnOut };
    let there = OnDevice::new(&driver, &model, mid).unwrap();
    let tokens = tokens(&model, 2, 4);
    timed.take();
    there.run_to_many(&tokens, &[HookPoint::resid_pre(0)], &|| false).unwrap();
    let names: Vec<String> = timed.take().into_keys().collect();
    assert_eq!(names, ["embed", "from the device", "to the device"]);
    there.run_to_many(&tokens, &[mid, mid], &|| false).unwrap();
    let took = timed.take();
    assert!(took.contains_key("attend") && took.contains_key("product"), "{took:?}");
    let behind = HookPoint::resid_pre(1);
    let told = there.run_to_many(&tokens, &[behind], &|| false).unwrap_err().to_string();
    assert!(told.contains("end at blocks.0.hook_attn_out"), "{told}");
    assert!(there.run_to_many(&tokens.rows(0, 0), &[mid], &|| false).unwrap()[0].is_empty());
    let stopped = there.run_to_many(&tokens, &[mid], &|| true).unwrap_err();
    assert!(matches!(stopped, Error::Interrupted { .. }), "{stopped}");
}

#[test]
fn a_card_runs_a_model_when_it_has_shown_the_processors_bits() {
    if !has_the_order() {
        return;
    }
    let model = synthetic("neox", NEOX);
    let (tokens, hooks) = (tokens(&model, 2, 20), [HookPoint::resid_pre(1)]);
    for kernel in ["", "turn", "normalise"] {
        let Some(emulated) = Emulated::new(5) else { return };
        let device: Arc<dyn Driver> = Arc::new(Forgetful(emulated, kernel));
        let there = OnDevice::new(&device, &model, hooks[0]).unwrap();
        let proof = there.prove(&tokens, &hooks).map_err(|error| error.to_string());
        let whole = OnDevice::whole(&device, &model).unwrap();
        let of_logits = whole.prove_logits(&tokens, hooks[0]);
        assert_eq!(of_logits.is_ok(), kernel.is_empty(), "{kernel}: {of_logits:?}");
        match (kernel, proof) {
            ("", proof) => assert_eq!(proof, Ok(())),
            (_, Err(told)) => assert!(
                told.contains("a forgetful card does not give the processor's bits: for the first 40 tokens, blocks.1.hook_resid_pre differs")
                    && told.contains("device = cpu"),
                "{told}"
            ),
            (_, Ok(())) => panic!("{kernel} was not missed"),
        }
    }
}

/// An array of numbers that the kernels read or write where it lies.
pub fn address(x: &[f32]) -> Argument {
    Argument::Address(x.as_ptr() as u64)
}

pub fn random(rng: &mut ChaCha8Rng, n: usize) -> Vec<f32> {
    (0..n).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// A product and what it is made of: `[n, depth]` times `[depth, width]`.
struct Product {
    shape: [usize; 3],
    /// Parts of the depth that are summed up one by one.
    stretches: usize,
    x: Vec<f32>,
    panels: Vec<f32>,
    bias: Vec<f32>,
}

impl Product {
    fn new(shape: [usize; 3], stretch: usize) -> Product {
        let [n, depth, width] = shape;
        let mut rng = ChaCha8Rng::seed_from_u64((n * depth + width) as u64);
        let columns = width.next_multiple_of(32);
        let (x, panels) = (random(&mut rng, n * depth), random(&mut rng, columns * depth));
        Product {
            shape,
            stretches: depth.div_ceil(stretch),
            x,
            panels,
            bias: random(&mut rng, columns),
        }
    }

    /// By the kernel.
    fn launch(&self, emulator: &Emulator, seed: u64) -> Result<Vec<f32>, String> {
        let [n, depth, width] = self.shape;
        let y = vec![0f32; n * width];
        let [grid_n, grid_width] = [n, width].map(|n| n.div_ceil(128) as u32);
        let whole = |x: usize| Argument::U32(x as u32);
        let arguments = [
            address(&self.x),
            address(&self.panels),
            address(&self.bias),
            Argument::Address(0),
            whole(n),
            whole(depth),
            whole(width),
            whole(self.stretches),
            whole(0),
            whole(0),
            address(&y),
        ];
        let shape = Shape { grid: [grid_n, grid_width], block: 256, shared: 0 };
        emulator.launch("product", shape, &arguments, seed)?;
        Ok(std::hint::black_box(y))
    }

    /// One number after the other: each stretch fused, and added in turn; then the bias.
    fn naive(&self) -> Vec<f32> {
        let ([n, depth, width], stretches) = (self.shape, self.stretches);
        let number = |row: usize, column: usize| {
            let w = |k: usize| self.panels[(column / 32 * depth + k) * 32 + column % 32];
            let stretch = |s: usize| {
                let along = depth * s / stretches..depth * (s + 1) / stretches;
                along.fold(0f32, |sum, k| self.x[row * depth + k].mul_add(w(k), sum))
            };
            let sum = (1..stretches).fold(stretch(0), |sum, s| stretch(s) + sum);
            sum + self.bias[column]
        };
        (0..n).flat_map(|row| (0..width).map(move |column| number(row, column))).collect()
    }
}

#[test]
fn a_product_is_that_of_its_naive_twin_on_any_processor() {
    let Some(emulator) = kernels() else { return };
    for shape in [
        [1, 1, 1],
        [3, 7, 33],
        [129, 16, 130],
        [2, 768, 5],
        [2, 769, 5],
        [5, 1601, 40],
        [1, 2304, 4],
    ] {
        for stretch in [288, 768] {
            let product = Product::new(shape, stretch);
            let there = product.launch(emulator, 1).unwrap();
            assert_same(&format!("{shape:?} by {stretch}"), &there, &product.naive());
        }
    }
}

/// A file's kernels without its `nth` barrier.
pub fn without_barrier(file: &str, nth: usize) -> Option<(String, Vec<(PathBuf, String)>)> {
    const BARRIER: &str = "__syncthreads();";
    let (path, mut source) = sources().into_iter().find(|(path, _)| path.ends_with(file)).unwrap();
    let at = source.match_indices(BARRIER).nth(nth)?.0;
    source.replace_range(at..at + BARRIER.len(), "");
    Some((format!("without-{file}-{nth}"), vec![(path, source)]))
}

#[test]
fn a_barrier_missing_from_a_product_is_found() {
    let product = Product::new([64, 70, 40], 768);
    let want = product.naive();
    for nth in 0.. {
        let Some((name, sources)) = without_barrier("product.cu", nth) else {
            assert_eq!(nth, 2);
            return;
        };
        let Some(emulator) = Emulator::load(&name, &sources) else { return };
        let outcome = |seed| product.launch(&emulator, seed);
        assert!((0..8).any(|seed| outcome(seed) != Ok(want.clone())), "barrier {nth}");
    }
}

/// Attention of one head, of all positions at once, and then of the last of them to those before.
fn attend_to(
    emulator: &Emulator,
    seed: u64,
    qkv: &[f32],
    [n_ctx, d_head]: [usize; 2],
) -> Result<[Vec<f32>; 2], String> {
    let (all, last) = (vec![0f32; n_ctx * d_head], vec![0f32; d_head]);
    let whole = |x: usize| Argument::U32(x as u32);
    let arguments = [
        address(qkv),
        whole(n_ctx),
        whole(1),
        whole(1),
        whole(d_head),
        Argument::F32(0.3),
        whole(0),
        address(&all),
    ];
    let shape = Shape { grid: [1, 2], block: 256, shared: 0 };
    emulator.launch("attend", shape, &arguments, seed)?;
    let cache: Vec<f32> =
        qkv.chunks_exact(3 * d_head).flat_map(|row| &row[d_head..]).copied().collect();
    let scores = vec![f32::NAN; n_ctx];
    let arguments = [
        address(&qkv[(n_ctx - 1) * 3 * d_head..]),
        address(&cache),
        address(&scores),
        whole(n_ctx - 1),
        whole(n_ctx),
        whole(1),
        whole(1),
        whole(d_head),
        Argument::F32(0.3),
        address(&last),
    ];
    emulator.launch(
        "attend_next",
        Shape { grid: [1, 1], block: 128, shared: 0 },
        &arguments,
        seed,
    )?;
    Ok(std::hint::black_box([all, last]))
}

#[test]
fn the_attention_of_a_next_position_is_that_of_the_last() {
    let Some(emulator) = kernels() else { return };
    for [n_ctx, d_head] in [[1, 8], [5, 36], [16, 64], [70, 40]] {
        let qkv = random(&mut ChaCha8Rng::seed_from_u64(3), n_ctx * 3 * d_head);
        let [all, last] = attend_to(emulator, 1, &qkv, [n_ctx, d_head]).unwrap();
        for (a, b) in all[(n_ctx - 1) * d_head..].iter().zip(&last) {
            assert!((a - b).abs() < 1e-5, "{n_ctx} positions of {d_head}: {a} {b}");
        }
    }
}

#[test]
fn a_barrier_missing_from_attention_is_found() {
    let shape = [70, 40];
    let qkv = random(&mut ChaCha8Rng::seed_from_u64(9), 70 * 3 * 40);
    let attend = |emulator: &Emulator, seed| attend_to(emulator, seed, &qkv, shape);
    let Some(whole) = kernels() else { return };
    let want = attend(whole, 0);
    assert!(want.is_ok() && (1..4).all(|seed| attend(whole, seed) == want));
    for nth in 0.. {
        let Some((name, sources)) = without_barrier("attention.cu", nth) else {
            assert_eq!(nth, 7);
            return;
        };
        let Some(emulator) = Emulator::load(&name, &sources) else { return };
        assert!((0..8).any(|seed| attend(&emulator, seed) != want), "barrier {nth}");
    }
}
