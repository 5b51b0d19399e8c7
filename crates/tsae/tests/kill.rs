//! The whole job, and a sweep, killed or stopped again and again at arbitrary moments: what is
//! resumed ends with the same bytes as what was never disturbed.

#[path = "shared/folder.rs"]
mod folder;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use folder::assert_same;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const STOPS: usize = 10;

fn job(out: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tsae"));
    command
        .args([
            "compare",
            "tiny-gpt2",
            "--sampled",
            "40000",
            "--tokens",
            "60000",
            "--lr",
            "1e-3",
            "--expansion",
            "4",
            "--k",
            "8",
        ])
        .args(["--checkpoint-seconds", "0", "--out"])
        .arg(out)
        .env("TSAE_PROGRESS", "off")
        .stdout(Stdio::null());
    command
}

/// A grid of four runs, two of which train together.
fn sweep(out: &Path) -> Command {
    let file = out.with_extension("toml");
    let description = r#"
        model = "tiny-gpt2"
        sampled = 16384
        hooks = ["blocks.1.hook_resid_pre", "blocks.2.hook_resid_pre"]
        evaluated_on = 2048
        train = { tokens = 40_000, lr = 1e-3, checkpoint_seconds = 0.0, held_out_tokens = 2048, evaluations = 4 }
        arms = [{ name = "SAE", expansion = 4, k = 8 }, { name = "TSAE", expansion = 4, k = 8, lookup = "unigram" }]
    "#;
    fs::write(&file, description).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tsae"));
    command
        .arg("sweep")
        .arg(file)
        .arg("--out")
        .arg(out)
        .env("TSAE_PROGRESS", "off")
        .stdout(Stdio::null());
    command
}

/// Ends a job without warning.
fn kill(child: &mut Child) {
    child.kill().unwrap(); // SIGKILL
    child.wait().unwrap();
}

/// Presses the stop button; what has been asked to stop ends of itself.
fn stop(child: &mut Child) {
    assert!(
        Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success()
    );
    let status = child.wait().unwrap();
    // 130 if it was pressed before anyone listened.
    assert!(status.success() || status.code() != Some(101), "{status}");
}

/// Stops a job again and again at arbitrary moments, and compares what it leaves in the end with
/// that of one that never was.
fn ends_as_one_that_never_was(job: fn(&Path) -> Command, ways: &[fn(&mut Child)]) {
    let dir = tempfile::tempdir().unwrap();
    let (calm, stopped) = (dir.path().join("calm"), dir.path().join("stopped"));
    let start = Instant::now();
    assert!(job(&calm).status().unwrap().success());
    let mut whole = start.elapsed();

    let mut rng = ChaCha8Rng::seed_from_u64(std::process::id().into());
    let mut stops = 0;
    for i in 0..STOPS {
        let mut child = job(&stopped).spawn().unwrap();
        // Anywhere between the first file and the last, whatever this machine's speed is.
        let end = Instant::now() + whole.mul_f64(rng.random_range(0.05..1.0));
        let has_ended = loop {
            match child.try_wait().unwrap() {
                Some(_) => break true,
                None if Instant::now() >= end => break false,
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        if !has_ended {
            stops += 1;
            ways[i % ways.len()](&mut child);
        } else if stops == 0 {
            // The machine is quicker now than it was at first: again, and sooner.
            std::fs::remove_dir_all(&stopped).unwrap();
            whole /= 2;
        }
    }
    assert!(stops > 0, "every run had ended before it was stopped");
    assert!(job(&stopped).status().unwrap().success());

    eprintln!("after {stops} stops:");
    assert_same(&calm, &stopped);
}

#[test]
fn a_job_killed_ten_times_ends_as_one_that_never_was() {
    ends_as_one_that_never_was(job, &[kill]);
}

#[cfg(unix)]
#[test]
fn a_sweep_killed_and_interrupted_ten_times_ends_as_one_that_never_was() {
    ends_as_one_that_never_was(sweep, &[kill, stop]);
}
