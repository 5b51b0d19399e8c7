//! A cell whose types are written does not wait for rust-analyzer to read the standard library; the
//! first that needs it does, and so do the first completions. Neither is seen by the reader but as
//! that wait.
#![cfg(unix)]

#[path = "../shared/kernel.rs"]
mod kernel;

use serde_json::json;
use tsae::lab;

#[test]
fn types_and_completions_are_found_when_they_are_first_needed() {
    let lab = lab::set_up(&lab::Options::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let seen = kernel::drive(
        &lab,
        folder.path(),
        false,
        include_str!("drive.py"),
        &[&kernel::first_cell()],
    );
    let shown = seen["cells"][1][0].as_str().unwrap();
    assert!(shown.starts_with("blocks.3.hook_resid_pre"), "{seen}");
    let rest = &seen["cells"].as_array().unwrap()[2..];
    assert_eq!(
        rest,
        [
            json!(["true", 3]),
            json!(["", 4]),
            json!(["false", 5]),
            json!(["blocks.3.hook_resid_pre 3", 6])
        ],
        "{seen}"
    );
    assert!(
        seen["function"][0].as_str().is_some_and(|name| name.starts_with("resid_pre")),
        "{seen}"
    );
    assert_eq!(seen["after"], json!(["false", 2]), "{seen}");
    assert_eq!(seen["field"], json!(["layer"]), "{seen}");
}
