//! Data sets: which files are taken, when each is fetched, and what is read offline.

use std::sync::Arc;
use tokenized_sae::corpus::{TextCorpus, TokenStream};

use tokenized_sae::corpus::Encoder;

use super::*;

/// One token a byte.
fn encoder() -> Encoder {
    let encode = Arc::new(|text: &str| Ok(text.bytes().map(u32::from).collect()));
    Encoder {
        name: "bytes".into(),
        bos: 256,
        eos: 257,
        n_ctx: 512,
        d_vocab: 258,
        piecewise: true,
        encode,
    }
}

fn golden(name: &str) -> Vec<u8> {
    fs::read(Path::new("../../tests/golden/documents").join(name)).unwrap()
}

/// JSON lines of about 10 kB, no two of which are in two files.
fn lines(file: usize) -> Vec<u8> {
    let line = |i: usize| {
        serde_json::json!({"text": format!("file {file} line {i} {}", "word ".repeat(i % 40))})
            .to_string()
            + "\n"
    };
    (0..90).map(line).collect::<String>().into_bytes()
}

fn dataset(name: &str, hub: &Hub) -> Result<TextCorpus> {
    Ok(Corpus::dataset_with(encoder(), name, hub)?.context(64))
}

/// The files whose bytes were asked for, by the paths of the requests.
fn fetched(server: &Server) -> usize {
    gets(&server.asked()).len()
}

#[test]
fn a_data_set_is_its_files_in_memory_and_streamed() {
    let server = Server::start();
    let (hub, _dir) = hub(&server);
    let names = [
        "data/train-00000-of-00002.parquet",
        "data/train-00001-of-00002.parquet",
        "data/test-00000-of-00001.parquet",
    ];
    let contents =
        [golden("snappy.parquet"), golden("zstd-pages-2.parquet"), b"no parquet".to_vec()];
    let files: Vec<(&str, Vec<u8>)> =
        names.into_iter().zip(contents).chain([("README.md", b"# A set".to_vec())]).collect();
    server.publish("datasets/org/set", "main", &commit(1), &files);
    let found = dataset("org/set", &hub).unwrap();
    assert_eq!(
        (found.n_files(), fetched(&server)),
        (2, 0),
        "nothing is fetched before it is wanted"
    );
    assert!(found.table().text().contains("2 on the hub"));
    let corpus = found.split(0.2).unwrap();
    // Both files have the same documents.
    assert_eq!(corpus.train_documents.len() + corpus.valid_documents.len(), 57);
    assert!(corpus.train_documents[0].starts_with("data/train-0000"));
    assert_eq!(fetched(&server), 2);
    let streamed = dataset("hub:org/set", &hub).unwrap().max_tokens(1 << 20).stream(0.2).unwrap();
    assert_eq!(streamed.valid, corpus.valid);
    let store = tempfile::tempdir().unwrap();
    assert_eq!(harvest(store.path(), &streamed.train).unwrap().tokens().unwrap(), corpus.train);
    assert_eq!(fetched(&server), 0, "what is in the cache is not fetched again");
}

fn harvest(dir: &Path, stream: &TokenStream) -> Result<ActivationStore> {
    let (name, fingerprint, processing) = ("formula".to_owned(), "f0".repeat(32), "Raw".to_owned());
    let source = tokenized_sae::activations::Source {
        name,
        revision: None,
        fingerprint,
        processing,
        d_model: 1,
        d_vocab: 258,
        skip_first: 0,
    };
    let forward =
        |pass: &Tokens, _: &[HookPoint]| Ok(vec![pass.ids().iter().map(|&id| id as f32).collect()]);
    let config = HarvestConfig { shard_tokens: 640, ..HarvestConfig::default() };
    ActivationStore::harvest_with(
        &source,
        &[HookPoint::resid_pre(1)],
        stream,
        dir,
        config,
        &forward,
    )
}

#[test]
fn files_are_fetched_one_by_one_as_they_are_wanted() {
    let server = Server::start();
    let (hub, _dir) = hub(&server);
    let files: Vec<(String, Vec<u8>)> =
        (0..8).map(|i| (format!("train/{i:02}.jsonl"), lines(i))).collect();
    let files: Vec<(&str, Vec<u8>)> =
        files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    server.publish("datasets/org/set", "main", &commit(1), &files);
    let stream = |max_tokens| {
        dataset("org/set", &hub).unwrap().max_tokens(max_tokens).stream(0.0).unwrap().train
    };
    let store = tempfile::tempdir().unwrap();
    // A file's text is about 10,000 tokens.
    harvest(store.path(), &stream(15_000)).unwrap();
    assert_eq!(fetched(&server), 2);
    let told = harvest(store.path(), &stream(30_000)).unwrap_err();
    assert!(matches!(told, Error::Changed { .. }), "{told}");
    // A file that arrives damaged ends the harvest; the same call continues from there.
    let store = tempfile::tempdir().unwrap();
    server.fault("GET /large", Fault::Damage, 1);
    let told = harvest(store.path(), &stream(30_000)).unwrap_err();
    assert!(matches!(told, Error::Hub { .. }), "{told}");
    let made = fs::read_dir(store.path()).unwrap().count();
    assert!(made > 20, "{made} files were made of what was there");
    assert!(harvest(store.path(), &stream(30_000)).unwrap().is_complete());
    // Another commit is another data set.
    server.publish("datasets/org/set", "main", &commit(2), &files);
    assert!(matches!(harvest(store.path(), &stream(30_000)), Err(Error::Changed { .. })));
    assert!(
        harvest(
            store.path(),
            &dataset(&format!("org/set@{}", commit(1)), &hub)
                .unwrap()
                .max_tokens(30_000)
                .stream(0.0)
                .unwrap()
                .train
        )
        .is_ok()
    );
}

#[test]
fn a_data_set_without_files_that_are_read_is_taken_from_the_hubs_parquet_branch() {
    let server = Server::start();
    let (hub, _dir) = hub(&server);
    server.publish("datasets/org/set", "main", &commit(1), &[("train.csv", b"text\nx".to_vec())]);
    let told = dataset("org/set", &hub).unwrap_err().to_string();
    assert!(told.contains(".parquet or .jsonl") && told.contains("train.csv"), "{told}");
    let parquet = golden("snappy.parquet");
    let files =
        [("default/train/0000.parquet", parquet.clone()), ("extra/train/0000.parquet", parquet)];
    server.publish("datasets/org/set", "refs/convert/parquet", &commit(2), &files);
    assert_eq!(dataset("org/set", &hub).unwrap().split(0.0).unwrap().train_documents.len(), 57);
    assert_eq!(dataset("org/set:extra", &hub).unwrap().n_files(), 1);
    let told = dataset("org/set:other:validation", &hub).unwrap_err().to_string();
    assert!(
        told.contains("\"other\"")
            && told.contains("\"validation\"")
            && told.contains("extra/train"),
        "{told}"
    );
}

#[test]
fn offline_a_data_set_is_what_is_in_the_cache() {
    let server = Server::start();
    let (hub, _dir) = hub(&server);
    let offline = Hub { offline: true, ..hub.clone() };
    let told = dataset("org/set", &offline).unwrap_err().to_string();
    assert!(told.contains("offline") && told.contains("not in the cache"), "{told}");
    server.publish(
        "datasets/org/set",
        "main",
        &commit(1),
        &[("train/0.jsonl", lines(0)), ("train/1.jsonl", lines(1))],
    );
    let online = dataset("org/set", &hub).unwrap().split(0.1).unwrap();
    server.asked();
    let cached = dataset("org/set", &offline).unwrap();
    assert_eq!(cached.split(0.1).unwrap(), Corpus { source: "org/set".into(), ..online });
    assert!(server.asked().is_empty());
    assert!(dataset("org/none", &hub).unwrap_err().to_string().contains("no such repository"));
    assert!(matches!(Corpus::dataset_with(encoder(), "a b", &hub), Err(Error::Config { .. })));
}
