//! The promise: work that many processes share ends with the bytes of one process, whichever of
//! them dies, and each says by its exit status whether it is complete.
#![cfg(unix)]

#[path = "../shared/folder.rs"]
mod folder;
mod jobs;
mod recipes;
mod together;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use folder::assert_same;

/// Text that is at hand.
const TEXT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/*.md");

/// A grid of eight runs in two streams.
fn sweep() -> String {
    format!(
        r#"
        model = "tiny-gpt2"
        text = "{TEXT}"
        context = 64
        hooks = ["blocks.1.hook_resid_pre", "blocks.2.hook_resid_pre"]
        ks = [4, 8]
        evaluated_on = 512
        train = {{ tokens = 8192, batch = 512, lr = 1e-3, checkpoint_seconds = 0.0, held_out_tokens = 512, evaluations = 2 }}
        arms = [{{ name = "SAE", expansion = 4 }}, {{ name = "TSAE", expansion = 4, lookup = "unigram" }}]
        "#
    )
}

/// The folder of that sweep as one process makes it.
static ALONE: LazyLock<PathBuf> = LazyLock::new(|| {
    // Nobody drops what is static.
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cluster");
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("pareto.toml"), sweep()).unwrap();
    done(&dir, "sweep pareto.toml --out alone");
    dir.join("alone")
});

/// A folder with the description of the sweep.
fn described() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("pareto.toml"), sweep()).unwrap();
    dir
}

fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tsae"));
    command.current_dir(dir).env("TSAE_PROGRESS", "off");
    for variable in ["SLURM_ARRAY_TASK_ID", "HQ_TASK_ID", "JOB_COMPLETION_INDEX"] {
        command.env_remove(variable);
    }
    command
}

/// Runs `tsae`, with its words separated by spaces, in an environment.
fn run(dir: &Path, line: &str, environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } =
        command(dir).args(line.split(' ')).envs(environment.iter().copied()).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap())
}

/// Runs what ends well.
fn done(dir: &Path, line: &str) -> String {
    let (status, told) = run(dir, line, &[]);
    assert_eq!(status, Some(0), "{line}: {told}");
    told
}

/// Starts a process in the background.
fn start(dir: &Path, line: &str) -> Child {
    let mut command = command(dir);
    command.args(line.split(' ')).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits until something is so; whoever waits for ever has found a fault.
fn wait_until(mut it: impl FnMut() -> bool) {
    while !it() {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// How many files of this name lie in the folders of a sweep's runs.
fn in_runs(out: &Path, name: &str) -> usize {
    let folders = |dir: &Path| {
        let entries = fs::read_dir(dir).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
    };
    let runs = folders(out).into_iter().flat_map(|hook| folders(&hook));
    runs.filter(|run| run.join(name).exists()).count()
}

/// Fault: the survivor ended with status 0 while half of the runs were undone.
#[test]
fn of_two_processes_in_a_folder_either_may_be_killed() {
    let dir = described();
    let dir = dir.path();
    for victim in 0..2 {
        let out = dir.join(format!("killed-{victim}"));
        let line = format!("sweep pareto.toml --out killed-{victim}");
        let mut both = [start(dir, &line), start(dir, &line)];
        // Both streams are in hand, and not all of either is done.
        wait_until(|| in_runs(&out, "checkpoint.safetensors") > 4 || in_runs(&out, "cfg.json") > 0);
        both[victim].kill().unwrap();
        both[victim].wait().unwrap();
        let survivor = &mut both[1 - victim];
        assert_eq!(survivor.wait().unwrap().code(), Some(0));
        assert_eq!(in_runs(&out, "evaluation.json"), 8);
        done(dir, &format!("{line} --collect"));
        assert_same(&ALONE, &out);
    }
}

#[test]
fn shares_of_a_sweep_are_collected_when_all_are_there() {
    let dir = described();
    let dir = dir.path();
    let line = "sweep pareto.toml --out shared";
    let (status, told) = run(dir, &format!("{line} --collect"), &[]);
    assert!(status == Some(1) && told.contains("no sweep has been run"), "{told}");
    assert!(done(dir, &format!("{line} --prepare")).contains("ready for 8 runs"));
    let (status, told) = run(dir, &format!("{line} --collect"), &[]);
    assert!(status == Some(75) && told.contains("8 of 8 runs are missing"), "{told}");

    let slurm = |id| {
        [
            ("SLURM_ARRAY_TASK_ID", id),
            ("SLURM_ARRAY_TASK_MIN", "1"),
            ("SLURM_ARRAY_TASK_MAX", "3"),
            ("SLURM_ARRAY_TASK_COUNT", "3"),
        ]
    };
    let auto = |of: &str, environment: &[(&str, &str)]| {
        let (status, told) = run(dir, &format!("{line} --only auto{of}"), environment);
        assert_eq!(status, Some(0), "{told}");
    };
    auto("", &slurm("3"));
    auto("/3", &[("HQ_TASK_ID", "1")]);
    let (status, told) = run(dir, &format!("{line} --collect"), &[]);
    assert!(
        status == Some(75) && told.contains("TSAE k=8") && told.contains(" runs are missing"),
        "{told}"
    );
    // A run of the share is in the hands of another process.
    let name = "TSAE k=8 expansion=4 lr=1e-3 seed=0";
    let place = dir.join("shared/blocks.1.hook_resid_pre/.locks").join(name);
    fs::create_dir_all(&place).unwrap();
    let lock = fs::File::create(place.join(".lock")).unwrap();
    lock.lock().unwrap();
    let (status, told) = run(dir, &format!("{line} --only 2/3"), &[]);
    assert!(status == Some(75) && told.contains(name) && told.contains("share 2/3"), "{told}");
    drop(lock);
    auto("/3", &[("JOB_COMPLETION_INDEX", "1")]);
    assert!(done(dir, &format!("{line} --collect")).contains("TSAE"));
    assert_same(&ALONE, &dir.join("shared"));
    let (status, told) = run(dir, &format!("{line} --only auto"), &[]);
    assert!(status == Some(2) && told.contains("SLURM_ARRAY_TASK_ID"), "{told}");
}

#[test]
fn a_harvest_by_many_is_that_of_one_whichever_worker_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for text in ["--tokens 12000 --context 64", "--tokens 12000 --context 64 --stream"] {
        let of = format!(
            "harvest tiny-gpt2 --hook blocks.1.hook_resid_pre --hook blocks.3.hook_resid_pre --text {TEXT} {text} --held-out-share 0.1 --batch 2 --shard-tokens 512"
        );
        done(dir, &format!("{of} --out alone"));
        let planned = done(dir, &format!("{of} --out shared --plan"));
        assert!(planned.contains(" shards of "), "{planned}");
        let (status, told) = run(dir, &format!("{of} --out shared"), &[]);
        assert!(status == Some(1) && told.contains("many processes share"), "{told}");
        let (status, told) = run(dir, "harvest --out shared --only 2/3 --dtype f32", &[]);
        assert!(status == Some(2) && told.contains("cannot be used with"), "{told}");

        let mut killed = start(dir, "harvest --out shared --only 1/2");
        wait_until(|| dir.join("shared/shard-00002.json").exists() || has_ended(&mut killed));
        killed.kill().unwrap();
        killed.wait().unwrap();
        done(dir, "harvest --out shared --only 2/2");
        fs::remove_file(dir.join("shared/shard-00003.safetensors")).unwrap();
        let (status, told) = run(dir, "harvest --out shared --collect", &[]);
        assert!(status == Some(75) && told.contains("shard-00003.safetensors"), "{told}");
        let (status, told) = run(dir, "train shared --out runs", &[]);
        assert!(status == Some(1) && told.contains("not collected"), "{told}");
        let (status, told) =
            run(dir, "harvest --out shared --only auto/2", &[("JOB_COMPLETION_INDEX", "0")]);
        assert!(status == Some(0) && told.contains("Share 1/2"), "{told}");
        done(dir, "harvest --out shared --only 2/2");
        done(dir, "harvest --out shared --collect");
        assert_same(&dir.join("alone"), &dir.join("shared"));
        // Late, and again.
        done(dir, "harvest --out shared --only 2/2");
        done(dir, "harvest --out shared --collect");
        done(dir, &format!("{of} --out shared --plan"));
        done(dir, &format!("{of} --out shared"));
        assert_same(&dir.join("alone"), &dir.join("shared"));
        fs::remove_dir_all(dir.join("alone")).unwrap();
        fs::remove_dir_all(dir.join("shared")).unwrap();
    }
}

fn has_ended(child: &mut Child) -> bool {
    child.try_wait().unwrap().is_some()
}
