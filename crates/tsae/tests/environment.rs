//! The promises: one list of Python packages, in two spellings; a look at what is there changes
//! nothing; conda is asked for what environment.yml says, and only if the user chose it.

use std::collections::BTreeMap;
use std::path::Path;

use tsae::lab::{self, Options, PythonChoice};

const REQUIREMENTS: &str = include_str!("../src/lab/requirements.txt");
const ENVIRONMENT: &str = include_str!("../../../environment.yml");

fn pip_packages() -> BTreeMap<&'static str, &'static str> {
    let lines =
        REQUIREMENTS.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    lines
        .map(|line| line.split_once("==").unwrap_or_else(|| panic!("{line} pins no version")))
        .collect()
}

fn conda_packages() -> BTreeMap<&'static str, &'static str> {
    let (_, dependencies) = ENVIRONMENT.split_once("dependencies:\n").unwrap();
    let items = dependencies
        .lines()
        .map(|line| line.strip_prefix("  - ").unwrap_or_else(|| panic!("{line} is not an item")));
    items
        .map(|item| item.split_once(' ').unwrap_or_else(|| panic!("{item} pins no version")))
        .collect()
}

#[test]
fn pip_and_conda_get_the_same_packages() {
    let mut conda = conda_packages();
    assert_eq!(conda.remove("python"), Some(">=3.10"), "JupyterLab's own lower bound");
    assert_eq!(conda, pip_packages());
    assert!(
        conda.contains_key("jupyterlab")
            && conda.contains_key("nbclient")
            && conda.contains_key("nbconvert")
    );
}

#[test]
fn a_look_at_an_empty_cache_finds_everything_missing_and_makes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let options =
        Options { cache: Some(cache.clone()), python: PythonChoice::Private, ..Options::default() };
    let report = lab::check(&options).unwrap();
    let there = |what: &str| {
        report
            .items
            .iter()
            .find(|item| item.what == what)
            .unwrap_or_else(|| panic!("no {what} in {report}"))
            .there
    };
    assert!(there("Rust") && there("sources"));
    assert!(!there("Jupyter") && !there("kernelspec") && !there("compiled library"), "{report}");
    assert!(!report.complete());
    assert!(report.to_string().contains("`tsae lab` makes what is missing"), "{report}");
    assert!(!cache.exists());
}

#[test]
fn a_folder_without_our_sources_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { project: Some(folder.path().to_owned()), ..Options::default() };
    let told = lab::check(&options).unwrap_err().to_string();
    assert!(
        told.contains(&*folder.path().to_string_lossy()) && told.contains("Cargo.toml"),
        "{told}"
    );
}

#[test]
fn a_notebook_that_is_not_there_is_named_before_anything_is_set_up() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let options = lab::RunOptions {
        set_up: Options { cache: Some(cache.clone()), ..Options::default() },
        ..Default::default()
    };
    let told = lab::run(&[folder.path().join("none.ipynb")], &options).unwrap_err().to_string();
    assert!(told.contains("none.ipynb"), "{told}");
    assert!(!cache.exists());
}

/// Runs a set-up with a program of our own in place of conda, in a process of its own, since it
/// needs another `PATH`.
#[cfg(unix)]
#[test]
fn conda_is_asked_for_the_environment_of_the_file() {
    if let Some(cache) = std::env::var_os("TSAE_TEST_CACHE") {
        let options = Options {
            cache: Some(cache.into()),
            python: PythonChoice::Conda,
            ..Options::default()
        };
        println!("{}", lab::set_up(&options).unwrap_err());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (bin, cache) = (folder.path().join("bin"), folder.path().join("cache"));
    std::fs::create_dir_all(&bin).unwrap();
    // Answers as a Python with Jupyter does, and cannot run a notebook.
    let python = r#"#!/bin/sh
case "$2" in
*executable*) echo "{\"executable\": \"$0\", \"python\": [3, 12], \"packages\": {\"jupyterlab\": \"4.6.1\", \"jupyter_client\": \"8.10.0\", \"nbclient\": \"0.11.0\", \"nbconvert\": \"7.17.2\"}}" ;;
*) echo "this Python only pretends" >&2; exit 3 ;;
esac
"#;
    let conda = format!(
        "#!/bin/sh\necho \"$@\" > {0}/asked\nwhile [ $# -gt 1 ]; do\n  case $1 in\n  --prefix) mkdir -p \"$2/bin\"; cp {0}/python \"$2/bin/python\"; chmod +x \"$2/bin/python\" ;;\n  --file) cp \"$2\" {0}/file ;;\n  esac\n  shift\ndone\n",
        folder.path().display()
    );
    std::fs::write(folder.path().join("python"), python).unwrap();
    program(&bin.join("conda"), &conda);
    // The kernel itself is there.
    let made = lab::set_up(&Options::default()).unwrap().cache;
    std::fs::create_dir(&cache).unwrap();
    for kernel in std::fs::read_dir(&made)
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("evcxr-0"))
    {
        std::os::unix::fs::symlink(kernel.path(), cache.join(kernel.file_name())).unwrap();
    }

    let path = std::env::join_paths(
        [bin].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    )
    .unwrap();
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "conda_is_asked_for_the_environment_of_the_file", "--nocapture"])
        .env("PATH", path)
        .env("TSAE_TEST_CACHE", &cache)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{told}{}", String::from_utf8_lossy(&child.stderr));
    let asked = std::fs::read_to_string(folder.path().join("asked")).unwrap();
    assert!(asked.starts_with("env create --yes --prefix "), "{asked}");
    let file = std::fs::read_to_string(folder.path().join("file")).unwrap();
    let packages = |text: &str| text.split_once("dependencies:\n").unwrap().1.to_owned();
    assert_eq!(packages(&file), packages(ENVIRONMENT));
    // It went on to the first step that needs a Python that does not pretend, and says what that
    // one said.
    assert!(
        told.contains("compiling the library for notebooks failed")
            && told.contains("this Python only pretends"),
        "{told}"
    );
}

#[cfg(unix)]
fn program(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}
