//! The activation store keeps its promises: whole or not there, the same bytes whenever it was
//! killed, nothing mixed, damage noticed, every row beside its own token.
//!
//! The model is a formula here, so that every number of every row is known.

mod damage;
#[path = "../shared/killing.rs"]
mod killing;
mod ranges;
mod reading;
mod refusing;
mod resuming;
mod sharing;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tokenized_sae::activations::Source;
use tokenized_sae::activations::{Batch, Dtype};
use tokenized_sae::model::Site;
use tokenized_sae::prelude::*;

const D_MODEL: usize = 24;
const N_CTX: usize = 8;
/// Three sequences a shard, two a pass: no border of the one falls on a border of the other.
const CONFIG: HarvestConfig = HarvestConfig {
    dtype: Dtype::F32,
    compute: Compute::F32,
    shard_tokens: 3 * N_CTX,
    batch: 2,
    device: Device::Cpu,
};

fn source() -> Source {
    Source {
        name: "formula".into(),
        revision: None,
        fingerprint: "f0".repeat(32),
        processing: "Raw".into(),
        d_model: D_MODEL,
        d_vocab: 1000,
        skip_first: 0,
    }
}

fn hooks() -> Vec<HookPoint> {
    vec![HookPoint::resid_pre(1), HookPoint { layer: 10, site: Site::MlpOut }]
}

fn tokens(n_seq: usize) -> Tokens {
    let ids = (0..n_seq * N_CTX)
        .map(|i| if i % N_CTX == 0 { 0 } else { (i as u32 * 7919) % 1000 })
        .collect();
    Tokens::new(ids, N_CTX).unwrap()
}

/// The activation of `hook` for a token at a position: different in every number.
fn value(hook: HookPoint, token: u32, position: usize, dimension: usize) -> f32 {
    (token as f32 + 0.01 * position as f32).sin() + hook.layer as f32 + 0.37 * dimension as f32
}

fn forward(pass: &Tokens, hooks: &[HookPoint]) -> Result<Vec<Vec<f32>>> {
    let rows = |hook: HookPoint| {
        let of_token = |(i, &token): (usize, &u32)| {
            (0..D_MODEL).map(move |d| value(hook, token, i % N_CTX, d)).collect::<Vec<_>>()
        };
        pass.ids().iter().enumerate().flat_map(of_token).collect()
    };
    Ok(hooks.iter().map(|&hook| rows(hook)).collect())
}

fn harvest(dir: &Path, tokens: &Tokens, config: HarvestConfig) -> Result<ActivationStore> {
    ActivationStore::harvest_with(&source(), &hooks(), tokens, dir, config, &forward)
}

/// A forward pass that must not be called.
fn never(_: &Tokens, _: &[HookPoint]) -> Result<Vec<Vec<f32>>> {
    panic!("nothing was to be computed")
}

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    // A temporary file may have taken its real name since it was listed.
    paths.filter_map(|path| Some((name(&path), fs::read(&path).ok()?))).collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for (name, bytes) in files(from) {
        fs::write(to.join(name), bytes).unwrap();
    }
}

fn shards(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = files(dir)
        .into_keys()
        .filter(|name| name.starts_with("shard-") && name.ends_with(".safetensors"))
        .map(|name| dir.join(name))
        .collect();
    paths.sort();
    paths
}

fn gather_all(store: &ActivationStore, hook: HookPoint) -> Result<Batch> {
    let rows: Vec<u64> = (0..store.n_rows() as u64).collect();
    let mut batch = Batch::default();
    store.gather(hook, &rows, &mut batch).map(|()| batch)
}

/// Leaves two of four shards in `dir`.
fn harvest_half(tokens: &Tokens, dir: &Path) {
    let fails = |pass: &Tokens, hooks: &[HookPoint]| match pass.row(0) == tokens.row(6) {
        true => Err(Error::Tokenizer("stop".into())),
        false => forward(pass, hooks),
    };
    ActivationStore::harvest_with(&source(), &hooks(), tokens, dir, CONFIG, &fails).unwrap_err();
}

/// The manifest before any shard.
fn first_manifest(tokens: &Tokens) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let fails = |_: &Tokens, _: &[HookPoint]| Err(Error::Tokenizer("stop".into()));
    ActivationStore::harvest_with(&source(), &hooks(), tokens, dir.path(), CONFIG, &fails)
        .unwrap_err();
    fs::read(dir.path().join("manifest.json")).unwrap()
}
