//! Training: the folder of one process, stopped on one number of ranks and continued on another; and
//! failures that only one rank has.

use std::fs;
use std::path::{Path, PathBuf};

use tokenized_sae::backend::{Exchange, Ranks};
use tokenized_sae::prelude::*;

use super::of_ranks;

struct Material {
    model: Model,
    corpus: Corpus,
    acts: ActivationStore,
    dir: tempfile::TempDir,
}

fn hook() -> HookPoint {
    HookPoint::resid_pre(2)
}

impl Material {
    fn new() -> Material {
        let dir = tempfile::tempdir().unwrap();
        let model = Model::load("tiny-gpt2").unwrap();
        let (train, valid) = (model.sample(64, 64, 1).unwrap(), model.sample(8, 64, 2).unwrap());
        let corpus = Corpus::new(train, valid).unwrap();
        let (acts, config) = (dir.path().join("acts"), HarvestConfig::default());
        let acts =
            ActivationStore::harvest(&model, &[hook()], &corpus.train, acts, config).unwrap();
        Material { model, corpus, acts, dir }
    }

    /// An SAE and two TSAEs, of which one has AuxK, which one process would train as well.
    fn trainer(&self, config: TrainConfig) -> Trainer {
        self.trainer_on(&self.acts, config)
    }

    fn trainer_on(&self, acts: &ActivationStore, config: TrainConfig) -> Trainer {
        let sae = SaeConfig { expansion: 4, k: 8, ..SaeConfig::for_model(&self.model) };
        let lookup = Lookup::unigram(&self.model, hook()).unwrap();
        let trainer = Trainer::new(acts, hook(), config).unwrap();
        let trainer = trainer.held_out(&self.model, &self.corpus.valid).unwrap();
        let tsae = sae.clone().with_lookup(lookup).with_aux(AuxK::default());
        let table = sae.clone().with_lookup(Lookup::unigram(&self.model, hook()).unwrap());
        trainer.add("SAE", sae).unwrap().add("TSAE", table).unwrap().add("AuxK", tsae).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn quick() -> TrainConfig {
    TrainConfig {
        tokens: 12_000,
        batch: 512,
        lr: 1e-3,
        evaluations: 4,
        held_out_tokens: 256,
        log_every: 5,
        dead_window: 2048,
        checkpoint_seconds: 0.0,
        ..Default::default()
    }
}

/// Every file of a folder and what is in it, but for locks.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path).into_iter().map(|(name, bytes)| (path.join(name), bytes)));
        } else if !path.ends_with(".lock") {
            all.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    let mut all: Vec<_> = all
        .into_iter()
        .map(|(path, bytes)| (path.strip_prefix(dir).unwrap().to_owned(), bytes))
        .collect();
    all.sort();
    all
}

#[test]
fn stopped_on_some_ranks_and_continued_on_others_the_files_are_those_of_one_process() {
    let it = Material::new();
    it.trainer(quick()).fit(it.path("alone")).unwrap();
    let mut stops = 0;
    let (rows, latents) = (Exchange::Rows, Exchange::Latents);
    let sizes = [(2, rows), (3, latents), (1, rows), (4, latents), (2, latents)];
    for (size, exchange) in sizes.into_iter().cycle() {
        let finished = of_ranks(size, |ranks| {
            let ranks = &ranks.clone().exchanging(exchange);
            let trainer = it.trainer(quick()).over(ranks);
            let training = trainer.fit_in_background(it.path("ranks")).unwrap();
            // Pressed on the last alone, and felt by all.
            let before = training.status().tokens;
            while ranks.rank() == size - 1
                && !training.is_finished()
                && training.status().tokens < before + 5 * 2 * 512
            {
                std::thread::yield_now();
            }
            if ranks.rank() == size - 1 {
                training.stop();
            }
            let runs = training.join().unwrap();
            runs.runs.iter().map(|run| run.finished).collect::<Vec<_>>()
        });
        assert!(finished.iter().all(|of_rank| *of_rank == finished[0]), "{finished:?}");
        if finished[0] == [true; 3] {
            break;
        }
        stops += 1;
    }
    assert!(stops > 2, "it was stopped {stops} times");
    let (alone, ranks) = (files(&it.path("alone")), files(&it.path("ranks")));
    let names = |all: &[(PathBuf, Vec<u8>)]| all.iter().map(|it| it.0.clone()).collect::<Vec<_>>();
    assert_eq!(names(&alone), names(&ranks));
    assert!(alone.len() >= 10 && alone == ranks);

    // What is finished is read by all.
    let again = of_ranks(3, |ranks| it.trainer(quick()).over(ranks).fit(it.path("ranks")).unwrap());
    assert!(again.iter().all(|runs| runs.runs.iter().all(|run| run.finished)));
}

/// What three ranks say of a training in which only some fail.
fn told(work: impl Fn(&Ranks) -> Result<Runs> + Sync) -> [String; 3] {
    let told = of_ranks(3, |ranks| work(ranks).map(|_| ()).expect_err("it fails").to_string());
    told.try_into().unwrap()
}

#[test]
fn what_fails_on_one_rank_ends_all_and_each_knows_why() {
    let it = Material::new();
    let runs = |name: &str| it.path(name);
    // A rank that was given other settings.
    let other = TrainConfig { lr: 2e-3, ..quick() };
    let [first, second, third] = told(|ranks| {
        let config = if ranks.rank() == 1 { &other } else { &quick() };
        it.trainer(config.clone()).over(ranks).fit(runs("settings"))
    });
    assert!(second.contains("run.json") && second.contains("the same settings"), "{second}");
    assert_eq!((&first, &third), (&format!("rank 1: {second}"), &first));

    // A rank whose activations are damaged, which it sees when it has begun.
    let copy = runs("damaged");
    fs::create_dir(&copy).unwrap();
    for (name, mut bytes) in files(it.acts.dir()) {
        if name.extension().is_some_and(|it| it == "safetensors") {
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
        }
        fs::write(copy.join(name), bytes).unwrap();
    }
    let [first, second, third] = told(|ranks| {
        let damaged = ActivationStore::open(&copy).unwrap();
        let acts = if ranks.rank() == 2 { &damaged } else { &it.acts };
        it.trainer_on(acts, quick()).over(ranks).fit(runs("damage"))
    });
    assert!(third.contains("shard-00000.safetensors: checksum is"), "{third}");
    assert_eq!((&first, &second), (&format!("rank 2: {third}"), &first));

    // The first cannot write.
    fs::create_dir_all(runs("full").join("SAE")).unwrap();
    fs::write(runs("full").join("SAE/own.txt"), "a file that is nobody's").unwrap();
    let [first, second, third] = told(|ranks| it.trainer(quick()).over(ranks).fit(runs("full")));
    assert!(first.contains("run.json"), "{first}");
    assert_eq!((&second, &third), (&format!("rank 0: {first}"), &second));

    // A card was asked for.
    let card = TrainConfig { device: Device::Cuda(0), ..quick() };
    let [first, ..] = told(|ranks| it.trainer(card.clone()).over(ranks).fit(runs("card")));
    assert!(first.contains("use cpu, or one rank"), "{first}");
}

#[test]
fn a_loss_that_is_no_number_ends_all_with_the_same_words() {
    let it = Material::new();
    let much = TrainConfig { lr: 1e30, ..quick() };
    let told = told(|ranks| it.trainer(much.clone()).over(ranks).fit(it.path("much")));
    assert!(told[0].contains("run \"SAE\""), "{}", told[0]);
    assert_eq!(told, [told[0].clone(), told[0].clone(), told[0].clone()]);
}
