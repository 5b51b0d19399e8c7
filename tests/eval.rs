//! The metrics against identities and against a second implementation.

use candle_core::{D, DType, Device, Tensor};
use tokenized_sae::eval::HeldOut;
use tokenized_sae::eval::evaluate;
use tokenized_sae::prelude::*;

fn text(model: &Model) -> Tokens {
    model.sample(6, 24, 11).unwrap()
}

fn hook() -> HookPoint {
    HookPoint::resid_pre(2)
}

/// x = relu(x) − relu(−x): an SAE that reconstructs everything.
fn perfect(model: &Model) -> Sae {
    let d = model.config().d_model;
    let mut sae =
        Sae::new(SaeConfig { expansion: 2, k: 2 * d, relu: true, ..SaeConfig::for_model(model) })
            .unwrap();
    let signed_identity = |i: usize| match (i / d, i % d) {
        (row, column) if row == column => 1.0,
        (row, column) if row == column + d => -1.0,
        _ => 0.0,
    };
    sae.w_enc = (0..2 * d * d).map(signed_identity).collect();
    sae.w_dec = sae.w_enc.clone();
    sae
}

/// An SAE whose latents do nothing, so that it gives `b_dec` for everything.
fn constant(model: &Model, b_dec: Vec<f32>) -> Sae {
    let mut sae =
        Sae::new(SaeConfig { expansion: 1, k: 1, ..SaeConfig::for_model(model) }).unwrap();
    sae.w_dec.fill(0.0);
    sae.b_dec = b_dec;
    sae
}

fn near(name: &str, got: f64, want: f64, tolerance: f64) {
    assert!((got - want).abs() <= tolerance, "{name} is {got}, not {want}");
}

#[test]
fn perfect_reconstruction_changes_nothing() {
    for name in ["tiny-gpt2", "tiny-pythia"] {
        let model = Model::load(name).unwrap();
        let found =
            evaluate(&model, hook(), &[("perfect", &perfect(&model))], &text(&model)).unwrap();
        for metrics in [found["perfect"].without_bos, found["perfect"].with_bos] {
            for (name, got, want) in [
                ("nmse", metrics.nmse, 0.0),
                ("fvu", metrics.fvu, 0.0),
                ("explained_variance", metrics.explained_variance, 1.0),
                ("fvu_standardised", metrics.fvu_standardised, 0.0),
                ("cosine", metrics.cosine, 1.0),
                ("ce_patched", metrics.ce_patched, metrics.ce_clean),
                ("ce_added", metrics.ce_added, 0.0),
                ("ce_added_nats", metrics.ce_added_nats, 0.0),
                ("loss_recovered", metrics.loss_recovered, 1.0),
                ("kl", metrics.kl, 0.0),
            ] {
                near(name, got, want, 1e-6);
            }
        }
    }
}

#[test]
fn zero_and_mean_reconstruction_are_the_ablations() {
    let model = Model::load("tiny-gpt2").unwrap();
    let tokens = text(&model);
    let d = model.config().d_model;
    let x = model.run_to(&tokens, hook()).unwrap();
    let mean = x.flatten(0, 1).unwrap().mean(0).unwrap().to_vec1::<f32>().unwrap();
    let (zero, mean) = (constant(&model, vec![0.0; d]), constant(&model, mean));
    let found = evaluate(&model, hook(), &[("zero", &zero), ("mean", &mean)], &tokens).unwrap();

    let zero = found["zero"].with_bos;
    near("nmse", zero.nmse, 1.0, 1e-3); // ‖x‖² / (‖x‖² + 1e-4)
    near("ce_patched", zero.ce_patched, zero.ce_zero, 1e-9);
    near("loss_recovered", zero.loss_recovered, 0.0, 1e-9);
    near(
        "ce_added",
        zero.ce_added,
        (zero.ce_zero - zero.ce_clean) / (zero.ce_clean + 0.001),
        1e-12,
    );

    let mean = found["mean"].with_bos;
    near("fvu", mean.fvu, 1.0, 1e-4);
    near("explained_variance", mean.explained_variance, 0.0, 1e-4);
    near("fvu_standardised", mean.fvu_standardised, 1.0, 1e-4);
    near("ce_patched", mean.ce_patched, mean.ce_mean, 1e-4);
    assert!(mean.kl > 0.1 && mean.ce_mean > mean.ce_clean);
}

/// Every metric once more, by tensor operations in f64 and the model's own splice.
#[test]
fn equals_a_second_implementation() {
    let model = Model::load("tiny-pythia").unwrap();
    let tokens = text(&model);
    let d = model.config().d_model;
    let sae = Sae::new(SaeConfig { expansion: 3, k: 9, seed: 4, ..SaeConfig::for_model(&model) })
        .unwrap();
    let found = evaluate(&model, hook(), &[("it", &sae)], &tokens).unwrap();

    let value = model.run_to(&tokens, hook()).unwrap();
    let rows = value.flatten(0, 1).unwrap();
    let x_flat = rows.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let codes = sae.encode(&x_flat).unwrap();
    let x_hat =
        Tensor::from_vec(sae.decode(&codes, tokens.ids()).unwrap(), rows.shape(), &Device::Cpu)
            .unwrap();

    for (with_bos, metrics) in [(false, found["it"].without_bos), (true, found["it"].with_bos)] {
        let first = usize::from(!with_bos);
        let n_ctx = tokens.n_ctx();
        let cut = |t: &Tensor| {
            let t = t.reshape((tokens.n_seq(), n_ctx, d)).unwrap();
            t.narrow(1, first, n_ctx - first)
                .unwrap()
                .flatten(0, 1)
                .unwrap()
                .to_dtype(DType::F64)
                .unwrap()
        };
        let number = |t: Tensor| t.to_scalar::<f64>().unwrap();
        let (x, y) = (cut(&rows), cut(&x_hat));
        let error = (&x - &y).unwrap().sqr().unwrap().sum(1).unwrap();
        let norm = x.sqr().unwrap().sum(1).unwrap();
        near(
            "nmse",
            metrics.nmse,
            number((&error / (&norm + 1e-4).unwrap()).unwrap().mean_all().unwrap()),
            1e-7,
        );
        let centred =
            x.broadcast_sub(&x.mean(0).unwrap()).unwrap().sqr().unwrap().sum_all().unwrap();
        near("fvu", metrics.fvu, number(error.sum_all().unwrap()) / number(centred), 1e-7);
        let of_each = |t: Tensor| t.sqr().unwrap().sum(0).unwrap();
        let shares = (of_each((&x - &y).unwrap())
            / of_each(x.broadcast_sub(&x.mean_keepdim(0).unwrap()).unwrap()))
        .unwrap();
        near(
            "fvu_standardised",
            metrics.fvu_standardised,
            number(shares.mean_all().unwrap()),
            1e-7,
        );
        let dot = (&x * &y).unwrap().sum(1).unwrap();
        let lengths =
            (norm.sqrt().unwrap() * y.sqr().unwrap().sum(1).unwrap().sqrt().unwrap()).unwrap();
        near("cosine", metrics.cosine, number((dot / lengths).unwrap().mean_all().unwrap()), 1e-7);
        near("l0", metrics.l0, 9.0, 1e-9);

        let counted = |row: &usize| row % n_ctx >= first;
        let fired: std::collections::HashSet<u32> =
            (0..tokens.len()).filter(counted).flat_map(|row| codes.row(row).0.to_vec()).collect();
        near("dead", metrics.dead, 1.0 - fired.len() as f64 / sae.d_sae() as f64, 1e-12);

        let whole = x_hat.reshape((tokens.n_seq(), n_ctx, d)).unwrap();
        let own_start = value.narrow(1, 0, 1).unwrap();
        let spliced = if with_bos {
            whole
        } else {
            Tensor::cat(&[&own_start, &whole.narrow(1, 1, n_ctx - 1).unwrap()], 1).unwrap()
        };
        let log_p = |logits: Tensor| {
            let logits =
                logits.narrow(1, first, n_ctx - 1 - first).unwrap().to_dtype(DType::F64).unwrap();
            candle_nn::ops::log_softmax(&logits, D::Minus1).unwrap()
        };
        let clean = log_p(model.logits(&tokens).unwrap());
        let patched = log_p(model.run_with(&tokens, hook(), |_| Ok(spliced)).unwrap());
        let next: Vec<u32> =
            (0..tokens.n_seq()).flat_map(|i| tokens.row(i)[first + 1..].to_vec()).collect();
        let next =
            Tensor::from_vec(next, (tokens.n_seq(), n_ctx - 1 - first, 1), &Device::Cpu).unwrap();
        let cross_entropy =
            |log_p: &Tensor| -number(log_p.gather(&next, 2).unwrap().mean_all().unwrap());
        near("ce_clean", metrics.ce_clean, cross_entropy(&clean), 1e-5);
        near("ce_patched", metrics.ce_patched, cross_entropy(&patched), 1e-5);
        let divergence =
            (clean.exp().unwrap() * (&clean - &patched).unwrap()).unwrap().sum(D::Minus1).unwrap();
        near("kl", metrics.kl, number(divergence.mean_all().unwrap()), 1e-5);
        if with_bos {
            near("ce_clean", metrics.ce_clean, model.loss(&tokens).unwrap(), 1e-5);
        }
    }
}

#[test]
fn a_measure_during_training_is_the_final_one() {
    let model = Model::load("tiny-gpt2").unwrap();
    let tokens = text(&model);
    let sae = Sae::new(SaeConfig { expansion: 4, k: 8, ..SaeConfig::for_model(&model) }).unwrap();
    let whole = evaluate(&model, hook(), &[("it", &sae)], &tokens).unwrap()["it"].without_bos;
    let quick = HeldOut::new(&model, hook(), &tokens).unwrap().measure(&sae).unwrap();
    near("nmse", quick.nmse, whole.nmse, 1e-12);
    near("ce_added", quick.ce_added, whole.ce_added, 1e-12);
    near("loss_recovered", quick.loss_recovered, whole.loss_recovered, 1e-12);
    near("dead", quick.dead, whole.dead, 0.0);
}

#[test]
fn what_does_not_fit_is_refused() {
    let model = Model::load("tiny-gpt2").unwrap();
    let sae = Sae::new(SaeConfig { k: 2, ..SaeConfig::new(16, 10) }).unwrap();
    assert!(matches!(
        evaluate(&model, hook(), &[("it", &sae)], &text(&model)),
        Err(Error::Shape { .. })
    ));
    let too_short = Tokens::new(vec![0; 4], 2).unwrap();
    assert!(matches!(evaluate(&model, hook(), &[], &too_short), Err(Error::EmptyCorpus { .. })));
    assert!(matches!(
        evaluate(&model, HookPoint::resid_pre(99), &[], &text(&model)),
        Err(Error::UnknownHook { .. })
    ));
}
