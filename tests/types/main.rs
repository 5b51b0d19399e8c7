//! A cell whose types are written does not wait for rust-analyzer to read the standard library; the first that needs it does, and so do the
//! first completions. Neither is seen by the reader but as that wait.
#![cfg(unix)]

use std::process::Command;

use serde_json::{Value, json};
use tokenized_sae::lab;

#[test]
fn types_and_completions_are_found_when_they_are_first_needed() {
    let lab = lab::set_up(&lab::Options::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let first = format!(":dep tokenized-sae = {{ path = \"{}\" }}\nuse tokenized_sae::prelude::*;", env!("CARGO_MANIFEST_DIR"));
    let ended = Command::new(&lab.python)
        .args(["-c", concat!(include_str!("../kernel.py"), include_str!("drive.py"))])
        .arg(first)
        .current_dir(folder.path())
        .env("TSAE_SPARE", "0")
        .env("JUPYTER_PATH", &lab.jupyter_path)
        // Nothing of the user's Jupyter is read or written.
        .env("JUPYTER_CONFIG_DIR", folder.path().join("config"))
        .env("JUPYTER_DATA_DIR", folder.path().join("data"))
        .env("JUPYTER_RUNTIME_DIR", folder.path().join("runtime"))
        .env("JUPYTER_PLATFORM_DIRS", "0")
        .output()
        .unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    // The kernels' own words come before.
    let told = String::from_utf8(ended.stdout).unwrap();
    let seen: Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
    let shown = seen["cells"][1][0].as_str().unwrap();
    assert!(shown.starts_with("blocks.3.hook_resid_pre"), "{seen}");
    let rest = &seen["cells"].as_array().unwrap()[2..];
    assert_eq!(rest, [json!(["true", 3]), json!(["", 4]), json!(["false", 5]), json!(["blocks.3.hook_resid_pre 3", 6])], "{seen}");
    assert!(seen["function"][0].as_str().is_some_and(|name| name.starts_with("resid_pre")), "{seen}");
    assert_eq!(seen["after"], json!(["false", 2]), "{seen}");
    assert_eq!(seen["field"], json!(["layer"]), "{seen}");
}
