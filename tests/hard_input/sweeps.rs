//! Sweeps: their descriptions, and what their folders tell.

use std::path::Path;

use tokenized_sae::experiments::paper;
use tokenized_sae::experiments::sweep::{SweepFile, results_page};
use tokenized_sae::prelude::*;

use super::hammer::{self, Reader, Seed};
use super::mutate::Kind;
use super::runs;

const TOML: &str = r#"
model = "MODEL"
processing = "raw"
text = "/nowhere/*.txt"
context = 8
hooks = ["blocks.1.hook_resid_pre", "blocks.2.hook_resid_pre"]
ks = [4, 8]
expansions = [2]
seeds = [0, 1, 2]
baseline = "SAE"
evaluated_on = 100

[train]
tokens = 6000
batch = 256
lr = 1e-2

[[arms]]
name = "SAE"

[[arms]]
name = "TSAE"
lookup = "unigram"
learned = false
balance = 0.25
k = 7
vary = { "aux.alpha" = [0.5, 1.0] }
aux = { k = 3, alpha = 0.5 }
prefixes = [32, 64]

[[arms]]
name = "ReLU"
lookup = { ngrams = { longest = 2, rows = 100 } }
lrs = [0.01, 3e-4]
penalties = [1.0]
architecture = { relu = { l1 = 1.0 } }
"#;

/// As the golden model is small, and read again for each input.
fn model() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gpt2").display().to_string()
}

#[test]
fn a_spoilt_description_of_a_sweep_is_read_or_refused_and_nothing_else() {
    let _alone = hammer::alone();
    let toml = TOML.replace("MODEL", &model());
    let json = serde_json::to_string(&SweepFile::parse(&toml).unwrap()).unwrap();
    let seeds = [
        Seed::of_file("sweep.toml", Kind::Bytes, toml),
        Seed::of_file("sweep.json", Kind::Json, json),
    ];
    // The model that a description names takes some 2 MB; a value of TOML takes some hundred bytes
    // for the two that it is written in.
    let reader = Reader { name: "descriptions", share: 6, times: 300, beside: 8 << 20, also: &[] };
    reader.hammer(&seeds, |folder| {
        let path = ["sweep.toml", "sweep.json"]
            .map(|name| folder.join(name))
            .into_iter()
            .find(|path| path.exists());
        let file = SweepFile::read(path.unwrap_or_else(|| folder.join("sweep.toml")))?;
        assert!(!format!("{file:?}").is_empty());
        let _ = file.n_streams();
        // Only a description that still names this model and no text is tried: others would train,
        // or ask the hub.
        if file.model == model() && file.text.as_deref() == Some("/nowhere/*.txt") {
            let _ = file.sweep(folder.join("runs")).map(|_| ()).map_err(|error| error.to_string());
        }
        Ok(())
    });
}

/// A small sweep that was run, without its weights, which are not looked at.
fn finished() -> Seed {
    let dir = tempfile::tempdir().unwrap();
    let model = Model::load(&model()).unwrap();
    let sample = |seed| model.sample(8, 8, seed).unwrap();
    let hooks = [HookPoint::resid_pre(1), HookPoint::resid_pre(2)];
    let acts = ActivationStore::harvest(
        &model,
        &hooks,
        &sample(1),
        dir.path().join("acts"),
        HarvestConfig::default(),
    )
    .unwrap();
    let sae = SaeConfig { expansion: 2, k: 2, ..SaeConfig::for_model(&model) };
    let train = TrainConfig {
        tokens: 64,
        batch: 16,
        evaluations: 4,
        held_out_tokens: 16,
        log_every: 1,
        ..Default::default()
    };
    let sweep = Sweep::new(&acts, train)
        .unwrap()
        .held_out(&model, &sample(2))
        .arm("SAE", sae.clone())
        .arm_with("TSAE", sae, Lookup::unigram);
    sweep
        .hooks(&hooks)
        .ks(&[2, 4])
        .seeds(&[0, 1])
        .baseline("SAE")
        .run(dir.path().join("sweep"))
        .unwrap();
    let mut seed = Seed::of_folder(&dir.path().join("sweep"), |name| {
        name.ends_with(".json").then_some(Kind::Json)
    });
    seed.files.retain(|name, _| name.ends_with(".json"));
    seed.targets.retain(|(name, _)| !name.ends_with("cfg.json"));
    // The plan is one file of many.
    let plan = ("sweep.json".to_owned(), Kind::Json);
    seed.targets.extend(std::iter::repeat_n(plan, seed.targets.len() / 2));
    let failed = seed
        .files
        .keys()
        .find(|name| name.ends_with("run.json"))
        .unwrap()
        .replace("run.json", "failed.json");
    seed.files.insert(failed, br#"{"key": "0", "why": "it overflowed"}"#.to_vec());
    seed.sign = Some(runs::sign);
    seed
}

#[test]
fn the_results_of_a_sweep_with_spoilt_files_are_read_or_refused_and_nothing_else() {
    let _alone = hammer::alone();
    let seeds = [finished()];
    let reader = Reader { name: "results", share: 3, times: 16, beside: 8 << 20, also: &[] };
    reader.hammer(&seeds, |folder| {
        let results = SweepResults::open(folder)?;
        assert!(!format!("{results:?}{:?}{:?}", results.table(), results.changes()).is_empty());
        let _ = (results.is_complete(), results.n_layers(), results.arms());
        // Figures are drawn of one in four.
        if results.runs.iter().map(|run| run.metrics.nmse.to_bits()).fold(0, u64::wrapping_add) % 4
            == 0
        {
            let figures = [
                results.pareto(),
                results.by_layer(Measure::Nmse),
                results.along("k", Measure::CeAdded),
                results.speedups(),
                results.speedups_beside(&paper::speedups()),
                results.pareto_beside(&paper::pareto()),
            ];
            let _ = figures.map(|figure| figure.map(|figure| figure.svg().len()));
            let _ = results_page(&[folder.to_owned()], folder.join("page.md"));
        }
        Ok(())
    });
}
