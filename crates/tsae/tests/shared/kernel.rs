//! A Python program that drives our kernel, and what it says of it.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tsae::lab::Lab;

/// The cell that notebooks begin with.
#[allow(dead_code)] // not every test takes the library into its cells
pub fn first_cell() -> String {
    format!(
        ":dep tokenized-sae = {{ path = \"{}\" }}\nuse tokenized_sae::prelude::*;",
        concat!(env!("CARGO_MANIFEST_DIR"), "/../..")
    )
}

/// Runs `program`, behind kernel.py, in `folder`; its last line is what it has seen. Kernels have a
/// spare to take if there is to be one.
pub fn drive(
    lab: &Lab,
    folder: &Path,
    has_spare: bool,
    program: &str,
    arguments: &[&str],
) -> Value {
    let ended = Command::new(&lab.python)
        .args(["-c", &[include_str!("kernel.py"), program].concat()])
        .args(arguments)
        .current_dir(folder)
        .env("TSAE_SPARE", if has_spare { "1" } else { "0" })
        .env("JUPYTER_PATH", &lab.jupyter_path)
        // Nothing of the user's Jupyter is read or written.
        .env("JUPYTER_CONFIG_DIR", folder.join("config"))
        .env("JUPYTER_DATA_DIR", folder.join("data"))
        .env("JUPYTER_RUNTIME_DIR", folder.join("runtime"))
        .env("JUPYTER_PLATFORM_DIRS", "0")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success(), "{told}{}", String::from_utf8_lossy(&ended.stderr));
    // The kernels' own words come before.
    serde_json::from_str(told.lines().last().unwrap()).unwrap()
}
