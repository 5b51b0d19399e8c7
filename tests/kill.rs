//! The whole job killed again and again at arbitrary moments: what is resumed ends with the same bytes as what was never disturbed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const KILLS: usize = 10;

fn job(out: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tsae"));
    command
        .args(["compare", "tiny-gpt2", "--sampled", "40000", "--tokens", "60000", "--lr", "1e-3", "--expansion", "4", "--k", "8"])
        .args(["--checkpoint-seconds", "0", "--out"])
        .arg(out)
        .env("TSAE_PROGRESS", "off")
        .stdout(Stdio::null());
    command
}

/// Every file below `dir` with its bytes, by its path; locks are not results.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.file_name().unwrap() == ".lock" => {}
                false => all.push((path.strip_prefix(dir).unwrap().to_owned(), fs::read(&path).unwrap())),
            }
        }
    }
    all.sort();
    all
}

#[test]
fn a_job_killed_ten_times_ends_as_one_that_never_was() {
    let dir = tempfile::tempdir().unwrap();
    let (calm, killed) = (dir.path().join("calm"), dir.path().join("killed"));
    let start = Instant::now();
    assert!(job(&calm).status().unwrap().success());
    let whole = start.elapsed();

    let mut rng = ChaCha8Rng::seed_from_u64(std::process::id().into());
    let mut kills = 0;
    for _ in 0..KILLS {
        let mut child = job(&killed).spawn().unwrap();
        // Anywhere between the first file and the last, whatever this machine's speed is.
        let end = Instant::now() + whole.mul_f64(rng.random_range(0.05..1.0));
        let has_ended = loop {
            match child.try_wait().unwrap() {
                Some(_) => break true,
                None if Instant::now() >= end => break false,
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        kills += usize::from(!has_ended);
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
    }
    assert!(kills > 0, "every run had ended before it was killed");
    assert!(job(&killed).status().unwrap().success());

    let (want, got) = (files(&calm), files(&killed));
    let names = |files: &[(PathBuf, Vec<u8>)]| files.iter().map(|file| file.0.clone()).collect::<Vec<_>>();
    assert_eq!(names(&got), names(&want));
    for (want, got) in want.iter().zip(&got) {
        assert!(want == got, "{} differs after {kills} kills", want.0.display());
    }
}
