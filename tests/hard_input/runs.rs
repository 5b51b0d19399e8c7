//! Folders of runs, finished and not.

use std::collections::BTreeMap;
use std::path::Path;

use sha2::{Digest, Sha256};
use tokenized_sae::activations::Dtype;
use tokenized_sae::plot;
use tokenized_sae::prelude::*;

use super::hammer::{self, Reader, Seed};
use super::json::{self, Json};
use super::mutate::Kind;
use super::stores::{self, hex, hooks};

fn config() -> TrainConfig {
    TrainConfig {
        tokens: 64,
        batch: 16,
        log_every: 1,
        checkpoint_seconds: 1e9,
        ..TrainConfig::default()
    }
}

fn settings(acts: &ActivationStore) -> [SaeConfig; 2] {
    let sae = SaeConfig { expansion: 1, k: 2, ..SaeConfig::new(acts.d_model(), acts.d_vocab()) };
    let table = (0..acts.d_vocab() * acts.d_model()).map(|i| (i as f32).cos()).collect();
    [
        sae.clone().with_architecture(Architecture::BatchTopK),
        sae.with_lookup(Lookup::from_table(table, acts.d_model()).unwrap()),
    ]
}

fn trainer(acts: &ActivationStore) -> Result<Trainer> {
    let [sae, tsae] = settings(acts);
    Trainer::new(acts, hooks()[0], config())?.add("SAE", sae)?.add("TSAE", tsae)
}

/// The files that runs leave, among them `checkpoint.safetensors` if `unfinished`.
fn seed(acts: &ActivationStore, unfinished: bool) -> Seed {
    let dir = tempfile::tempdir().unwrap();
    if unfinished {
        // Some steps later it writes what it has; a run that has ended by then is tried again.
        for more in 1.. {
            let root = dir.path().join(more.to_string());
            let config = TrainConfig { tokens: 1 << 18, ..config() };
            let [sae, tsae] = settings(acts);
            let training = Trainer::new(acts, hooks()[0], config)
                .unwrap()
                .add("SAE", sae)
                .unwrap()
                .add("TSAE", tsae)
                .unwrap()
                .fit_in_background(&root)
                .unwrap();
            training.stop();
            training.join().unwrap();
            if root.join("SAE/checkpoint.safetensors").exists()
                && root.join("TSAE/checkpoint.safetensors").exists()
            {
                return of(&root);
            }
        }
    }
    trainer(acts).unwrap().fit(dir.path()).unwrap();
    of(dir.path())
}

fn of(root: &Path) -> Seed {
    let mut seed = Seed::of_folder(root, |name| match name.rsplit('/').next()? {
        ".lock" => None,
        name if name.ends_with(".json") => Some(Kind::Json),
        name if name.ends_with(".safetensors") => Some(Kind::SafeTensors),
        _ => None,
    });
    seed.files.retain(|name, _| !name.ends_with(".lock"));
    seed.sign = Some(sign);
    seed
}

/// Makes the checksums in `run.json` those of the spoilt files.
pub fn sign(files: &mut BTreeMap<String, Vec<u8>>) {
    let cards: Vec<String> =
        files.keys().filter(|name| name.ends_with("run.json")).cloned().collect();
    for name in cards {
        let folder = name.trim_end_matches("run.json");
        let sum = |file: &str| {
            files
                .get(&format!("{folder}{file}"))
                .map(|bytes| format!("\"{}\"", hex(&Sha256::digest(bytes))))
        };
        let sums = [("weights", sum("sae_weights.safetensors")), ("history", sum("history.json"))];
        let Some(mut card) = std::str::from_utf8(&files[&name]).ok().and_then(json::parse) else {
            continue;
        };
        for (key, sum) in sums {
            if let Some((place, sum)) =
                card.get_mut("finished").and_then(|finished| finished.get_mut(key)).zip(sum)
            {
                *place = Json::Plain(sum);
            }
        }
        files.insert(name, card.text().into_bytes());
    }
}

/// Runs show and draw themselves.
fn used(runs: &Runs) {
    assert!(!format!("{:?}", runs.table()).is_empty());
    let _ = (plot::reconstruction(runs), plot::training(runs), speedup(runs));
    for run in &runs.runs {
        let _ = run.sae.encode(&vec![0.5; run.sae.d_model()]);
    }
}

#[test]
fn a_folder_of_runs_with_spoilt_files_is_read_or_refused_and_nothing_else() {
    let _alone = hammer::alone();
    let dir = tempfile::tempdir().unwrap();
    let acts = stores::harvest(dir.path(), Dtype::F32, 40);
    let seeds = [seed(&acts, false), seed(&acts, true)];
    // A figure of a history, and the weights with their moments and gradients.
    let reader = Reader { name: "runs", share: 6, times: 32, beside: 8 << 20, also: &["run \""] };
    reader.hammer(&seeds, |folder| {
        let unfinished = folder.join("SAE/checkpoint.safetensors").exists()
            || folder.join("TSAE/checkpoint.safetensors").exists();
        let config = TrainConfig { tokens: if unfinished { 1 << 18 } else { 64 }, ..config() };
        let [sae, tsae] = settings(&acts);
        let trainer =
            Trainer::new(&acts, hooks()[0], config)?.add("SAE", sae)?.add("TSAE", tsae)?;
        if !unfinished {
            used(&trainer.fit(folder)?);
            return Ok(());
        }
        // Read, and stopped at the first step.
        let training = trainer.fit_in_background(folder)?;
        training.stop();
        used(&training.join()?);
        Ok(())
    });
}
