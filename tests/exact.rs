//! Every kernel selects the latents that plain f32 arithmetic selects, with the same values, and
//! all kernels give the same bits.
//!
//! `TSAE_EXACT_ROWS=1000000 cargo test --release --test exact -- --nocapture` looks at a million
//! rows and says how many fell back.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use tokenized_sae::backend::{self, AdamState, Backend, Exactness, Rates, Scratch, Screen};
use tokenized_sae::prelude::*;

/// Rows that each case looks at, in batches of 1,024.
fn rows() -> usize {
    std::env::var("TSAE_EXACT_ROWS").ok().and_then(|rows| rows.parse().ok()).unwrap_or(4096)
}

const BATCH: usize = 1024;

/// All kernels that this processor can run.
fn kernels() -> Vec<(String, Arc<dyn Backend>)> {
    let mut all = Vec::new();
    for screen in Screen::ALL.into_iter().filter(|screen| screen.is_supported()) {
        for exactness in [Exactness::Statistical, Exactness::Proven] {
            let proven = if exactness == Exactness::Proven { "-proven" } else { "" };
            let backend = backend::by_name(&format!("{}{proven}", screen.name())).unwrap();
            all.push((format!("{} {exactness:?}", screen.name()), backend));
        }
    }
    all
}

/// Rows like a residual stream's: a common mean, sparse features, noise, and some coordinates
/// `times` as large as the rest.
fn residual_stream(rng: &mut ChaCha8Rng, n: usize, d: usize, times: f32) -> Vec<f32> {
    let mut normal =
        |n: usize| -> Vec<f32> { (0..n).map(|_| rng.sample(StandardNormal)).collect() };
    let (mean, features) = (normal(d), normal(4 * d * d));
    let mut x = normal(n * d);
    for row in x.chunks_exact_mut(d) {
        for (x, mean) in row.iter_mut().zip(&mean) {
            *x = 0.2 * *x + mean;
        }
        for _ in 0..8 {
            let feature = rng.random_range(0..4 * d);
            let strength = -2.0 * rng.random_range(1e-3f32..1.0).ln() / (d as f32).sqrt();
            row.iter_mut().zip(&features[feature * d..][..d]).for_each(|(x, f)| *x += strength * f);
        }
        for i in [1, d / 3, d / 2, d - 2] {
            row[i] *= times;
        }
    }
    x
}

/// The scores `[n, d_sae]` by a dense product.
fn dense_scores(sae: &Sae, x: &[f32]) -> Vec<f32> {
    let tensor = |data: &[f32], cols: usize| {
        Tensor::from_slice(data, (data.len() / cols, cols), &Device::Cpu).unwrap()
    };
    let (d, b_dec) = (sae.d_model(), tensor(&sae.b_dec, sae.d_model()));
    let centred = tensor(x, d).broadcast_sub(&b_dec).unwrap();
    let pre = centred.matmul(&tensor(&sae.w_enc, d).t().unwrap()).unwrap();
    pre.broadcast_add(&tensor(&sae.b_enc, sae.d_sae()))
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

/// Holds the codes of `x` to the dense top k, and all kernels to each other.
fn assert_exact(case: &str, sae: &Sae, x: &[f32]) {
    let (d, d_sae, k) = (sae.d_model(), sae.d_sae(), sae.config.k);
    let mut first = None;
    for (name, kernel) in kernels() {
        let codes = kernel.encode(sae, x).unwrap();
        match &first {
            None => first = Some(codes),
            Some(first) => assert!(*first == codes, "{case}: {name} gives other codes"),
        }
    }
    let codes = first.unwrap();
    let scores = dense_scores(sae, x);
    let norms: Vec<f32> =
        sae.w_enc.chunks_exact(d).map(|w| w.iter().map(|w| w * w).sum::<f32>().sqrt()).collect();
    let widest = norms.iter().copied().fold(0.0, f32::max);
    for (row, scores) in scores.chunks_exact(d_sae).enumerate() {
        let size = x[row * d..][..d]
            .iter()
            .zip(&sae.b_dec)
            .map(|(x, b)| (x - b) * (x - b))
            .sum::<f32>()
            .sqrt()
            * widest;
        let rounding = 2e-6 * size + 1e-6;
        let (latents, values) = codes.row(row);
        assert!(latents.is_sorted_by(|a, b| a < b));
        for (&latent, &value) in latents.iter().zip(values) {
            let want = scores[latent as usize];
            assert!(
                (value - want).abs() <= rounding,
                "{case}, row {row}: latent {latent} is {value}, not {want}"
            );
        }
        // No latent left out is larger than one taken, but for the rounding of the dense product.
        let last = values.iter().copied().fold(f32::INFINITY, f32::min);
        let left_out = (0..d_sae)
            .filter(|i| latents.binary_search(&(*i as u32)).is_err())
            .map(|i| scores[i])
            .fold(f32::MIN, f32::max);
        assert!(
            left_out <= last + rounding,
            "{case}, row {row}: {left_out} was left out for {last}"
        );
        assert_eq!(latents.len(), k);
    }
}

/// Encodes many rows, some of them along a training run, and reports how many fell back.
fn along_training(case: &str, sae: SaeConfig, mut batch: impl FnMut() -> (Vec<f32>, Vec<u32>)) {
    let rates =
        Rates { lr: 1e-3, bias_lr: 1e-3, lookup_lr: 1e-2, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
    let mut sae = Sae::new(sae).unwrap();
    let (mut state, mut scratch) = (AdamState::new(&sae), Scratch::default());
    let kernel = backend::fastest();
    let batches = rows().div_ceil(BATCH);
    let mut fallback_rows = 0;
    for _ in 0..batches {
        let (x, tokens) = batch();
        assert_exact(case, &sae, &x);
        // A few steps between two looks.
        for _ in 0..8 {
            let prepared = kernel.prepare(&x, &tokens, sae.d_model()).unwrap();
            fallback_rows += kernel
                .train_step(&mut sae, &mut state, &prepared, &rates, &mut scratch)
                .unwrap()
                .fallback_rows;
        }
    }
    println!(
        "{case}: {} rows, {} steps; {fallback_rows} of {} rows fell back",
        batches * BATCH,
        batches * 8,
        batches * 8 * BATCH
    );
}

#[test]
fn codes_are_those_of_f32_with_and_without_outlier_coordinates() {
    for times in [1.0, 10.0, 50.0] {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let (d, d_vocab) = (128, 50);
        let config = SaeConfig { expansion: 16, k: 16, ..SaeConfig::new(d, d_vocab) };
        along_training(&format!("outliers x{times}"), config, move || {
            let x = residual_stream(&mut rng, BATCH, d, times);
            (x, (0..BATCH).map(|_| rng.random_range(0..d_vocab as u32)).collect())
        });
    }
}

#[test]
fn codes_are_those_of_f32_on_a_models_activations() {
    for name in ["tiny-gpt2", "tiny-pythia"] {
        let model = Model::load(name).unwrap();
        let hook = HookPoint::resid_pre(2);
        let config = SaeConfig { k: 16, ..SaeConfig::for_model(&model) };
        let mut seed = 0;
        along_training(name, config, || {
            seed += 1;
            let tokens = model.sample(BATCH / 256, 256, seed).unwrap();
            (
                model.run_to(&tokens, hook).unwrap().flatten_all().unwrap().to_vec1().unwrap(),
                tokens.ids().to_vec(),
            )
        });
    }
}

#[test]
fn odd_shapes_ties_and_zeros_are_exact() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for (d, expansion, k, n) in [
        (3, 1, 1, 5),
        (7, 9, 63, 40),
        (16, 2, 32, 17),
        (33, 5, 12, 211),
        (50, 40, 100, 130),
        (300, 2, 5, 57),
    ] {
        let mut sae =
            Sae::new(SaeConfig { expansion, k, seed: d as u64, ..SaeConfig::new(d, 4) }).unwrap();
        sae.b_enc.iter_mut().for_each(|b| *b = rng.sample::<f32, _>(StandardNormal) * 0.1);
        let x = residual_stream(&mut rng, n, d.max(3), 1.0);
        assert_exact(&format!("d {d}, k {k}"), &sae, &x[..n * d]);
        // Nothing tells the latents apart but their biases; then nothing at all.
        assert_exact("rows of zeros", &sae, &vec![0.0; n * d]);
        sae.b_enc.fill(0.0);
        assert_exact("all scores equal", &sae, &vec![0.0; n * d]);
        // Many latents with the very same weights.
        let copy = sae.w_enc[..d].to_vec();
        sae.w_enc.chunks_exact_mut(d).step_by(2).for_each(|w| w.copy_from_slice(&copy));
        assert_exact("half of the latents equal", &sae, &x[..n * d]);
    }
}
