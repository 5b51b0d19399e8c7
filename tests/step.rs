//! The training step against its oracle: candle's autograd on the dense form, and candle's AdamW
//! without weight decay.

use candle_core::{D, Device, Tensor, Var};
use candle_nn::optim::{AdamW, Optimizer, ParamsAdamW};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokenized_sae::backend::{self, AdamState, Backend, Rates, Scratch, Screen, StepReport};
use tokenized_sae::prelude::*;
use tokenized_sae::sae::RowNorm;

const D_MODEL: usize = 24;
const D_VOCAB: usize = 13;
const EXPANSION: usize = 5;
const N: usize = 300; // more than one block of rows, and no whole number of them
const RATES: Rates =
    Rates { lr: 3e-3, bias_lr: 3e-3, lookup_lr: 2e-2, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };

/// A step with the fastest kernel.
fn train_step(
    sae: &mut Sae,
    state: &mut AdamState,
    x: &[f32],
    tokens: &[u32],
    rates: &Rates,
    scratch: &mut Scratch,
) -> Result<StepReport> {
    step_with(backend::fastest().as_ref(), sae, state, x, tokens, rates, scratch)
}

fn step_with(
    kernel: &dyn Backend,
    sae: &mut Sae,
    state: &mut AdamState,
    x: &[f32],
    tokens: &[u32],
    rates: &Rates,
    scratch: &mut Scratch,
) -> Result<StepReport> {
    kernel.train_step(sae, state, &kernel.prepare(x, tokens, sae.d_model())?, rates, scratch)
}

fn numbers(rng: &mut ChaCha8Rng, n: usize) -> Vec<f32> {
    (0..n).map(|_| rng.random_range(-1.0..1.0f32) + rng.random_range(-1.0..1.0f32)).collect()
}

fn batch(seed: u64) -> (Vec<f32>, Vec<u32>) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let x = numbers(&mut rng, N * D_MODEL);
    let tokens = (0..N).map(|_| rng.random_range(0..D_VOCAB as u32 - 2)).collect(); // the last two tokens never occur
    (x, tokens)
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Table {
    None,
    Frozen,
    Learned,
}

fn fresh(k: usize, relu: bool, table: Table) -> Sae {
    let mut rng = ChaCha8Rng::seed_from_u64(99);
    let config =
        SaeConfig { expansion: EXPANSION, k, relu, seed: 3, ..SaeConfig::new(D_MODEL, D_VOCAB) };
    let lookup = Lookup::from_table(numbers(&mut rng, D_VOCAB * D_MODEL), D_MODEL).unwrap();
    let config = match table {
        Table::None => config,
        Table::Frozen => config.with_lookup(lookup.frozen()),
        Table::Learned => config.with_lookup(lookup),
    };
    let mut sae = Sae::new(config).unwrap();
    // Biases that are not 0, so that their part in every gradient is seen.
    sae.b_enc = numbers(&mut rng, sae.d_sae()).iter().map(|b| b * 0.1).collect();
    sae.b_dec = numbers(&mut rng, D_MODEL).iter().map(|b| b * 0.3).collect();
    sae
}

/// The dense form, in candle.
struct Oracle {
    w_enc: Var,
    b_enc: Var,
    w_dec: Var,
    b_dec: Var,
    lookup: Option<Var>,
    k: usize,
    relu: bool,
    weights: AdamW,
    table: Option<AdamW>,
}

impl Oracle {
    fn new(sae: &Sae) -> Oracle {
        let var = |data: &[f32], shape: &[usize]| {
            Var::from_tensor(&Tensor::from_slice(data, shape, &Device::Cpu).unwrap()).unwrap()
        };
        let (d, d_sae) = (sae.d_model(), sae.d_sae());
        let w_enc = var(&sae.w_enc, &[d_sae, d]);
        let (b_enc, w_dec, b_dec) =
            (var(&sae.b_enc, &[d_sae]), var(&sae.w_dec, &[d_sae, d]), var(&sae.b_dec, &[d]));
        let lookup = sae.lookup.as_ref().map(|table| var(table, &[D_VOCAB, d]));
        let adam = |lr: f64, vars: Vec<Var>| {
            let params = ParamsAdamW {
                lr,
                beta1: RATES.beta1,
                beta2: RATES.beta2,
                eps: RATES.epsilon,
                weight_decay: 0.0,
            };
            AdamW::new(vars, params).unwrap()
        };
        let learned = sae.config.lookup.as_ref().is_some_and(Lookup::is_learned);
        Oracle {
            weights: adam(
                RATES.lr,
                vec![w_enc.clone(), b_enc.clone(), w_dec.clone(), b_dec.clone()],
            ),
            table: lookup
                .clone()
                .filter(|_| learned)
                .map(|table| adam(RATES.lookup_lr, vec![table])),
            k: sae.config.k,
            relu: sae.config.relu,
            w_enc,
            b_enc,
            w_dec,
            b_dec,
            lookup,
        }
    }

    /// The codes as a dense matrix [n, d_sae], zero but for the k largest of each row.
    fn codes(&self, x: &Tensor) -> Tensor {
        let pre = x
            .broadcast_sub(&self.b_dec)
            .unwrap()
            .matmul(&self.w_enc.t().unwrap())
            .unwrap()
            .broadcast_add(&self.b_enc)
            .unwrap();
        let (sorted, _) = pre.detach().sort_last_dim(false).unwrap();
        let bar = sorted.narrow(D::Minus1, self.k - 1, 1).unwrap();
        let kept = pre.broadcast_ge(&bar).unwrap().to_dtype(candle_core::DType::F32).unwrap();
        let codes = (pre * kept).unwrap();
        if self.relu { codes.relu().unwrap() } else { codes }
    }

    fn loss(&self, x: &Tensor, tokens: &Tensor) -> Tensor {
        let mut x_hat =
            self.codes(x).matmul(&self.w_dec).unwrap().broadcast_add(&self.b_dec).unwrap();
        if let Some(table) = &self.lookup {
            x_hat = (x_hat + table.index_select(tokens, 0).unwrap()).unwrap();
        }
        (x_hat - x).unwrap().sqr().unwrap().sum(1).unwrap().mean_all().unwrap()
    }

    /// One step; returns the loss before it.
    fn step(&mut self, x: &[f32], tokens: &[u32]) -> f32 {
        let x = Tensor::from_slice(x, (N, D_MODEL), &Device::Cpu).unwrap();
        let tokens = Tensor::from_slice(tokens, N, &Device::Cpu).unwrap();
        let loss = self.loss(&x, &tokens);
        let gradients = loss.backward().unwrap();
        self.weights.step(&gradients).unwrap();
        if let Some(table) = &mut self.table {
            table.step(&gradients).unwrap();
        }
        loss.to_scalar().unwrap()
    }
}

fn greatest_difference(ours: &[f32], oracle: &Tensor) -> f32 {
    let oracle = oracle.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(ours.len(), oracle.len());
    ours.iter().zip(&oracle).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn equals_autograd_and_adam_for_every_kind_of_sae() {
    for table in [Table::None, Table::Frozen, Table::Learned] {
        for (k, relu) in [(6, false), (60, true), (1, false), (EXPANSION * D_MODEL, false)] {
            let mut sae = fresh(k, relu, table);
            let (mut oracle, start) = (Oracle::new(&sae), sae.clone());
            let (mut state, mut scratch) = (AdamState::new(&sae), Scratch::default());
            for step in 0..6 {
                let (x, tokens) = batch(step);
                let report =
                    train_step(&mut sae, &mut state, &x, &tokens, &RATES, &mut scratch).unwrap();
                let want = oracle.step(&x, &tokens);
                assert!(
                    (report.loss as f32 - want).abs() < 2e-5 * want,
                    "{table:?} k {k} step {step}: loss {} for {want}",
                    report.loss
                );
            }
            // Adam's step is about lr whatever the gradient's size, so six steps move a parameter
            // by up to 0.018 (0.12 in the table).
            for (name, ours, oracle, moved_from) in [
                ("W_enc", &sae.w_enc, &oracle.w_enc, &start.w_enc),
                ("b_enc", &sae.b_enc, &oracle.b_enc, &start.b_enc),
                ("W_dec", &sae.w_dec, &oracle.w_dec, &start.w_dec),
                ("b_dec", &sae.b_dec, &oracle.b_dec, &start.b_dec),
            ] {
                let difference = greatest_difference(ours, oracle);
                assert!(
                    difference < 2e-4,
                    "{table:?} k {k} relu {relu}: {name} differs by {difference}"
                );
                assert_ne!(ours, moved_from, "{name} did not move");
            }
            if let (Some(ours), Some(theirs)) = (&sae.lookup, &oracle.lookup) {
                let difference = greatest_difference(ours, theirs);
                assert!(difference < 2e-4, "{table:?} k {k}: W_lookup differs by {difference}");
                assert_eq!(Some(ours) == start.lookup.as_ref(), table == Table::Frozen);
            }
        }
    }
}

#[test]
fn encode_and_decode_equal_the_dense_form() {
    let sae = fresh(7, false, Table::Learned);
    let oracle = Oracle::new(&sae);
    let (x, tokens) = batch(5);
    let codes = sae.encode(&x).unwrap();
    let x_tensor = Tensor::from_slice(&x, (N, D_MODEL), &Device::Cpu).unwrap();
    let mut dense = vec![0.0; N * sae.d_sae()];
    for row in 0..N {
        let (latents, values) = codes.row(row);
        assert!(latents.is_sorted_by(|a, b| a < b));
        latents
            .iter()
            .zip(values)
            .for_each(|(&latent, &value)| dense[row * sae.d_sae() + latent as usize] = value);
    }
    assert!(greatest_difference(&dense, &oracle.codes(&x_tensor)) < 1e-5);
    assert!((codes.l0() - 7.0).abs() < 1e-12);

    let x_hat = sae.decode(&codes, &tokens).unwrap();
    let error: f32 = x_hat.iter().zip(&x).map(|(a, b)| (a - b) * (a - b)).sum::<f32>() / N as f32;
    let want = oracle
        .loss(&x_tensor, &Tensor::from_slice(&tokens, N, &Device::Cpu).unwrap())
        .to_scalar::<f32>()
        .unwrap();
    assert!((error - want).abs() < 1e-5 * want);
}

#[test]
fn any_number_of_threads_and_any_kernel_gives_the_same_bits() {
    let train = |threads: usize, kernel: &str| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let kernel = backend::by_name(kernel).unwrap();
            let mut sae = fresh(6, false, Table::Learned);
            let (mut state, mut scratch) = (AdamState::new(&sae), Scratch::default());
            let losses: Vec<u64> = (0..5)
                .map(|step| {
                    let (x, tokens) = batch(step);
                    let report = step_with(
                        kernel.as_ref(),
                        &mut sae,
                        &mut state,
                        &x,
                        &tokens,
                        &RATES,
                        &mut scratch,
                    );
                    report.unwrap().loss.to_bits()
                })
                .collect();
            (losses, sae.w_enc, sae.b_enc, sae.w_dec, sae.b_dec, sae.lookup, state)
        })
    };
    let alone = train(1, "portable");
    for screen in Screen::ALL.into_iter().filter(|screen| screen.is_supported()) {
        for threads in [1, 2, 3, 8] {
            assert!(train(threads, screen.name()) == alone, "{threads} threads, {}", screen.name());
        }
        assert!(
            train(2, &format!("{}-proven", screen.name())) == alone,
            "{} proven",
            screen.name()
        );
    }
    assert!(matches!(backend::by_name("fast"), Err(Error::Config { .. })));
}

#[test]
fn rows_of_the_table_that_are_left_for_later_end_with_the_same_bits() {
    let [mut dense, mut lazy] = [fresh(6, false, Table::Learned), fresh(6, false, Table::Learned)];
    let (mut of_dense, mut of_lazy) = (AdamState::new(&dense), AdamState::new(&lazy).lazy());
    let [mut here, mut there] = [Scratch::default(), Scratch::default()];
    let mut stayed_behind = false;
    for step in 0..60 {
        // Fewer and fewer tokens occur.
        let (x, mut tokens) = batch(step);
        tokens
            .iter_mut()
            .for_each(|token| *token %= (D_VOCAB as u32).saturating_sub(step as u32 / 4).max(2));
        let a = train_step(&mut dense, &mut of_dense, &x, &tokens, &RATES, &mut here).unwrap();
        let b = train_step(&mut lazy, &mut of_lazy, &x, &tokens, &RATES, &mut there).unwrap();
        assert_eq!(a, b, "step {step}");
        stayed_behind |= lazy.lookup != dense.lookup;
        if step % 25 == 24 {
            of_lazy.flush(&mut lazy);
            assert!(
                lazy.lookup == dense.lookup && of_lazy.lookup == of_dense.lookup,
                "step {step}"
            );
        }
    }
    assert!(stayed_behind, "every row was moved at every step");
    // Another kernel continues from there.
    let (x, tokens) = batch(99);
    step_with(
        backend::by_name("portable").unwrap().as_ref(),
        &mut lazy,
        &mut of_lazy,
        &x,
        &tokens,
        &RATES,
        &mut there,
    )
    .unwrap();
    train_step(&mut dense, &mut of_dense, &x, &tokens, &RATES, &mut here).unwrap();
    of_lazy.flush(&mut lazy);
    let tables = (lazy.lookup.unwrap(), dense.lookup.unwrap());
    assert!(tables.0.iter().zip(&tables.1).all(|(a, b)| (a - b).abs() < 2e-4));
    assert!(lazy.w_enc.iter().zip(&dense.w_enc).all(|(a, b)| (a - b).abs() < 2e-4));
}

#[test]
fn a_batch_that_is_not_finite_moves_nothing() {
    for value in [f32::NAN, f32::INFINITY, f32::MAX] {
        let mut sae = fresh(6, false, Table::Learned);
        let before = sae.clone();
        let mut state = AdamState::new(&sae);
        let (mut x, tokens) = batch(0);
        x[170 * D_MODEL + 3] = value;
        let error = train_step(&mut sae, &mut state, &x, &tokens, &RATES, &mut Scratch::default())
            .unwrap_err();
        assert!(matches!(error, Error::NotFinite { .. }), "{error}");
        assert_eq!(
            (&sae.w_enc, &sae.w_dec, &sae.lookup, state.steps),
            (&before.w_enc, &before.w_dec, &before.lookup, 0)
        );
    }
}

#[test]
fn an_sae_that_scales_rows_is_not_trained_as_if_it_did_not() {
    let mut sae = fresh(6, false, Table::Learned);
    sae.row_norm = RowNorm::LayerNorm;
    let (mut state, (x, tokens)) = (AdamState::new(&sae), batch(0));
    let told =
        train_step(&mut sae, &mut state, &x, &tokens, &RATES, &mut Scratch::default()).unwrap_err();
    assert!(matches!(told, Error::Config { field: "row_norm", .. }), "{told}");
}

#[test]
fn tokens_outside_the_table_are_refused() {
    let mut sae = fresh(6, false, Table::Learned);
    let mut state = AdamState::new(&sae);
    let (x, mut tokens) = batch(0);
    tokens[9] = D_VOCAB as u32;
    let error =
        train_step(&mut sae, &mut state, &x, &tokens, &RATES, &mut Scratch::default()).unwrap_err();
    assert!(matches!(error, Error::TokenId { id: 13, position: 9, .. }), "{error}");
    assert!(matches!(sae.encode(&x[1..]), Err(Error::Shape { .. })));
    for screen in Screen::ALL.into_iter().filter(|screen| screen.is_supported()) {
        let kernel = backend::by_name(screen.name()).unwrap();
        let refused = |x: &[f32], tokens: &[u32], d: usize| {
            matches!(kernel.prepare(x, tokens, d), Err(Error::Shape { .. }))
        };
        assert!(
            refused(&x[1..], &tokens, D_MODEL)
                && refused(&x, &tokens[1..], D_MODEL)
                && refused(&x, &tokens, 0)
        );
    }
}
