//! Sweeps: the grid and its names, folders that are found again, what trains together and alone,
//! and the results.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tokenized_sae::experiments::sweep::SweepRun;
use tokenized_sae::experiments::sweep::{SweepFile, results_page};
use tokenized_sae::prelude::*;
use tokenized_sae::train;

struct Material {
    model: Model,
    corpus: Corpus,
    acts: ActivationStore,
    dir: tempfile::TempDir,
}

fn hooks() -> [HookPoint; 2] {
    [HookPoint::resid_pre(1), HookPoint::resid_pre(2)]
}

fn quick() -> TrainConfig {
    TrainConfig {
        tokens: 6144,
        batch: 256,
        lr: 1e-2,
        evaluations: 8,
        held_out_tokens: 256,
        log_every: 4,
        ..Default::default()
    }
}

impl Material {
    fn new() -> Material {
        let dir = tempfile::tempdir().unwrap();
        let model = Model::load("tiny-gpt2").unwrap();
        let corpus =
            Corpus::new(model.sample(32, 64, 1).unwrap(), model.sample(4, 64, 2).unwrap()).unwrap();
        let acts = ActivationStore::harvest(
            &model,
            &hooks(),
            &corpus.train,
            dir.path().join("acts"),
            HarvestConfig::default(),
        )
        .unwrap();
        Material { model, corpus, acts, dir }
    }

    fn sae(&self) -> SaeConfig {
        SaeConfig { expansion: 4, k: 8, ..SaeConfig::for_model(&self.model) }
    }

    /// Eight runs at each hook.
    fn both(&self) -> Sweep {
        Sweep::new(&self.acts, quick())
            .unwrap()
            .held_out(&self.model, &self.corpus.valid)
            .arm("SAE", self.sae())
            .arm_with("TSAE", self.sae(), Lookup::unigram)
            .ks(&[4, 8])
            .seeds(&[0, 1])
            .baseline("SAE")
    }

    fn sweep(&self) -> Sweep {
        self.both().hooks(&hooks()[1..])
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// Every file of the runs below a sweep's folder, but locks: when it was written, and its bytes.
fn files(dir: &Path) -> Vec<(PathBuf, SystemTime, Vec<u8>)> {
    let mut all = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.file_name().unwrap().to_str().unwrap() {
                ".lock" | ".locks" | "sweep.json" => {}
                _ if path.is_dir() => folders.push(path),
                _ => {
                    let written = fs::metadata(&path).unwrap().modified().unwrap();
                    all.push((
                        path.strip_prefix(dir).unwrap().to_owned(),
                        written,
                        fs::read(&path).unwrap(),
                    ));
                }
            }
        }
    }
    all.sort();
    all
}

fn bytes(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    files(dir).into_iter().map(|(path, _, bytes)| (path, bytes)).collect()
}

#[test]
fn the_grid_is_walked_hook_by_hook_seed_by_seed_arm_by_arm() {
    let it = Material::new();
    let names = it.both().names().unwrap();
    assert_eq!(names.len(), 16);
    assert_eq!(it.both().n_streams(), 4);
    let first: Vec<&str> = names[..5].iter().map(|(_, name)| name.as_str()).collect();
    let want = [
        "SAE k=4 expansion=4 lr=1e-2 seed=0",
        "SAE k=8 expansion=4 lr=1e-2 seed=0",
        "TSAE k=4 expansion=4 lr=1e-2 seed=0",
        "TSAE k=8 expansion=4 lr=1e-2 seed=0",
        "SAE k=4 expansion=4 lr=1e-2 seed=1",
    ];
    assert_eq!(first, want);
    assert!(
        names[..8].iter().all(|(hook, _)| *hook == hooks()[0])
            && names[8..].iter().all(|(hook, _)| *hook == hooks()[1])
    );
    // An axis more, or a value more, leaves the names that there were.
    let larger = it.both().ks(&[4, 8, 16]).expansions(&[4, 8]).lrs(&[1e-2, 3e-2]).names().unwrap();
    assert!(names.iter().all(|name| larger.contains(name)) && larger.len() == 16 * 6);
}

#[test]
fn a_second_call_trains_and_evaluates_nothing_and_gives_the_same() {
    let it = Material::new();
    let first = it.sweep().run(it.path("runs")).unwrap();
    assert!(first.is_complete() && first.runs.len() == 8 && first.failed.is_empty());
    let before = files(&it.path("runs"));
    let second = it.sweep().run(it.path("runs")).unwrap();
    assert_eq!(files(&it.path("runs")), before, "a file was written again");
    assert!(first.runs == second.runs);
    assert!(SweepResults::open(it.path("runs")).unwrap().runs == first.runs);
    // A larger grid adds to it.
    let larger = it.sweep().ks(&[4, 8, 16]).run(it.path("runs")).unwrap();
    assert_eq!(larger.runs.len(), 12);
    assert!(before.iter().all(|file| files(&it.path("runs")).contains(file)));
}

#[test]
fn runs_are_the_same_whether_they_train_together_or_alone() {
    let it = Material::new();
    let sweep = || it.sweep().ks(&[8]);
    sweep().run(it.path("together")).unwrap();
    sweep().memory(1).run(it.path("alone")).unwrap();
    for i in 1..=3 {
        sweep().only(i, 3).unwrap().run(it.path("shared")).unwrap();
    }
    assert_eq!(bytes(&it.path("alone")), bytes(&it.path("together")));
    assert_eq!(bytes(&it.path("shared")), bytes(&it.path("together")));

    // And as a trainer makes them.
    let (hook, seed) = (hooks()[1], 1);
    let sae = SaeConfig { seed, ..it.sae() }
        .with_lr(1e-2)
        .with_lookup(Lookup::unigram(&it.model, hook).unwrap());
    let name = "TSAE k=8 expansion=4 lr=1e-2 seed=1";
    let trainer = Trainer::new(&it.acts, hook, TrainConfig { seed, ..quick() })
        .unwrap()
        .held_out(&it.model, &it.corpus.valid)
        .unwrap();
    let runs = trainer.add(name, sae).unwrap().fit(it.path("trainer")).unwrap();
    for file in ["cfg.json", "sae_weights.safetensors", "history.json", "run.json"] {
        let swept = it.path("together").join(hook.to_string()).join(name).join(file);
        assert_eq!(
            fs::read(it.path("trainer").join(name).join(file)).unwrap(),
            fs::read(swept).unwrap(),
            "{file}"
        );
    }
    let results = SweepResults::open(it.path("together")).unwrap();
    let run = results.runs.iter().find(|run| run.name == name && run.setting.hook == hook).unwrap();
    let whole = train::evaluate(&it.model, hook, &runs, &it.corpus.valid).unwrap();
    for measure in Measure::ALL {
        let (got, want) = (run.metrics.get(measure), whole[name].without_bos.get(measure));
        assert!((got - want).abs() <= 1e-12 * want.abs(), "{measure:?}: {got}, {want}");
    }
    assert_eq!(run.history, runs[name].history);
    assert_eq!(run.sae().unwrap().w_dec, runs[name].sae.w_dec);
}

#[test]
fn means_and_speedups_are_those_of_the_runs() {
    let it = Material::new();
    let results = it.sweep().run(it.path("runs")).unwrap();
    let rows = results.rows();
    assert_eq!(rows.len(), 4);
    for row in &rows {
        let [a, b] = [&row.runs[0], &row.runs[1]].map(|run| run.metrics.nmse);
        assert_eq!((row.runs[0].seed, row.runs[1].seed), (0, 1));
        assert_ne!(a, b, "the seed changed nothing");
        let spread = row.spread(Measure::Nmse);
        assert!((spread.mean - (a + b) / 2.0).abs() < 1e-15);
        assert!((spread.sd.unwrap() - (a - b).abs() / 2f64.sqrt()).abs() < 1e-15);
        assert_eq!((spread.min, spread.max), (a.min(b), a.max(b)));
    }
    // The speed-up of a pair is the one that the trainer's own comparison finds.
    let hook = hooks()[1];
    let pair = |arm: &str| {
        results.runs.iter().find(|run| {
            run.setting.hook == hook
                && run.seed == 1
                && run.setting.k == Some(8)
                && run.setting.arm == arm
        })
    };
    let (sae, tsae) = (pair("SAE").unwrap(), pair("TSAE").unwrap());
    assert!(sae.speedup.is_none());
    let run = |run: &SweepRun| Run {
        name: run.setting.arm.clone(),
        sae: Sae::new(if run.setting.arm == "TSAE" {
            it.sae().with_lookup(Lookup::unigram(&it.model, hook).unwrap())
        } else {
            it.sae()
        })
        .unwrap(),
        history: run.history.clone(),
        tokens: 6144,
        finished: true,
        lr: 1e-2,
        scored_in_full: None,
        made: None,
    };
    assert_eq!(tsae.speedup, Some(speedup(&Runs { runs: vec![run(sae), run(tsae)] }).unwrap()));

    let best = results.best_by(Measure::Nmse).unwrap();
    assert!(
        rows.iter().all(|row| row.spread(Measure::Nmse).mean >= best.spread(Measure::Nmse).mean)
    );
    assert_eq!(results.clone().at("k", 4.0).unwrap().runs.len(), 4);
    assert_eq!(results.clone().of_arms(&["TSAE"]).unwrap().arms(), ["TSAE"]);
    let over_k = results.clone().best_over("k", Measure::Nmse).unwrap();
    assert_eq!(over_k.rows().len(), 2);
    assert!(results.clone().at("k", 5.0).unwrap_err().to_string().contains("[4.0, 8.0]"));
    assert!(
        results.clone().best_over("alpha", Measure::Nmse).is_err()
            && results.clone().with_baseline("none").is_err()
    );
}

#[test]
fn results_are_drawn_and_written() {
    let it = Material::new();
    let results = it.both().run(it.path("pareto")).unwrap();
    let text = results.table().text();
    assert!(
        text.contains("TSAE")
            && text.contains(" ± ")
            && text.contains("256 held-out")
            && !text.contains("NaN"),
        "{text}"
    );
    let figures = [
        results.pareto(),
        results.pareto_beside(&paper::pareto()),
        results.by_layer(Measure::Nmse),
        results.by_layer(Measure::Dead),
    ];
    for figure in
        figures.into_iter().chain([results.speedups(), results.speedups_beside(&paper::speedups())])
    {
        let figure = figure.unwrap();
        assert!(
            figure.svg().contains("TSAE") && !figure.svg().contains("NaN"),
            "{}",
            figure.summary()
        );
    }
    results.write_csv(it.path("a.csv")).unwrap();
    let csv = fs::read_to_string(it.path("a.csv")).unwrap();
    let lines: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines.len(), 17);
    assert!(lines.iter().all(|line| line.len() == lines[0].len()));
    let column = |name: &str| lines[0].iter().position(|cell| *cell == name).unwrap();
    assert_eq!(lines[1][column("nmse")].parse::<f64>().unwrap(), results.runs[0].metrics.nmse);
    assert_eq!(
        lines[1][column("ce_added_with_bos")].parse::<f64>().unwrap(),
        results.runs[0].with_bos.ce_added
    );
    results.write_json(it.path("a.json")).unwrap();
    let json: serde_json::Value =
        serde_json::from_slice(&fs::read(it.path("a.json")).unwrap()).unwrap();
    assert_eq!(json["runs"].as_array().unwrap().len(), 16);
    assert_eq!(json["runs"][3]["setting"]["arm"], "TSAE");

    results_page(&[it.path("pareto")], it.path("docs/results.md")).unwrap();
    let page = fs::read_to_string(it.path("docs/results.md")).unwrap();
    for part in ["## pareto", "| TSAE |", "paper: NMSE", "TopK + lookup", "EleutherAI/pythia-1.4b"]
    {
        assert!(page.contains(part), "{part} is not in\n{page}");
    }
    assert!(!page.contains(&it.dir.path().display().to_string()));
    for line in page.lines().filter(|line| line.starts_with("![")) {
        let place = line.rsplit_once('(').unwrap().1.trim_end_matches(')');
        assert!(it.path("docs").join(place).is_file(), "{line}");
    }
    assert_eq!(fs::read_dir(it.path("docs/results")).unwrap().count(), 3);
    let page_again = || results_page(&[it.dir.path().to_owned()], it.path("docs/results.md"));
    page_again().unwrap();
    assert_eq!(fs::read_to_string(it.path("docs/results.md")).unwrap(), page);
    assert!(results_page(&[it.path("docs")], it.path("a.md")).is_err());
}

#[test]
fn a_run_that_overflows_is_put_down_and_the_others_go_on() {
    let it = Material::new();
    let sweep = || it.sweep().ks(&[8]).seeds(&[0]).lrs(&[1e-3, 1e-2, 1e30]);
    let results = sweep().run(it.path("runs")).unwrap();
    assert_eq!((results.runs.len(), results.failed.len()), (4, 2));
    assert!(results.is_complete() && results.failed.iter().all(|run| run.setting.lr == 1e30));
    assert!(results.failed[0].why.contains("not finite"), "{}", results.failed[0].why);
    assert!(
        results.table().text().contains("2 overflowed: SAE at lr 1e30, TSAE at lr 1e30"),
        "{}",
        results.table().text()
    );
    // Each arm at its own best rate is still compared with the baseline at its own.
    assert!(results.is_complete());
    let best = results.best_over("lr", Measure::Nmse).unwrap();
    assert!(best.is_complete() && !best.table().text().contains("runs are finished"));
    assert_eq!(best.rows().iter().map(|row| row.setting.lr).collect::<Vec<_>>(), [1e-2, 1e-2]);
    let other = best.clone().at("lr", 1e-2).unwrap().runs[1].setting.clone();
    assert!(
        other.arm == "TSAE" && best.runs[1].speedup.is_some() && best.runs[0].speedup.is_none()
    );
    let before = files(&it.path("runs"));
    sweep().run(it.path("runs")).unwrap();
    assert_eq!(files(&it.path("runs")), before, "what failed was trained again");
}

#[test]
fn arms_of_every_architecture_stand_side_by_side() {
    let it = Material::new();
    let relu = it.sae().with_architecture(Architecture::Relu { l1: 1.0 });
    let gated = it.sae().with_architecture(Architecture::Gated { l1: 1.0 });
    let sweep = it
        .sweep()
        .seeds(&[0])
        .arm("ReLU", relu)
        .arm_with("Gated + lookup", gated, Lookup::unigram)
        .penalties(&[0.1, 10.0]);
    let results = sweep.run(it.path("runs")).unwrap();
    assert_eq!(results.arms(), ["SAE", "TSAE", "ReLU", "Gated + lookup"]);
    assert_eq!(results.runs.len(), 8);
    for arm in ["ReLU", "Gated + lookup"] {
        let rows = results.clone().of_arms(&[arm]).unwrap().rows();
        let [weak, strong] = [&rows[0], &rows[1]].map(|row| row.spread(Measure::L0).mean);
        assert!(
            rows[0].setting.k.is_none() && weak > strong,
            "{arm}: a larger penalty leaves {strong} active, a smaller one {weak}"
        );
        assert!(
            rows.iter().all(|row| row.sooner_by_nmse().is_none()),
            "{arm} is compared with a TopK SAE of some k"
        );
    }
    assert!(results.pareto().unwrap().svg().contains("Gated + lookup"));
    let text = results.table().text();
    assert!(text.contains("penalty") && text.contains("–"), "{text}");
}

#[test]
fn what_another_process_has_in_hand_is_passed_over() {
    let it = Material::new();
    let sweep = || it.sweep().seeds(&[0]);
    let name = "TSAE k=4 expansion=4 lr=1e-2 seed=0";
    let place = it.path("runs").join(hooks()[1].to_string()).join(".locks").join(name);
    fs::create_dir_all(&place).unwrap();
    let lock = fs::File::create(place.join(".lock")).unwrap();
    lock.lock().unwrap();
    let told = sweep().only(1, 1).unwrap().run(it.path("runs")).err().unwrap();
    assert!(matches!(told, Error::Incomplete { .. }) && told.to_string().contains(name), "{told}");
    let results = SweepResults::open(it.path("runs")).unwrap();
    assert!(
        results.runs.len() == 3
            && !results.is_complete()
            && results.runs.iter().all(|run| run.name != name)
    );
    assert!(results.table().text().contains("3 of 4 runs are finished"));
    let told = results.complete().err().unwrap().to_string();
    assert!(told.contains("1 of 4 runs are missing") && told.contains(name), "{told}");
    // Without a share it is waited for, and taken over when it is let go unfinished.
    let waiting = std::thread::spawn({
        let (sweep, dir) = (sweep(), it.path("runs"));
        move || sweep.run(dir)
    });
    std::thread::sleep(std::time::Duration::from_millis(700));
    assert!(!waiting.is_finished(), "it did not wait");
    lock.unlock().unwrap();
    assert!(waiting.join().unwrap().unwrap().complete().is_ok());
    sweep().run(it.path("alone")).unwrap();
    assert_eq!(bytes(&it.path("runs")), bytes(&it.path("alone")));
}

#[test]
fn a_sweep_that_is_prepared_has_its_grid_and_trains_nothing() {
    let it = Material::new();
    it.sweep().prepare(it.path("runs")).unwrap();
    let results = SweepResults::open(it.path("runs")).unwrap();
    assert!(results.planned() == 8 && results.runs.is_empty());
    assert!(bytes(&it.path("runs")).is_empty());
    let listed = fs::metadata(it.path("runs/sweep.json")).unwrap().modified().unwrap();
    it.sweep().only(1, 4).unwrap().run(it.path("runs")).unwrap();
    let now = fs::metadata(it.path("runs/sweep.json")).unwrap().modified().unwrap();
    assert_eq!(listed, now, "a share wrote the list of the grid again");
}

#[test]
fn what_cannot_be_run_is_refused_before_anything_is_trained() {
    let it = Material::new();
    let refused = |sweep: Sweep| sweep.run(it.path("none")).err().unwrap().to_string();
    assert!(
        refused(Sweep::new(&it.acts, quick()).unwrap().arm("SAE", it.sae()))
            .contains(".held_out(&model")
    );
    let bare = || Sweep::new(&it.acts, quick()).unwrap().held_out(&it.model, &it.corpus.valid);
    assert!(refused(bare()).contains("no arm to run"));
    assert!(refused(it.sweep().seeds(&[])).contains("no seed to run"));
    assert!(refused(it.sweep().ks(&[])).contains("\"k\" has no value"));
    assert!(refused(it.sweep().ks(&[4, 4])).contains("twice"));
    assert!(refused(it.sweep().ks(&[4, 10_000])).contains("k = 10000"));
    assert!(refused(it.sweep().arm("SAE", it.sae())).contains("both be called"));
    assert!(refused(it.sweep().arm("a/b", it.sae())).contains("cannot name a run"));
    assert!(refused(it.sweep().baseline("none")).contains("none"));
    assert!(refused(it.sweep().hooks(&[HookPoint::resid_pre(3)])).contains("has only blocks.1"));
    let other = Model::load("tiny-pythia").unwrap();
    assert!(
        refused(it.sweep().held_out(&other, &it.corpus.valid))
            .contains("the model of the activations")
    );
    let moved = Arm::per_hook("moved", it.sae(), |_, _, sae| Ok(SaeConfig { k: sae.k + 1, ..sae }))
        .ks(&[8]);
    assert!(!it.path("none").exists());
    assert!(
        bare().with_arm(moved).run(it.path("moved")).unwrap().is_complete(),
        "an axis comes after what is made for the hook"
    );
    let moved = Arm::per_hook("moved", it.sae(), |_, _, sae| Ok(SaeConfig { k: sae.k + 1, ..sae }));
    assert!(
        bare()
            .with_arm(moved)
            .run(it.path("moved"))
            .err()
            .unwrap()
            .to_string()
            .contains("vary them by axes")
    );
    assert!(it.sweep().only(0, 2).is_err() && it.sweep().only(3, 2).is_err());
    assert!(
        SweepResults::open(it.path("moved/none"))
            .unwrap_err()
            .to_string()
            .contains("no sweep has been run")
    );
}

#[test]
fn a_file_describes_what_a_notebook_builds() {
    let it = Material::new();
    let toml = r#"
        model = "tiny-gpt2"
        sampled = 2048
        hooks = ["blocks.1.hook_resid_pre", "blocks.2.hook_resid_pre"]
        ks = [4, 8]
        seeds = [0, 1]
        baseline = "SAE"
        [train]
        tokens = 6144
        batch = 256
        lr = 1e-2
        [[arms]]
        name = "SAE"
        expansion = 4
        [[arms]]
        name = "TSAE"
        expansion = 4
        lookup = "unigram"
    "#;
    let file = SweepFile::parse(toml).unwrap();
    let sweep = file.sweep(it.path("file")).unwrap().unwrap();
    assert_eq!(sweep.names().unwrap(), it.both().names().unwrap());
    assert_eq!((file.n_streams(), sweep.n_streams()), (4, 4));
    let json = serde_json::to_string(&file).unwrap();
    fs::write(it.path("sweep.json"), json).unwrap();
    assert!(SweepFile::read(it.path("sweep.json")).unwrap() == file);

    let frozen = "[[arms]]\nname = \"frozen\"\nlookup = \"unigram\"\nlearned = false\nbalance = 0.25\nvary = { expansion = [2, 4], lr = [1e-3] }\n";
    let more = SweepFile::parse(&(toml.to_owned() + frozen))
        .unwrap()
        .sweep(it.path("file"))
        .unwrap()
        .unwrap();
    let names = more.names().unwrap();
    assert_eq!(names.len(), 32);
    assert!(
        names.iter().any(|(_, name)| name == "frozen k=8 expansion=2 lr=1e-3 seed=1"),
        "{names:?}"
    );

    let relu = "[[arms]]\nname = \"ReLU\"\narchitecture = { relu = { l1 = 1.0 } }\n";
    let names = |more: &str| {
        let file = SweepFile::parse(&format!("{toml}{relu}{more}")).unwrap();
        let names = file.sweep(it.path("file")).unwrap().unwrap().names().unwrap();
        names
            .into_iter()
            .map(|(_, name)| name)
            .filter(|name| name.starts_with("ReLU") && name.ends_with("seed=1"))
            .collect::<Vec<_>>()
    };
    assert_eq!(names("")[0], "ReLU expansion=16 lr=1e-2 seed=1");
    assert_eq!(names("penalties = [0.5, 2]")[1], "ReLU expansion=16 lr=1e-2 penalty=2 seed=1");
    assert_eq!(
        names("vary = { \"architecture.relu.l1\" = [0.5, 2] }")[0],
        "ReLU expansion=16 lr=1e-2 l1=0.5 seed=1"
    );

    // Every kind of table trains.
    let kinds = [
        "\"means\"",
        "\"zeros\"",
        "{ ngrams = { longest = 3, rows = 50 } }",
        "{ ngram-means = { longest = 2, rows = 50 } }",
    ];
    let arm = |(i, kind): (usize, &&str)| {
        format!(
            "[[arms]]\nname = \"table {i}\"\nexpansion = 2\nk = 4\nsubtracted = true\nlookup = {kind}\n"
        )
    };
    let one = toml
        .replace("ks = [4, 8]", "")
        .replace("seeds = [0, 1]", "")
        .replace("tokens = 6144", "tokens = 512")
        .replace("batch", "held_out_tokens = 256\nbatch");
    let kinds = SweepFile::parse(&(one + &kinds.iter().enumerate().map(arm).collect::<String>()))
        .unwrap()
        .sweep(it.path("file"))
        .unwrap()
        .unwrap();
    assert_eq!(
        kinds.hooks(&hooks()[..1]).evaluated_on(256).run(it.path("kinds")).unwrap().runs.len(),
        6
    );

    let refused = |from: &str, to: &str| {
        let file = SweepFile::parse(&toml.replace(from, to));
        file.and_then(|file| file.sweep(it.path("file")).map(|_| ())).unwrap_err().to_string()
    };
    assert!(
        refused("expansion = 4", "expanson = 4")
            .contains("there is no setting \"expanson\"; the settings are")
    );
    assert!(
        refused("expansion = 4", "expansion = 4\ncentered = true")
            .contains("there is no setting \"centered\"")
    );
    assert!(refused("expansion = 4", "expansion = 4\ncentred = 3").contains("centred = 3"));
    assert!(refused("batch = 256", "bach = 256").contains("\"bach\""));
    let harvest = |line: &str| refused("[train]", &format!("[harvest]\n{line}\n\n[train]"));
    assert!(harvest("hooks = [\"blocks.1.hook_resid_pre\"]").contains("as its hooks"));
    assert!(harvest("dtype = \"int8\"").contains("dtype"), "the store there is another");
    assert!(refused("seeds =", "seed =").contains("seed"));
    assert!(refused("\"unigram\"", "\"trigram\"").contains("unigram"));
    assert!(refused("expansion = 4", "expansion = \"wide\"").contains("wide"));
    assert!(
        refused("sampled = 2048", "sampled = 2048\ntext = \"a.txt\"").contains("one of the two")
    );
    assert!(
        refused("sampled = 2048", "sampled = 2048\nmax_tokens = 512").contains("for text"),
        "of samples there are as many as it says"
    );
}

#[test]
fn a_files_text_is_as_long_as_it_says_however_long_the_training() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("a.txt");
    fs::write(&text, "One more line of the same text. ".repeat(200)).unwrap();
    for (trained, most, rows) in
        [(256, "max_tokens = 512", 512), (6144, "max_tokens = 512", 512), (256, "", 256)]
    {
        let toml = format!(
            "model = \"tiny-gpt2\"\ntext = {text:?}\ncontext = 32\n{most}\n[train]\ntokens = {trained}\nbatch = 256\n[[arms]]\nname = \"SAE\""
        );
        let out = dir.path().join(format!("{trained} {most}"));
        SweepFile::parse(&toml).unwrap().sweep(&out).unwrap();
        assert_eq!(ActivationStore::open(out.join("activations")).unwrap().n_rows(), rows);
    }
}

#[test]
fn a_plan_whose_runs_lie_elsewhere_is_refused() {
    let it = Material::new();
    it.sweep().ks(&[4]).seeds(&[0]).run(it.path("runs")).unwrap();
    let path = it.path("runs").join("sweep.json");
    let plan = fs::read_to_string(&path).unwrap();
    for name in ["../../elsewhere", "/tmp", "", ".."] {
        fs::write(
            &path,
            plan.replace("\"SAE k=4 expansion=4 lr=1e-2 seed=0\"", &format!("{name:?}")),
        )
        .unwrap();
        let told = SweepResults::open(it.path("runs")).unwrap_err().to_string();
        assert!(
            told.contains("sweep.json") && told.contains(&format!("{name:?} cannot name a run")),
            "{told}"
        );
    }
}

#[test]
fn a_grid_of_more_runs_than_anybody_waits_for_is_refused_before_it_is_laid_out() {
    let it = Material::new();
    let many: Vec<f64> = (1..=100).map(f64::from).collect();
    let vary = |sweep: Sweep, name: &str| sweep.vary(name, &many, |sae, _| Ok(sae));
    let sweep = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "l", "m"]
        .into_iter()
        .fold(it.sweep(), vary);
    let told = sweep.names().unwrap_err().to_string();
    assert!(told.contains("at most 100000"), "{told}");
}
