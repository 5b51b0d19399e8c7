//! JupyterLab, opened on the notebooks.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Options, install, process, set_up};
use crate::error::{Error, Result};

/// New notebooks are ours, and a kernel on a busy machine is given time to start.
const DEFAULTS: [&str; 2] = [
    "--MultiKernelManager.default_kernel_name=tsae-rust",
    "--MappingKernelManager.kernel_info_timeout=600",
];

/// How JupyterLab is opened.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// The folder to open. By default the project's `notebooks`.
    pub folder: Option<PathBuf>,
    /// Further arguments for JupyterLab: `--no-browser`, `--port=8890`.
    pub arguments: Vec<String>,
    /// The set-up.
    pub set_up: Options,
}

/// Sets up what is missing, adds the kernel to the user's Jupyter (so that VS Code finds it too),
/// and becomes JupyterLab.
///
/// # Errors
/// [`Error::Setup`] if a step fails; it returns only then, or, where a program cannot replace
/// itself, when JupyterLab ends.
pub fn open(options: &OpenOptions) -> Result<()> {
    let lab = set_up(&options.set_up)?;
    if let Some(data) = user_data_folder() {
        let launcher = install::folder(&lab.cache).join("launcher.py");
        install::write_kernelspec(&data, &lab.python, &launcher)?;
    }
    let folder = options.folder.clone().unwrap_or_else(|| lab.project.join("notebooks"));
    let folder = if folder.is_dir() { folder } else { lab.project.clone() };
    let mut command = Command::new(&lab.python);
    command
        .args(["-m", "jupyterlab"])
        .args(DEFAULTS)
        .args(&options.arguments)
        .current_dir(&folder)
        .env("JUPYTER_PATH", joined_path(&lab.jupyter_path));
    if let Some(path) = process::path_to_tsae() {
        command.env("PATH", path);
    }
    if std::env::var_os("TSAE_SPARE").is_none() {
        command.env("TSAE_SPARE", "1"); // a warm kernel for the next start; see spare.py
    }
    become_program(&mut command)
}

/// Our folder in front of those that the user named.
fn joined_path(ours: &Path) -> std::ffi::OsString {
    let theirs = std::env::var_os("JUPYTER_PATH").unwrap_or_default();
    let folders = std::iter::once(ours.to_owned())
        .chain(std::env::split_paths(&theirs).filter(|path| !path.as_os_str().is_empty()));
    std::env::join_paths(folders).unwrap_or_else(|_| ours.as_os_str().to_owned())
}

/// Where the user's Jupyter keeps kernelspecs.
pub(super) fn user_data_folder() -> Option<PathBuf> {
    let set =
        |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("JUPYTER_DATA_DIR").or_else(|| {
        let home = set("HOME")?;
        if cfg!(target_os = "macos") {
            Some(home.join("Library").join("Jupyter"))
        } else {
            Some(
                set("XDG_DATA_HOME")
                    .unwrap_or_else(|| home.join(".local").join("share"))
                    .join("jupyter"),
            )
        }
    })
}

#[cfg(unix)]
fn become_program(command: &mut Command) -> Result<()> {
    use std::os::unix::process::CommandExt;
    let failed = command.exec();
    Err(Error::Setup { step: "starting JupyterLab".to_owned(), why: failed.to_string() })
}

#[cfg(not(unix))]
fn become_program(command: &mut Command) -> Result<()> {
    let broken = |why: String| Error::Setup { step: "starting JupyterLab".to_owned(), why };
    let status = command.status().map_err(|e| broken(e.to_string()))?;
    if status.success() { Ok(()) } else { Err(broken(status.to_string())) }
}
