//! Jupyter and the kernel "Rust (tsae)": finds or makes what a notebook needs, opens JupyterLab,
//! and runs notebooks without a browser.
//!
//! A notebook needs four things. Each is looked for first and made only if it is missing, in the
//! user's cache folder (`$XDG_CACHE_HOME/tokenized-sae`, or `~/.cache/tokenized-sae`); nothing else
//! of the user's is touched, except that [`open`] adds the kernel to the user's Jupyter, so that
//! other notebook programs list it too.
//!
//! | what | looked for | made otherwise | takes |
//! | --- | --- | --- | --- |
//! | Python with Jupyter | the active virtual or conda environment, `python3` | a private one from PyPI, or by conda from `environment.yml` | 1 min |
//! | `evcxr_jupyter` 0.22.0, with sockets in a folder (`evcxr/`) | an earlier set-up | compiled | 5 min on two cores |
//! | source of the standard library | `RUST_SRC_PATH`, the toolchain | read out of the toolchain's own documentation | 2 s |
//! | this library, compiled for cells | an earlier set-up of the same sources | compiled, with the crates of the command's own build | 1 min on two cores; 6 min if the command was installed |
//!
//! Everything that takes long shows how far it has come, can be killed at any moment and continues
//! from there; two set-ups at once wait for each other. Afterwards nothing needs the network. The
//! folder can be deleted at any time: the next set-up makes it again.
//!
//! Each notebook runs in a private, hard-linked copy of the compiled library, so that its first
//! cell takes seconds and two notebooks never meet. Between Jupyter and evcxr stands a relay
//! (`relay.py`), by which bars move while a cell runs, and which has evcxr's rust-analyzer read the
//! standard library only before the first cell that leaves a type open (`lets.py`); under [`open`]
//! a warm kernel waits for the next start (`spare.py`). [`run`] fails where Jupyter's own runners
//! do not: evcxr answers "ok" to a panic and to a failing `?`.

mod cold;
mod evcxr;
mod folders;
mod install;
mod open;
mod parameters;
mod parts;
mod process;
mod project;
mod python;
mod report;
mod reuse;
mod run;
mod stale_files;
mod std_source;
mod template;
mod timing;

use std::path::PathBuf;

use crate::error::Result;

pub use open::{OpenOptions, open};
pub use report::{Item, Report, check};
pub use run::{CellTime, Executed, RunOptions, run};

pub(crate) use cold::Cold;
pub(crate) use timing::{TimedCell, time_cells};

/// Which Python runs Jupyter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PythonChoice {
    /// An active environment or `python3` that has Jupyter, or else a private environment from
    /// PyPI.
    #[default]
    Auto,
    /// An environment that conda (or mamba, or micromamba) makes from `environment.yml`.
    Conda,
    /// The private environment from PyPI, even if there is another Jupyter.
    Private,
}

/// Where a set-up looks, and where it puts things.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The folder of this crate's sources, which cells are compiled against. By default the one
    /// that holds the current folder, or else the one that this program was built from.
    pub project: Option<PathBuf>,
    /// The cache folder. By default `$TSAE_CACHE`, or `tokenized-sae` in `$XDG_CACHE_HOME` or in
    /// `~/.cache`.
    pub cache: Option<PathBuf>,
    /// Which Python runs Jupyter.
    pub python: PythonChoice,
}

/// A set-up that is complete: what it takes to start the kernel.
#[derive(Clone, Debug)]
pub struct Lab {
    /// The Python that has Jupyter.
    pub python: PathBuf,
    /// The folder to name in `JUPYTER_PATH`: it holds the kernelspec.
    pub jupyter_path: PathBuf,
    /// The folder of this crate's sources.
    pub project: PathBuf,
    /// The warmed build folder that sessions are copied from.
    pub template: PathBuf,
    /// The cache folder.
    pub cache: PathBuf,
}

/// The name of the kernel, as a notebook's metadata has it.
pub const KERNEL: &str = "tsae-rust";

/// Finds or makes all that a notebook needs, and says on the standard error what takes long.
///
/// Seconds if everything is there; some six minutes on two cores if nothing is.
///
/// # Errors
/// [`Error::Setup`](crate::Error::Setup) with the step that failed, its last words, and what to do.
/// What was complete before stays.
pub fn set_up(options: &Options) -> Result<Lab> {
    let folders = folders::Folders::find(options)?;
    set_up_in(&folders, options).map_err(|error| folders.explained(error))
}

fn set_up_in(folders: &folders::Folders, options: &Options) -> Result<Lab> {
    let project = project::Project::find(options)?;
    let lock = folders.lock()?;
    let parts = parts::Parts::new(lock, missing(folders, options, &project)?);
    let python = python::find_or_make(folders, &parts, options.python)?;
    let evcxr = evcxr::find_or_install(folders, &parts, &project)?;
    let std_source = std_source::find_or_make(folders, &project)?;
    let kernel = install::kernel(folders, &project, &python.interpreter)?;
    let template = template::find_or_warm(
        folders,
        &parts,
        &project,
        &kernel,
        &python.interpreter,
        &evcxr,
        &std_source.path,
    )?;
    stale_files::remove(folders, &project)?;
    Ok(Lab {
        python: python.interpreter,
        jupyter_path: install::jupyter(&folders.root),
        project: project.root,
        template,
        cache: folders.root.clone(),
    })
}

/// What this set-up has to make.
fn missing(
    folders: &folders::Folders,
    options: &Options,
    project: &project::Project,
) -> Result<Vec<parts::Part>> {
    let mut missing = Vec::new();
    if python::find(&folders.root, options.python).is_none() {
        missing.push(parts::Part::Jupyter);
    }
    if evcxr::find(&folders.root).is_none() {
        missing.push(parts::Part::Kernel);
    }
    missing.extend(template::missing(folders, project)?);
    Ok(missing)
}
