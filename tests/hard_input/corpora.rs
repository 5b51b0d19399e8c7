//! Text, and tokens that a model has sampled.

use std::collections::BTreeMap;
use std::path::Path;

use sha2::{Digest, Sha256};
use tokenized_sae::prelude::*;
use tokenized_sae::sae::Ngrams;

use super::hammer::{self, Reader, Seed, kind};
use super::json::{self, Json};
use super::mutate::Kind;
use super::stores::hex;

fn sampled() -> Model {
    Model::load(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gpt2").to_str().unwrap())
        .unwrap()
}

/// Makes the checksum that the file says of itself right again.
fn sign(files: &mut BTreeMap<String, Vec<u8>>) {
    for bytes in files.values_mut() {
        let Some(n) = bytes
            .first_chunk()
            .map(|n| u64::from_le_bytes(*n) as usize)
            .filter(|n| *n < bytes.len() - 8)
        else {
            continue;
        };
        let Some(mut header) = std::str::from_utf8(&bytes[8..8 + n]).ok().and_then(json::parse)
        else {
            continue;
        };
        let data = bytes[8 + n..].to_vec();
        let Some(said) =
            header.get_mut("__metadata__").and_then(|map| map.get_mut("tokenized_sae"))
        else {
            continue;
        };
        let Some(mut about) =
            serde_json::from_str::<String>(&said.text()).ok().and_then(|text| json::parse(&text))
        else {
            continue;
        };
        if let Some(sum) = about.get_mut("sha256") {
            *sum = Json::Plain(format!("\"{}\"", hex(&Sha256::digest(&data))));
        }
        *said = Json::Plain(serde_json::Value::from(about.text()).to_string());
        let header = header.text();
        *bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat();
    }
}

#[test]
fn spoilt_sampled_tokens_are_read_or_refused_and_nothing_else() {
    let _alone = hammer::alone();
    let (dir, model) = (tempfile::tempdir().unwrap(), sampled());
    Corpus::sampled_in(&model, 64, 0, dir.path()).unwrap();
    let mut seed = Seed::of_folder(dir.path(), kind);
    seed.sign = Some(sign);
    // The model that has sampled runs over what is read, and samples what is missing.
    let reader = Reader { name: "samples", share: 3, times: 16, beside: 16 << 20, also: &[] };
    reader.hammer(&[seed], |folder| {
        let corpus = Corpus::sampled_in(&model, 64, 0, folder)?;
        let _ = (
            model.loss(&corpus.train),
            Ngrams::most_common(&corpus.train, 61, 2, 10),
            format!("{corpus:?}"),
        );
        Ok(())
    });
}

#[test]
fn spoilt_text_is_read_or_refused_and_nothing_else() {
    let _alone = hammer::alone();
    let model = Model::load("tiny-gpt2").unwrap();
    let text = "One day, a little girl found a box.\r\nShe said: \u{201c}What is in it?\u{201d} \u{e9}\u{1f600}\n\n".repeat(12);
    let seeds = [
        Seed::of_file("a.txt", Kind::Bytes, text.clone()),
        Seed::of_file("b.md", Kind::Bytes, format!("\u{feff}# A\n{}", text.replace('\r', ""))),
    ];
    let reader = Reader {
        name: "texts",
        share: 1,
        times: 64,
        beside: 4 << 20,
        also: &["the corpus is too small"],
    };
    reader.hammer(&seeds, |folder| {
        let corpus =
            Corpus::text_files(&model, folder.to_str().unwrap())?.context(16).split(0.2)?;
        assert!(
            corpus
                .train
                .ids()
                .iter()
                .chain(corpus.valid.ids())
                .all(|&id| (id as usize) < model.config().d_vocab)
        );
        Ok(())
    });
}

#[test]
fn a_spoilt_token_table_is_read_or_refused_and_nothing_else() {
    let _alone = hammer::alone();
    let (dir, model) = (tempfile::tempdir().unwrap(), sampled());
    let hook = HookPoint::resid_pre(1);
    Lookup::unigram_in(&model, hook, dir.path()).unwrap();
    let mut seed = Seed::of_folder(dir.path(), kind);
    seed.sign = Some(sign);
    // The model makes the rows that are missing.
    let reader = Reader { name: "tables", share: 3, times: 16, beside: 16 << 20, also: &[] };
    reader.hammer(&[seed], |folder| {
        let table = Lookup::unigram_in(&model, hook, folder)?;
        assert_eq!(table.rows(), model.config().d_vocab);
        assert!(table.table().iter().all(|x| x.is_finite()));
        Ok(())
    });
}
