//! The step, on everything that an SAE can be.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokenized_sae::backend::{
    self, AdamState, Exchange, Ranks, Rates, Scratch, StepReport, bytes_of_chain, bytes_of_step,
};
use tokenized_sae::prelude::*;

use super::of_ranks;

const D_MODEL: usize = 24;
const D_VOCAB: usize = 40;
/// Four blocks of rows and a bit: of three ranks one has two blocks, of eight some have none.
const N: usize = 4 * BLOCK + 37;
/// Rows in a block.
const BLOCK: usize = 112;
const STEPS: u64 = 4;
const RATES: Rates =
    Rates { lr: 3e-3, bias_lr: 3e-3, lookup_lr: 2e-2, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };

fn numbers(rng: &mut ChaCha8Rng, n: usize) -> Vec<f32> {
    (0..n).map(|_| rng.random_range(-1.0..1.0f32) + rng.random_range(-1.0..1.0f32)).collect()
}

fn batch(seed: u64) -> (Vec<f32>, Vec<u32>) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let x = numbers(&mut rng, N * D_MODEL);
    (x, (0..N).map(|_| rng.random_range(0..D_VOCAB as u32)).collect())
}

fn plain() -> SaeConfig {
    SaeConfig { expansion: 6, k: 5, seed: 3, ..SaeConfig::new(D_MODEL, D_VOCAB) }
}

fn table() -> Lookup {
    let rng = &mut ChaCha8Rng::seed_from_u64(99);
    Lookup::from_table(numbers(rng, D_VOCAB * D_MODEL), D_MODEL).unwrap()
}

/// Every kind of codes, of decoding and of table.
fn all() -> Vec<(&'static str, SaeConfig)> {
    let (sae, tsae) = (plain(), plain().with_lookup(table()));
    let subtracted = plain().with_lookup(table().subtracted());
    let with = |sae: &SaeConfig, architecture| sae.clone().with_architecture(architecture);
    vec![
        ("TopK", sae.clone()),
        ("TopK with a ReLU", SaeConfig { relu: true, ..sae.clone() }),
        ("an added table", tsae.clone()),
        ("a frozen table", plain().with_lookup(table().frozen())),
        ("a subtracted table", subtracted.clone()),
        ("aligned", tsae.clone().aligned()),
        ("unit norm", SaeConfig { unit_norm: true, ..tsae.clone() }),
        ("AuxK", tsae.clone().with_aux(AuxK { k: Some(7), alpha: 0.1 })),
        ("Matryoshka", tsae.clone().with_prefixes(&[16, 60, 144])),
        ("BatchTopK", with(&tsae, Architecture::BatchTopK).with_prefixes(&[30, 144])),
        ("ReLU", with(&subtracted, Architecture::Relu { l1: 0.1 })),
        ("AuxK, subtracted", subtracted.clone().with_aux(AuxK { k: Some(7), alpha: 0.1 })),
        ("Gated", with(&tsae, Architecture::Gated { l1: 0.1 })),
        ("JumpReLU", with(&sae, Architecture::jump_relu(0.1))),
    ]
}

/// Steps of the ranks together: the bits that they end with, what they report, and the bytes that
/// travelled.
fn trained(config: &SaeConfig, lazy: bool, ranks: &Ranks) -> (Vec<u32>, Vec<StepReport>, u64) {
    let kernel = backend::fastest().over(ranks).unwrap();
    let mut sae = Sae::new(config.clone()).unwrap();
    let state = AdamState::new(&sae);
    let mut state = if lazy { state.lazy() } else { state };
    (state.objective.sparsity, state.objective.bandwidth) = (0.02, 0.4);
    state.objective.dead = (0..sae.d_sae() as u32).step_by(3).collect();
    let (mut scratch, mut reports) = (Scratch::default(), Vec::new());
    for seed in 0..STEPS {
        let (x, tokens) = batch(seed);
        let batch = kernel.prepare(&x, &tokens, D_MODEL).unwrap();
        let report = kernel.train_step(&mut sae, &mut state, &batch, &RATES, &mut scratch);
        reports.push(report.unwrap());
    }
    kernel.settle(&mut sae, &mut state, &mut scratch).unwrap();
    let moments = [&state.w_enc, &state.b_enc, &state.w_dec, &state.b_dec, &state.threshold];
    let more = [&state.r_mag, &state.b_mag].into_iter().chain(&state.lookup);
    let arrays = [&sae.w_enc, &sae.b_enc, &sae.w_dec, &sae.b_dec, &sae.threshold];
    let arrays = arrays.into_iter().chain([&sae.r_mag, &sae.b_mag]).chain(&sae.lookup);
    let arrays = arrays.chain(moments.into_iter().chain(more).flat_map(|it| [&it.m, &it.v]));
    let bits = arrays.flatten().map(|x| x.to_bits()).collect();
    (bits, reports, ranks.gathered().0)
}

#[test]
fn any_number_of_ranks_has_the_bits_of_one() {
    for (name, config) in all() {
        for lazy in [false, true] {
            let (bits, reports, _) = trained(&config, lazy, &Ranks::alone());
            for size in [1, 2, 3, 4, 8] {
                let trained = of_ranks(size, |ranks| trained(&config, lazy, ranks));
                for (rank, (got, told, _)) in trained.iter().enumerate() {
                    assert_eq!(told, &reports, "{name}: rank {rank} of {size}");
                    assert!(*got == bits, "{name}: rank {rank} of {size}");
                }
            }
        }
    }
}

/// A report but for the rows that were scored in full, which each rank may find others of.
fn decided(reports: &[StepReport]) -> Vec<StepReport> {
    reports.iter().map(|report| StepReport { fallback_rows: 0, ..*report }).collect()
}

#[test]
fn by_latents_any_number_of_ranks_has_the_bits_of_one() {
    let some = [
        ("frozen decoder", SaeConfig { frozen: Some(Frozen::Decoder), ..plain() }),
        ("more codes than a rank has latents", SaeConfig { k: 50, ..plain().with_lookup(table()) }),
        ("fewer latents than chunks for all", SaeConfig { expansion: 2, k: 3, ..plain() }),
    ];
    for (name, config) in all().into_iter().chain(some) {
        for lazy in [false, true] {
            let (bits, reports, _) = trained(&config, lazy, &Ranks::alone());
            for size in [1, 2, 3, 4, 8] {
                let trained = of_ranks(size, |ranks| {
                    let ranks = ranks.clone().exchanging(Exchange::Latents);
                    trained(&config, lazy, &ranks)
                });
                // The first has all of the optimiser, the others all of the SAE.
                assert!(trained[0].0 == bits, "{name}: {size} ranks");
                let sae = Sae::new(config.clone()).unwrap();
                let parameters = sae.w_enc.len() + sae.b_enc.len() + sae.w_dec.len();
                for (rank, (got, told, _)) in trained.iter().enumerate() {
                    assert_eq!(decided(told), decided(&reports), "{name}: rank {rank} of {size}");
                    assert!(got[..parameters] == bits[..parameters], "{name}: {rank} of {size}");
                }
            }
        }
    }
}

#[test]
fn of_equal_latents_the_lower_is_taken_whoever_owns_it() {
    // Every latent stands in the SAE of each rank once.
    let tied = |ranks: &Ranks| {
        let kernel = backend::fastest().over(ranks).unwrap();
        let mut sae = Sae::new(SaeConfig { expansion: 8, k: 7, ..plain() }).unwrap();
        let (first, rest) = sae.w_enc.split_at_mut(32 * D_MODEL);
        rest.chunks_exact_mut(32 * D_MODEL).for_each(|again| again.copy_from_slice(first));
        let (mut state, mut scratch) = (AdamState::new(&sae), Scratch::default());
        let (x, tokens) = batch(7);
        let batch = kernel.prepare(&x, &tokens, D_MODEL).unwrap();
        kernel.train_step(&mut sae, &mut state, &batch, &RATES, &mut scratch).unwrap();
        (scratch.codes().latents().to_vec(), sae.b_dec)
    };
    let alone = tied(&Ranks::alone());
    for size in [2, 3, 6] {
        let all = of_ranks(size, |ranks| tied(&ranks.clone().exchanging(Exchange::Latents)));
        assert!(all.iter().all(|codes| *codes == alone), "{size} ranks");
    }
}

#[test]
fn what_travels_by_latents_is_codes_and_reconstructions() {
    // And whether a row of a rank was without numbers; and at the end the SAE.
    let of_step = bytes_of_chain(N, D_MODEL, 5) + 16 * 3;
    let sae = Sae::new(plain()).unwrap();
    let parameters = 4 * (2 * sae.w_enc.len() + sae.b_enc.len()) as u64;
    let by_latents =
        |ranks: &Ranks| trained(&plain(), false, &ranks.clone().exchanging(Exchange::Latents)).2;
    assert_eq!(of_ranks(3, by_latents)[1], STEPS * of_step + parameters);
}

#[test]
fn what_travels_is_what_the_rows_leave() {
    for (config, k) in [(plain(), 5), (SaeConfig { k: 9, ..plain() }, 9)] {
        // And whether a row of a rank was without numbers.
        let of_step = bytes_of_step(N, D_MODEL, k) + 16 * 3;
        for (_, _, bytes) in of_ranks(3, |ranks| trained(&config, false, ranks)) {
            assert_eq!(bytes, STEPS * of_step);
        }
    }
}

#[test]
fn a_row_without_numbers_is_named_on_all_ranks_and_nothing_moves() {
    let jump_relu = plain().with_architecture(Architecture::jump_relu(0.1));
    for (config, exchange) in
        [(plain(), Exchange::Rows), (jump_relu, Exchange::Rows), (plain(), Exchange::Latents)]
    {
        let tried = |ranks: &Ranks| {
            let kernel = backend::fastest().over(ranks).unwrap();
            let mut sae = Sae::new(config.clone()).unwrap();
            let (before, mut state) = (sae.w_enc.clone(), AdamState::new(&sae));
            let (mut x, tokens) = batch(1);
            x[300 * D_MODEL + 3] = f32::NAN;
            x[400 * D_MODEL] = f32::NAN;
            let batch = kernel.prepare(&x, &tokens, D_MODEL).unwrap();
            let scratch = &mut Scratch::default();
            let told = kernel.train_step(&mut sae, &mut state, &batch, &RATES, scratch);
            assert!(sae.w_enc == before && state.steps == 0);
            told.unwrap_err().to_string()
        };
        let alone = tried(&Ranks::alone());
        assert!(alone.contains("row 300"), "{alone}");
        let three = of_ranks(3, |ranks| tried(&ranks.clone().exchanging(exchange)));
        assert_eq!(three, [alone.clone(), alone.clone(), alone]);
    }
}
