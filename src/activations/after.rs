//! How far the text of a stream has been read after each shard.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Result};
use crate::base::files::{sha256, write_atomic};
use crate::corpus::{Chunk, Cursor};

/// How far a stream has been read when a shard is full: what it takes to continue there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct After {
    pub cursor: Cursor,
    /// How many documents begin in the shard; their marks, by which copies are known, lie beside
    /// it.
    pub documents: usize,
    /// The SHA-256 of the marks.
    pub sha256: String,
}

impl After {
    /// Writes the marks of shard `index` beside it.
    pub fn write(dir: &Path, index: usize, chunk: &Chunk) -> Result<After> {
        let bytes: Vec<u8> =
            chunk.begun.iter().flat_map(|document| document.mark.to_le_bytes()).collect();
        write_atomic(&marks_path(dir, index), |out| out.write_all(&bytes))?;
        Ok(After { cursor: chunk.after, documents: chunk.begun.len(), sha256: sha256(&bytes) })
    }

    /// Reads the marks of shard `index`.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Checksum`].
    pub fn marks(&self, dir: &Path, index: usize) -> Result<Vec<u64>> {
        let path = marks_path(dir, index);
        let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
        let got = sha256(&bytes);
        if got != self.sha256 || bytes.len() != 8 * self.documents {
            let remedy =
                "delete it and harvest into this folder again to recreate it and its shard"
                    .to_owned();
            return Err(Error::Checksum { path, want: self.sha256.clone(), got, remedy });
        }
        Ok(bytes.as_chunks().0.iter().map(|mark| u64::from_le_bytes(*mark)).collect())
    }
}

/// The file of the marks of shard `index`.
pub fn marks_path(dir: &Path, index: usize) -> PathBuf {
    dir.join(format!("documents-{index:05}.bin"))
}

/// Whether `name` is that of a file of marks.
pub fn is_marks(name: &str) -> bool {
    name.strip_prefix("documents-")
        .and_then(|rest| rest.strip_suffix(".bin"))
        .is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
}
