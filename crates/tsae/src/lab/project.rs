//! The crate's sources that cells are compiled against, and the toolchain that compiles them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use super::{Options, process};
use crate::error::{Error, Result};
use tokenized_sae::internal::files;

/// The package, as Cargo.toml names it.
pub(super) const PACKAGE: &str = "tokenized-sae";
/// The library, as rustc names it.
pub(super) const LIBRARY: &str = "tokenized_sae";

/// What the compiled library depends on besides `src`.
const OTHER_SOURCES: [&str; 3] = ["Cargo.toml", "Cargo.lock", "models"];

/// A copy of this crate's sources, and its toolchain.
pub(super) struct Project {
    pub root: PathBuf,
    pub sysroot: PathBuf,
    /// `rustc -vV`.
    pub rustc_version: String,
}

impl Project {
    /// The project of `options`; or the one that holds the current folder; or the one that this
    /// program was built from.
    pub fn find(options: &Options) -> Result<Project> {
        let missing = |why: String| Error::Setup {
            step: "finding the sources of tokenized-sae".to_owned(),
            why,
        };
        let root = match &options.project {
            Some(root) if is_ours(root) => root.clone(),
            Some(root) => {
                return Err(missing(format!("{} has no Cargo.toml of {PACKAGE}", root.display())));
            }
            None => {
                let here = std::env::current_dir().map_err(Error::io("find", "."))?;
                let built_from = Path::new(env!("CARGO_MANIFEST_DIR"));
                here.ancestors()
                    .chain(built_from.ancestors())
                    .find(|folder| is_ours(folder))
                    .map(Path::to_owned)
                    .ok_or_else(|| {
                        missing(format!(
                            "neither {} nor {} holds them: run this in a clone of the repository",
                            here.display(),
                            built_from.display()
                        ))
                    })?
            }
        };
        let root = root.canonicalize().map_err(Error::io("resolve", &root))?;
        let rustc = |argument: &[&str]| {
            let mut command = Command::new("rustc");
            process::without_build_settings(&mut command).args(argument).current_dir(&root);
            process::answer(&mut command).ok_or_else(|| Error::Setup {
                step: "finding Rust".to_owned(),
                why: format!(
                    "`rustc {}` does not work in {}: install Rust from https://rustup.rs",
                    argument.join(" "),
                    root.display()
                ),
            })
        };
        let sysroot = PathBuf::from(rustc(&["--print", "sysroot"])?);
        let rustc_version = rustc(&["-vV"])?;
        Ok(Project { root, sysroot, rustc_version })
    }

    /// A short name for the project's folder.
    pub fn id(&self) -> String {
        short_hash(&[self.root.to_string_lossy().as_bytes()])
    }

    /// The platform: `x86_64-unknown-linux-gnu`.
    pub fn host(&self) -> &str {
        self.rustc_version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or("unknown")
    }

    /// Where the toolchain's own shared libraries lie.
    pub fn library_folder(&self) -> PathBuf {
        self.sysroot.join("lib").join("rustlib").join(self.host()).join("lib")
    }

    /// Every file that the compiled library depends on, in order.
    pub fn sources(&self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        collect(&self.root.join("src"), &mut found)?;
        for name in OTHER_SOURCES {
            collect(&self.root.join(name), &mut found)?;
        }
        found.sort();
        Ok(found)
    }

    /// A hash of the names and contents of `sources`.
    pub fn hash(&self, sources: &[PathBuf]) -> Result<String> {
        let mut text = String::new();
        for path in sources {
            text += &format!("{}\n{}\n", path.display(), files::sha256_file(path)?);
        }
        Ok(short_hash(&[text.as_bytes()]))
    }
}

/// When the youngest of `paths` was written.
pub(super) fn newest(paths: &[PathBuf]) -> Option<SystemTime> {
    paths.iter().filter_map(|path| path.metadata().and_then(|data| data.modified()).ok()).max()
}

/// The first twelve hex digits of the SHA-256 of `parts`.
pub(super) fn short_hash(parts: &[&[u8]]) -> String {
    let mut all = Vec::new();
    for part in parts {
        all.extend_from_slice(&(part.len() as u64).to_le_bytes());
        all.extend_from_slice(part);
    }
    files::sha256(&all)[..12].to_owned()
}

fn is_ours(folder: &Path) -> bool {
    std::fs::read_to_string(folder.join("Cargo.toml"))
        .is_ok_and(|text| text.lines().any(|line| line == format!("name = \"{PACKAGE}\"")))
}

fn collect(path: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    if path.is_file() {
        found.push(path.to_owned());
    } else if path.is_dir() {
        for entry in path.read_dir().map_err(Error::io("read", path))? {
            collect(&entry.map_err(Error::io("read", path))?.path(), found)?;
        }
    }
    Ok(())
}
