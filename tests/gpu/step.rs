//! Steps on the emulated device and on the CPU, to the same bits.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use tokenized_sae::backend::gpu::{self, Argument, Driver, Gpu, Shape, Timed};
use tokenized_sae::backend::{self, AdamState, Backend, Exactness, Rates, Scratch, StepReport};
use tokenized_sae::prelude::*;

use crate::emulated::Emulated;

/// What a case varies.
#[derive(Clone, Copy, Debug)]
struct Case {
    d: usize,
    d_sae: usize,
    k: usize,
    n: usize,
    table: Table,
    subtracted: bool,
    relu: bool,
    /// How many times as large as the rest some coordinates are.
    outliers: f32,
    /// Latents that share their weights with another, whose scores tie.
    ties: bool,
    exactness: Exactness,
    steps: u64,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Table {
    None,
    Frozen,
    Learned,
    Deferred,
}

const D_VOCAB: usize = 23;

const PLAIN: Case = Case {
    d: 24,
    d_sae: 96,
    k: 5,
    n: 130,
    table: Table::Deferred,
    subtracted: false,
    relu: false,
    outliers: 1.0,
    ties: false,
    exactness: Exactness::Statistical,
    steps: 3,
};

fn normal(rng: &mut ChaCha8Rng, n: usize, size: f32) -> Vec<f32> {
    (0..n).map(|_| size * rng.sample::<f32, _>(StandardNormal)).collect()
}

fn fresh(case: &Case, rng: &mut ChaCha8Rng) -> Sae {
    let config =
        SaeConfig { k: case.k, relu: case.relu, seed: 3, ..SaeConfig::new(case.d, D_VOCAB) };
    let config = config.with_latents(case.d_sae);
    let lookup = Lookup::from_table(normal(rng, D_VOCAB * case.d, 0.5), case.d).unwrap();
    let lookup = if case.subtracted { lookup.subtracted() } else { lookup };
    let config = match case.table {
        Table::None => config,
        Table::Frozen => config.with_lookup(lookup.frozen()),
        Table::Learned | Table::Deferred => config.with_lookup(lookup),
    };
    let mut sae = Sae::new(config).unwrap();
    sae.b_enc = normal(rng, case.d_sae, 0.05);
    sae.b_dec = normal(rng, case.d, 0.3);
    if case.ties {
        let half = case.d_sae / 2;
        let (w, b) = (sae.w_enc.clone(), sae.b_enc.clone());
        sae.w_enc[half * case.d..2 * half * case.d].copy_from_slice(&w[..half * case.d]);
        sae.b_enc[half..2 * half].copy_from_slice(&b[..half]);
    }
    sae
}

fn batch(case: &Case, rng: &mut ChaCha8Rng) -> (Vec<f32>, Vec<u32>) {
    let mut x = normal(rng, case.n * case.d, 1.0);
    for row in x.chunks_exact_mut(case.d) {
        for i in [1, case.d / 2, case.d - 1] {
            row[i.min(case.d - 1)] *= case.outliers;
        }
    }
    // The last tokens never occur; others now and then.
    let tokens = (0..case.n)
        .map(|_| rng.random_range(0..D_VOCAB as u32 - 3).pow(2) / D_VOCAB as u32)
        .collect();
    (x, tokens)
}

fn rates(step: u64) -> Rates {
    let lr = 2e-3 / (1.0 + step as f64 / 50.0);
    Rates { lr, bias_lr: 0.7 * lr, lookup_lr: 5.0 * lr, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }
}

/// All arrays of an SAE and its optimiser, by name.
fn arrays<'a>(sae: &'a Sae, state: &'a AdamState) -> Vec<(&'static str, &'a [f32])> {
    let mut all: Vec<(&'static str, &[f32])> = vec![
        ("W_enc", &sae.w_enc),
        ("b_enc", &sae.b_enc),
        ("W_dec", &sae.w_dec),
        ("b_dec", &sae.b_dec),
        ("m of W_enc", &state.w_enc.m),
        ("v of W_enc", &state.w_enc.v),
        ("m of b_enc", &state.b_enc.m),
        ("v of b_enc", &state.b_enc.v),
        ("m of W_dec", &state.w_dec.m),
        ("v of W_dec", &state.w_dec.v),
        ("m of b_dec", &state.b_dec.m),
        ("v of b_dec", &state.b_dec.v),
    ];
    if let Some(table) = &sae.lookup {
        all.push(("W_lookup", table));
    }
    if let Some(moments) = &state.lookup {
        all.extend([("m of W_lookup", &moments.m[..]), ("v of W_lookup", &moments.v[..])]);
    }
    all
}

fn assert_same(what: &str, a: (&Sae, &AdamState), b: (&Sae, &AdamState)) {
    for ((name, a), (_, b)) in arrays(a.0, a.1).into_iter().zip(arrays(b.0, b.1)) {
        let differ = a.iter().zip(b).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
        let first = a.iter().zip(b).position(|(a, b)| a.to_bits() != b.to_bits());
        assert_eq!(
            differ,
            0,
            "{what}: {name} differs in {differ} of {} places, first {first:?}",
            a.len()
        );
        assert_eq!(a.len(), b.len());
    }
}

/// An SAE in training on one backend.
struct Run {
    backend: Arc<dyn Backend>,
    sae: Sae,
    state: AdamState,
    scratch: Scratch,
}

impl Run {
    fn new(backend: Arc<dyn Backend>, case: &Case, sae: &Sae) -> Run {
        let state = AdamState::new(sae);
        let state = if case.table == Table::Deferred { state.lazy() } else { state };
        Run { backend, sae: sae.clone(), state, scratch: Scratch::default() }
    }

    fn step(&mut self, x: &[f32], tokens: &[u32], step: u64) -> Result<StepReport> {
        let batch = self.backend.prepare(x, tokens, self.sae.d_model())?;
        self.backend.train_step(
            &mut self.sae,
            &mut self.state,
            &batch,
            &rates(step),
            &mut self.scratch,
        )
    }

    fn settle(&mut self) {
        self.backend.settle(&mut self.sae, &mut self.state, &mut self.scratch).unwrap();
    }
}

fn both(case: &Case, seed: u64) -> Option<[Run; 2]> {
    let device = Arc::new(Emulated::new(seed)?);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let sae = fresh(case, &mut rng);
    let gpu: Arc<dyn Backend> = Arc::new(Gpu::new(device, case.exactness));
    Some([Run::new(backend::fastest(), case, &sae), Run::new(gpu, case, &sae)])
}

/// Trains both ways and holds everything that comes out to the same bits.
fn hold(case: &Case, settle_every: u64) {
    let seed = (case.d * 31 + case.d_sae * 7 + case.k + case.n) as u64;
    let Some([mut cpu, mut gpu]) = both(case, seed) else { return };
    let mut rng = ChaCha8Rng::seed_from_u64(seed + 1);
    for step in 0..case.steps {
        let (x, tokens) = batch(case, &mut rng);
        let (a, b) = (cpu.step(&x, &tokens, step).unwrap(), gpu.step(&x, &tokens, step).unwrap());
        // How many rows were scored in full depends on the screen; here it must have decided them.
        assert_eq!(b.fallback_rows, 0, "{case:?}, step {step}");
        assert_eq!(a, StepReport { fallback_rows: a.fallback_rows, ..b }, "{case:?}, step {step}");
        assert!(cpu.scratch.codes() == gpu.scratch.codes(), "{case:?}, step {step}: other codes");
        if step % settle_every == settle_every - 1 || step == case.steps - 1 {
            cpu.settle();
            gpu.settle();
            assert_same(
                &format!("{case:?}, step {step}"),
                (&cpu.sae, &cpu.state),
                (&gpu.sae, &gpu.state),
            );
            assert!(cpu.state == gpu.state, "{case:?}, step {step}: the optimiser's other memory");
        }
    }
}

#[test]
fn a_step_has_the_bits_of_the_cpu_with_every_kind_of_table() {
    for table in [Table::None, Table::Frozen, Table::Learned, Table::Deferred] {
        for relu in [false, true] {
            hold(&Case { table, relu, ..PLAIN }, 1);
        }
    }
}

#[test]
fn a_table_that_is_subtracted_too_has_the_bits_of_the_cpu() {
    let case = Case { subtracted: true, ..PLAIN };
    for table in [Table::Frozen, Table::Learned, Table::Deferred] {
        for relu in [false, true] {
            hold(&Case { table, relu, ..case }, 1);
        }
    }
    for (d, d_sae, k, n) in [(1, 3, 1, 1), (33, 130, 3, 113), (520, 70, 4, 9), (17, 33, 33, 5)] {
        hold(&Case { d, d_sae, k, n, ..case }, 1);
    }
    hold(&Case { outliers: 5000.0, d: 40, d_sae: 700, n: 70, ..case }, 1);
    hold(&Case { d: 16, d_sae: 64, k: 4, n: 32, steps: 60, ..case }, 20);
}

#[test]
fn shapes_that_fit_no_tile_have_the_same_bits() {
    for (d, d_sae, k, n) in [
        (1, 3, 1, 1),
        (7, 40, 1, 3),
        (17, 33, 33, 5), // k = d_sae
        (64, 64, 64, 20),
        (33, 130, 3, 113),
        (100, 300, 12, 225),
        (520, 70, 4, 9),    // more than one strip of columns a thread
        (48, 1500, 9, 140), // more than one part of latents
        (30, 1200, 40, 129),
    ] {
        hold(&Case { d, d_sae, k, n, ..PLAIN }, 1);
    }
}

#[test]
fn ties_go_to_the_lower_latent() {
    hold(&Case { ties: true, k: 7, ..PLAIN }, 1);
    hold(&Case { ties: true, d_sae: 1100, k: 5, d: 16, ..PLAIN }, 1);
}

#[test]
fn outliers_do_not_matter() {
    for outliers in [10.0, 50.0, 5000.0] {
        hold(&Case { outliers, d: 40, d_sae: 700, n: 70, ..PLAIN }, 1);
    }
}

#[test]
fn a_proven_margin_gives_the_same() {
    hold(&Case { exactness: Exactness::Proven, d_sae: 900, ..PLAIN }, 1);
}

#[test]
fn two_hundred_steps_have_the_same_bits() {
    hold(&Case { d: 16, d_sae: 64, k: 4, n: 32, steps: 200, ..PLAIN }, 50);
}

#[test]
fn more_steps_than_a_table_may_owe_have_the_same_bits() {
    let case = Case { d: 4, d_sae: 8, k: 2, n: 4, ..PLAIN };
    let Some([mut cpu, mut gpu]) = both(&case, 7) else { return };
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    for step in 0..1030 {
        let (x, tokens) = batch(&case, &mut rng);
        cpu.step(&x, &tokens, step).unwrap();
        if step == 1014 {
            // With what its rows owe; after nine more steps all of them are brought up to date.
            (gpu.sae, gpu.state) = (cpu.sae.clone(), cpu.state.clone());
        } else if step > 1014 {
            gpu.step(&x, &tokens, step).unwrap();
        }
    }
    cpu.settle();
    gpu.settle();
    assert_same("many steps owed", (&cpu.sae, &cpu.state), (&gpu.sae, &gpu.state));
}

#[test]
fn rows_that_no_screen_can_decide_are_scored_in_full() {
    // All scores are the same but for rounding: every list overflows, and the first latents win the
    // ties.
    let case = Case { d: 12, d_sae: 2000, k: 3, n: 6, steps: 2, ..PLAIN };
    let Some([mut cpu, mut gpu]) = both(&case, 1) else { return };
    for run in [&mut cpu, &mut gpu] {
        run.sae.w_enc = run.sae.w_enc[..12].repeat(2000);
        run.sae.b_enc.fill(0.0);
    }
    let (x, tokens) = batch(&case, &mut ChaCha8Rng::seed_from_u64(2));
    let report = gpu.step(&x, &tokens, 0).unwrap();
    assert_eq!(report.fallback_rows, 6);
    cpu.step(&x, &tokens, 0).unwrap();
    assert!(cpu.scratch.codes() == gpu.scratch.codes());
    cpu.settle();
    gpu.settle();
    assert_same("rows scored in full", (&cpu.sae, &cpu.state), (&gpu.sae, &gpu.state));
}

#[test]
fn weights_too_large_to_screen_are_scored_in_full() {
    let case = Case { d_sae: 1600, n: 20, k: 300, ..PLAIN };
    let Some([mut cpu, mut gpu]) = both(&case, 4) else { return };
    for run in [&mut cpu, &mut gpu] {
        run.sae.w_enc[5] = 1e16;
    }
    let (x, tokens) = batch(&case, &mut ChaCha8Rng::seed_from_u64(2));
    assert_eq!(gpu.step(&x, &tokens, 0).unwrap().fallback_rows, 20);
    cpu.step(&x, &tokens, 0).unwrap();
    cpu.settle();
    gpu.settle();
    assert_same("large weights", (&cpu.sae, &cpu.state), (&gpu.sae, &gpu.state));
}

#[test]
fn what_is_not_finite_is_the_same_error_and_moves_nothing() {
    let case = Case { d_sae: 600, n: 20, ..PLAIN };
    for (spoil, is_first) in
        [(f32::NAN, true), (f32::NAN, false), (f32::INFINITY, false), (1e30, true)]
    {
        let Some([mut cpu, mut gpu]) = both(&case, 5) else { return };
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let (mut x, tokens) = batch(&case, &mut rng);
        for run in [&mut cpu, &mut gpu].into_iter().filter(|_| !is_first) {
            run.step(&x, &tokens, 0).unwrap();
        }
        x[7 * case.d + 2] = spoil;
        x[9 * case.d + 2] = spoil;
        let [a, b] =
            [&mut cpu, &mut gpu].map(|run| run.step(&x, &tokens, 1).unwrap_err().to_string());
        assert_eq!(a, b);
        let (x, tokens) = batch(&case, &mut rng);
        for run in [&mut cpu, &mut gpu] {
            run.step(&x, &tokens, 1).unwrap();
            run.settle();
        }
        assert_same("after an error", (&cpu.sae, &cpu.state), (&gpu.sae, &gpu.state));
    }
}

#[test]
fn a_run_goes_from_one_to_the_other_and_back() {
    let case = Case { steps: 4, ..PLAIN };
    let Some([mut cpu, mut gpu]) = both(&case, 6) else { return };
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let batches: Vec<_> = (0..9).map(|_| batch(&case, &mut rng)).collect();
    for (step, (x, tokens)) in (0..).zip(&batches) {
        cpu.step(x, tokens, step).unwrap();
        if step % 3 == 1 {
            // The other way for a step, from where this one is.
            gpu.settle();
            let mut elsewhere = Run {
                backend: backend::fastest(),
                scratch: Scratch::default(),
                sae: gpu.sae.clone(),
                state: gpu.state.clone(),
            };
            elsewhere.step(x, tokens, step).unwrap();
            (gpu.sae, gpu.state) = (elsewhere.sae, elsewhere.state);
        } else {
            gpu.step(x, tokens, step).unwrap();
        }
    }
    cpu.settle();
    gpu.settle();
    assert_same("here and there", (&cpu.sae, &cpu.state), (&gpu.sae, &gpu.state));
}

#[test]
fn batches_of_many_sizes_share_their_arrays() {
    let case = Case { n: 70, ..PLAIN };
    let Some(device) = Emulated::new(9).map(Arc::new) else { return };
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let sae = fresh(&case, &mut rng);
    let gpu: Arc<dyn Backend> = Arc::new(Gpu::new(device.clone(), case.exactness));
    let [mut cpu, mut gpu] =
        [backend::fastest(), gpu].map(|backend| Run::new(backend, &case, &sae));
    let mut allocations = None;
    for (step, n) in [(0, 70), (1, 3), (2, 69), (3, 33), (4, 70)] {
        let (x, tokens) = batch(&Case { n, ..case }, &mut rng);
        cpu.step(&x, &tokens, step).unwrap();
        gpu.step(&x, &tokens, step).unwrap();
        let so_far = device.allocations.load(Ordering::Relaxed);
        assert_eq!(*allocations.get_or_insert(so_far), so_far, "{n} rows took new arrays");
    }
    cpu.settle();
    gpu.settle();
    assert_same("batches of many sizes", (&cpu.sae, &cpu.state), (&gpu.sae, &gpu.state));
}

#[test]
fn what_the_step_on_a_gpu_lacks_is_refused_by_name() {
    let plain = SaeConfig::new(8, D_VOCAB);
    assert_eq!(Gpu::lacks(&plain), None);
    let jump = plain.clone().with_architecture(Architecture::BatchTopK);
    assert_eq!(Gpu::lacks(&jump).as_deref(), Some("BatchTopK"));
    let frozen = plain.clone().with_frozen(Frozen::Decoder);
    assert_eq!(Gpu::lacks(&frozen).as_deref(), Some("a frozen encoder or decoder"));
    let prefixes = plain.with_prefixes(&[2]);
    assert_eq!(Gpu::lacks(&prefixes).as_deref(), Some("prefixes of a Matryoshka SAE"));
}

#[test]
fn a_timed_step_is_the_same_step() {
    let case = Case { subtracted: true, ..PLAIN };
    let Some([mut cpu, mut gpu]) = both(&case, 3) else { return };
    let device: Arc<dyn Driver> = Arc::new(Emulated::new(3).unwrap());
    let timed = Arc::new(Timed::new(&device).unwrap());
    gpu.backend = Arc::new(Gpu::new(timed.clone(), case.exactness));
    let (x, tokens) = batch(&case, &mut ChaCha8Rng::seed_from_u64(2));
    assert_eq!(
        cpu.step(&x, &tokens, 0).unwrap().loss.to_bits(),
        gpu.step(&x, &tokens, 0).unwrap().loss.to_bits()
    );
    let took = timed.take();
    for name in ["screen", "move_latents", "less_what_returns", "to the device"] {
        assert!(took[name].as_nanos() > 0, "{took:?}");
    }
    assert!(timed.take().is_empty());
}

/// A device that leaves one kernel out.
#[derive(Debug)]
pub struct Forgetful(pub Emulated, pub &'static str);

impl Driver for Forgetful {
    fn name(&self) -> String {
        "a forgetful card".to_owned()
    }

    fn free_bytes(&self) -> Result<u64> {
        self.0.free_bytes()
    }

    fn allocate(&self, bytes: usize) -> Result<u64> {
        self.0.allocate(bytes)
    }

    fn free(&self, address: u64) {
        self.0.free(address);
    }

    fn write(&self, address: u64, data: &[u8]) -> Result<()> {
        self.0.write(address, data)
    }

    fn read(&self, address: u64, data: &mut [u8]) -> Result<()> {
        self.0.read(address, data)
    }

    fn zero(&self, address: u64, bytes: usize) -> Result<()> {
        self.0.zero(address, bytes)
    }

    fn launch(&self, kernel: &str, shape: Shape, arguments: &[Argument]) -> Result<()> {
        if kernel == self.1 { Ok(()) } else { self.0.launch(kernel, shape, arguments) }
    }
}

#[test]
fn a_card_trains_when_it_has_shown_the_processors_bits() {
    let Some(whole) = Emulated::new(5) else { return };
    let whole: Arc<dyn Driver> = Arc::new(whole);
    gpu::prove(&whole).unwrap();
    let Some(emulated) = Emulated::new(5) else { return };
    let forgetful: Arc<dyn Driver> = Arc::new(Forgetful(emulated, "move_table"));
    let told = gpu::prove(&forgetful).unwrap_err().to_string();
    assert!(told.contains("a forgetful card does not give the processor's bits"), "{told}");
    assert!(told.contains("device = cpu"), "{told}");
}
