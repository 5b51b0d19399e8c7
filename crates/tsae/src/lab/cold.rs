//! A cache folder with nothing in it but the programs, to see what a set-up takes.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use super::{Options, evcxr, folders, python};
use crate::error::{Error, Result};
use tokenized_sae::internal::files;

const FOLDER: &str = "cold";
const LOCK: &str = "cold.lock";

/// A cache folder within the user's, in which a set-up finds the Python and the `evcxr_jupyter`
/// that are installed there, and has to make all else. Removed when this goes; what a killed
/// process leaves, the next set-up removes.
pub(crate) struct Cold {
    options: Options,
    folder: PathBuf,
    _lock: File,
}

impl Cold {
    /// Makes the folder, beside what `options` name.
    pub fn new(options: &Options) -> Result<Cold> {
        let cache = folders::Folders::find(options)?.root;
        let lock = folders::lock(
            &cache.join(LOCK),
            "another process measures a cold start: waiting for it to end",
        )?;
        let folder = cache.join(FOLDER);
        folders::remove(&folder)?;
        files::create_folder(&folder)?;
        let cold = Cold {
            options: Options { cache: Some(folder.clone()), ..options.clone() },
            folder,
            _lock: lock,
        };
        let installed =
            [evcxr::folder(&cache), python::private_folder(&cache), python::conda_folder(&cache)];
        let whole =
            |program: &&PathBuf| program.join(".ready").is_file() || evcxr::is_installed(program);
        for program in installed.iter().filter(whole) {
            if let Some(name) = program.file_name() {
                link(program, &cold.folder.join(name))?;
            }
        }
        Ok(cold)
    }

    /// The options for a set-up in the folder.
    pub fn options(&self) -> &Options {
        &self.options
    }
}

impl Drop for Cold {
    fn drop(&mut self) {
        // What cannot be removed now, the next set-up tries again.
        let _ = folders::remove(&self.folder);
    }
}

/// Removes the folder of a process that was killed.
pub(super) fn remove_left(cache: &Path) -> Result<()> {
    let (folder, path) = (cache.join(FOLDER), cache.join(LOCK));
    if !folder.is_dir() {
        return Ok(());
    }
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(Error::io("create", &path))?;
    match lock.try_lock() {
        Ok(()) => folders::remove(&folder),
        Err(TryLockError::WouldBlock) => Ok(()),
        Err(TryLockError::Error(e)) => Err(Error::io("lock", &path)(e)),
    }
}

#[cfg(unix)]
fn link(from: &Path, to: &Path) -> Result<()> {
    std::os::unix::fs::symlink(from, to).map_err(Error::io("link", to))
}

#[cfg(not(unix))]
fn link(from: &Path, to: &Path) -> Result<()> {
    std::os::windows::fs::symlink_dir(from, to).map_err(Error::io("link", to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_installed_is_found_and_nothing_of_it_is_removed() {
        let cache = tempfile::tempdir().unwrap();
        let options = Options { cache: Some(cache.path().to_owned()), ..Options::default() };
        let program = evcxr::folder(cache.path()).join("bin").join("evcxr_jupyter");
        std::fs::create_dir_all(program.parent().unwrap()).unwrap();
        std::fs::write(&program, "program").unwrap();
        let half_made = python::private_folder(cache.path());
        std::fs::create_dir_all(&half_made).unwrap();

        let cold = Cold::new(&options).unwrap();
        let folder = cold.options().cache.clone().unwrap();
        let there: Vec<_> =
            folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(there, [evcxr::folder(cache.path()).file_name().unwrap()]);
        remove_left(cache.path()).unwrap();
        assert!(folder.is_dir(), "removed while in use");
        drop(cold);
        assert!(!folder.exists() && half_made.is_dir());
        assert_eq!(std::fs::read_to_string(&program).unwrap(), "program");

        std::fs::create_dir(&folder).unwrap();
        remove_left(cache.path()).unwrap();
        assert!(!folder.exists(), "left behind");
    }
}
