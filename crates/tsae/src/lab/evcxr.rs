//! `evcxr_jupyter`, the kernel that compiles and runs cells.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::folders::Folders;
use super::process::{self, Line};
use super::project::Project;
use crate::error::Result;
use tokenized_sae::display::Progress;

/// The version whose behaviour the launcher, the wrappers and the runner are written for.
pub(super) const VERSION: &str = "0.22.0";
/// The folder in the cache folder where it is compiled.
pub(super) const BUILD: &str = "evcxr-build";
/// How many crates `cargo install evcxr_jupyter --locked` compiles on Linux.
const CRATES: u64 = 273;

/// The kernel's program, if it is there: on `PATH` in the right version, or in the cache folder.
pub(super) fn find(cache: &Path) -> Option<PathBuf> {
    let installed = program_in(&folder(cache));
    process::on_path(&["evcxr_jupyter"])
        .filter(|program| is_our_version(program))
        .or_else(|| installed.is_file().then_some(installed))
}

/// Whether it is installed in `folder`.
pub(super) fn is_installed(folder: &Path) -> bool {
    program_in(folder).is_file()
}

/// The kernel's program: found, or compiled by `cargo install`.
pub(super) fn find_or_install(
    folders: &Folders,
    lock: &File,
    project: &Project,
) -> Result<PathBuf> {
    if let Some(program) = find(&folders.root) {
        return Ok(program);
    }
    let target = folder(&folders.root);
    eprintln!(
        "compiling evcxr_jupyter {VERSION}, the kernel, into {} (about 11 minutes on two cores; done once)",
        target.display()
    );
    // Kept until it is done, so that an installation that is killed continues where it was.
    let build = folders.root.join(BUILD);
    let mut cargo = Command::new(project.sysroot.join("bin").join("cargo"));
    process::without_build_settings(&mut cargo)
        .args(["install", "evcxr_jupyter", "--version", VERSION, "--locked", "--root"])
        .arg(&target)
        .env("CARGO_TARGET_DIR", &build)
        .env("RUSTC", project.sysroot.join("bin").join("rustc"))
        .env("CARGO_TERM_COLOR", "never")
        .current_dir(&folders.root);
    let mut progress = Progress::new("evcxr_jupyter", CRATES, "crates");
    let mut seen = 0;
    let advice = "It comes from crates.io, which needs the network once, and a C compiler. What was compiled is kept: try again.";
    process::succeed("installing evcxr_jupyter", &mut cargo, lock, advice, |line| {
        if let Line::Err(text) = line
            && let Some(name) = text.trim_start().strip_prefix("Compiling ")
        {
            seen += 1;
            progress.note(name.split(' ').next().unwrap_or(name));
            progress.set(seen.min(CRATES - 1));
        }
    })?;
    progress.note("");
    progress.set(CRATES);
    progress.finish();
    Ok(program_in(&target))
}

fn program_in(folder: &Path) -> PathBuf {
    folder.join("bin").join("evcxr_jupyter")
}

/// The folder in the cache folder where it is installed.
pub(super) fn folder(cache: &Path) -> PathBuf {
    cache.join(format!("evcxr-{VERSION}"))
}

/// Whether a program found elsewhere is the version we know. It has no `--version`; cargo's own
/// list of what it installed has it, and the program holds the paths of its sources.
fn is_our_version(program: &Path) -> bool {
    let listed = program
        .parent()
        .and_then(Path::parent)
        .and_then(|root| std::fs::read_to_string(root.join(".crates.toml")).ok());
    let line = listed.as_deref().and_then(|text| {
        text.lines().find(|line| line.contains("evcxr_jupyter ")).map(str::to_owned)
    });
    match line {
        Some(line) => line.contains(&format!("evcxr_jupyter {VERSION} ")),
        None => {
            let marker = format!("evcxr_jupyter-{VERSION}/");
            std::fs::read(program).is_ok_and(|bytes| {
                bytes.windows(marker.len()).any(|window| window == marker.as_bytes())
            })
        }
    }
}
