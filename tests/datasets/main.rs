//! Data sets: the same documents from every form of file, streamed as from memory, and a harvest that goes on where it was.

mod reading;
mod streaming;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokenized_sae::corpus::{Documents, Encoder};
use tokenized_sae::prelude::*;

const BOS: u32 = 256;
const EOS: u32 = 257;

/// One token a byte, so that every token can be traced to its document.
fn encoder() -> Encoder {
    let encode = Arc::new(|text: &str| Ok(text.bytes().map(u32::from).collect()));
    Encoder { name: "bytes".into(), bos: BOS, eos: EOS, n_ctx: 512, d_vocab: 258, encode }
}

fn text_files(pattern: impl AsRef<Path>) -> Result<TextCorpus> {
    Corpus::text_files_with(encoder(), pattern.as_ref().to_str().unwrap())
}

fn golden(name: &str) -> PathBuf {
    Path::new("tests/golden/documents").join(name)
}

/// The texts of the golden files' rows, nulls and all, read by serde_json alone.
fn rows() -> Vec<Option<String>> {
    let text = fs::read_to_string(golden("plain.jsonl")).unwrap();
    let text_of = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["text"].as_str().map(str::to_owned);
    text.lines().map(text_of).collect()
}

fn copied(dir: &Path, name: &str, to: &str) -> PathBuf {
    fs::copy(golden(name), dir.join(to)).unwrap();
    dir.join(to)
}
