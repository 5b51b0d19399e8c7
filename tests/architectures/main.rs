//! Every architecture's training step, with every kind of table, against its oracle: candle's
//! autograd on the dense form, with candle's AdamW without weight decay.

mod oracle;

use oracle::Oracle;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokenized_sae::backend::{self, AdamState, Objective, Rates, Scratch, Screen};
use tokenized_sae::prelude::*;
use tokenized_sae::sae::{Index, Keys};

const D_MODEL: usize = 24;
const D_VOCAB: usize = 13;
const EXPANSION: usize = 5;
const D_SAE: usize = EXPANSION * D_MODEL;
const N: usize = 300; // more than two blocks of rows, and no whole number of them
const K: usize = 6;
const STEPS: u64 = 6;
const RATES: Rates =
    Rates { lr: 3e-3, bias_lr: 3e-3, lookup_lr: 2e-2, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };

fn numbers(rng: &mut ChaCha8Rng, n: usize) -> Vec<f32> {
    (0..n).map(|_| rng.random_range(-1.0..1.0f32) + rng.random_range(-1.0..1.0f32)).collect()
}

fn batch(seed: u64) -> (Vec<f32>, Vec<u32>) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let x = numbers(&mut rng, N * D_MODEL);
    (x, (0..N).map(|_| rng.random_range(0..D_VOCAB as u32 - 2)).collect())
}

/// What is looked up, and what is done with it.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Table {
    None,
    Learned,
    Frozen,
    Subtracted,
    SubtractedFrozen,
    /// By the latents of another SAE, several a row and weighted.
    Latents,
    LatentsSubtracted,
}

impl Table {
    const ALL: [Table; 7] = [
        Table::None,
        Table::Learned,
        Table::Frozen,
        Table::Subtracted,
        Table::SubtractedFrozen,
        Table::Latents,
        Table::LatentsSubtracted,
    ];

    /// The keys of a batch.
    fn keys<'a>(self, sae: &Sae, x: &[f32], tokens: &'a [u32]) -> Keys<'a> {
        match &sae.index {
            Index::Latents(preceding) => preceding.encode(x).unwrap().into(),
            _ => tokens.into(),
        }
    }
}

fn fresh(config: SaeConfig, table: Table) -> Sae {
    let mut rng = ChaCha8Rng::seed_from_u64(99);
    let lookup = Lookup::from_table(numbers(&mut rng, D_VOCAB * D_MODEL), D_MODEL).unwrap();
    let mut preceding =
        Sae::new(SaeConfig { expansion: 1, k: 3, seed: 8, ..SaeConfig::new(D_MODEL, D_VOCAB) })
            .unwrap();
    preceding.origin.hook = Some(HookPoint::resid_pre(0));
    let by_latents = Lookup::preceding(&preceding).unwrap();
    let lookup = match table {
        Table::None => None,
        Table::Learned => Some(lookup),
        Table::Frozen => Some(lookup.frozen()),
        Table::Subtracted => Some(lookup.subtracted()),
        Table::SubtractedFrozen => Some(lookup.subtracted().frozen()),
        Table::Latents => Some(by_latents),
        Table::LatentsSubtracted => Some(by_latents.subtracted()),
    };
    let mut sae = Sae::new(SaeConfig { lookup, ..config }).unwrap();
    // Nothing is 0, so that every part of every gradient is seen.
    sae.b_enc = numbers(&mut rng, D_SAE).iter().map(|b| b * 0.1).collect();
    sae.b_dec = numbers(&mut rng, D_MODEL).iter().map(|b| b * 0.3).collect();
    let noise: Vec<f32> = numbers(&mut rng, D_SAE);
    sae.r_mag.iter_mut().zip(&noise).for_each(|(r, noise)| *r = noise * 0.2);
    sae.b_mag.iter_mut().zip(noise.iter().rev()).for_each(|(b, noise)| *b = noise * 0.1);
    sae.threshold
        .iter_mut()
        .zip(&noise)
        .for_each(|(threshold, noise)| *threshold *= 1.0 + noise * 0.4);
    sae
}

fn config(architecture: Architecture) -> SaeConfig {
    SaeConfig { expansion: EXPANSION, k: K, seed: 3, ..SaeConfig::new(D_MODEL, D_VOCAB) }
        .with_architecture(architecture)
}

/// What a name of the oracle's is called in an SAE.
fn ours(sae: &Sae, name: &str) -> Vec<f32> {
    match name {
        "W_enc" => sae.w_enc.clone(),
        "b_enc" => sae.b_enc.clone(),
        "W_dec" => sae.w_dec.clone(),
        "b_dec" => sae.b_dec.clone(),
        "θ" => sae.threshold.clone(),
        "r_mag" => sae.r_mag.clone(),
        "b_mag" => sae.b_mag.clone(),
        _ => sae.lookup.clone().unwrap(),
    }
}

fn assert_equals_autograd(case: &str, config: SaeConfig, objective: Objective) {
    for table in Table::ALL {
        let mut sae = fresh(config.clone(), table);
        let (mut oracle, start) = (Oracle::new(&sae, &objective), sae.clone());
        let (mut state, mut scratch) = (AdamState::new(&sae), Scratch::default());
        state.objective = objective.clone();
        let kernel = backend::fastest();
        for step in 0..STEPS {
            let (x, tokens) = batch(step);
            let prepared = kernel.prepare(&x, &tokens, D_MODEL).unwrap();
            let keys = table.keys(&sae, &x, &tokens);
            let prepared = prepared.with_keys(&keys).unwrap();
            let report =
                kernel.train_step(&mut sae, &mut state, &prepared, &RATES, &mut scratch).unwrap();
            let (loss, objective) = oracle.step(&x, &keys);
            assert!(
                (report.loss as f32 - loss).abs() < 3e-5 * loss,
                "{case}, {table:?}, step {step}: loss {} for {loss}",
                report.loss
            );
            let difference = (report.objective as f32 - objective).abs();
            assert!(
                difference < 3e-5 * objective,
                "{case}, step {step}: objective {} for {objective}",
                report.objective
            );
        }
        // Adam's step is about lr whatever the gradient's size, so six steps move a parameter by up
        // to 0.018 (0.12 in the table).
        for (name, theirs) in &oracle.vars {
            let theirs = theirs.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let mine = ours(&sae, name);
            assert_eq!(mine.len(), theirs.len());
            let difference =
                mine.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(difference < 3e-4, "{case}, {table:?}: {name} differs by {difference}");
            let stays = match *name {
                "W_lookup" => matches!(table, Table::Frozen | Table::SubtractedFrozen),
                "W_enc" => config.frozen == Some(Frozen::Encoder),
                "W_dec" => config.frozen == Some(Frozen::Decoder),
                _ => false,
            };
            assert_eq!(mine == ours(&start, name), stays, "{case}, {table:?}: {name}");
        }
    }
}

fn penalty(sparsity: f64) -> Objective {
    Objective { sparsity, bandwidth: 0.3, dead: Vec::new() }
}

#[test]
fn relu_with_l1_equals_autograd() {
    assert_equals_autograd("ReLU", config(Architecture::Relu { l1: 1.0 }), penalty(0.3));
}

#[test]
fn gated_equals_autograd() {
    assert_equals_autograd("Gated", config(Architecture::Gated { l1: 1.0 }), penalty(0.2));
}

#[test]
fn jump_relu_equals_autograd() {
    let architecture = Architecture::JumpRelu { l0: 1.0, bandwidth: 0.3, threshold: 0.7 };
    assert_equals_autograd("JumpReLU", config(architecture), penalty(0.2));
}

#[test]
fn batch_top_k_equals_autograd_and_learns_its_threshold() {
    assert_equals_autograd("BatchTopK", config(Architecture::BatchTopK), Objective::default());
    let mut sae = fresh(config(Architecture::BatchTopK), Table::None);
    let (mut state, mut scratch) = (AdamState::new(&sae), Scratch::default());
    let kernel = backend::fastest();
    let (mut want, slow) = (0.0f32, Rates { lr: 1e-5, bias_lr: 1e-5, ..RATES });
    for step in 0..40 {
        let (x, tokens) = batch(step);
        let prepared = kernel.prepare(&x, &tokens, D_MODEL).unwrap();
        kernel.train_step(&mut sae, &mut state, &prepared, &slow, &mut scratch).unwrap();
        let codes = scratch.codes();
        assert_eq!(codes.values().len(), N * K);
        let least = codes.values().iter().copied().fold(f32::INFINITY, f32::min);
        want = if step == 0 { least } else { 0.9 * want + 0.1 * least };
        assert!((sae.threshold[0] - want).abs() < 1e-5 * want);
    }
    // In use, about as many are active as in training.
    let codes = sae.encode(&batch(99).0).unwrap();
    assert!((codes.l0() / K as f64 - 1.0).abs() < 0.25, "L0 {}", codes.l0());
    assert!(codes.values().iter().all(|&value| value > sae.threshold[0]));
}

#[test]
fn top_k_equals_autograd_with_every_kind_of_table() {
    assert_equals_autograd("TopK", config(Architecture::TopK), Objective::default());
    assert_equals_autograd(
        "TopK, clamped",
        SaeConfig { relu: true, k: 70, ..config(Architecture::TopK) },
        Objective::default(),
    );
}

#[test]
fn prefixes_equal_autograd() {
    for architecture in [Architecture::TopK, Architecture::BatchTopK] {
        assert_equals_autograd(
            "Matryoshka",
            config(architecture).with_prefixes(&[7, 30, 64]),
            Objective::default(),
        );
    }
}

#[test]
fn dead_latents_that_help_equal_autograd() {
    let dead: Vec<u32> = (0..D_SAE as u32).filter(|latent| latent % 3 == 1).collect();
    for aux in [AuxK { k: None, alpha: 0.5 }, AuxK { k: Some(90), alpha: 0.25 }] {
        let objective = Objective { dead: dead.clone(), ..Objective::default() };
        assert_equals_autograd("AuxK", config(Architecture::TopK).with_aux(aux), objective.clone());
        assert_equals_autograd(
            "BatchTopK with AuxK",
            config(Architecture::BatchTopK).with_aux(aux),
            objective.clone(),
        );
        let matryoshka = config(Architecture::TopK).with_prefixes(&[11, 50]).with_aux(aux);
        assert_equals_autograd("Matryoshka with AuxK", matryoshka, objective);
    }
}

#[test]
fn a_decoder_of_unit_rows_equals_autograd() {
    assert_equals_autograd(
        "unit norm",
        SaeConfig { unit_norm: true, relu: true, ..config(Architecture::TopK) },
        Objective::default(),
    );
}

#[test]
fn an_aligned_encoder_equals_autograd() {
    for config in [
        config(Architecture::TopK),
        // With seed 3 two scores are so near each other that rounding decides which is among the k.
        SaeConfig { seed: 4, ..config(Architecture::BatchTopK) },
        config(Architecture::TopK).with_frozen(Frozen::Decoder),
        SaeConfig { unit_norm: true, relu: true, ..config(Architecture::TopK) },
    ] {
        assert_equals_autograd("aligned", config.aligned(), Objective::default());
    }
}

#[test]
fn a_frozen_matrix_stays_and_all_else_equals_autograd() {
    for frozen in [Frozen::Encoder, Frozen::Decoder] {
        for config in [
            config(Architecture::TopK),
            config(Architecture::Gated { l1: 1.0 }),
            SaeConfig { unit_norm: true, relu: true, ..config(Architecture::TopK) },
        ] {
            let objective = penalty(if config.architecture.uses_k() { 0.0 } else { 0.2 });
            assert_equals_autograd(frozen.name(), config.with_frozen(frozen), objective);
        }
    }
}

#[test]
fn one_prefix_of_all_latents_gives_the_bits_of_none() {
    let train = |config: SaeConfig| {
        let mut sae = fresh(config, Table::Learned);
        let (mut state, mut scratch) = (AdamState::new(&sae), Scratch::default());
        let kernel = backend::fastest();
        for step in 0..STEPS {
            let (x, tokens) = batch(step);
            kernel
                .train_step(
                    &mut sae,
                    &mut state,
                    &kernel.prepare(&x, &tokens, D_MODEL).unwrap(),
                    &RATES,
                    &mut scratch,
                )
                .unwrap();
        }
        (sae.w_enc, sae.b_enc, sae.w_dec, sae.b_dec, sae.lookup)
    };
    assert!(
        train(config(Architecture::TopK))
            == train(config(Architecture::TopK).with_prefixes(&[D_SAE]))
    );
}

#[test]
fn any_number_of_threads_and_any_kernel_gives_the_same_bits() {
    let jump = Architecture::JumpRelu { l0: 1.0, bandwidth: 0.3, threshold: 0.7 };
    let dead: Vec<u32> = (0..40).collect();
    let objective = Objective { dead, ..penalty(0.2) };
    for config in [
        config(Architecture::Relu { l1: 1.0 }),
        config(Architecture::Gated { l1: 1.0 }),
        config(jump),
        config(Architecture::BatchTopK).with_prefixes(&[30]).with_aux(AuxK::default()),
    ] {
        let train = |threads: usize, kernel: &str| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let kernel = backend::by_name(kernel).unwrap();
                let mut sae = fresh(config.clone(), Table::Subtracted);
                let (mut state, mut scratch) = (AdamState::new(&sae), Scratch::default());
                state.objective = objective.clone();
                for step in 0..4 {
                    let (x, tokens) = batch(step);
                    let prepared = kernel.prepare(&x, &tokens, D_MODEL).unwrap();
                    kernel
                        .train_step(&mut sae, &mut state, &prepared, &RATES, &mut scratch)
                        .unwrap();
                }
                let (x, tokens) = batch(50);
                let codes = sae.encode_on(&x, &tokens).unwrap();
                (
                    codes,
                    sae.w_enc,
                    sae.b_enc,
                    sae.w_dec,
                    sae.b_dec,
                    sae.threshold,
                    sae.r_mag,
                    sae.b_mag,
                    sae.lookup,
                    state,
                )
            })
        };
        let alone = train(1, "portable");
        for screen in Screen::ALL.into_iter().filter(|screen| screen.is_supported()) {
            for threads in [1, 3, 8] {
                assert!(
                    train(threads, screen.name()) == alone,
                    "{} threads, {}, {}",
                    threads,
                    screen.name(),
                    config.architecture.name()
                );
            }
        }
    }
}

#[test]
fn a_batch_that_is_not_finite_moves_nothing() {
    for architecture in [
        Architecture::Relu { l1: 1.0 },
        Architecture::Gated { l1: 1.0 },
        Architecture::jump_relu(1.0),
        Architecture::BatchTopK,
    ] {
        for value in [f32::NAN, f32::INFINITY, f32::MAX] {
            let mut sae = fresh(config(architecture), Table::Learned);
            let (before, mut state) = (sae.clone(), AdamState::new(&sae));
            let (mut x, tokens) = batch(0);
            x[170 * D_MODEL + 3] = value;
            let kernel = backend::fastest();
            let prepared = kernel.prepare(&x, &tokens, D_MODEL).unwrap();
            let error = kernel
                .train_step(&mut sae, &mut state, &prepared, &RATES, &mut Scratch::default())
                .unwrap_err();
            assert!(matches!(error, Error::NotFinite { .. }), "{error}");
            assert_eq!(
                (&sae.w_enc, &sae.w_dec, &sae.threshold, state.steps),
                (&before.w_enc, &before.w_dec, &before.threshold, 0)
            );
        }
    }
}

#[test]
fn settings_that_do_not_go_together_are_refused() {
    let refused = |config: SaeConfig, field: &str| {
        let error = config.check().unwrap_err().to_string();
        assert!(error.starts_with(field), "{error}");
    };
    refused(config(Architecture::Relu { l1: -1.0 }), "l1");
    refused(config(Architecture::Relu { l1: 1.0 }).with_aux(AuxK::default()), "aux");
    refused(config(Architecture::jump_relu(1.0)).with_prefixes(&[5]), "prefixes");
    refused(config(Architecture::TopK).with_prefixes(&[9, 5]), "prefixes");
    refused(SaeConfig { prefixes: vec![0, D_SAE], ..config(Architecture::TopK) }, "prefixes");
    refused(
        config(Architecture::JumpRelu { l0: 1.0, bandwidth: 0.0, threshold: 0.1 }),
        "bandwidth",
    );
    refused(config(Architecture::TopK).with_aux(AuxK { k: Some(0), alpha: 1.0 }), "aux.k");
}
