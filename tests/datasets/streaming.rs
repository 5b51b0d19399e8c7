//! A stream gives what memory gives, from any place on, and a harvest of it ends with the same
//! bytes however often it was cut off.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokenized_sae::activations::Dtype;
use tokenized_sae::corpus::{TextCorpus, TokenStream};

use tokenized_sae::activations::Source;

use super::*;

const D_MODEL: usize = 4;
const N_CTX: usize = 16;
/// Three sequences a shard, two a pass.
const CONFIG: HarvestConfig = HarvestConfig {
    dtype: Dtype::F32,
    compute: Compute::F32,
    shard_tokens: 3 * N_CTX,
    batch: 2,
    device: Device::Cpu,
};

fn forward(pass: &Tokens, _: &[HookPoint]) -> Result<Vec<Vec<f32>>> {
    let value = |(i, &id): (usize, &u32)| [id as f32, (i % N_CTX) as f32, 1.0, -1.0];
    Ok(vec![pass.ids().iter().enumerate().flat_map(value).collect()])
}

fn never(_: &Tokens, _: &[HookPoint]) -> Result<Vec<Vec<f32>>> {
    panic!("nothing was to be computed")
}

type Pass<'a> = &'a dyn Fn(&Tokens, &[HookPoint]) -> Result<Vec<Vec<f32>>>;

fn harvest(dir: &Path, stream: &TokenStream, forward: Pass<'_>) -> Result<ActivationStore> {
    harvest_in(dir, stream, forward, CONFIG)
}

fn harvest_in(
    dir: &Path,
    stream: &TokenStream,
    forward: Pass<'_>,
    config: HarvestConfig,
) -> Result<ActivationStore> {
    let (name, fingerprint, processing) = ("formula".to_owned(), "f0".repeat(32), "Raw".to_owned());
    let source = Source {
        name,
        revision: None,
        fingerprint,
        processing,
        d_model: D_MODEL,
        d_vocab: 258,
        skip_first: 0,
    };
    ActivationStore::harvest_with(&source, &[HookPoint::resid_pre(1)], stream, dir, config, forward)
}

/// Everything in a folder but the lock, by name.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries
        .filter_map(|entry| {
            Some((entry.file_name().into_string().unwrap(), fs::read(entry.path()).ok()?))
        })
        .collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    files(from).into_iter().for_each(|(name, bytes)| fs::write(to.join(name), bytes).unwrap());
}

/// Files of every form, with copies of documents across and within them, and documents longer than
/// a shard.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let line = |i: usize, n: usize| {
        serde_json::json!({"id": i, "text": format!("{i} {}", "word ".repeat(n))}).to_string()
            + "\n"
    };
    let long: String = (0..40).map(|i| line(i, 7 * i % 61)).collect();
    fs::write(dir.path().join("long.jsonl"), &long).unwrap();
    fs::write(dir.path().join("again.jsonl"), long.clone() + &line(99, 30) + &line(99, 30))
        .unwrap();
    for name in ["snappy.parquet", "zstd-pages-2.parquet", "frames.jsonl.zst", "members.jsonl.gz"] {
        copied(dir.path(), name, name);
    }
    dir
}

fn corpus(dir: &Path) -> TextCorpus {
    text_files(dir).unwrap().context(N_CTX).min_chars(4)
}

fn pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}

#[test]
fn a_stream_is_what_memory_gives() {
    let dir = folder();
    let books = tempfile::tempdir().unwrap();
    for i in 0..12 {
        fs::write(
            books.path().join(format!("{i}.txt")),
            format!("{} {i}\n", "line of text\n".repeat(30 * (i % 11))),
        )
        .unwrap();
    }
    for name in ["0.txt", "3.txt", "5.txt"] {
        fs::copy(books.path().join(name), books.path().join(format!("copy of {name}"))).unwrap();
    }
    let one = tempfile::tempdir().unwrap();
    copied(one.path(), "book.txt.zst", "book.txt.zst");
    let large = HarvestConfig { shard_tokens: 70 * N_CTX, ..CONFIG };
    for (dir, share) in [(&dir, 0.3), (&dir, 0.0), (&books, 0.2), (&books, 0.0), (&one, 0.2)] {
        for max_tokens in [100, 500, 5_000, 100_000] {
            let memory = corpus(dir.path()).max_tokens(max_tokens).seed(3).split(share).unwrap();
            let stream = corpus(dir.path()).max_tokens(max_tokens).seed(3).stream(share).unwrap();
            assert_eq!(
                (&stream.valid, &stream.valid_documents),
                (&memory.valid, &memory.valid_documents)
            );
            let store = tempfile::tempdir().unwrap();
            let acts = pool(3)
                .install(|| harvest_in(store.path(), &stream.train, &forward, large.clone()))
                .unwrap();
            assert!(acts.is_complete());
            assert_eq!(acts.tokens().unwrap(), memory.train);
            let again = ActivationStore::open(store.path()).unwrap();
            again.verify().unwrap();
            // On one thread, the same bytes; and nothing to do when it is there.
            let alone = tempfile::tempdir().unwrap();
            let stream = pool(1)
                .install(|| corpus(dir.path()).max_tokens(max_tokens).seed(3).stream(share))
                .unwrap();
            pool(1)
                .install(|| harvest_in(alone.path(), &stream.train, &forward, large.clone()))
                .unwrap();
            assert_eq!(files(alone.path()), files(store.path()));
            assert_eq!(
                harvest_in(store.path(), &stream.train, &never, large.clone())
                    .unwrap()
                    .fingerprint(),
                acts.fingerprint()
            );
        }
    }
}

#[test]
fn a_harvest_cut_off_at_any_shard_ends_with_the_same_bytes() {
    let dir = folder();
    let stream = corpus(dir.path()).max_tokens(100_000).stream(0.2).unwrap().train;
    let quiet = tempfile::tempdir().unwrap();
    let shards = harvest(quiet.path(), &stream, &forward).unwrap().n_rows().div_ceil(3 * N_CTX);
    assert!(shards > 100);
    let want = files(quiet.path());
    // It was not known before its end how many sequences there are.
    assert!(stream.n_seq() > 3 * shards);
    for passes in [0, 1, 3, 51, 2 * shards - 1] {
        let dir = tempfile::tempdir().unwrap();
        let pass = AtomicUsize::new(0);
        let fails =
            |tokens: &Tokens, hooks: &[HookPoint]| match pass.fetch_add(1, Ordering::Relaxed) {
                n if n == passes => Err(Error::Tokenizer("stop".into())),
                _ => forward(tokens, hooks),
            };
        assert!(harvest(dir.path(), &stream, &fails).is_err());
        assert_ne!(files(dir.path()), want);
        let left = AtomicUsize::new(0);
        let counting = |tokens: &Tokens, hooks: &[HookPoint]| {
            left.fetch_add(1, Ordering::Relaxed);
            forward(tokens, hooks)
        };
        harvest(dir.path(), &stream, &counting).unwrap();
        assert_eq!(files(dir.path()), want, "cut off in pass {passes}");
        assert!(left.into_inner() <= 2 * shards - passes / 2 * 2, "what was there is kept");
    }
}

#[test]
fn shards_that_are_gone_are_made_once_more() {
    let dir = folder();
    let stream = corpus(dir.path()).max_tokens(4_000).stream(0.2).unwrap().train;
    let store = tempfile::tempdir().unwrap();
    harvest(store.path(), &stream, &forward).unwrap();
    let want = files(store.path());
    let last = want.keys().filter(|name| name.starts_with("shard-")).count() - 1;
    let gone = [
        "shard-00000.safetensors".to_owned(),
        "documents-00005.bin".into(),
        "shard-00006.safetensors".into(),
        format!("shard-{last:05}.safetensors"),
    ];
    for name in &gone {
        fs::remove_file(store.path().join(name)).unwrap();
    }
    harvest(store.path(), &stream, &forward).unwrap();
    assert_eq!(files(store.path()), want);
    // Marks that are damaged are noticed before they are used.
    fs::write(store.path().join("documents-00001.bin"), b"12345678").unwrap();
    fs::remove_file(store.path().join("shard-00004.safetensors")).unwrap();
    let told = harvest(store.path(), &stream, &forward).unwrap_err();
    assert!(
        matches!(told, Error::Checksum { .. }) && told.to_string().contains("documents-00001.bin"),
        "{told}"
    );
}

#[test]
fn what_is_asked_for_otherwise_is_refused_by_name() {
    let dir = folder();
    let store = tempfile::tempdir().unwrap();
    let asked = || corpus(dir.path()).max_tokens(1_000);
    harvest(store.path(), &asked().stream(0.2).unwrap().train, &forward).unwrap();
    for (other, what) in [
        (asked().min_chars(5).stream(0.2), "characters of a document: 4 to any number"),
        (asked().seed(1).stream(0.2), "files"),
        (asked().stream(0.3), "held-out share: 0.2"),
        (asked().max_tokens(1_100).stream(0.2), "length: at most 62 sequences of 16"),
        (
            text_files(dir.path().join("*.jsonl"))
                .unwrap()
                .context(N_CTX)
                .min_chars(4)
                .max_tokens(1_000)
                .stream(0.2),
            "files: 6",
        ),
    ] {
        let told = harvest(store.path(), &other.unwrap().train, &never).unwrap_err();
        assert!(
            matches!(told, Error::Changed { what: "corpus", .. })
                && told.to_string().contains(what),
            "{told}"
        );
    }
    // The same bytes at another place are the same.
    let moved = tempfile::tempdir().unwrap();
    copy(dir.path(), moved.path());
    harvest(
        store.path(),
        &corpus(moved.path()).max_tokens(1_000).stream(0.2).unwrap().train,
        &never,
    )
    .unwrap();
    // And others are not.
    let path = dir.path().join("long.jsonl");
    fs::write(&path, fs::read_to_string(&path).unwrap().replacen("word", "wort", 1)).unwrap();
    let told =
        harvest(store.path(), &asked().stream(0.2).unwrap().train, &never).unwrap_err().to_string();
    assert!(told.contains("files: 6 of"), "{told}");
}

#[test]
fn a_stream_that_cannot_be_says_why() {
    let dir = folder();
    assert!(matches!(
        corpus(dir.path()).stream(0.2),
        Err(Error::Config { field: "max_tokens", .. })
    ));
    let none = corpus(dir.path()).min_chars(1 << 20).max_tokens(1_000);
    assert!(matches!(none.clone().stream(0.2), Err(Error::EmptyCorpus { .. })));
    let told =
        harvest(tempfile::tempdir().unwrap().path(), &none.stream(0.0).unwrap().train, &never)
            .unwrap_err();
    assert!(matches!(told, Error::EmptyCorpus { .. }), "{told}");
    let long = tempfile::tempdir().unwrap();
    fs::File::create(long.path().join("long.txt")).unwrap().set_len((64 << 20) + 1).unwrap();
    fs::write(long.path().join("short.txt"), "text").unwrap();
    let told = corpus(long.path()).max_tokens(1_000).stream(0.1).unwrap_err().to_string();
    assert!(told.contains("long.txt") && told.contains("jsonl"), "{told}");
    // An error in the text comes out of the harvest, and what was made before it stays.
    let broken = tempfile::tempdir().unwrap();
    let mut lines: Vec<String> = (0..50)
        .map(|i| serde_json::json!({"text": format!("{i} {}", "word ".repeat(20))}).to_string())
        .collect();
    lines[30] = "{\"text\": ".into();
    fs::write(broken.path().join("a.jsonl"), lines.join("\n")).unwrap();
    let store = tempfile::tempdir().unwrap();
    let told = harvest(
        store.path(),
        &corpus(broken.path()).max_tokens(100_000).stream(0.0).unwrap().train,
        &forward,
    )
    .unwrap_err()
    .to_string();
    assert!(told.contains("line 31"), "{told}");
    let made = ActivationStore::open(store.path()).unwrap();
    assert!(
        !made.is_complete() && made.n_rows() > 1_500,
        "{} rows of what came before",
        made.n_rows()
    );
}

/// The other end of the next test: harvests slowly into the folder that the environment names.
#[test]
fn child_harvest() {
    let (Ok(text), Ok(dir)) = (std::env::var("TSAE_TEST_TEXT"), std::env::var("TSAE_TEST_STORE"))
    else {
        return;
    };
    let slow = |pass: &Tokens, hooks: &[HookPoint]| {
        std::thread::sleep(Duration::from_millis(2));
        forward(pass, hooks)
    };
    let stream = corpus(Path::new(&text)).max_tokens(100_000).stream(0.2).unwrap().train;
    harvest(Path::new(&dir), &stream, &slow).unwrap();
}

#[test]
fn a_process_killed_ten_times_ends_with_the_same_bytes() {
    let (text, quiet, dir) = (folder(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    harvest(
        quiet.path(),
        &corpus(text.path()).max_tokens(100_000).stream(0.2).unwrap().train,
        &forward,
    )
    .unwrap();
    let start = || {
        let mut child = Command::new(std::env::current_exe().unwrap());
        let child = child
            .args(["--exact", "streaming::child_harvest"])
            .env("TSAE_TEST_TEXT", text.path())
            .env("TSAE_TEST_STORE", dir.path());
        child.env("TSAE_PROGRESS", "off").stdout(std::process::Stdio::null()).spawn().unwrap()
    };
    let made = || files(dir.path()).keys().filter(|name| name.starts_with("shard-")).count();
    for round in 0..10 {
        let mut child = start();
        let before = made();
        killing::wait_for_more(made, before, round);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(!ActivationStore::open(dir.path()).unwrap().is_complete());
    assert!(start().wait().unwrap().success());
    assert_eq!(files(dir.path()), files(quiet.path()));
}
