//! `--jobs`: work for many machines, as an engine takes it. First what is done once (`prepare`),
//! then the shares, at the same time and in any order, and then what sees whether all is there
//! (`collect`).
//!
//! The engine places processes, starts them again and knows of dead machines. What it starts ends
//! with 0 only if it is complete, and may be started again at any time.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tsae::{Error, Result};

/// What runs the jobs.
#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
pub enum Engine {
    /// A script for a login node of a Slurm cluster, which submits three jobs; its arguments are
    /// passed on to sbatch.
    Slurm,
    /// A script that runs it on HyperQueue; its arguments are passed on to hq submit.
    Hq,
    /// A script that runs it as Kubernetes Jobs.
    K8s,
    /// The commands with their words, for any other program.
    Json,
}

/// The options of a verb whose work many machines may share.
#[derive(clap::Args)]
pub struct JobsArgs {
    /// Only print the jobs by which many machines do it, for this engine.
    #[arg(long, value_enum, value_name = "ENGINE")]
    pub jobs: Option<Engine>,
    /// With --jobs: into how many shares the work is cut, each a task.
    #[arg(long, value_name = "N", requires = "jobs")]
    pub shares: Option<usize>,
}

/// Work for many machines: the words of each command behind `tsae`.
pub struct Jobs {
    /// What is done once, before.
    pub prepare: Vec<String>,
    /// What each task does, without its `--only`.
    pub share: Vec<String>,
    /// What is done at the end, and sees whether all is there.
    pub collect: Vec<String>,
    /// How many shares there are.
    pub n: usize,
}

/// How the script for Kubernetes begins.
const K8S: &str = r#"#!/bin/sh
# IMAGE has tsae on its path. CLAIM is a volume claim that all nodes may write to (ReadWriteMany), and MOUNT where
# it is mounted: the folder below which all paths here are, and this one.
set -eu
: "${IMAGE:?an image with tsae}" "${CLAIM:?a volume claim}" "${MOUNT:?where it is mounted}"
ended() {
    until kubectl get job "$1" -o 'jsonpath={.status.conditions[?(@.status=="True")].type}' | grep -qE 'Complete|Failed'; do
        sleep 5
    done
}
"#;

/// A Job of Kubernetes, waited for. What is in capitals is put in here, but for what is in braces,
/// which the environment gives.
const JOB: &str = r#"kubectl delete job NAME --ignore-not-found
kubectl apply -f - <<EOF
apiVersion: batch/v1
kind: Job
metadata: {name: NAME}
spec:
FURTHER
  template:
    spec:
      restartPolicy: Never
      containers:
        - name: tsae
          image: "${IMAGE}"
          workingDir: FOLDER
          command: COMMAND
          volumeMounts: [{name: work, mountPath: "${MOUNT}"}]
      volumes: [{name: work, persistentVolumeClaim: {claimName: "${CLAIM}"}}]
EOF
ended NAME
"#;

impl Jobs {
    /// What is printed for an engine, as text and as JSON.
    ///
    /// # Errors
    /// [`Config`](tokenized_sae::Error::Config) if there is no share; [`Io`](tokenized_sae::Error::Io) if nobody can say where this
    /// program or the current folder is.
    pub fn written(&self, engine: Engine) -> Result<(String, Value)> {
        if self.n == 0 {
            return Err(Error::config("shares", "shares = 0; at least 1 is needed"));
        }
        let program = std::env::current_exe().map_err(Error::io("find", "tsae"))?;
        let program = program.display().to_string();
        let folder = std::env::current_dir().map_err(Error::io("find", "the current folder"))?;
        let folder = folder.display().to_string();
        let script = match engine {
            Engine::Slurm => self.slurm(&program, &folder),
            Engine::Hq => self.hq(&program, &folder),
            Engine::K8s => self.k8s(&folder),
            Engine::Json => {
                let value = self.json(&program, &folder);
                let text = serde_json::to_string_pretty(&value).map_err(Error::json("jobs"))?;
                return Ok((text, value));
            }
        };
        Ok((script.trim_end().to_owned(), Value::String(script)))
    }

    /// The words of each task, whose number its engine says.
    fn task(&self) -> Vec<String> {
        let only = ["--only".to_owned(), format!("auto/{}", self.n)];
        self.share.iter().cloned().chain(only).collect()
    }

    fn slurm(&self, program: &str, folder: &str) -> String {
        let folder = quoted(folder);
        let submit = |name: &str, further: &str, words: &[String]| {
            let wrapped = quoted(&format!("exec {}", line(program, words)));
            format!(
                "{name}=$(sbatch --parsable --requeue --job-name=tsae-{name} --chdir={folder} {further}\"$@\" --wrap={wrapped})\n{name}=${{{name}%%;*}}\n"
            )
        };
        let array = format!(
            "--array=1-{} --dependency=\"afterok:$prepare\" --kill-on-invalid-dep=yes ",
            self.n
        );
        let mut script = String::from(
            "#!/bin/sh\n# Submits three jobs; arguments go to sbatch: sh THIS --partition=cpu --cpus-per-task=16 --time=8:00:00\nset -eu\n",
        );
        script += &submit("prepare", "", &self.prepare);
        script += &submit("shares", &array, &self.task());
        // After `afterok` of an array in which one task failed it would wait for ever.
        script += &submit("collect", "--dependency=\"afterany:$shares\" ", &self.collect);
        script + "echo \"prepare $prepare, shares $shares, collect $collect\"\n"
    }

    fn hq(&self, program: &str, folder: &str) -> String {
        let folder = quoted(folder);
        let submit = |name: &str, further: &str, words: &[String]| {
            format!(
                "hq submit --wait --name=tsae-{name} --cwd={folder} {further}\"$@\" -- {}",
                line(program, words)
            )
        };
        let array = format!("--array=1-{0} --max-fails={0} ", self.n);
        [
            "#!/bin/sh",
            "# Runs on a HyperQueue server; arguments go to hq submit: sh THIS --cpus=16",
            "set -eu",
            &submit("prepare", "", &self.prepare),
            "# A task that fails is no reason to stop the others: what is missing is told at the end.",
            &(submit("shares", &array, &self.task()) + " || true"),
            &format!("cd {folder}"),
            &format!("exec {}", line(program, &self.collect)),
        ]
        .join("\n")
    }

    fn k8s(&self, folder: &str) -> String {
        let job = |name: &str, further: &str, words: &[String]| {
            let command: Vec<&str> =
                std::iter::once("tsae").chain(words.iter().map(String::as_str)).collect();
            // The words come last: they may have any capitals in them.
            JOB.replace("NAME", &format!("tsae-{name}"))
                .replace("FURTHER", further)
                .replacen("COMMAND", &within_here(&json!(command)), 1)
                .replacen("FOLDER", &within_here(&json!(folder)), 1)
        };
        let n = self.n;
        let array = format!(
            "  completionMode: Indexed\n  completions: {n}\n  parallelism: {n}\n  backoffLimitPerIndex: 6\n  maxFailedIndexes: {n}"
        );
        [
            K8S,
            &job("prepare", "  backoffLimit: 6", &self.prepare),
            &job("shares", &array, &self.task()),
            &job("collect", "  backoffLimit: 0", &self.collect),
            "kubectl logs job/tsae-collect\n",
        ]
        .concat()
    }

    fn json(&self, program: &str, folder: &str) -> Value {
        let command =
            |words: &[String], further: &[String]| [&[program.to_owned()], words, further].concat();
        let share = |i| command(&self.share, &["--only".to_owned(), format!("{i}/{}", self.n)]);
        json!({
            "folder": folder,
            "prepare": command(&self.prepare, &[]),
            "shares": (1..=self.n).map(share).collect::<Vec<_>>(),
            "collect": command(&self.collect, &[]),
        })
    }
}

/// A path from the root, so that it means the same in every folder.
///
/// # Errors
/// [`Io`](tokenized_sae::Error::Io) if there is no current folder.
pub fn from_root(path: &Path) -> Result<String> {
    let path: PathBuf = std::path::absolute(path).map_err(Error::io("find", path))?;
    Ok(path.display().to_string())
}

/// A command as a shell takes it.
fn line(program: &str, words: &[String]) -> String {
    let words = std::iter::once(program).chain(words.iter().map(String::as_str));
    words.map(quoted).collect::<Vec<_>>().join(" ")
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=,:@".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// JSON, which is YAML too, between `<<EOF` and `EOF`, where a shell puts in its variables.
fn within_here(value: &Value) -> String {
    value.to_string().replace('\\', "\\\\").replace('$', "\\$").replace('`', "\\`")
}

#[cfg(test)]
mod tests {
    #[cfg(unix)]
    use super::*;

    #[cfg(unix)]
    fn shell(script: &str) -> String {
        let done = std::process::Command::new("sh").args(["-c", script]).output().unwrap();
        assert!(done.status.success(), "{script}");
        String::from_utf8(done.stdout).unwrap()
    }

    #[cfg(unix)]
    #[test]
    fn words_come_through_a_shell_as_they_are() {
        for word in ["a b", "it's", "$HOME `x` \\ \"", "", "~/x", "*.txt", "plain/path-1.2", "ä#b"]
        {
            assert_eq!(shell(&format!("printf '%s' {}", quoted(word))), word);
            let here = shell(&format!("cat <<EOF\n{}\nEOF", within_here(&json!(word))));
            assert_eq!(serde_json::from_str::<String>(&here).unwrap(), word);
        }
    }
}
