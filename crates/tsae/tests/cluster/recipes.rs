//! The recipes of docs/cluster.md do what the page says.

use std::os::unix::fs::PermissionsExt;

use super::*;

const PAGE: &str = include_str!("../../../../docs/cluster.md");

/// The blocks in a language below a heading of the page.
fn blocks(heading: &str, language: &str) -> Vec<String> {
    let section = PAGE.split("\n## ").find(|section| section.starts_with(heading)).unwrap();
    let begin = format!("```{language}\n");
    let parts = section.split(&begin).skip(1);
    parts.map(|part| part.split("```").next().unwrap().to_owned()).collect()
}

/// A folder with the sweep's description, and a path on which `tsae` is this one and `ssh` runs its
/// command here.
fn folder() -> (tempfile::TempDir, String) {
    let dir = described();
    let bin = dir.path().join("bin");
    fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_tsae"), bin.join("tsae")).unwrap();
    let ssh = bin.join("ssh");
    fs::write(&ssh, "#!/bin/sh\necho \"$1\" >> hosts\ncd / && exec sh -c \"$2\"\n").unwrap();
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    (dir, path)
}

fn program(dir: &Path, path: &str, program: &str, script: &str) -> Output {
    let file = dir.join("recipe");
    fs::write(&file, script).unwrap();
    let mut command = Command::new(program);
    command.arg(file).current_dir(dir).env("PATH", path).env("TSAE_PROGRESS", "off");
    command.output().unwrap()
}

#[test]
fn a_shell_over_ssh() {
    let (dir, path) = folder();
    let dir = dir.path();
    let recipes = blocks("A shell over ssh", "sh");
    assert_eq!(recipes.len(), 2);
    for recipe in recipes {
        let output = program(dir, &path, "sh", &recipe.replace("400000", "6000"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let mut hosts: Vec<String> =
        fs::read_to_string(dir.join("hosts")).unwrap().lines().map(str::to_owned).collect();
    hosts.sort();
    assert_eq!(hosts, ["node1", "node1", "node2", "node2", "node3", "node3"]);
    assert_same(&ALONE, &dir.join("runs/pareto"));
    done(dir, "harvest tiny-gpt2 --sampled 6000 --out acts");
    assert_same(&dir.join("acts"), &dir.join("cache/tiny"));
}

#[test]
fn hyperqueue_from_python() {
    let Some(python) = std::env::var_os("TSAE_HYPERQUEUE_PYTHON") else {
        eprintln!(
            "skipped: TSAE_HYPERQUEUE_PYTHON is not set; crates/tsae/tests/cluster/hyperqueue.sh prints it"
        );
        return;
    };
    let (dir, path) = folder();
    let dir = dir.path();
    let [recipe] = &blocks("HyperQueue", "python")[..] else { panic!("another number of recipes") };
    let output = program(dir, &path, python.to_str().unwrap(), recipe);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("TSAE"));
    assert_same(&ALONE, &dir.join("runs/pareto"));
}

/// What the page says is printed is what is said.
#[test]
fn the_words_of_the_page_are_those_of_the_program() {
    let help = done(Path::new("/"), "--help");
    assert!(help.contains("75 ") && PAGE.contains("**75**"));
    for verb in ["sweep", "harvest"] {
        let help = done(Path::new("/"), &format!("{verb} --help"));
        for option in ["--only", "--collect", "--jobs", "--shares", "slurm", "hq", "k8s", "json"] {
            assert!(help.contains(option) && PAGE.contains(option), "{verb}: {option}");
        }
    }
}
