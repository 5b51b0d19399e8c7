//! The quickstart in JupyterLab, in a real browser: its bar moves, its curves grow, the stop button
//! stops, another k gives another curve, and a cell that fails says so and is the last that runs.
//!
//! Wants a Chromium or Chrome on the `PATH` (or its path in `CHROME`); without one it says so and
//! passes. The pictures it takes stay in `target/browser/`, to be looked at.

#[path = "../../../../tests/shared/browser.rs"]
mod browser;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use browser::browser;
use serde_json::{Value, json};
use tsae::lab;

/// The quickstart with less to do: its cells are the same, but for two numbers.
fn small_quickstart(folder: &Path) -> PathBuf {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let mut text = std::fs::read_to_string(root.join("notebooks/01_quickstart.ipynb")).unwrap();
    let dependency = format!("path = \\\"{}\\\"", root.display());
    for (from, to) in
        [("path = \\\"..\\\"", &*dependency), ("2_000_000", "600_000"), ("400_000", "60_000")]
    {
        assert!(text.contains(from), "the quickstart has no {from} any more");
        text = text.replace(from, to);
    }
    let mut notebook: Value = serde_json::from_str(&text).unwrap();
    for cell in notebook["cells"].as_array_mut().unwrap() {
        if cell["cell_type"] == "code" {
            cell["outputs"] = json!([]);
            cell["execution_count"] = Value::Null;
        }
    }
    let path = folder.join("quickstart.ipynb");
    std::fs::write(&path, notebook.to_string()).unwrap();
    path
}

#[test]
fn a_reader_sees_the_quickstart_at_work() {
    let Some(browser) = browser() else {
        eprintln!("skipped: there is no Chromium or Chrome on this machine");
        return;
    };
    let lab = lab::set_up(&lab::Options::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let out = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join("target/browser");
    std::fs::create_dir_all(&out).unwrap();
    let request = json!({ "browser": browser, "notebook": small_quickstart(folder.path()), "python": lab.python, "out": out });
    let mut driver = Command::new(&lab.python)
        .args(["-c", include_str!("drive.py")])
        // Nothing of the user's Jupyter is read or written.
        .env("JUPYTER_PATH", &lab.jupyter_path)
        .env("JUPYTER_CONFIG_DIR", folder.path().join("config"))
        .env("JUPYTER_DATA_DIR", folder.path().join("data"))
        .env("JUPYTER_RUNTIME_DIR", folder.path().join("runtime"))
        .env("JUPYTER_PLATFORM_DIRS", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(driver.stdin.take().unwrap(), "{request}").unwrap();
    let ended = driver.wait_with_output().unwrap();
    assert!(ended.status.success(), "the pictures and the server's log are in {}", out.display());
    let seen: Value = serde_json::from_slice(&ended.stdout).unwrap();

    assert!(seen["bar_moved"][1].as_u64() > seen["bar_moved"][0].as_u64(), "{seen}");
    assert_eq!(seen["pictures_differ"], true, "{seen}");
    assert_eq!(seen["text_of_marks"], false, "{seen}");
    let stopped = seen["stopped"].as_str().unwrap();
    assert!(stopped.contains("stopped at") && stopped.contains("interrupted"), "{stopped}");
    assert_eq!(seen["new_curve"], true, "{seen}");
    assert_eq!(seen["errors"], json!([]), "{seen}");
    let page = seen["page"].as_str().unwrap();
    assert!(page.contains("sooner") || page.contains("later"), "{page}");
    let failed = seen["failed"].as_str().unwrap();
    assert!(
        failed.contains("panicked at line 2, column ")
            && failed.contains("the len is 0 but the index is 3"),
        "{failed}"
    );
    assert_eq!(seen["behind"], "", "a run of all cells ends at the one that fails");
}
