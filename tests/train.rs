//! Training as a whole: one stream for several SAEs, folders that are found again, and damage that
//! is noticed.

use std::fs;
use std::path::Path;

use tokenized_sae::activations::{Dtype, Source};
use tokenized_sae::prelude::*;

fn hook() -> HookPoint {
    HookPoint::resid_pre(2)
}

fn quick() -> TrainConfig {
    TrainConfig {
        tokens: 12_000,
        batch: 512,
        lr: 1e-3,
        evaluations: 4,
        held_out_tokens: 256,
        log_every: 5,
        ..Default::default()
    }
}

struct Material {
    model: Model,
    corpus: Corpus,
    acts: ActivationStore,
    sae: SaeConfig,
    tsae: SaeConfig,
    dir: tempfile::TempDir,
}

impl Material {
    fn new() -> Material {
        let dir = tempfile::tempdir().unwrap();
        let model = Model::load("tiny-gpt2").unwrap();
        let corpus =
            Corpus::new(model.sample(64, 64, 1).unwrap(), model.sample(8, 64, 2).unwrap()).unwrap();
        let acts = ActivationStore::harvest(
            &model,
            &[hook()],
            &corpus.train,
            dir.path().join("acts"),
            HarvestConfig::default(),
        )
        .unwrap();
        let sae = SaeConfig { expansion: 4, k: 8, ..SaeConfig::for_model(&model) };
        let tsae = sae.clone().with_lookup(Lookup::unigram(&model, hook()).unwrap());
        Material { model, corpus, acts, sae, tsae, dir }
    }

    fn trainer(&self, config: TrainConfig) -> Trainer {
        Trainer::new(&self.acts, hook(), config)
            .unwrap()
            .held_out(&self.model, &self.corpus.valid)
            .unwrap()
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }
}

fn bytes(run: &Path) -> [Vec<u8>; 3] {
    ["cfg.json", "sae_weights.safetensors", "history.json"]
        .map(|name| fs::read(run.join(name)).unwrap())
}

#[test]
fn several_on_one_stream_are_what_each_is_alone() {
    let it = Material::new();
    let both = it
        .trainer(quick())
        .add("SAE", it.sae.clone())
        .unwrap()
        .add("TSAE", it.tsae.clone())
        .unwrap()
        .fit(it.path("both"))
        .unwrap();
    it.trainer(quick()).add("SAE", it.sae.clone()).unwrap().fit(it.path("one")).unwrap();
    // The second joins a folder whose first run is finished already.
    let joined = it
        .trainer(quick())
        .add("SAE", it.sae.clone())
        .unwrap()
        .add("TSAE", it.tsae.clone())
        .unwrap()
        .fit(it.path("one"))
        .unwrap();
    for name in ["SAE", "TSAE"] {
        assert_eq!(bytes(&it.path("both").join(name)), bytes(&it.path("one").join(name)));
        assert_eq!(both[name].history, joined[name].history);
        assert!(both[name].finished && both[name].tokens == 24 * 512);
    }
    let (first, last) =
        (both["TSAE"].history.held_out[0], *both["TSAE"].history.held_out.last().unwrap());
    assert!(last.nmse < 0.75 * first.nmse, "{first:?} {last:?}");
    assert_eq!((first.tokens, last.tokens), (0, 24 * 512));
    assert!((both["TSAE"].history.train[0].lookup_sim.unwrap() - 1.0).abs() < 0.2);
    assert_eq!(both["SAE"].history.train[0].lookup_sim, None);
    assert_eq!(
        both["SAE"].history.train.iter().map(|point| point.tokens / 512).collect::<Vec<_>>(),
        [5, 10, 15, 20, 24]
    );
}

#[test]
fn a_knob_turned_back_finds_its_run_again() {
    let it = Material::new();
    let fit = |k: usize| {
        let sae = SaeConfig { k, ..it.sae.clone() };
        it.trainer(quick()).add("SAE", sae).unwrap().fit(it.path("runs")).unwrap();
        let written = fs::metadata(it.path("runs").join("SAE/sae_weights.safetensors"))
            .unwrap()
            .modified()
            .unwrap();
        (bytes(&it.path("runs").join("SAE")), written)
    };
    let first = fit(8);
    assert_ne!(fit(4).0, first.0);
    assert_eq!(fit(8), first, "trained again instead of found again");
}

#[test]
fn damage_to_a_finished_run_is_noticed() {
    let it = Material::new();
    let fit = || it.trainer(quick()).add("SAE", it.sae.clone()).unwrap().fit(it.path("runs"));
    fit().unwrap();
    let weights = it.path("runs").join("SAE/sae_weights.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(&weights, bytes).unwrap();
    assert!(matches!(fit(), Err(Error::Checksum { .. })));
}

#[test]
fn two_at_once_in_one_folder_are_refused() {
    let it = Material::new();
    fs::create_dir(it.path("runs")).unwrap();
    let lock = fs::File::create(it.path("runs").join(".lock")).unwrap();
    lock.lock().unwrap();
    let fit = || it.trainer(quick()).add("SAE", it.sae.clone()).unwrap().fit(it.path("runs"));
    assert!(matches!(fit(), Err(Error::Locked { .. })));
    lock.unlock().unwrap();
    fit().unwrap();
}

#[test]
fn what_cannot_be_trained_is_refused_before_it_starts() {
    let it = Material::new();
    let add =
        |name: &str, sae: SaeConfig| it.trainer(quick()).add(name, sae).err().unwrap().to_string();
    assert!(add("SAE", SaeConfig { k: 4 * 128 + 1, ..it.sae.clone() }).contains("k = 513"));
    assert!(add("../SAE", it.sae.clone()).contains("cannot name a run"));
    assert!(add("SAE", SaeConfig::new(64, it.sae.d_vocab)).contains("[4096, 64]"));
    let twice = it.trainer(quick()).add("SAE", it.sae.clone()).unwrap().add("SAE", it.sae.clone());
    assert!(twice.err().unwrap().to_string().contains("taken"));
    assert!(matches!(
        Trainer::new(&it.acts, HookPoint::resid_pre(1), quick()),
        Err(Error::UnknownHook { .. })
    ));
    let other = Model::load("tiny-pythia").unwrap();
    let trainer = Trainer::new(&it.acts, hook(), quick()).unwrap();
    assert!(matches!(trainer.held_out(&other, &it.corpus.valid), Err(Error::Changed { .. })));
    let much = TrainConfig { lr: 1e30, ..quick() };
    let overflow = it.trainer(much).add("SAE", it.sae.clone()).unwrap().fit(it.path("much"));
    assert!(matches!(overflow, Err(Error::NotFinite { .. })));
}

#[test]
fn first_positions_are_left_out_where_that_is_said_and_by_family() {
    let it = Material::new();
    let hook = HookPoint::resid_pre(1);
    // BOS, id 0, stands at position 0 alone. Whether its row of a table moves says whether that
    // position was trained on.
    let ids = |i: usize| if i.is_multiple_of(12) { 0 } else { 1 + (i * 31 % 60) as u32 };
    let tokens = Tokens::new((0..64 * 12).map(ids).collect(), 12).unwrap();
    for (name, by_family) in [("tiny-gpt2", true), ("tests/golden/llama", false)] {
        let model = Model::load(name).unwrap();
        let at = |part: &str| it.path(part).join(model.name());
        let config = HarvestConfig::default();
        let acts =
            ActivationStore::harvest(&model, &[hook], &tokens, at("acts-of"), config).unwrap();
        let moved = |skip_first: Option<usize>| {
            let config = TrainConfig { skip_first, tokens: 3000, ..quick() };
            let zeros = Lookup::zeros(acts.d_vocab(), acts.d_model()).unwrap();
            let sae = SaeConfig { expansion: 2, k: 4, ..SaeConfig::for_model(&model) };
            let trainer = Trainer::new(&acts, hook, config).unwrap();
            let trainer = trainer.add("TSAE", sae.with_lookup(zeros)).unwrap();
            let runs = trainer.fit(at(&format!("{skip_first:?}"))).unwrap();
            let table = runs["TSAE"].sae.lookup.clone().unwrap();
            let row = |t: u32| table[t as usize * acts.d_model()..][..acts.d_model()].iter();
            assert!(row(ids(1)).any(|x| *x != 0.0), "a token of position 1");
            row(0).any(|x| *x != 0.0)
        };
        assert_eq!([None, Some(0), Some(1)].map(moved), [by_family, true, false], "{name}");
        let too_many = TrainConfig { skip_first: Some(12), ..quick() };
        let told = Trainer::new(&acts, hook, too_many).err().unwrap().to_string();
        assert!(told.contains("skip_first") && told.contains("12"), "{told}");
    }
}

/// Whatever the units of the activations, normalised training takes the same way.
#[test]
fn normalised_training_does_not_depend_on_the_units_of_the_activations() {
    let it = Material::new();
    let store = |by: f32| {
        let forward = |pass: &Tokens, hooks: &[HookPoint]| {
            let of = |hook: &HookPoint| {
                let x = it.model.run_to(pass, *hook)?.flatten_all()?.to_vec1::<f32>()?;
                Ok(x.into_iter().map(|x| by * x).collect())
            };
            hooks.iter().map(of).collect::<Result<Vec<Vec<f32>>>>()
        };
        let config = HarvestConfig { dtype: Dtype::F32, ..HarvestConfig::default() };
        let (source, dir) = (Source::of(&it.model), it.path(&format!("times {by}")));
        let train = &it.corpus.train;
        ActivationStore::harvest_with(&source, &[hook()], train, dir, config, &forward).unwrap()
    };
    let stores = [1.0, 8.0].map(store);
    let run = |store: &ActivationStore, normalize: bool| {
        // Adam's ε is no number in any unit.
        let config = TrainConfig { normalize, tokens: 8_000, epsilon: 1e-14, ..quick() };
        let lookup = Lookup::zeros(store.d_vocab(), store.d_model()).unwrap();
        let sae = it.sae.clone().with_lookup(lookup);
        let trainer = Trainer::new(store, hook(), config).unwrap().add("TSAE", sae).unwrap();
        trainer.fit(store.dir().join(format!("runs {normalize}"))).unwrap().runs.remove(0).sae
    };
    let far = |normalize: bool| {
        let [one, eight] = stores.each_ref().map(|store| run(store, normalize));
        let of = |a: &[f32], b: &[f32], by: f32| {
            let size = a.iter().map(|x| x.abs()).fold(0.0, f32::max);
            a.iter().zip(b).map(|(a, b)| (by * a - b).abs() / (by * size)).fold(0.0, f32::max)
        };
        let tables = [&one, &eight].map(|sae| sae.lookup.as_ref().unwrap());
        of(&one.b_dec, &eight.b_dec, 8.0).max(of(tables[0], tables[1], 8.0))
    };
    let (normalised, plain) = (far(true), far(false));
    assert!(normalised < 1e-3 && plain > 0.5, "{normalised}, {plain}");
}

/// Five ways to choose latents, with a table and without, with everything that keeps a state of its
/// own.
fn architectures(it: &Material) -> Vec<(&'static str, SaeConfig)> {
    let with = |sae: &SaeConfig, architecture| sae.clone().with_architecture(architecture);
    vec![
        ("ReLU", with(&it.sae, Architecture::Relu { l1: 1.0 })),
        ("Gated", with(&it.tsae, Architecture::Gated { l1: 1.0 })),
        ("JumpReLU", with(&it.tsae, Architecture::jump_relu(0.3))),
        ("JumpReLU to 100", with(&it.sae, Architecture::jump_relu(0.3)).with_target_l0(100.0)),
        (
            "BatchTopK",
            with(&it.sae, Architecture::BatchTopK)
                .with_prefixes(&[64, 256])
                .with_aux(AuxK::default()),
        ),
        (
            "TopK",
            SaeConfig { unit_norm: true, ..it.tsae.clone() }
                .with_aux(AuxK { k: Some(16), alpha: 0.1 }),
        ),
        ("aligned", it.sae.clone().aligned().in_subspace(40)),
        ("resampled", it.tsae.clone().with_resamplings(3)),
    ]
}

#[test]
fn every_architecture_trains_and_goes_on_to_the_same_bytes_when_stopped() {
    let it = Material::new();
    let config = TrainConfig { dead_window: 2048, ..quick() };
    let trainer = || {
        architectures(&it).into_iter().fold(it.trainer(config.clone()), |trainer, (name, sae)| {
            trainer.add(name, sae).unwrap()
        })
    };
    let whole = trainer().fit(it.path("whole")).unwrap();
    for run in &whole.runs {
        let (first, last) = (run.history.held_out[0], *run.history.held_out.last().unwrap());
        assert!(last.nmse < 0.9 * first.nmse, "{}: {first:?} {last:?}", run.name);
    }
    let mut stops = 0;
    loop {
        let training = trainer().fit_in_background(it.path("stopped")).unwrap();
        let before = training.status().tokens;
        while !training.is_finished() && training.status().tokens < before + 5 * 6 * 512 {
            std::thread::yield_now();
        }
        training.stop();
        stops += 1;
        if training.join().unwrap().runs.iter().all(|run| run.finished) {
            break;
        }
    }
    assert!(stops > 1, "it was never stopped");
    for (name, _) in architectures(&it) {
        assert!(
            bytes(&it.path("whole").join(name)) == bytes(&it.path("stopped").join(name)),
            "{name}"
        );
    }
}

#[test]
fn a_target_l0_is_reached_in_some_hundred_steps() {
    let it = Material::new();
    let config = TrainConfig { tokens: 512 * 300, lr: 1e-3, ..quick() };
    let sae = SaeConfig { expansion: 8, ..it.sae.clone() };
    let mut trainer = it.trainer(config);
    let mut targets = Vec::new();
    // A hundredfold each way of the coefficient, and a sixteenfold one of the target.
    for penalty in [0.01, 1.0] {
        for (name, architecture) in [
            ("ReLU", Architecture::Relu { l1: penalty }),
            ("Gated", Architecture::Gated { l1: penalty }),
            ("JumpReLU", Architecture::jump_relu(penalty)),
        ] {
            for target in [4.0, 64.0] {
                let name = format!("{name} {penalty} {target}");
                let sae = sae.clone().with_architecture(architecture).with_target_l0(target);
                trainer = trainer.add(&name, sae).unwrap();
                targets.push((name, target));
            }
        }
    }
    let runs = trainer.fit(it.path("runs")).unwrap();
    let reached: Vec<(&str, f64)> = targets
        .iter()
        .map(|(name, target)| (&**name, runs[name].history.train.last().unwrap().l0 / target))
        .collect();
    assert!(reached.iter().all(|(_, share)| (share - 1.0).abs() < 0.1), "{reached:?}");

    for (sae, why) in [
        (it.sae.clone().with_target_l0(8.0), "TopK has k"),
        (sae.with_architecture(Architecture::jump_relu(1.0)).with_target_l0(0.0), "between 0 and"),
    ] {
        let error = sae.check().unwrap_err().to_string();
        assert!(error.contains("target_l0") && error.contains(why), "{error}");
    }
}

#[test]
fn dead_latents_that_are_asked_to_help_come_back() {
    let it = Material::new();
    // Too fast for most latents: they die.
    let config = TrainConfig { tokens: 120_000, lr: 1e-2, dead_window: 4096, ..quick() };
    let sae = SaeConfig { k: 4, expansion: 16, ..it.sae.clone() };
    let runs = it
        .trainer(config)
        .add("alone", sae.clone())
        .unwrap()
        .add("helped", sae.with_aux(AuxK { k: None, alpha: 1.0 }))
        .unwrap();
    let runs = runs.fit(it.path("runs")).unwrap();
    let living = |name: &str| 1.0 - runs[name].history.train.last().unwrap().dead;
    assert!(
        living("helped") > 2.0 * living("alone"),
        "{} and {}",
        living("helped"),
        living("alone")
    );
}

#[test]
fn a_checkpoint_of_steps_that_the_run_does_not_have_is_refused() {
    let it = Material::new();
    let trainer = || {
        it.trainer(TrainConfig { tokens: 1 << 20, ..quick() }).add("SAE", it.sae.clone()).unwrap()
    };
    let training = trainer().fit_in_background(it.path("runs")).unwrap();
    training.stop();
    training.join().unwrap();
    let path = it.path("runs").join("SAE/checkpoint.safetensors");
    let whole = fs::read(&path).unwrap();
    let n = u64::from_le_bytes(*whole.first_chunk().unwrap()) as usize;
    let header = String::from_utf8(whole[8..8 + n].to_vec()).unwrap();
    let (before, after) = header.split_once("\\\"steps\\\":").unwrap();
    let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
    for steps in ["2049", "36028797018963968", "18446744073709551615"] {
        let header = format!("{before}\\\"steps\\\":{steps}{after}");
        fs::write(
            &path,
            [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &whole[8 + n..]].concat(),
        )
        .unwrap();
        let told = trainer().fit(it.path("runs")).err().unwrap().to_string();
        assert!(
            told.contains("checkpoint.safetensors") && told.contains(&format!("{steps} steps")),
            "{told}"
        );
    }
}
