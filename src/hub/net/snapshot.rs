//! Names for what has been fetched: links, refs, and marks for what does not exist.

use std::fs;
use std::path::Path;

use crate::base::error::{Error, Result};
use crate::base::files;

/// Gives a blob the name `file` in a snapshot, by a relative link if the file system has links.
pub(super) fn link(blob: &Path, snapshot: &Path, file: &str) -> Result<()> {
    let path = snapshot.join(file);
    if path.exists() {
        return Ok(());
    }
    files::create_folder(path.parent().unwrap_or(snapshot))?;
    let up = "../".repeat(2 + file.matches('/').count());
    let target = format!("{up}blobs/{}", blob.file_name().unwrap_or_default().to_string_lossy());
    // A link that leads nowhere, or another process that is as far as this one.
    let _ = fs::remove_file(&path);
    match link_to(Path::new(&target), &path) {
        Err(_) if path.exists() => Ok(()),
        // Without links, a snapshot holds the file itself, as huggingface_hub has it.
        Err(_) => fs::rename(blob, &path).map_err(Error::io("rename", blob)),
        Ok(()) => Ok(()),
    }
}

#[cfg(unix)]
fn link_to(target: &Path, path: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, path)
}

#[cfg(windows)]
fn link_to(target: &Path, path: &Path) -> std::io::Result<()> {
    std::os::windows::fs::symlink_file(target.to_string_lossy().replace('/', "\\"), path)
}

/// Notes at which commit a branch or tag stands.
pub(super) fn set_ref(folder: &Path, revision: &str, commit: &str) -> Result<()> {
    let path = folder.join("refs").join(revision);
    // A cache that cannot be written to does not matter if there is nothing new.
    if revision == commit || fs::read_to_string(&path).is_ok_and(|text| text.trim() == commit) {
        return Ok(());
    }
    files::create_folder(path.parent().unwrap_or(folder))?;
    files::write_atomic(&path, |out| out.write_all(commit.as_bytes()))
}

/// Notes that a commit has no such file.
pub(super) fn note_lacking(folder: &Path, commit: &str, file: &str) -> Result<()> {
    let path = folder.join(".no_exist").join(commit).join(file);
    if path.exists() {
        return Ok(());
    }
    files::create_folder(path.parent().unwrap_or(folder))?;
    fs::write(&path, "").map_err(Error::io("write", &path))
}
