//! A warm kernel waits for the next notebook of a folder: it is taken, it is as a fresh one, and it ends with the one that took it.
#![cfg(target_os = "linux")]

use std::process::Command;

use serde_json::{Value, json};
use tokenized_sae::lab;

#[test]
fn the_next_kernel_of_a_folder_is_a_spare_that_waited() {
    let lab = lab::set_up(&lab::Options::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().canonicalize().unwrap();
    let first = format!(":dep tokenized-sae = {{ path = \"{}\" }}\nuse tokenized_sae::prelude::*;", env!("CARGO_MANIFEST_DIR"));
    let ended = Command::new(&lab.python)
        .args(["-c", concat!(include_str!("../kernel.py"), include_str!("drive.py"))])
        .arg(lab.jupyter_path.with_file_name("spares"))
        .arg(first)
        .current_dir(&here)
        .env("TSAE_SPARE", "1")
        .env("JUPYTER_PATH", &lab.jupyter_path)
        // Nothing of the user's Jupyter is read or written.
        .env("JUPYTER_CONFIG_DIR", here.join("config"))
        .env("JUPYTER_DATA_DIR", here.join("data"))
        .env("JUPYTER_RUNTIME_DIR", here.join("runtime"))
        .env("JUPYTER_PLATFORM_DIRS", "0")
        .output()
        .unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    // The kernels' own words come before.
    let told = String::from_utf8(ended.stdout).unwrap();
    let seen: Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
    assert_eq!(seen["was_taken"], true, "{seen}");
    assert_eq!(seen["first"], json!(["", 1]), "a spare counts its cells from 1 as a fresh kernel does: {seen}");
    assert_eq!(seen["folder"], json!(here));
    assert_eq!(seen["interrupt"], "42 true", "{seen}");
    assert!(seen["leftover"].as_str().unwrap().contains("cannot find value"), "{seen}");
    assert_eq!(seen["first_still_there"], "here", "{seen}");
}
