//! What `--jobs` prints does the work, in a folder whose name a shell has to be told of. The engines
//! are stand-ins that take their words as the real ones do.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use super::*;

/// Runs what is wrapped, once for each task, and goes on when one fails, as Slurm does.
const SBATCH: &str = r#"#!/bin/sh
echo "$*" >> "$LOG"
for word; do
    case "$word" in
    --wrap=*) wrapped=${word#--wrap=} ;;
    --array=1-*) array=${word#--array=1-} ;;
    --chdir=*) cd "${word#--chdir=}" || exit ;;
    esac
done
if [ -n "${array:-}" ]; then
    for task in $(seq "$array"); do
        SLURM_ARRAY_TASK_ID=$task sh -c "$wrapped" >> "$LOG" 2>&1 || echo "task $task failed" >> "$LOG"
    done
else
    sh -c "$wrapped" >> "$LOG" 2>&1 || echo "failed with $?" >> "$LOG"
fi
echo "4711;cluster"
"#;

/// `hq submit … -- WORDS`.
const HQ: &str = r#"#!/bin/sh
echo "$*" >> "$LOG"
array=
while [ "$1" != -- ]; do
    case "$1" in
    --array=1-*) array=${1#--array=1-} ;;
    --cwd=*) cd "${1#--cwd=}" || exit ;;
    esac
    shift
done
shift
for task in $(seq "${array:-1}"); do
    HQ_TASK_ID=$task "$@" >> "$LOG" 2>&1 || exit
done
"#;

/// Keeps what is applied, and says that every Job is complete.
const KUBECTL: &str = r#"#!/bin/sh
echo "$*" >> "$LOG"
case "$1" in
apply) cat >> "$APPLIED"; echo --- >> "$APPLIED" ;;
get) echo Complete ;;
esac
"#;

/// A folder that needs quotes, with the stand-ins on the path.
fn folder() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("it's $HOME");
    fs::create_dir_all(place.join("bin")).unwrap();
    for (name, script) in [("sbatch", SBATCH), ("hq", HQ), ("kubectl", KUBECTL)] {
        let path = place.join("bin").join(name);
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::write(place.join("pareto.toml"), sweep()).unwrap();
    (dir, place)
}

/// Runs a script in another folder than that in which it was printed.
fn shell(dir: &Path, script: &str, arguments: &[&str]) -> String {
    let path = dir.join("script.sh");
    fs::write(&path, script).unwrap();
    let path_of_programs =
        format!("{}:{}", dir.join("bin").display(), std::env::var("PATH").unwrap_or_default());
    let output = Command::new("sh")
        .arg(&path)
        .args(arguments)
        .current_dir("/")
        .env("PATH", path_of_programs)
        .env("TSAE_PROGRESS", "off")
        .env("LOG", dir.join("log"))
        .env("APPLIED", dir.join("applied"))
        .envs([("IMAGE", "registry/tsae:0.1"), ("CLAIM", "work"), ("MOUNT", "/data")])
        .output()
        .unwrap();
    let log = fs::read_to_string(dir.join("log")).unwrap_or_default();
    assert!(
        output.status.success(),
        "{}{}{log}\n{script}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    log
}

#[test]
fn slurm_prepares_then_does_the_shares_and_collects_however_they_end() {
    let (_dir, dir) = folder();
    let script = done(&dir, "sweep pareto.toml --out runs --jobs slurm --shares 3");
    let log = shell(&dir, &script, &["--partition=cpu"]);
    assert!(!log.contains("failed"), "{log}");
    for words in [
        "--array=1-3 --dependency=afterok:4711 --kill-on-invalid-dep=yes --partition=cpu",
        "--dependency=afterany:4711 --partition=cpu",
    ] {
        assert!(log.contains(words), "{log}");
    }
    assert_eq!(log.matches("--requeue").count(), 3, "{log}");
    assert_same(&ALONE, &dir.join("runs"));

    let of =
        format!("harvest tiny-gpt2 --text {TEXT} --context 64 --tokens 2000 --shard-tokens 512");
    let script = done(&dir, &format!("{of} --out acts --jobs slurm --shares 2"));
    let log = shell(&dir, &script, &[]);
    assert!(!log.contains("failed"), "{log}");
    done(&dir, &format!("{of} --out acts-alone"));
    assert_same(&dir.join("acts-alone"), &dir.join("acts"));
    // Whoever collects sees what no task has done.
    let script = done(&dir, &format!("{of} --out lacking --jobs slurm --shares 2"));
    let log = shell(&dir, &script.replace("--only auto/2", "--only 1/2"), &[]);
    assert!(
        log.contains("shards are missing (shard-00001") && log.contains("failed with 75"),
        "{log}"
    );
}

#[test]
fn hyperqueue_does_the_same() {
    let (_dir, dir) = folder();
    let script = done(&dir, "sweep pareto.toml --out runs --jobs hq --shares 2 --memory 1.5");
    let log = shell(&dir, &script, &["--cpus=2"]);
    assert!(
        log.contains("--array=1-2 --max-fails=2 --cpus=2") && log.contains("--memory 1.5"),
        "{log}"
    );
    assert_same(&ALONE, &dir.join("runs"));
}

/// The commands of the Jobs, which are run here as Kubernetes would.
#[test]
fn kubernetes_gets_jobs_whose_commands_do_it() {
    let (_dir, dir) = folder();
    let script = done(&dir, "sweep pareto.toml --out runs --jobs k8s --shares 3");
    shell(&dir, &script, &[]);
    let applied = fs::read_to_string(dir.join("applied")).unwrap();
    let jobs: Vec<&str> = applied.split("---\n").filter(|job| !job.is_empty()).collect();
    assert_eq!(jobs.len(), 3, "{applied}");
    for (job, tasks) in jobs.iter().zip([1, 3, 1]) {
        let value = |key: &str| {
            let line = job.lines().find_map(|line| line.trim().strip_prefix(key));
            line.unwrap_or_else(|| panic!("{key} is not in\n{job}")).trim()
        };
        assert_eq!(value("image:"), "\"registry/tsae:0.1\"");
        assert!(job.contains("mountPath: \"/data\"") && job.contains("{claimName: \"work\"}"));
        if tasks > 1 {
            assert_eq!((value("completions:"), value("completionMode:")), ("3", "Indexed"));
        }
        let words: Vec<String> = serde_json::from_str(value("command:")).unwrap();
        let folder: String = serde_json::from_str(value("workingDir:")).unwrap();
        assert_eq!((words[0].as_str(), Path::new(&folder)), ("tsae", &*dir));
        for task in 0..tasks {
            let mut command = command(Path::new("/"));
            command.args(&words[1..]).env("JOB_COMPLETION_INDEX", task.to_string());
            let output = command.output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

#[test]
fn programs_get_the_words_of_every_command() {
    let (_dir, dir) = folder();
    let jobs = done(&dir, "sweep pareto.toml --out runs --jobs json");
    let jobs: Value = serde_json::from_str(&jobs).unwrap();
    // By default a share for each stream.
    assert_eq!(jobs["shares"].as_array().unwrap().len(), 2);
    let out = dir.join("runs").display().to_string();
    let file = dir.join("pareto.toml").display().to_string();
    let words = ["sweep", &file, "--out", &out, "--only", "2/2"];
    let share: Vec<&str> =
        jobs["shares"][1].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    assert_eq!((share[0], &share[1..]), (env!("CARGO_BIN_EXE_tsae"), &words[..]));
    assert_eq!(jobs["folder"], dir.display().to_string());

    let line = "harvest tiny-gpt2 --text a/*.txt --context 64 --hook blocks.1.hook_resid_pre --tokens 5000 --stream --out acts --jobs json";
    let (status, told) = run(&dir, line, &[]);
    assert!(status == Some(2) && told.contains("--shares"), "{told}");
    let jobs: Value = serde_json::from_str(&done(&dir, &format!("{line} --shares 2"))).unwrap();
    let prepare = jobs["prepare"].to_string();
    let text = dir.join("a/*.txt").display().to_string();
    for words in ["--stream", "--plan", &text, "\"--tokens\",\"5000\"", "\"--dtype\",\"f16\""] {
        assert!(prepare.contains(words), "{words} is not in {prepare}");
    }
    assert!(!dir.join("acts").exists());
}
