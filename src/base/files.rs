//! Files that are either whole or not there: temporary name, sync, rename; checksums; and a lock on
//! a folder.

mod lock;

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::base::error::{Error, Result};

pub use lock::FolderLock;

/// Writes `path` so that it holds either its old bytes or all of the new ones, whenever the process
/// is killed or the disk fills up.
///
/// The bytes go to a temporary name in the same folder, are synced, and take the place of the old
/// file by a rename.
///
/// # Errors
/// [`Error::Io`]; the temporary file is gone by then and `path` is untouched.
pub fn write_atomic(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<()> {
    let out = AtomicFile::create(path)?;
    let mut buffered = BufWriter::with_capacity(1 << 20, &out.file);
    let written = write(&mut buffered).and_then(|()| buffered.flush());
    // Not dropped but taken apart: dropping it would try to write the rest once more.
    let _ = buffered.into_parts();
    written.map_err(|e| failed("write", path, e))?;
    out.commit()
}

/// Writes a value as JSON that a person can read, [whole or not at all](write_atomic).
///
/// # Errors
/// [`Error::Json`], and as [`write_atomic`].
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_vec_pretty(value).map_err(Error::json(path.display()))?;
    write_atomic(path, |out| out.write_all(&text))
}

/// A file under a temporary name, which takes its real name when it is whole.
///
/// Dropped without [`commit`](AtomicFile::commit), it leaves nothing behind.
pub struct AtomicFile {
    file: File,
    temp: PathBuf,
    path: PathBuf,
    committed: bool,
}

impl AtomicFile {
    /// Opens a new temporary file beside `path`.
    pub fn create(path: &Path) -> Result<AtomicFile> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = path
            .file_name()
            .ok_or_else(|| Error::format(path, "is not the name of a file"))?
            .to_string_lossy();
        loop {
            // The process id keeps two processes apart; `create_new` also does so for two machines
            // on one file system.
            let temp = path.with_file_name(format!(
                ".{name}.{}-{}.tmp",
                std::process::id(),
                NEXT.fetch_add(1, Ordering::Relaxed)
            ));
            match OpenOptions::new().read(true).write(true).create_new(true).open(&temp) {
                Ok(file) => {
                    return Ok(AtomicFile { file, temp, path: path.to_owned(), committed: false });
                }
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(e) => return Err(failed("create", path, e)),
            }
        }
    }

    /// Writes `bytes` at `offset` from the start.
    pub fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let written =
            self.file.seek(SeekFrom::Start(offset)).and_then(|_| self.file.write_all(bytes));
        written.map_err(|e| failed("write", &self.path, e))
    }

    /// Syncs the file, gives it its name, and syncs the folder.
    pub fn commit(mut self) -> Result<()> {
        self.file.sync_all().map_err(|e| failed("write", &self.path, e))?;
        fs::rename(&self.temp, &self.path).map_err(|e| failed("rename", &self.path, e))?;
        self.committed = true;
        sync_folder(self.path.parent().unwrap_or(Path::new(".")))
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if !self.committed {
            // Nothing can be done if even this fails, and whatever made us stop is the better thing
            // to report.
            let _ = fs::remove_file(&self.temp);
        }
    }
}

/// Removes temporary files that a killed process left behind for targets whose name satisfies
/// `ours`.
///
/// Only for a folder that this process has [locked](FolderLock): in any other, a temporary file may
/// be someone's work in hand.
pub fn remove_stale_files(dir: &Path, ours: impl Fn(&str) -> bool) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(Error::io("read", dir))? {
        let entry = entry.map_err(Error::io("read", dir))?;
        let name = entry.file_name();
        if temp_target(&name.to_string_lossy()).is_some_and(&ours) {
            fs::remove_file(entry.path()).map_err(Error::io("remove", entry.path()))?;
        }
    }
    Ok(())
}

/// The file that a temporary name stands for: `.manifest.json.123-4.tmp` is for `manifest.json`.
fn temp_target(name: &str) -> Option<&str> {
    let (target, tag) = name.strip_prefix('.')?.strip_suffix(".tmp")?.rsplit_once('.')?;
    let (process, count) = tag.split_once('-')?;
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    (!target.is_empty() && digits(process) && digits(count)).then_some(target)
}

/// Makes `dir` and every folder above it that is missing.
pub fn create_folder(dir: &Path) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(dir).map_err(|e| failed("create", dir, e))?;
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_folder(parent),
        _ => sync_folder(Path::new(".")),
    }
}

/// Makes renames within `dir` durable. Only Unix has (and needs) this.
pub(crate) fn sync_folder(dir: &Path) -> Result<()> {
    if cfg!(unix) {
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        File::open(dir).and_then(|folder| folder.sync_all()).map_err(Error::io("sync", dir))?;
    }
    Ok(())
}

/// An [`Error::Io`] that says what to do about a full disk.
pub(crate) fn failed(doing: &'static str, path: &Path, e: io::Error) -> Error {
    let e = match e.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => io::Error::new(
            e.kind(),
            format!(
                "{e}: free some space there, or choose another folder; what was complete before is untouched, and the same call continues from it"
            ),
        ),
        _ => e,
    };
    Error::io(doing, path)(e)
}

/// The SHA-256 of `bytes`, in hex.
pub fn sha256(bytes: &[u8]) -> String {
    hex(Sha256::digest(bytes))
}

/// The SHA-256 of a file, in hex, read a megabyte at a time.
pub fn sha256_file(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(Error::io("read", path))? {
            0 => return Ok(hex(hash.finalize())),
            n => hash.update(&buffer[..n]),
        }
    }
}

/// A digest in lower-case hex.
pub fn hex(digest: impl AsRef<[u8]>) -> String {
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        write_atomic(&path, |out| out.write_all(b"old")).unwrap();
        let full = || io::Error::from(ErrorKind::StorageFull);
        let told = write_atomic(&path, |out| out.write_all(&[0; 3 << 20]).and(Err(full())))
            .unwrap_err()
            .to_string();
        assert!(told.contains("a.json") && told.contains("free some space"), "{told}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(dir.path()), ["a.json"]);
        write_atomic(&path, |out| out.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(dir.path()), ["a.json"]);
    }

    #[test]
    fn a_panic_while_writing_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let caught = std::panic::catch_unwind(|| write_atomic(&path, |_| panic!("in the middle")));
        assert!(caught.is_err());
        assert!(names(dir.path()).is_empty());
    }

    #[test]
    fn only_our_leftovers_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            ".shard-00001.safetensors.77-0.tmp",
            ".notes.77-0.tmp",
            ".shard-1.tmp",
            "shard-00001.safetensors",
            "a.tmp",
        ] {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        remove_stale_files(dir.path(), |target| target.starts_with("shard-")).unwrap();
        assert_eq!(
            names(dir.path()),
            [".notes.77-0.tmp", ".shard-1.tmp", "a.tmp", "shard-00001.safetensors"]
        );
    }

    #[test]
    fn checksums_are_sha_256() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abc");
        fs::write(&path, "abc").unwrap();
        // FIPS 180-2, appendix B.1.
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(b"abc"), known);
        assert_eq!(sha256_file(&path).unwrap(), known);
        assert!(sha256_file(&dir.path().join("none")).unwrap_err().to_string().contains("none"));
    }
}
