//! `evcxr_jupyter`, the kernel that compiles and runs cells: with sockets in a folder, which what
//! crates.io installs under that name has not.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::folders::{self, Folders};
use super::parts::{Part, Parts};
use super::process::{self, Line};
use super::project::{self, Project};
use crate::error::Result;

/// The version whose behaviour the launcher, the wrappers and the runner are written for.
pub(super) const VERSION: &str = "0.22.0";
/// The folder in the cache folder where it is compiled.
pub(super) const BUILD: &str = "evcxr-build";
/// The package whose program it is. Its files have other names here: a folder with a `Cargo.toml`
/// is left out of what crates.io gets.
const PACKAGE: [(&str, &str); 3] = [
    ("Cargo.toml", include_str!("evcxr/package.toml")),
    ("Cargo.lock", include_str!("evcxr/package.lock")),
    ("main.rs", include_str!("evcxr/main.rs")),
];
/// How many crates it is made of on Linux.
const CRATES: u64 = 274;

/// The kernel's program, if it is there.
pub(super) fn find(cache: &Path) -> Option<PathBuf> {
    let installed = program_in(&folder(cache));
    installed.is_file().then_some(installed)
}

/// Whether it is installed in `folder`.
pub(super) fn is_installed(folder: &Path) -> bool {
    program_in(folder).is_file()
}

/// The kernel's program: found, or compiled.
pub(super) fn find_or_install(
    folders: &Folders,
    parts: &Parts,
    project: &Project,
) -> Result<PathBuf> {
    if let Some(program) = find(&folders.root) {
        return Ok(program);
    }
    let target = folder(&folders.root);
    eprintln!(
        "compiling evcxr_jupyter {VERSION}, the kernel, into {} (about 5 minutes on two cores; done once)",
        target.display()
    );
    // Kept until it is done, so that an installation that is killed continues where it was.
    let build = folders.root.join(BUILD);
    let package = build.join("package");
    for (name, text) in PACKAGE {
        folders::write(&package.join(name), text)?;
    }
    let mut cargo = Command::new(project.sysroot.join("bin").join("cargo"));
    process::without_build_settings(&mut cargo)
        .args(["install", "--locked", "--path"])
        .arg(&package)
        .arg("--root")
        .arg(&target)
        .env("CARGO_TARGET_DIR", build.join("target"))
        .env("RUSTC", project.sysroot.join("bin").join("rustc"))
        .env("CARGO_TERM_COLOR", "never")
        .current_dir(&folders.root);
    let mut bar = parts.begin(Part::Kernel, "evcxr_jupyter", 0, CRATES, "crates");
    let mut seen = 0;
    let advice = "It comes from crates.io, which needs the network once, and a C compiler. What was compiled is kept: try again.";
    process::succeed("installing evcxr_jupyter", &mut cargo, &parts.lock, advice, |line| {
        if let Line::Err(text) = line
            && let Some(name) = text.trim_start().strip_prefix("Compiling ")
        {
            seen += 1;
            bar.set(seen.min(CRATES - 1), name.split(' ').next().unwrap_or(name));
        }
    })?;
    bar.finish(seen);
    Ok(program_in(&target))
}

fn program_in(folder: &Path) -> PathBuf {
    folder.join("bin").join("evcxr_jupyter")
}

/// The folder in the cache folder where it is installed.
pub(super) fn folder(cache: &Path) -> PathBuf {
    cache.join(format!(
        "evcxr-{VERSION}-{}",
        project::short_hash(&PACKAGE.map(|(_, text)| text.as_bytes()))
    ))
}
