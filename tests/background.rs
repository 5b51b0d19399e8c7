//! Training while other cells run: the same bytes, asked and stopped from outside, silent, and
//! nothing lost however it ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokenized_sae::prelude::*;
use tokenized_sae::train::TrainingState;

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

/// Far more than any test waits for.
fn endless() -> TrainConfig {
    TrainConfig { tokens: 400_000_000, ..quick() }
}

struct Material {
    model: Model,
    valid: Tokens,
    acts: ActivationStore,
    dir: tempfile::TempDir,
}

impl Material {
    fn new() -> Material {
        let dir = tempfile::tempdir().unwrap();
        let model = Model::load("tiny-gpt2").unwrap();
        let train = model.sample(32, 64, 1).unwrap();
        let acts = ActivationStore::harvest(
            &model,
            &[hook()],
            &train,
            dir.path().join("acts"),
            HarvestConfig::default(),
        )
        .unwrap();
        Material { valid: model.sample(4, 64, 2).unwrap(), model, acts, dir }
    }

    fn trainer(&self, config: TrainConfig) -> Trainer {
        let sae = SaeConfig { expansion: 4, k: 8, ..SaeConfig::for_model(&self.model) };
        let tsae = sae.clone().with_lookup(Lookup::unigram(&self.model, hook()).unwrap());
        let trainer = Trainer::new(&self.acts, hook(), config)
            .unwrap()
            .held_out(&self.model, &self.valid)
            .unwrap();
        trainer.add("SAE", sae).unwrap().add("TSAE", tsae).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn bytes(root: &Path) -> Vec<Vec<u8>> {
    let files = ["SAE", "TSAE"].map(|run| {
        ["cfg.json", "sae_weights.safetensors", "history.json"]
            .map(|name| root.join(run).join(name))
    });
    files.iter().flatten().map(|path| fs::read(path).unwrap()).collect()
}

/// Waits until some steps were logged.
fn under_way(training: &Training) {
    let start = Instant::now();
    while training.status().runs.iter().any(|run| run.train.is_none()) {
        assert!(start.elapsed() < Duration::from_secs(120), "{training:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_same_to_the_bit() {
    let it = Material::new();
    let there = it.trainer(quick()).fit(it.path("there")).unwrap();
    let training = it.trainer(quick()).fit_in_background(it.path("here")).unwrap();
    let here = training.join().unwrap();
    assert!(training.is_finished());
    assert_eq!(training.status().state, TrainingState::Finished);
    assert_eq!(bytes(&it.path("here")), bytes(&it.path("there")));
    for run in &there.runs {
        assert_eq!(
            (&here[&run.name].history, &here[&run.name].sae.w_enc),
            (&run.history, &run.sae.w_enc)
        );
        assert!(
            training
                .histories()
                .iter()
                .any(|(name, history)| *name == run.name && *history == run.history)
        );
    }
    // A cell that is run again asks again.
    assert_eq!(training.join().unwrap()["TSAE"].history, there["TSAE"].history);
    drop(training);
    // What is finished is found, not trained again.
    let again = it.trainer(quick()).fit_in_background(it.path("here")).unwrap().join().unwrap();
    assert!(again.runs.iter().all(|run| run.finished));
}

#[test]
fn it_says_where_it_stands_and_stops_when_asked() {
    let it = Material::new();
    // Checkpoints are written only when it is stopped.
    let config = TrainConfig { tokens: 512 * 150, checkpoint_seconds: 1e6, ..quick() };
    let training = it.trainer(config.clone()).fit_in_background(it.path("runs")).unwrap();
    assert_eq!(
        training.status().runs.iter().map(|run| run.name.as_str()).collect::<Vec<_>>(),
        ["SAE", "TSAE"]
    );
    under_way(&training);
    let start = Instant::now();
    let status = training.status();
    assert!(start.elapsed() < Duration::from_millis(100), "a status must not wait for a step");
    assert_eq!(status.total, 2 * 150 * 512);
    assert!(status.rate > 0.0 && status.tokens > 0 && status.runs[0].train.is_some(), "{status:?}");
    assert!(training.plot().unwrap().summary().contains("Training in"));
    training.stop();
    let stopped = training.join().unwrap();
    assert!(training.is_finished());
    // Asked at once, before it has read a row: there is nothing yet, and that is not an error.
    let at_once = it.trainer(config.clone()).fit_in_background(it.path("at once")).unwrap();
    at_once.stop();
    assert!(!at_once.join().unwrap()["SAE"].finished);
    assert_eq!(at_once.status().state, TrainingState::Stopped);
    let tokens = stopped["SAE"].tokens;
    if tokens < 512 * 150 {
        assert_eq!(training.status().state, TrainingState::Stopped);
        assert!(it.path("runs/SAE/checkpoint.safetensors").exists());
    }
    // The folder is free again, and the rest is trained to the same bytes.
    let runs = it.trainer(config.clone()).fit(it.path("runs")).unwrap();
    assert!(runs.runs.iter().all(|run| run.finished));
    it.trainer(config).fit(it.path("whole")).unwrap();
    assert_eq!(bytes(&it.path("runs")), bytes(&it.path("whole")));
}

#[test]
fn a_folder_in_use_is_told_by_the_call_itself() {
    let it = Material::new();
    let training = it.trainer(endless()).fit_in_background(it.path("runs")).unwrap();
    let second = it.trainer(quick()).fit_in_background(it.path("runs"));
    let told = second.err().unwrap();
    assert!(
        matches!(told, Error::Locked { .. }) && told.to_string().contains("background"),
        "{told}"
    );
    assert!(!training.is_finished());
    // Two folders at once work.
    it.trainer(quick()).fit_in_background(it.path("others")).unwrap().join().unwrap();
    training.stop();
    training.join().unwrap();
    assert!(matches!(
        Trainer::new(&it.acts, hook(), quick()).unwrap().fit_in_background(it.path("none")),
        Err(Error::Config { .. })
    ));
}

#[test]
fn dropping_it_writes_what_it_has() {
    let it = Material::new();
    let config = TrainConfig { checkpoint_seconds: 1e6, ..endless() };
    let training = it.trainer(config.clone()).fit_in_background(it.path("runs")).unwrap();
    under_way(&training);
    drop(training);
    assert!(it.path("runs/TSAE/checkpoint.safetensors").exists());
    // Nobody holds the folder, and the same call continues from there.
    let training = it.trainer(config).fit_in_background(it.path("runs")).unwrap();
    assert!(training.status().tokens >= 2 * 5 * 512);
    assert!(!training.histories()[0].1.train.is_empty());
}

#[test]
fn what_goes_wrong_is_told_by_join() {
    let it = Material::new();
    let much = TrainConfig { lr: 1e30, ..quick() };
    let training = it.trainer(much).fit_in_background(it.path("runs")).unwrap();
    let first = training.join().unwrap_err();
    assert!(matches!(first, Error::NotFinite { .. }), "{first}");
    let TrainingState::Failed(why) = training.status().state else { panic!("{training:?}") };
    assert_eq!(why, first.to_string());
    // The error itself was given away; its words were not.
    let second = training.join().unwrap_err();
    assert!(
        matches!(second, Error::Training { .. }) && second.to_string().contains(&why),
        "{second}"
    );
}

#[cfg(unix)]
mod in_a_process_of_its_own {
    use std::process::{Command, Output};

    use signal_hook::{consts::SIGINT, low_level::raise};

    use super::*;

    fn as_child(name: &str) -> bool {
        std::env::var("TSAE_TEST_CHILD").is_ok_and(|child| child == name)
    }

    /// Runs the test `name` of this module alone.
    fn child(name: &str) -> Output {
        let program = std::env::current_exe().unwrap();
        let name = format!("in_a_process_of_its_own::{name}");
        let command = &mut Command::new(program);
        command
            .args(["--exact", &name])
            .env("TSAE_TEST_CHILD", name.rsplit(':').next().unwrap())
            .env("TSAE_PROGRESS", "lines");
        command.output().unwrap()
    }

    #[test]
    fn the_stop_button_ends_the_waiting_only() {
        if as_child("the_stop_button_ends_the_waiting_only") {
            let it = Material::new();
            let training = it.trainer(endless()).fit_in_background(it.path("runs")).unwrap();
            std::thread::spawn(|| {
                std::thread::sleep(Duration::from_millis(700));
                raise(SIGINT).unwrap();
            });
            let told = training.join().unwrap_err();
            assert!(
                matches!(told, Error::Interrupted { .. })
                    && told.to_string().contains("still running"),
                "{told}"
            );
            assert!(!tokenized_sae::display::interrupt::requested());
            assert_eq!(training.status().state, TrainingState::Running);
            // A press that no call has listened to does not stop it either.
            std::thread::sleep(Duration::from_millis(300));
            raise(SIGINT).unwrap();
            let before = training.status().tokens;
            std::thread::sleep(Duration::from_millis(500));
            assert!(training.status().tokens > before && !training.is_finished());
            training.stop();
            assert!(!training.join().unwrap()["SAE"].finished);
            std::process::exit(7);
        } else {
            let output = child("the_stop_button_ends_the_waiting_only");
            assert_eq!(output.status.code(), Some(7), "{output:?}");
        }
    }

    #[test]
    fn it_prints_nothing() {
        if as_child("it_prints_nothing") {
            let it = Material::new();
            let training = it.trainer(endless()).fit_in_background(it.path("runs")).unwrap();
            eprintln!("it trains");
            std::thread::sleep(Duration::from_millis(2500));
            training.stop();
            while !training.is_finished() {
                std::thread::sleep(Duration::from_millis(10));
            }
            drop(training);
            std::process::exit(7);
        } else {
            let output = child("it_prints_nothing");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(7), "{said}");
            assert!(!said.lines().any(|line| line.starts_with("train ")), "{said}");
        }
    }
}
