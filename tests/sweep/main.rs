//! Sweeps: the grid and its names, folders that are found again, what trains together and alone,
//! the results, and sweeps described in files.

mod description;
mod grid;
mod results;
mod running;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tokenized_sae::prelude::*;

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
