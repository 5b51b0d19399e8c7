//! The promise: SAEs train on synthetic rows as they do on a store, to the same bits however they are
//! stopped, and what they find is scored.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use tokenized_sae::experiments::synth::{Arm, SynthArch, SynthConfig};
use tokenized_sae::prelude::*;
use tokenized_sae::synthetic::{SyntheticConfig, SyntheticModel, Tokens, Trees};

/// Small enough for a test, with everything in it.
fn config() -> SyntheticConfig {
    SyntheticConfig {
        n_features: 120,
        d_model: 48,
        trees: Some(Trees { roots: 4, branching: 3, depth: 2 }),
        tokens: Some(Tokens {
            d_vocab: 20,
            exponent: 1.0,
            per_token: 1,
            shared: 10,
            pairs: 9,
            strength: 0.9,
        }),
        ..SyntheticConfig::small()
    }
}

fn train() -> TrainConfig {
    TrainConfig { tokens: 20_000, batch: 256, lr: 3e-3, log_every: 10, ..Default::default() }
}

/// One of each kind of SAE.
fn saes(model: &SyntheticModel) -> Vec<(&'static str, SaeConfig)> {
    let sae =
        SaeConfig { k: 6, ..SaeConfig::new(model.d_model(), model.d_vocab()) }.with_latents(64);
    let tokens = model.token_means(5_000).unwrap();
    let pairs = model.pair_means(5_000).unwrap().subtracted();
    vec![
        ("SAE", sae.clone()),
        ("BatchTopK", sae.clone().with_architecture(Architecture::BatchTopK)),
        (
            "JumpReLU",
            sae.clone().with_architecture(Architecture::jump_relu(1.0)).with_target_l0(6.0),
        ),
        ("tokens", sae.clone().with_lookup(tokens)),
        ("pairs", sae.with_lookup(pairs)),
    ]
}

fn trainer(model: &SyntheticModel, config: TrainConfig, only: Option<&str>) -> Trainer {
    let saes = saes(model).into_iter().filter(|(name, _)| only.is_none_or(|only| only == *name));
    saes.fold(Trainer::on_synthetic(model, config).unwrap(), |trainer, (name, sae)| {
        trainer.add(name, sae).unwrap()
    })
}

fn bytes(root: &Path, run: &str) -> Vec<Vec<u8>> {
    let files = ["cfg.json", "sae_weights.safetensors", "history.json", "run.json"];
    files.iter().map(|file| fs::read(root.join(run).join(file)).unwrap()).collect()
}

#[test]
fn runs_are_the_same_together_alone_and_stopped() {
    let (dir, model) = (tempfile::tempdir().unwrap(), SyntheticModel::new(config()).unwrap());
    let path = |name: &str| dir.path().join(name);
    let runs = trainer(&model, train(), None).fit(path("together")).unwrap();
    assert!(runs.runs.iter().all(|run| run.finished && run.tokens == 20_224));
    for name in ["BatchTopK", "pairs"] {
        trainer(&model, train(), Some(name)).fit(path("alone")).unwrap();
        assert_eq!(bytes(&path("alone"), name), bytes(&path("together"), name), "{name}");
    }
    // Stopped again and again, at steps that nobody chose.
    let mut stops = 0;
    for round in 1..200 {
        let training = trainer(&model, train(), None).fit_in_background(path("stopped")).unwrap();
        std::thread::sleep(Duration::from_millis(20 * round.min(20)));
        training.stop();
        if training.join().unwrap().runs.iter().all(|run| run.finished) {
            break;
        }
        stops += 1;
    }
    println!("stopped {stops} times");
    for (name, _) in saes(&model) {
        assert_eq!(bytes(&path("stopped"), name), bytes(&path("together"), name), "{name}");
    }
    let again = Instant::now();
    let found = trainer(&model, train(), None).fit(path("together")).unwrap();
    assert!(found.runs.iter().all(|run| run.finished), "{:?}", again.elapsed());
}

#[test]
fn another_model_or_stream_is_another_run() {
    let (dir, model) = (tempfile::tempdir().unwrap(), SyntheticModel::new(config()).unwrap());
    let weights = |model: &SyntheticModel, config: TrainConfig, name: &str| {
        let place = dir.path().join(name);
        trainer(model, config, Some("SAE")).fit(&place).unwrap();
        bytes(&place, "SAE")
    };
    let one = weights(&model, train(), "one");
    assert_ne!(weights(&model, TrainConfig { seed: 1, ..train() }, "seed"), one);
    let other = SyntheticModel::new(SyntheticConfig { seed: 1, ..config() }).unwrap();
    assert_ne!(weights(&other, train(), "model"), one);
}

#[test]
fn what_rows_do_not_have_is_refused() {
    let model = SyntheticModel::new(config()).unwrap();
    let told = |it: Result<Trainer>| it.map(|_| ()).expect_err("it is refused").to_string();
    let skipping = TrainConfig { skip_first: Some(1), ..train() };
    assert!(told(Trainer::on_synthetic(&model, skipping)).starts_with("skip_first"));
    let seed = TrainConfig { seed: SyntheticModel::SCORED, ..train() };
    assert!(told(Trainer::on_synthetic(&model, seed)).starts_with("seed"));
    let short = TrainConfig { max_norm_multiple: Some(3.0), ..train() };
    assert!(told(Trainer::on_synthetic(&model, short)).starts_with("max_norm_multiple"));
    let trainer = || Trainer::on_synthetic(&model, train()).unwrap();
    let wide = SaeConfig { k: 4, ..SaeConfig::new(50, model.d_vocab()) };
    assert!(matches!(trainer().add("wide", wide).err(), Some(Error::Shape { .. })));
    let gpt2 = Model::load("tiny-gpt2").unwrap();
    let text = gpt2.sample(2, 16, 0).unwrap();
    assert!(told(trainer().held_out(&gpt2, &text)).starts_with("activations"));
    let sae = SaeConfig { k: 4, ..SaeConfig::new(model.d_model(), model.d_vocab()) };
    assert!(trainer().add("SAE", sae).unwrap().description().is_err());
}

#[test]
fn an_experiment_writes_what_it_finds_and_finds_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let config = SynthConfig {
        model: config(),
        archs: vec![SynthArch::BatchTopK, SynthArch::Matryoshka],
        arms: vec![Arm::Wide, Arm::Subtracted],
        samples: 40_000,
        latents: 64,
        lr_end: Some(1e-3),
        scored: 5_000,
        ..SynthConfig::small()
    };
    let report = config.run(dir.path()).unwrap().expect("nobody interrupts");
    let names: Vec<&str> = report.rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names[..3], ["BatchTopK", "BatchTopK, wide", "BatchTopK, table subtracted"]);
    assert_eq!(names.len(), 6);
    let [plain, wide, table] = [0, 1, 2].map(|i| report.rows[i].parameters);
    assert!(wide > plain && table.abs_diff(wide) <= 2 * 48 + 1);
    for row in &report.rows {
        assert!(
            row.scores.f1 > 0.1 && row.scores.explained_variance > 0.1,
            "{}: {:?}",
            row.name,
            row.scores
        );
        assert_eq!(row.scores.kinds.len(), 4);
    }
    let written = fs::read(dir.path().join("scores.json")).unwrap();
    let stamp = fs::metadata(dir.path().join("runs/Matryoshka/sae_weights.safetensors")).unwrap();
    config.run(dir.path()).unwrap().unwrap();
    assert_eq!(fs::read(dir.path().join("scores.json")).unwrap(), written);
    let again = fs::metadata(dir.path().join("runs/Matryoshka/sae_weights.safetensors")).unwrap();
    assert_eq!(stamp.modified().unwrap(), again.modified().unwrap());
    let text = report.text();
    assert!(text.contains("Kind by kind") && text.contains("on token"), "{text}");
    assert!(text.contains("learning rate 2e-3 to 1e-3"), "{text}");
    assert!(!text.contains("published"), "that is of another model");
}

#[test]
fn settings_that_cannot_work_are_named() {
    for (config, field) in [
        (SynthConfig { archs: Vec::new(), ..SynthConfig::small() }, "archs"),
        (SynthConfig { arms: vec![Arm::Added], ..SynthConfig::small() }, "arms"),
        (SynthConfig { l0: Some(1e4), ..SynthConfig::small() }, "l0"),
        (SynthConfig { latents: 0, ..SynthConfig::small() }, "latents"),
        (SynthConfig { lr: f64::NAN, ..SynthConfig::full() }, "lr"),
        (SynthConfig { lr_end: Some(-1.0), ..SynthConfig::full() }, "lr_end"),
    ] {
        let told = config.check().unwrap_err().to_string();
        assert!(told.starts_with(field), "{told}");
    }
}
