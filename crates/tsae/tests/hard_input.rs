//! Notebooks that nobody meant, given parameters; see tests/hard_input of the library.

use serde_json::json;
use tokenized_sae::Error;
use tsae::lab::{self, RunOptions};

#[path = "../../../tests/hard_input/archive.rs"]
mod archive;
#[allow(dead_code)]
#[path = "../../../tests/hard_input/hammer.rs"]
mod hammer;
#[path = "../../../tests/hard_input/json.rs"]
mod json;
#[path = "../../../tests/hard_input/memory.rs"]
mod memory;
#[path = "../../../tests/hard_input/mutate.rs"]
mod mutate;
#[path = "../../../tests/hard_input/tensors.rs"]
mod tensors;

use hammer::{Reader, Seed};
use mutate::Kind;

#[global_allocator]
static COUNTED: memory::Counted = memory::Counted;

const CELL: &str = r###":dep rand = "0.9"
!ls
let layer: usize = 2; // of 4
let mut k = 16_u32;
let name: &str = r#"a"#;
/* let no: u8 = 1; */ let x: Vec<u8> = vec![1, 2];
let c: char = 'b';
#[allow(unused)] let (a, b) = (1, 2);
let f: f64 = 1e-3;
let hook: HookPoint = HookPoint::resid_pre(layer);
hook"###;

fn notebook() -> String {
    let cell = json!({ "cell_type": "code", "id": "a", "metadata": { "tags": ["parameters"] }, "source": CELL, "outputs": [], "execution_count": null });
    let lines = json!({ "cell_type": "code", "id": "b", "metadata": { "tags": ["injected-parameters"] }, "source": ["let k: u32 = 3;\n", "k"], "outputs": [] });
    let text = json!({ "cell_type": "markdown", "id": "c", "metadata": {}, "source": "text" });
    json!({ "cells": [text, cell, lines], "metadata": { "a": 1 }, "nbformat": 4, "nbformat_minor": 5 }).to_string()
}

#[test]
fn a_spoilt_notebook_is_read_or_refused_and_nothing_else() {
    let _alone = hammer::alone();
    let seeds = [
        Seed::of_file("n.ipynb", Kind::Json, notebook()),
        Seed::of_file("n.ipynb", Kind::Bytes, notebook()),
    ];
    // A word of a cell takes some dozens of bytes.
    let reader = Reader { name: "notebooks", share: 12, times: 96, beside: 1 << 20, also: &[] };
    reader.hammer(&seeds, |folder| {
        for given in [
            vec![("layer", "1"), ("name", "a \"b\" \\")],
            vec![("k", "1e3"), ("x", "vec![7]")],
            vec![("f", "inf"), ("c", "';'")],
        ] {
            let parameters =
                given.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
            // Every notebook is read before any is run, and the second is not there.
            let missing = folder.join("missing.ipynb");
            let notebooks = [folder.join("n.ipynb"), missing.clone()];
            match lab::run(
                &notebooks,
                &RunOptions { parameters, quiet: true, ..RunOptions::default() },
            ) {
                Err(tsae::Error::Library(Error::Io { path, .. })) if path == missing => {}
                Err(tsae::Error::Library(error)) => return Err(error),
                Err(error) => return Err(Error::format(folder.join("n.ipynb"), error.to_string())),
                Ok(_) => panic!("a notebook that is not there was run"),
            }
        }
        Ok(())
    });
}
