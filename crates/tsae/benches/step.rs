//! The parts of a training step, by kernel, on a shape small enough to repeat: 256 dimensions,
//! 4,096 latents, 16 active, 2,048 rows.
//!
//! `cargo bench --bench step`; for the shapes of GPT-2 and Pythia, `tsae bench step`.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use tokenized_sae::backend::{self, AdamState, Rates, Scratch, Screen};
use tokenized_sae::prelude::*;

const D_MODEL: usize = 256;
const D_VOCAB: usize = 5_000;
const ROWS: usize = 2_048;

fn step(criterion: &mut Criterion) {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut normals =
        |n: usize| -> Vec<f32> { (0..n).map(|_| rng.sample(StandardNormal)).collect() };
    let (x, table) = (normals(ROWS * D_MODEL), normals(D_VOCAB * D_MODEL));
    let tokens: Vec<u32> = (0..ROWS).map(|_| rng.random_range(0..D_VOCAB as u32)).collect();
    let config = SaeConfig { expansion: 16, k: 16, ..SaeConfig::new(D_MODEL, D_VOCAB) };
    let lookup = Lookup::from_table(table, D_MODEL).expect("a table of whole rows");
    let rates =
        Rates { lr: 1e-4, bias_lr: 1e-4, lookup_lr: 1e-2, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };

    let mut group = criterion.benchmark_group("step");
    group.throughput(Throughput::Elements(ROWS as u64)).sample_size(20);
    for screen in Screen::ALL.into_iter().filter(|screen| screen.is_supported()) {
        let name = screen.name();
        let kernel = backend::by_name(name).expect("a supported kernel");
        let sae = Sae::new(config.clone()).expect("a valid configuration");
        group.bench_function(format!("{name}/pack the batch"), |b| {
            b.iter(|| kernel.prepare(&x, &tokens, D_MODEL).map(|_| ()))
        });
        group.bench_function(format!("{name}/encode"), |b| b.iter(|| kernel.encode(&sae, &x)));
        for (what, config) in [
            ("without a table", config.clone()),
            ("with a learned table", config.clone().with_lookup(lookup.clone())),
        ] {
            let mut sae = Sae::new(config).expect("a valid configuration");
            let (mut state, mut scratch) = (AdamState::new(&sae), Scratch::default());
            let batch = kernel.prepare(&x, &tokens, D_MODEL).expect("a batch of whole rows");
            group.bench_function(format!("{name}/step {what}"), |b| {
                b.iter(|| kernel.train_step(&mut sae, &mut state, &batch, &rates, &mut scratch));
            });
        }
    }
    let sae = Sae::new(config).expect("a valid configuration");
    let codes = sae.encode(&x).expect("finite rows");
    group.bench_function("decode", |b| b.iter(|| sae.decode(&codes, &tokens)));
    group.finish();
}

criterion_group!(benches, step);
criterion_main!(benches);
