//! Data sets: the same documents from every form of file, streamed as from memory, and a harvest
//! that continues where it was.

#[path = "../shared/bytes.rs"]
mod bytes;
#[path = "../shared/killing.rs"]
mod killing;
mod reading;
mod streaming;

use std::fs;
use std::path::{Path, PathBuf};

use bytes::{BOS, EOS, text_files};
use tokenized_sae::corpus::Documents;
use tokenized_sae::prelude::*;

fn golden(name: &str) -> PathBuf {
    Path::new("tests/golden/documents").join(name)
}

/// The texts of the golden files' rows, nulls and all, read by serde_json alone.
fn rows() -> Vec<Option<String>> {
    let text = fs::read_to_string(golden("plain.jsonl")).unwrap();
    let text_of = |line: &str| {
        serde_json::from_str::<serde_json::Value>(line).unwrap()["text"].as_str().map(str::to_owned)
    };
    text.lines().map(text_of).collect()
}

fn copied(dir: &Path, name: &str, to: &str) -> PathBuf {
    fs::copy(golden(name), dir.join(to)).unwrap();
    dir.join(to)
}
