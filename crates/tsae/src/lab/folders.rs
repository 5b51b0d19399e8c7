//! The cache folder: where everything that the set-up makes lies.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use super::Options;
use crate::error::{Error, Result};
use tokenized_sae::internal::files;

/// What the system says when a disk is full.
const FULL: &str = "No space left on device";

/// The cache folder and the names in it.
pub(super) struct Folders {
    pub root: PathBuf,
}

impl Folders {
    /// Finds the cache folder, and makes it.
    pub fn find(options: &Options) -> Result<Folders> {
        let folders = Folders { root: location(options)? };
        files::create_folder(&folders.root)?;
        Ok(folders)
    }

    /// An error of the set-up; what to do about it, if the reason is that the disk is full.
    /// Programs that it calls say so amid much else.
    pub fn explained(&self, error: Error) -> Error {
        let text = error.to_string();
        match text.lines().find(|line| line.contains(FULL)) {
            None => error,
            Some(line) => Error::Setup {
                step: "writing to the cache folder".to_owned(),
                why: format!(
                    "{}\nThe disk that holds {} is full; notebooks take 5 GB there. Make room, or set TSAE_CACHE to a folder on another disk, \
                     and try again: what was compiled is kept",
                    line.trim(),
                    self.root.display()
                ),
            },
        }
    }

    /// Waits until no other set-up works in the cache folder, and keeps others out until dropped.
    pub fn lock(&self) -> Result<File> {
        lock(
            &self.root.join("set-up.lock"),
            "another set-up works in this cache folder: waiting for it to end",
        )
    }
}

/// Where the cache folder is, or would be.
pub(super) fn location(options: &Options) -> Result<PathBuf> {
    let set =
        |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let root = options
        .cache
        .clone()
        .or_else(|| set("TSAE_CACHE"))
        .or_else(|| set("XDG_CACHE_HOME").filter(|path| path.is_absolute()).map(|path| path.join("tokenized-sae")))
        .or_else(|| set("HOME").map(|home| home.join(".cache").join("tokenized-sae")))
        .ok_or_else(|| Error::Setup {
            step: "finding the cache folder".to_owned(),
            why: "neither TSAE_CACHE, XDG_CACHE_HOME nor HOME is set: set TSAE_CACHE to a folder with 5 GB of space".to_owned(),
        })?;
    std::path::absolute(&root).map_err(Error::io("resolve", &root))
}

/// An exclusive lock on the file `path`, made if it is missing; says `waiting` if somebody holds
/// it.
pub(super) fn lock(path: &Path, waiting: &str) -> Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path)
        .map_err(Error::io("create", path))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => eprintln!("{waiting}"),
        Err(TryLockError::Error(e)) => return Err(Error::io("lock", path)(e)),
    }
    file.lock().map_err(Error::io("lock", path))?;
    Ok(file)
}

/// Removes a folder that may not be there.
pub(super) fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path)(e)),
        _ => Ok(()),
    }
}

/// Writes a text file, unless it already holds just that.
pub(super) fn write(path: &Path, text: &str) -> Result<()> {
    if std::fs::read(path).is_ok_and(|old| old == text.as_bytes()) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        files::create_folder(folder)?;
    }
    Ok(files::write_atomic(path, |out| out.write_all(text.as_bytes()))?)
}

/// As [`write`], and makes the file executable.
pub(super) fn write_program(path: &Path, text: &str) -> Result<()> {
    write(path, text)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
            .map_err(Error::io("make executable", path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_with_what_to_do() {
        let folders = Folders { root: PathBuf::from("/cache") };
        let full = || std::io::Error::other("No space left on device (os error 28)");
        let told =
            folders.explained(Error::io("write", Path::new("/cache/std"))(full())).to_string();
        assert!(told.contains("/cache/std") && told.contains("TSAE_CACHE"), "{told}");
        let why = "Compiling a\nrustc-LLVM ERROR: IO failure on output stream: No space left on device\nrustc --crate-name a".to_owned();
        let told =
            folders.explained(Error::Setup { step: "compiling".to_owned(), why }).to_string();
        assert!(told.contains("TSAE_CACHE") && !told.contains("--crate-name"), "{told}");

        let other =
            Error::Setup { step: "compiling".to_owned(), why: "error: expected `;`".to_owned() };
        assert!(folders.explained(other).to_string().contains("expected `;`"));
    }
}
