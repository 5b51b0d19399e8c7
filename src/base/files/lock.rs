//! A lock on a folder, which ends with its process.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::path::Path;

use super::failed;
use crate::base::error::{Error, Result};

/// The right to write in a folder, until dropped: a sole right, or one that others share.
///
/// The lock is the operating system's, on the file `.lock`, so it ends with the process however
/// that ends. Readers do not take it.
///
/// A file system may have no locks, as Lustre mounted without `flock`, or may keep them on each
/// machine for itself. Then nobody is kept out. Nothing is lost by that, since every file takes its
/// name when it is whole and the same work gives the same bytes; but work may be done twice, and one
/// of two processes may end with an error. What many machines do at once must therefore not overlap:
/// see [`Share`](crate::Share).
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Locks `dir`, which must exist.
    ///
    /// # Errors
    /// [`Error::Locked`] if another process, or another call in this one, holds it.
    pub fn acquire(dir: &Path) -> Result<FolderLock> {
        let file = FolderLock::file(dir)?;
        FolderLock::locked(dir, file.try_lock(), file)
    }

    /// Locks `dir` together with whoever else shares it, and against who wants it alone.
    ///
    /// # Errors
    /// [`Error::Locked`] if another process, or another call in this one, has it alone.
    pub fn share(dir: &Path) -> Result<FolderLock> {
        let file = FolderLock::file(dir)?;
        FolderLock::locked(dir, file.try_lock_shared(), file)
    }

    fn file(dir: &Path) -> Result<File> {
        let path = dir.join(".lock");
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|e| failed("create", &path, e))
    }

    fn locked(
        dir: &Path,
        got: std::result::Result<(), TryLockError>,
        file: File,
    ) -> Result<FolderLock> {
        match got {
            Ok(()) => Ok(FolderLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Error::Locked { path: dir.to_owned() }),
            Err(TryLockError::Error(e)) if has_no_locks(&e) => Ok(FolderLock { _file: file }),
            Err(TryLockError::Error(e)) => Err(Error::io("lock", dir.join(".lock"))(e)),
        }
    }
}

/// Whether a file system refused a lock because it has none.
fn has_no_locks(error: &io::Error) -> bool {
    // What NFS says where nobody keeps locks.
    #[cfg(target_os = "linux")]
    if error.raw_os_error() == Some(libc::ENOLCK) {
        return true;
    }
    error.kind() == ErrorKind::Unsupported
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_locked_once() {
        let dir = tempfile::tempdir().unwrap();
        let lock = FolderLock::acquire(dir.path()).unwrap();
        assert!(matches!(FolderLock::acquire(dir.path()), Err(Error::Locked { .. })));
        assert!(matches!(FolderLock::share(dir.path()), Err(Error::Locked { .. })));
        drop(lock);
        let both = [FolderLock::share(dir.path()).unwrap(), FolderLock::share(dir.path()).unwrap()];
        assert!(matches!(FolderLock::acquire(dir.path()), Err(Error::Locked { .. })));
        drop(both);
        FolderLock::acquire(dir.path()).unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn where_there_are_no_locks_nobody_is_kept_out_and_other_failures_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let got = |errno| {
            let refused = TryLockError::Error(io::Error::from_raw_os_error(errno));
            FolderLock::locked(dir.path(), Err(refused), FolderLock::file(dir.path()).unwrap())
        };
        for errno in [libc::ENOSYS, libc::EOPNOTSUPP, libc::ENOLCK] {
            assert!(got(errno).is_ok(), "{}", io::Error::from_raw_os_error(errno));
        }
        assert!(matches!(got(libc::EIO), Err(Error::Io { .. })));
    }
}
