//! Documents in packed files, lines and tables, and activations in SAELens' Arrow files.

use std::path::{Path, PathBuf};

use tokenized_sae::activations::Source;
use tokenized_sae::corpus::Documents;
use tokenized_sae::prelude::*;

use super::hammer::{self, Reader, Seed, kind};
use super::mutate::Kind;

fn golden(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(folder)
}

/// Every file by itself.
fn seeds() -> Vec<Seed> {
    let paths = std::fs::read_dir(golden("documents")).unwrap().map(|entry| entry.unwrap().path());
    let known = |path: &PathBuf| {
        cfg!(feature = "parquet") || path.extension().is_none_or(|ending| ending != "parquet")
    };
    let seed = |path: PathBuf| {
        Seed::of_file(
            path.file_name().unwrap().to_str().unwrap(),
            Kind::Bytes,
            std::fs::read(&path).unwrap(),
        )
    };
    let readable = |path: &PathBuf| documents(Documents::open(path, "text")).is_ok();
    let mut seeds: Vec<Seed> = paths.filter(known).filter(readable).map(seed).collect();
    assert!(seeds.len() >= 8, "{}", seeds.len());
    // A line of JSON is spoilt as JSON, too.
    let line = br#"{"text": "a line \u00e9 of text", "meta": {"url": ["x", 1, null]}}"#;
    seeds.push(Seed::of_file("line.jsonl", Kind::Json, line.to_vec()));
    let table = b"id,text\r\n1,\"a \"\"row\"\"\nof text\"\r\n2,another\r\n";
    seeds.push(Seed::of_file("table.csv", Kind::Bytes, table.to_vec()));
    let array = br#"[{"text": "an element \u00e9"}, "of text", {"text": null, "n": NaN}]"#;
    seeds.push(Seed::of_file("array.json", Kind::Bytes, array.to_vec()));
    let utf_16 = "\u{FEFF}text\n\u{1F600} in a row\n".encode_utf16().flat_map(u16::to_le_bytes);
    seeds.push(Seed::of_file("wide.csv", Kind::Bytes, utf_16.collect::<Vec<u8>>()));
    seeds
}

fn documents(opened: Result<Documents>) -> Result<usize> {
    opened?.try_fold(0, |n, text| Ok(n + text?.len()))
}

#[test]
fn spoilt_documents_are_read_or_refused_and_nothing_else() {
    let _alone = hammer::alone();
    // What is packed may unpack to a document of 64 MiB, which is there while it grows and is
    // looked through; a line of JSON becomes a value.
    let reader = Reader { name: "documents", share: 10, times: 64, beside: 256 << 20, also: &[] };
    reader.hammer(&seeds(), |folder| {
        let entry = std::fs::read_dir(folder).ok().and_then(|mut entries| entries.next());
        // The one file may have been taken away.
        let path = entry.map_or_else(|| folder.join("none.jsonl"), |entry| entry.unwrap().path());
        documents(Documents::open(path, "text")).map(|_| ())
    });
}

#[test]
fn a_spoilt_cache_of_saelens_is_read_or_refused_and_nothing_else() {
    let _alone = hammer::alone();
    let of = |name: &str| {
        Seed::of_folder(&golden("caches").join(name), |file| {
            if file.ends_with("arrow") { Some(Kind::Bytes) } else { kind(file) }
        })
    };
    let source = Source {
        name: "any".into(),
        revision: None,
        fingerprint: "f0".repeat(32),
        processing: "Raw".into(),
        d_model: 32,
        d_vocab: 61,
        skip_first: 0,
    };
    let reader = Reader { name: "arrow", share: 6, times: 16, beside: 16 << 20, also: &[] };
    reader.hammer(&[of("float16"), of("float32")], |folder| {
        let store = ActivationStore::import_saelens_with(
            &source,
            folder,
            folder.join("store"),
            HarvestConfig::default(),
        )?;
        store.verify()
    });
}
