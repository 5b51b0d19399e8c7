//! A warm kernel waits for the next notebook of a folder: it is taken, it is as a fresh one, and it
//! ends with the one that took it.
#![cfg(target_os = "linux")]

#[path = "../shared/kernel.rs"]
mod kernel;

use serde_json::json;
use tsae::lab;

#[test]
fn the_next_kernel_of_a_folder_is_a_spare_that_waited() {
    let lab = lab::set_up(&lab::Options::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().canonicalize().unwrap();
    let spares = lab.jupyter_path.with_file_name("spares");
    let seen = kernel::drive(
        &lab,
        &here,
        true,
        include_str!("drive.py"),
        &[spares.to_str().unwrap(), &kernel::first_cell()],
    );
    assert_eq!(seen["was_taken"], true, "{seen}");
    assert_eq!(
        seen["first"],
        json!(["", 1]),
        "a spare counts its cells from 1 as a fresh kernel does: {seen}"
    );
    assert_eq!(seen["folder"], json!(here));
    assert_eq!(seen["interrupt"], "42 true", "{seen}");
    assert!(seen["leftover"].as_str().unwrap().contains("cannot find value"), "{seen}");
    assert_eq!(seen["first_still_there"], "here", "{seen}");
}
