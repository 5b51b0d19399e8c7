//! What travels while kernels run, by a driver that does everything as late as it may.
#![cfg(all(feature = "cuda", target_os = "linux"))]

use std::fs;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use tokenized_sae::backend::gpu::Gpu;
use tokenized_sae::backend::{self, AdamState, Backend, Exactness, Rates, Scratch};
use tokenized_sae::prelude::*;

use crate::driver::{counted, place, under_the_driver};

const D_MODEL: usize = 24;
const D_VOCAB: usize = 20;
const ROWS: usize = 130;

/// Says, to the process of a case, how many steps it takes.
const STEPS: &str = "TSAE_TEST_STEPS";

/// Takes steps whose rows are sent before the step before them; the parameters, and every loss.
fn stepped(backend: &dyn Backend, steps: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut normal = |n: usize| (0..n).map(|_| rng.sample(StandardNormal)).collect::<Vec<f32>>();
    let batches: Vec<Vec<f32>> = (0..steps).map(|_| normal(ROWS * D_MODEL)).collect();
    let config = SaeConfig { k: 5, ..SaeConfig::new(D_MODEL, D_VOCAB) }.with_latents(96);
    let lookup = Lookup::from_table(normal(D_VOCAB * D_MODEL), D_MODEL).unwrap();
    let mut sae = Sae::new(config.with_lookup(lookup)).unwrap();
    let (mut state, mut scratch) = (AdamState::new(&sae).lazy(), Scratch::default());
    let rates =
        Rates { lr: 1e-3, bias_lr: 1e-3, lookup_lr: 1e-2, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
    let send = |step: usize| backend.send(batches.get(step)?, D_MODEL).unwrap();
    let (mut sent, mut losses) = (send(0), Vec::new());
    for (step, x) in batches.iter().enumerate() {
        let tokens: Vec<u32> = (0..ROWS).map(|i| ((i * 7 + step) % D_VOCAB) as u32).collect();
        let batch = backend.prepare_sent(x, &tokens, D_MODEL, sent).unwrap();
        sent = send(step + 1);
        let report = backend.train_step(&mut sae, &mut state, &batch, &rates, &mut scratch);
        losses.push(report.unwrap().loss as f32);
    }
    backend.settle(&mut sae, &mut state, &mut scratch).unwrap();
    [sae.w_enc, sae.b_enc, sae.w_dec, sae.b_dec, sae.lookup.unwrap(), losses].concat()
}

#[test]
fn case_steps() {
    let Some(place) = place() else { return };
    let gpu = Gpu::new(backend::card(0).unwrap(), Exactness::default());
    let steps = std::env::var(STEPS).unwrap().parse().unwrap();
    let left = stepped(&gpu, steps);
    fs::write(place.join(steps.to_string()), bytemuck::cast_slice::<f32, u8>(&left)).unwrap();
}

#[test]
fn rows_travel_beside_the_step_before_and_a_step_waits_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut waits = Vec::new();
    for steps in [5, 8] {
        let settings = [(STEPS, &*steps.to_string())];
        let Some(said) = under_the_driver("copies::case_steps", dir.path(), &settings) else {
            return;
        };
        let [_, left, waited] = counted(&said);
        assert_eq!(left, 0, "{said}");
        waits.push(waited);
        let card = fs::read(dir.path().join(steps.to_string())).unwrap();
        let cpu = stepped(backend::fastest().as_ref(), steps);
        assert!(card == bytemuck::cast_slice::<f32, u8>(&cpu), "{steps} steps");
    }
    assert_eq!(waits[1] - waits[0], 3);
}

#[test]
fn case_copies() {
    if place().is_none() {
        return;
    }
    let card = backend::card(0).unwrap();
    // More than fits into the memory that small copies go through, together; and one by itself.
    let arrays = [7, 7, 7, 20, 1].map(|size: usize| size << 20);
    let bytes = |i: usize| vec![i as u8 + 1; arrays[i]];
    let addresses = arrays.map(|bytes| card.allocate(bytes).unwrap());
    for (i, &address) in addresses.iter().enumerate() {
        card.write(address, &bytes(i)).unwrap();
    }
    card.zero(addresses[4], 5).unwrap();
    for (i, &address) in addresses.iter().enumerate().take(4) {
        let mut read = vec![0; arrays[i]];
        card.read(address, &mut read).unwrap();
        assert!(read == bytes(i), "array {i}");
    }
    let mut read = [0; 6];
    card.read(addresses[4], &mut read).unwrap();
    assert_eq!(read, [0, 0, 0, 0, 0, 5]);
    // Two beside the kernels, by the same pinned memory, and a third for which that is too small.
    for (i, len) in [(2, 6), (3, 6), (4, 1000)] {
        card.write_beside(addresses[i], &bytes(i)[..len]).unwrap();
    }
    card.join().unwrap();
    let mut read = [[0; 6]; 3];
    let mut parts: Vec<_> =
        read.iter_mut().zip(&addresses[2..]).map(|(to, &from)| (from, &mut to[..])).collect();
    card.read_many(&mut parts).unwrap();
    assert_eq!(read, [[3; 6], [4; 6], [5; 6]]);
    addresses.iter().for_each(|&address| card.free(address));
}

#[test]
fn copies_arrive_whatever_their_size() {
    let dir = tempfile::tempdir().unwrap();
    let Some(said) = under_the_driver("copies::case_copies", dir.path(), &[]) else { return };
    assert_eq!(counted(&said)[1], 0, "{said}");
}
