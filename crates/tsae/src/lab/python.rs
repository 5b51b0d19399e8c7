//! Python with Jupyter: an active one, conda's, or a private one from PyPI.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use super::folders::{self, Folders};
use super::parts::{Part, Parts};
use super::process::{self, Line};
use super::{PythonChoice, project};
use crate::error::{Error, Result};

/// What is installed in the private environment. `environment.yml` names the same.
pub(super) const REQUIREMENTS: &str = include_str!("requirements.txt");
/// About how many packages the requirements come to, their own dependencies included.
const PACKAGES: u64 = 91;
/// An older Jupyter than these is passed by.
const OLDEST: [(&str, u32); 4] =
    [("jupyterlab", 4), ("jupyter_client", 8), ("nbclient", 0), ("nbconvert", 7)];
/// JupyterLab's own lower bound.
const OLDEST_PYTHON: (u32, u32) = (3, 10);

const PROBE: &str = r#"
import json, sys
from importlib.metadata import PackageNotFoundError, version
found = {}
for name in ["jupyterlab", "jupyter_client", "nbclient", "nbconvert"]:
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        pass
print(json.dumps({"executable": sys.executable, "python": list(sys.version_info[:2]), "packages": found}))
"#;

/// What a Python says about itself.
#[derive(Deserialize)]
struct Probe {
    executable: PathBuf,
    python: (u32, u32),
    packages: std::collections::BTreeMap<String, String>,
}

impl Probe {
    fn of(python: &Path) -> Option<Probe> {
        serde_json::from_str(&process::answer(Command::new(python).arg("-c").arg(PROBE))?).ok()
    }

    fn has_jupyter(&self) -> bool {
        OLDEST.iter().all(|(name, oldest)| {
            let major = self
                .packages
                .get(*name)
                .and_then(|version| version.split('.').next()?.parse::<u32>().ok());
            major.is_some_and(|major| major >= *oldest)
        })
    }
}

/// A Python that has Jupyter.
pub(super) struct Python {
    pub interpreter: PathBuf,
    /// JupyterLab's version.
    pub jupyterlab: String,
    /// Which it is: "active environment", "private".
    pub origin: &'static str,
}

impl Python {
    fn from(probe: Probe, origin: &'static str) -> Option<Python> {
        let jupyterlab = probe.packages.get("jupyterlab").cloned().unwrap_or_default();
        probe.has_jupyter().then_some(Python { interpreter: probe.executable, jupyterlab, origin })
    }
}

/// A Python with Jupyter that is already there.
pub(super) fn find(cache: &Path, choice: PythonChoice) -> Option<Python> {
    let ready = |folder: PathBuf, origin| {
        let there = folder.join(".ready").is_file();
        there
            .then(|| Probe::of(&interpreter_in(&folder)))
            .flatten()
            .and_then(|probe| Python::from(probe, origin))
    };
    match choice {
        PythonChoice::Conda => ready(conda_folder(cache), "conda, from environment.yml"),
        PythonChoice::Private => ready(private_folder(cache), "private, from PyPI"),
        PythonChoice::Auto => {
            let active = ["VIRTUAL_ENV", "CONDA_PREFIX"]
                .iter()
                .filter_map(|name| Some(interpreter_in(Path::new(&std::env::var_os(name)?))));
            active
                .filter_map(|python| Python::from(Probe::of(&python)?, "active environment"))
                .next()
                .or_else(|| {
                    Python::from(Probe::of(&process::on_path(&["python3", "python"])?)?, "on PATH")
                })
                .or_else(|| find(cache, PythonChoice::Private))
        }
    }
}

/// A Python with Jupyter: found, or made.
pub(super) fn find_or_make(
    folders: &Folders,
    parts: &Parts,
    choice: PythonChoice,
) -> Result<Python> {
    if let Some(python) = find(&folders.root, choice) {
        return Ok(python);
    }
    if choice == PythonChoice::Conda {
        make_conda(folders, &parts.lock)?
    } else {
        make_private(folders, parts)?
    }
    let made =
        if choice == PythonChoice::Conda { PythonChoice::Conda } else { PythonChoice::Private };
    find(&folders.root, made).ok_or_else(|| Error::Setup {
        step: "installing Jupyter".to_owned(),
        why: format!(
            "the new environment in {} lacks a package: delete it and try again",
            folders.root.display()
        ),
    })
}

/// The folder of the private environment: another list is another folder.
pub(super) fn private_folder(cache: &Path) -> PathBuf {
    cache.join(format!("python-{}", project::short_hash(&[REQUIREMENTS.as_bytes()])))
}

pub(super) fn conda_folder(cache: &Path) -> PathBuf {
    cache.join(format!("conda-{}", project::short_hash(&[environment().as_bytes()])))
}

fn interpreter_in(environment: &Path) -> PathBuf {
    let unix = environment.join("bin").join("python");
    if cfg!(windows) { environment.join("Scripts").join("python.exe") } else { unix }
}

fn make_private(folders: &Folders, parts: &Parts) -> Result<()> {
    let step = "making a Python environment";
    let folder = private_folder(&folders.root);
    let python = base_python(step)?;
    eprintln!(
        "installing JupyterLab from PyPI in {} (about a minute, 250 MB; done once)",
        folder.display()
    );
    folders::remove(&folder)?; // what a killed set-up left
    let advice = "On Debian and Ubuntu, `apt install python3-venv` may be missing. Or activate an environment that has JupyterLab 4.";
    process::succeed(
        step,
        Command::new(&python).args(["-m", "venv"]).arg(&folder),
        &parts.lock,
        advice,
        |_| {},
    )?;
    let list = folder.join("requirements.txt");
    folders::write(&list, REQUIREMENTS)?;
    let mut bar = parts.begin(Part::Jupyter, "Jupyter", 0, PACKAGES, "packages");
    let (mut seen, mut note) = (0, String::new());
    let mut pip = Command::new(interpreter_in(&folder));
    pip.args([
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--progress-bar",
        "off",
        "--prefer-binary",
        // Most of it is never imported; what is, Python compiles then.
        "--no-compile",
        "--requirement",
    ])
    .arg(&list);
    let advice = "The packages come from PyPI: this needs the network once. Or activate an environment that has JupyterLab 4.";
    process::succeed("installing Jupyter", &mut pip, &parts.lock, advice, |line| {
        if let Line::Out(text) = line {
            // Two lines a package tell how far it has come; the last, long one is the installation
            // itself.
            if let Some(name) = text.strip_prefix("Collecting ") {
                seen += 1;
                let end = name.find(['=', '<', '>', '~', '!', '[', ' ']).unwrap_or(name.len());
                name[..end].clone_into(&mut note);
            } else if text.starts_with("Installing collected packages") {
                "copying them in place".clone_into(&mut note);
            }
            bar.set(seen.min(PACKAGES - 1), &note);
        }
    })?;
    bar.finish(seen);
    folders::write(&folder.join(".ready"), REQUIREMENTS)
}

/// A Python new enough that can make environments.
fn base_python(step: &str) -> Result<PathBuf> {
    let wanted = format!("Python {}.{} or later", OLDEST_PYTHON.0, OLDEST_PYTHON.1);
    let error = |why: String| Error::Setup { step: step.to_owned(), why };
    let python = process::on_path(&["python3", "python"]).ok_or_else(|| {
        error(format!("there is no python3 on PATH: install {wanted}, which JupyterLab needs"))
    })?;
    let probe = Probe::of(&python)
        .ok_or_else(|| error(format!("{} does not run: install {wanted}", python.display())))?;
    if probe.python < OLDEST_PYTHON {
        let (major, minor) = probe.python;
        return Err(error(format!(
            "{} is Python {major}.{minor}, and JupyterLab needs {wanted}",
            python.display()
        )));
    }
    // Not a shim, which would choose another Python in another folder.
    Ok(probe.executable)
}

fn make_conda(folders: &Folders, lock: &File) -> Result<()> {
    let step = "making a conda environment";
    let conda = process::on_path(&["mamba", "conda", "micromamba"]).ok_or_else(|| Error::Setup {
        step: step.to_owned(),
        why: "neither mamba, conda nor micromamba is on PATH: install one, or leave conda out and get Jupyter from PyPI".to_owned(),
    })?;
    let folder = conda_folder(&folders.root);
    eprintln!("making a conda environment in {} (some minutes; done once)", folder.display());
    folders::remove(&folder)?;
    let file = folders.root.join("environment.yml");
    folders::write(&file, &environment())?;
    let mut command = Command::new(&conda);
    command.args(["env", "create", "--yes", "--prefix"]).arg(&folder).arg("--file").arg(&file);
    let advice = "The packages come from conda-forge: this needs the network once.";
    process::succeed(step, &mut command, lock, advice, |line| {
        let (Line::Out(text) | Line::Err(text)) = line;
        if !text.is_empty() {
            eprintln!("  {text}");
        }
    })?;
    folders::write(&folder.join(".ready"), &environment())
}

/// The same packages for conda.
fn environment() -> String {
    let packages = REQUIREMENTS.lines().map(|line| line.replace("==", " "));
    let items: String = packages.map(|package| format!("  - {package}\n")).collect();
    let (major, minor) = OLDEST_PYTHON;
    format!("channels:\n  - conda-forge\ndependencies:\n  - python >={major}.{minor}\n{items}")
}
