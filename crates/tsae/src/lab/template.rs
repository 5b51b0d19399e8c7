//! The warmed build folder: this library and its dependencies, compiled as cells need them.
//!
//! evcxr compiles each cell as a small crate in a folder of its own, with cargo. A folder in which
//! the library is compiled already makes that a matter of a third of a second. One such folder, the
//! template, is kept for each copy of the sources; the launcher gives every kernel a hard-linked
//! copy.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::folders::{self, Folders};
use super::install::Kernel;
use super::parts::{Part, Parts};
use super::process::{self, Input, Line};
use super::project::{self, LIBRARY, PACKAGE, Project};
use super::run::{self, Event};
use super::{KERNEL, install, reuse};
use crate::error::{Error, Result};
use tokenized_sae::internal::files;

/// The folder in which a project is compiled, and the one for a copy that is not whole yet: these,
/// and the project's id.
pub(super) const BUILDING: &str = "building-";
pub(super) const COPYING: &str = "copying-";
/// The extension of the project file of a template that is being compiled.
pub(super) const WARMING: &str = "warming";

/// What the launcher reads: see `choose_project` in launcher.py.
#[derive(Serialize, Deserialize)]
struct ProjectFile {
    project: PathBuf,
    package: String,
    key: String,
    template: PathBuf,
    sources: Vec<PathBuf>,
    lock: PathBuf,
    evcxr: PathBuf,
    toolchain: PathBuf,
    /// The toolchain's own rustc, which an update replaces.
    compiler: PathBuf,
    std: PathBuf,
}

/// How the compiled library stands to the sources.
pub(super) enum State {
    /// Compiled from just these sources.
    Ready(PathBuf),
    /// Compiled from older ones.
    Stale,
    /// Not compiled yet.
    Missing,
}

/// Looks, and changes nothing.
pub(super) fn state(kernel_folder: &Path, project: &Project) -> Result<State> {
    let path = kernel_folder.join("projects").join(format!("{}.json", project.id()));
    let Some(file) = read(&path) else { return Ok(State::Missing) };
    let sources = project.sources()?;
    let ready = file.template.join(".ready");
    let Ok(compiled) = ready.metadata().and_then(|data| data.modified()) else {
        return Ok(State::Missing);
    };
    // Cargo goes by the time of a file, so a file that is only younger would be compiled again in
    // every session.
    let young = project::newest(&sources)
        .max(project::newest(&[compiler(project)]))
        .is_none_or(|newest| newest > compiled);
    Ok(if !young && file.key == key(project, &sources)? {
        State::Ready(file.template)
    } else {
        State::Stale
    })
}

/// What there is to compile.
pub(super) fn missing(folders: &Folders, project: &Project) -> Result<Option<Part>> {
    Ok(match state(&kernel_folder(&folders.root), project)? {
        State::Ready(_) => None,
        _ if reuse::source().is_some() || newest_template(&folders.root).is_some() => {
            Some(Part::Library)
        }
        _ => Some(Part::Crates),
    })
}

/// The template for the sources as they are: found, or compiled.
pub(super) fn find_or_warm(
    folders: &Folders,
    parts: &Parts,
    project: &Project,
    kernel: &Kernel,
    python: &Path,
    evcxr: &Path,
    std_source: &Path,
) -> Result<PathBuf> {
    let path = kernel.project_file(project);
    let sources = project.sources()?;
    let mut file = ProjectFile {
        project: project.root.clone(),
        package: PACKAGE.to_owned(),
        key: key(project, &sources)?,
        template: PathBuf::new(),
        sources,
        lock: project.root.join("Cargo.lock"),
        evcxr: evcxr.to_owned(),
        toolchain: kernel.toolchain.clone(),
        compiler: compiler(project),
        std: std_source.to_owned(),
    };
    if let State::Ready(template) = state(&kernel.folder, project)? {
        file.template = template;
        write(&path, &file)?;
        return Ok(file.template);
    }
    let templates = kernel.folder.join("templates");
    let building = kernel.folder.join(format!("{BUILDING}{}", project.id()));
    let started = SystemTime::now();
    let older = newest_template(&folders.root);
    if !building.is_dir() {
        files::create_folder(&templates)?;
        match &older {
            // What has not changed since is not compiled again: cargo sees to that.
            Some(older) => {
                // Half a copy would pass for a whole one: some files of the kernel's are written in
                // place.
                let copying = kernel.folder.join(format!("{COPYING}{}", project.id()));
                folders::remove(&copying)?;
                copy(python, kernel, &parts.lock, older, &copying)?;
                std::fs::rename(&copying, &building).map_err(Error::io("rename", &copying))?;
            }
            None => files::create_folder(&building)?,
        }
    }
    // What cannot be offered is compiled.
    let _ = reuse::offer(&building);
    file.template = building.clone();
    let warming = path.with_extension(WARMING);
    write(&warming, &file)?;
    warm(folders, parts, project, python, &building, &warming, older.is_some())?;
    folders::remove(&building.join("evcxr-config"))?;
    let ready = building.join(".ready");
    folders::write(&ready, &file.key)?;
    let stamped = File::options().write(true).open(&ready).and_then(|f| f.set_modified(started));
    stamped.map_err(Error::io("write", &ready))?;

    let seconds = started.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    file.template = templates.join(format!("{}-{seconds}", file.key));
    std::fs::rename(&building, &file.template).map_err(Error::io("rename", &building))?;
    write(&path, &file)?;
    remove_unused(folders, kernel, project)?;
    Ok(file.template)
}

fn compiler(project: &Project) -> PathBuf {
    project.sysroot.join("bin").join("rustc")
}

fn key(project: &Project, sources: &[PathBuf]) -> Result<String> {
    Ok(project::short_hash(&[project.rustc_version.as_bytes(), project.hash(sources)?.as_bytes()]))
}

/// Runs the cells that compile everything, in the real kernel, in `building` itself.
fn warm(
    folders: &Folders,
    parts: &Parts,
    project: &Project,
    python: &Path,
    building: &Path,
    project_file: &Path,
    is_rebuild: bool,
) -> Result<()> {
    let step = "compiling the library for notebooks";
    let crates = crates(project);
    let part = parts.last();
    if is_rebuild {
        eprintln!(
            "compiling the library for notebooks again, since it has changed (1 to 2 minutes on two cores)"
        );
    } else if part == Part::Library {
        eprintln!(
            "compiling the library for notebooks, with the command's crates (1 to 2 minutes on two cores)"
        );
    } else {
        eprintln!(
            "compiling the library and {crates} crates for notebooks (about 6 minutes on two cores; 1 to 2 after an edit)"
        );
    }
    let path = project.root.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\"");
    let cells = json!({
        "cells": [
            format!(":dep {PACKAGE} = {{ path = \"{path}\" }}\nuse {LIBRARY}::prelude::*;"),
            // The library works, and types are inferred if they can be.
            "let tsae_hook: HookPoint = \"blocks.0.hook_resid_pre\".parse()?;\ntsae_hook.to_string()",
        ],
        "kernel": KERNEL,
        "folder": project.root,
        "start_seconds": 24 * 3600,
        "cell_seconds": null,
    });
    // After an edit, only cargo knows how much there is to do.
    let total = if is_rebuild { 0 } else { crates };
    // By a set-up that was killed.
    let mut compiled = if is_rebuild { 0 } else { compiled_crates(building).min(total - 1) };
    let mut bar = parts.begin(part, "library", compiled, total, "crates");
    let mut done = Vec::new();
    let mut command = run::driver(python, &install::jupyter(&folders.root));
    command.env("TSAE_WARM", building).env("TSAE_PROJECT", project_file);
    let ended =
        process::run(step, &mut command, Input::Line(&cells.to_string()), |line| match line {
            Line::Err(text) => {
                // Said by rustc-wrapper.sh: evcxr passes on what cargo says only for crates without
                // a hyphen in their name.
                if let Some(name) = text.strip_prefix("tsae-rustc ").filter(|name| *name != "ctx") {
                    compiled += 1;
                    bar.set(if total > 0 { compiled.min(total - 1) } else { compiled }, name);
                }
            }
            Line::Out(text) => {
                if let Some(Event::CellDone { failed, .. }) = Event::parse(text) {
                    done.push(failed);
                }
            }
        })?;
    let failed = done.iter().find_map(|failed| failed.as_ref());
    if let Some(message) = failed {
        return Err(Error::Setup {
            step: step.to_owned(),
            why: format!(
                "{message}\nDoes `cargo build --release` work in {}?",
                project.root.display()
            ),
        });
    }
    if !ended.success || done.len() != 2 {
        return Err(Error::Setup {
            step: step.to_owned(),
            why: format!(
                "{}\nThe first time this needs the network, for crates.io. What was compiled is kept.",
                ended.last_words
            ),
        });
    }
    bar.finish(total.max(compiled));
    Ok(())
}

/// How many crates a cell needs compiled: from Cargo.lock, as cargo sees it for this platform.
fn crates(project: &Project) -> u64 {
    let mut command = Command::new(project.sysroot.join("bin").join("cargo"));
    process::without_build_settings(&mut command)
        .current_dir(&project.root)
        .args(["tree", "--package", PACKAGE, "--locked", "--prefix", "none"])
        .args(["--edges", "normal,build", "--target", project.host()]);
    let tree = process::answer(&mut command).unwrap_or_default();
    let mut crates: Vec<&str> = tree
        .lines()
        .map(|line| line.trim_end_matches(" (*)"))
        .filter(|line| !line.is_empty())
        .collect();
    crates.sort_unstable();
    crates.dedup();
    (crates.len() as u64).max(2)
}

/// How many crates are compiled in a build folder: rustc writes a list of the sources beside each.
fn compiled_crates(building: &Path) -> u64 {
    let files = list(&reuse::release_folder(building).join("deps")).unwrap_or_default();
    files.iter().filter(|path| path.extension().is_some_and(|e| e == "d")).count() as u64
}

fn read(path: &Path) -> Option<ProjectFile> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// The sources that a project file is about.
pub(super) fn project_folder(file: &Path) -> Option<PathBuf> {
    Some(read(file)?.project)
}

/// Written even if nothing changed: the launcher takes the project that was set up last if a
/// notebook lies in none.
fn write(path: &Path, file: &ProjectFile) -> Result<()> {
    let text = serde_json::to_vec_pretty(file).map_err(Error::json("the kernel's project file"))?;
    files::create_folder(path.parent().unwrap_or(Path::new(".")))?;
    Ok(files::write_atomic(path, |out| out.write_all(&text))?)
}

fn copy(python: &Path, kernel: &Kernel, lock: &File, from: &Path, to: &Path) -> Result<()> {
    let mut command = Command::new(python);
    command.arg(&kernel.launcher).arg("--copy").arg(from).arg(to);
    process::succeed(
        "copying the compiled library",
        &mut command,
        lock,
        "Is the disk full?",
        |_| {},
    )
}

/// The template compiled last, of any project and any version of the kernel's files.
fn newest_template(cache: &Path) -> Option<PathBuf> {
    let templates = list(cache)
        .ok()?
        .into_iter()
        .filter(|path| is_kernel_folder(path))
        .filter_map(|path| list(&path.join("templates")).ok());
    let ready = templates
        .flatten()
        // Those of earlier versions were compiled in another profile.
        .filter(|path| reuse::release_folder(path).is_dir())
        .filter_map(|path| Some((path.join(".ready").metadata().ok()?.modified().ok()?, path)));
    ready.max().map(|(_, path)| path)
}

pub(super) fn is_kernel_folder(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("kernel-"))
}

/// What lies in a folder.
pub(super) fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = folder.read_dir().map_err(Error::io("read", folder))?;
    entries.map(|entry| Ok(entry.map_err(Error::io("read", folder))?.path())).collect()
}

/// Removes the templates that no project names any more, and the kernel folders of earlier versions
/// that no project uses.
fn remove_unused(folders: &Folders, kernel: &Kernel, project: &Project) -> Result<()> {
    let _lock = folders::lock(&kernel.templates_lock(), "a kernel is starting: waiting for it")?;
    let mut used = Vec::new();
    for path in list(&kernel.folder.join("projects"))? {
        if let Some(file) = read(&path) {
            if file.project.is_dir() {
                used.push(file.template);
            } else {
                std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            }
        }
    }
    for path in list(&kernel.folder.join("templates"))? {
        if !used.contains(&path) {
            folders::remove(&path)?;
        }
    }
    for older in list(&folders.root)?
        .into_iter()
        .filter(|path| is_kernel_folder(path) && *path != kernel.folder)
    {
        // This project has moved on from there; kernels that still run keep their folder, in
        // `sessions`.
        let _ = std::fs::remove_file(older.join("projects").join(format!("{}.json", project.id())));
        let is_project = |path: &PathBuf| path.extension().is_some_and(|e| e == "json");
        let has_projects =
            list(&older.join("projects")).is_ok_and(|files| files.iter().any(is_project));
        let has_sessions = list(&older.join("sessions")).is_ok_and(|sessions| !sessions.is_empty());
        if !has_projects && !has_sessions {
            folders::remove(&older)?;
        }
    }
    Ok(())
}

/// The cache's kernel folder, for a look without a set-up.
pub(super) fn kernel_folder(cache: &Path) -> PathBuf {
    install::folder(cache)
}
