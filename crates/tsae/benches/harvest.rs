//! The built-in models' forward pass to a hook, in f32 and bf16.
//!
//! `cargo bench --bench harvest`; for the shapes of GPT-2 and Pythia, `tsae bench harvest`.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokenized_sae::prelude::*;

fn harvest(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("harvest");
    for name in ["tiny-gpt2", "tiny-pythia"] {
        let model = Model::load(name).expect("a built-in model");
        let ids = (0..16 * 256).map(|i| i * 2_654_435 % model.config().d_vocab as u32).collect();
        let tokens = Tokens::new(ids, 256).expect("whole sequences");
        group.throughput(Throughput::Elements(tokens.len() as u64)).sample_size(20);
        for (numbers, model) in [("f32", model.clone()), ("bf16", model.computing(Compute::Bf16))] {
            group.bench_function(format!("{name}/{numbers}"), |b| {
                b.iter(|| model.run_to(&tokens, HookPoint::resid_pre(2)))
            });
        }
    }
    group.finish();
}

criterion_group!(benches, harvest);
criterion_main!(benches);
