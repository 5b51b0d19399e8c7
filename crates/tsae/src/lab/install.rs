//! The kernel's own files: launcher, wrappers of cargo and rustc, build profile, kernelspec.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::folders::{self, Folders};
use super::project::{self, LIBRARY, PACKAGE, Project};
use super::{KERNEL, evcxr};
use crate::error::{Error, Result};

/// The launcher, and the files that it imports or passes on.
const FILES: [(&str, &str); 11] = [
    ("launcher.py", include_str!("launcher.py")),
    ("lets.py", include_str!("lets.py")),
    ("relay.py", include_str!("relay.py")),
    ("stderr_capture.py", include_str!("stderr_capture.py")),
    ("session.py", include_str!("session.py")),
    ("spare.py", include_str!("spare.py")),
    ("wire.py", include_str!("wire.py")),
    ("cell_input.py", include_str!("cell_input.py")),
    ("cell_process.py", include_str!("cell_process.py")),
    ("metadata.py", include_str!("metadata.py")),
    ("cell.sed", include_str!("cell.sed")),
];
const CARGO: &str = include_str!("cargo.sh");
const RUSTC: &str = include_str!("rustc.sh");
const RUSTC_WRAPPER: &str = include_str!("rustc-wrapper.sh");
const CARGO_CONFIG: &str = include_str!("cargo-config.toml");

/// The kernel's files, installed.
pub(super) struct Kernel {
    /// The folder of the launcher, the templates and the sessions.
    pub folder: PathBuf,
    pub launcher: PathBuf,
    /// What the kernel uses as a rustup toolchain: our wrapper of cargo, and rustc.
    pub toolchain: PathBuf,
}

impl Kernel {
    /// The file that tells the launcher about a project.
    pub fn project_file(&self, project: &Project) -> PathBuf {
        self.folder.join("projects").join(format!("{}.json", project.id()))
    }

    /// The set-up's own lock, and the launcher's while it copies a template.
    pub fn templates_lock(&self) -> PathBuf {
        self.folder.join("templates.lock")
    }
}

/// The kernel's folder. Other versions of its files are another folder, so that two clones do not
/// disturb each other.
pub(super) fn folder(cache: &Path) -> PathBuf {
    let evcxr = evcxr::folder(cache);
    let evcxr = evcxr.file_name().unwrap_or_default().to_string_lossy();
    let filled = [CARGO, RUSTC, RUSTC_WRAPPER, CARGO_CONFIG, &*evcxr];
    let parts: Vec<&[u8]> =
        FILES.iter().map(|(_, text)| *text).chain(filled).map(str::as_bytes).collect();
    cache.join(format!("kernel-{}", project::short_hash(&parts)))
}

/// The folder that goes into `JUPYTER_PATH`: one for each version of the kernel's files, so that
/// copies of this crate of different versions do not start each other's kernels.
pub(super) fn jupyter(cache: &Path) -> PathBuf {
    folder(cache).join("jupyter")
}

/// Writes the kernel's files and its kernelspec.
pub(super) fn kernel(folders: &Folders, project: &Project, python: &Path) -> Result<Kernel> {
    let folder = folder(&folders.root);
    let launcher = folder.join("launcher.py");
    let wrapper = folder.join("rustc-wrapper");
    // rustc's version is part of the name: cargo remembers what a compiler said of itself by the
    // compiler's path.
    let id = project::short_hash(&[
        project.rustc_version.as_bytes(),
        project.sysroot.as_os_str().as_encoded_bytes(),
    ]);
    let toolchain = folder.join(format!("toolchain-{id}"));
    let filled = |text: &str| {
        text.replace("@PACKAGE@", PACKAGE)
            .replace("@LIB@", LIBRARY)
            .replace("@DYLIB@", if cfg!(target_os = "macos") { "dylib" } else { "so" })
            .replace("@LIBDIR@", &project.library_folder().to_string_lossy())
            .replace("@SYSROOT@", &project.sysroot.to_string_lossy())
            .replace("@WRAPPER@", &wrapper.to_string_lossy())
    };
    for (name, text) in FILES {
        folders::write(&folder.join(name), text)?;
    }
    folders::write_program(&wrapper, &filled(RUSTC_WRAPPER))?;
    folders::write_program(&toolchain.join("bin").join("cargo"), &filled(CARGO))?;
    folders::write_program(&toolchain.join("bin").join("rustc"), &filled(RUSTC))?;
    folders::write(&folder.join(".cargo").join("config.toml"), &filled(CARGO_CONFIG))?;
    write_kernelspec(&jupyter(&folders.root), python, &launcher)?;
    Ok(Kernel { folder, launcher, toolchain })
}

/// Writes `kernels/tsae-rust/kernel.json` below a Jupyter data folder.
pub(super) fn write_kernelspec(jupyter: &Path, python: &Path, launcher: &Path) -> Result<()> {
    let spec = json!({
        "argv": [python, launcher, "{connection_file}"],
        "display_name": "Rust (tsae)",
        "language": "rust",
        // evcxr's own answer to an interrupt message is to kill the cells' process, and with it all
        // variables.
        "interrupt_mode": "signal",
        "env": {},
        "metadata": { "debugger": false },
    });
    let text = serde_json::to_string_pretty(&spec).map_err(Error::json("kernel.json"))?;
    folders::write(&kernelspec(jupyter), &(text + "\n"))
}

/// Where the kernelspec lies below a Jupyter data folder.
pub(super) fn kernelspec(jupyter: &Path) -> PathBuf {
    jupyter.join("kernels").join(KERNEL).join("kernel.json")
}
