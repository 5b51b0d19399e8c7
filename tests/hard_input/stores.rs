//! Activations on disk.

use std::collections::BTreeMap;
use std::path::Path;

use sha2::{Digest, Sha256};
use tokenized_sae::activations::Source;
use tokenized_sae::activations::{Batch, Dtype};
use tokenized_sae::model::Site;
use tokenized_sae::prelude::*;
use tokenized_sae::sae::{Index, Ngrams};

use super::hammer::{self, Reader, Seed};
use super::json::{self, Json};
use super::mutate::Kind;

const D_MODEL: usize = 8;
pub const N_CTX: usize = 6;
pub const D_VOCAB: usize = 40;

pub fn hooks() -> [HookPoint; 2] {
    [HookPoint::resid_pre(1), HookPoint { layer: 10, site: Site::MlpOut }]
}

/// A store of numbers that a formula makes.
pub fn harvest(dir: &Path, dtype: Dtype, n_seq: usize) -> ActivationStore {
    let source = Source {
        name: "formula".into(),
        revision: Some("0123abcd".into()),
        fingerprint: "f0".repeat(32),
        processing: "Raw".into(),
        d_model: D_MODEL,
        d_vocab: D_VOCAB,
        skip_first: 0,
    };
    let ids = (0..n_seq * N_CTX)
        .map(|i| if i % N_CTX == 0 { 0 } else { (i * 7919 % D_VOCAB) as u32 })
        .collect();
    let forward = |pass: &Tokens, hooks: &[HookPoint]| {
        let row = |(i, &token): (usize, &u32)| {
            (0..D_MODEL)
                .map(move |d| (token as f32 + 0.1 * i as f32).sin() + d as f32)
                .collect::<Vec<_>>()
        };
        Ok(hooks.iter().map(|_| pass.ids().iter().enumerate().flat_map(row).collect()).collect())
    };
    let config =
        HarvestConfig { dtype, shard_tokens: 3 * N_CTX, batch: 2, ..HarvestConfig::default() };
    ActivationStore::harvest_with(
        &source,
        &hooks(),
        &Tokens::new(ids, N_CTX).unwrap(),
        dir,
        config,
        &forward,
    )
    .unwrap()
}

fn seed(dtype: Dtype) -> Seed {
    let dir = tempfile::tempdir().unwrap();
    harvest(dir.path(), dtype, 7);
    let mut seed = Seed::of_folder(dir.path(), |name| match name {
        "manifest.json" => Some(Kind::Json),
        name if name.ends_with(".safetensors") => Some(Kind::SafeTensors),
        _ => None,
    });
    // Shards are all alike.
    seed.targets.extend([
        ("manifest.json".to_owned(), Kind::Json),
        ("shard-00000.safetensors".to_owned(), Kind::Bytes),
    ]);
    seed.sign = Some(sign);
    seed
}

/// Puts the checksums into the manifest that its spoilt files have.
fn sign(files: &mut BTreeMap<String, Vec<u8>>) {
    let Some(mut whole) =
        files.get("manifest.json").and_then(|text| json::parse(std::str::from_utf8(text).ok()?))
    else {
        return;
    };
    if let Some(Json::List(shards)) =
        whole.get_mut("store").and_then(|store| store.get_mut("shards"))
    {
        for shard in shards {
            let name = shard
                .get_mut("file")
                .map(|name| name.text().trim_matches('"').to_owned())
                .unwrap_or_default();
            if let Some(Json::Map(sums)) = files
                .get(&name)
                .and_then(|bytes| Some((bytes, shard.get_mut("sha256")?)))
                .map(|(bytes, sums)| {
                    resum(bytes, sums);
                    sums
                })
            {
                sums.sort_by(|a, b| a.0.cmp(&b.0));
            }
        }
    }
    let Some(store) = whole.get_mut("store") else { return };
    let sum = hex(&Sha256::digest(store.text()));
    if let Some(signed) = whole.get_mut("sha256") {
        *signed = Json::Plain(format!("\"{sum}\""));
    }
    files.insert("manifest.json".to_owned(), whole.text().into_bytes());
}

/// The checksums of a shard's sections, which its header tells.
fn resum(shard: &[u8], sums: &mut Json) {
    let Json::Map(sums) = sums else { return };
    let Ok((n, header)) = safetensors::SafeTensors::read_metadata(shard) else { return };
    let at = |name: &str| {
        header.info(name).map(|info| 8 + n + info.data_offsets.0..8 + n + info.data_offsets.1)
    };
    for (name, sum) in sums {
        let section = match name.trim_matches('"') {
            "tokens, positions" => at("tokens")
                .zip(at("positions"))
                .map(|(tokens, positions)| tokens.start..positions.end),
            hook => at(hook),
        };
        if let Some(bytes) = section.and_then(|section| shard.get(section)) {
            *sum = Json::Plain(format!("\"{}\"", hex(&Sha256::digest(bytes))));
        }
    }
}

pub fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is opened can be read, row by row and as a whole, and trained on.
fn used(store: &ActivationStore) {
    let rows: Vec<u64> = (0..store.n_rows().min(100) as u64).collect();
    let mut batch = Batch::default();
    let gram = |ids: &[u32]| ids.to_vec();
    let mut sae =
        Sae::new(SaeConfig { expansion: 1, k: 1, ..SaeConfig::new(D_MODEL, D_VOCAB) }).unwrap();
    if let Ok(grams) = Ngrams::new(&[gram(&[0, 1]), gram(&[3, 4, 5])], D_VOCAB) {
        let lookup = Lookup::from_table(vec![0.5; grams.rows() * D_MODEL], D_MODEL).unwrap();
        sae.lookup = Some(lookup.table().to_vec());
        sae.index = Index::Ngrams(grams.into());
    }
    for &hook in store.hooks() {
        let _ = (
            store.verify(),
            store.gather(hook, &rows, &mut batch),
            store.mean(hook),
            store.scale(hook),
        );
        let _ = (store.gather(hook, &[u64::MAX], &mut batch).unwrap_err(), store.keys(&sae, &rows));
        // A mean over the tokens has a row for each of the vocabulary, of which the manifest alone
        // tells.
        if store.d_vocab() < 10_000 {
            let _ = Lookup::means(store, hook);
        }
    }
    let _ = (store.tokens(), format!("{store:?}"), store.shuffled(3, 0..10), store.bytes());
}

#[test]
fn a_store_with_spoilt_files_is_read_or_refused_and_nothing_else() {
    let _alone = hammer::alone();
    let seeds = [seed(Dtype::F16), seed(Dtype::F32), seed(Dtype::Int8)];
    // A thousand rows are summed at a time, however few bytes they take on disk.
    let reader = Reader { name: "stores", share: 10, times: 16, beside: 4 << 20, also: &[] };
    reader.hammer(&seeds, |folder| {
        let store = ActivationStore::open(folder)?;
        used(&store);
        Ok(())
    });
}
