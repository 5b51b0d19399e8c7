//! What a harvest's text was, kept beside its activations, so that text that has changed since is
//! noticed.
//!
//! A file has changed if its size has, or if its time has and its bytes too: one that was only
//! touched, or copied, is the same.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::source_file::SourceFile;
use crate::base::error::{Error, Result};
use crate::base::files::{hex, write_atomic};
use crate::base::format;

/// Of a larger file no more is hashed than this, in pieces that lie evenly from its beginning to its
/// end: some do not fit into any memory, and a harvest that needs a small part need not read all.
const HASHED: u64 = 64 << 20;
const PIECE: u64 = 64 << 10;

const REMEDY: &str = "put the text back as it was, harvest into another folder, or delete this one if its activations are no longer needed";

/// The files that a text lay in.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextRecord {
    files: Vec<FileRecord>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRecord {
    name: String,
    bytes: u64,
    /// When it was written, in nanoseconds since 1970; none where the system does not say.
    modified: Option<u64>,
    /// Of its bytes, or of the pieces of a large one.
    sha256: String,
}

impl TextRecord {
    /// The name of the file it is kept in.
    pub const NAME: &str = "text.json";

    /// What `files` are now; `None` of a data set on the hub, which its commit tells from any other.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn of(files: &[SourceFile]) -> Result<Option<TextRecord>> {
        if files.iter().any(|file| file.remote.is_some()) {
            return Ok(None);
        }
        let record = |file: &SourceFile| {
            let (bytes, modified) = stat(&file.path)?;
            let sha256 = hash(&file.path, bytes)?;
            Ok(FileRecord { name: file.name.clone(), bytes, modified, sha256 })
        };
        Ok(Some(TextRecord { files: files.iter().map(record).collect::<Result<_>>()? }))
    }

    /// Keeps it in the folder of the activations.
    pub fn write(&self, dir: &Path) -> Result<()> {
        write_atomic(&dir.join(TextRecord::NAME), |out| {
            serde_json::to_writer_pretty(&mut *out, self)?;
            out.write_all(b"\n")
        })
    }

    /// Checks that the text of the activations in `dir` is what it was. Activations that do not
    /// remember it, as those of an older version, are taken for what they are.
    ///
    /// # Errors
    /// [`Error::Changed`] with the first file that is not; [`Error::Json`]; [`Error::Io`].
    pub fn check(dir: &Path, files: &[SourceFile]) -> Result<()> {
        let path = dir.join(TextRecord::NAME);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(Error::io("read", &path)(e)),
        };
        let record: TextRecord =
            serde_json::from_slice(&text).map_err(Error::json(path.display()))?;
        let changed = |stored: String, now: String| Error::Changed {
            path: dir.to_owned(),
            what: "the text of these activations",
            stored,
            now,
            remedy: REMEDY.to_owned(),
        };
        let are: BTreeSet<&String> = files.iter().map(|file| &file.name).collect();
        let were: BTreeSet<&String> = record.files.iter().map(|known| &known.name).collect();
        let (gone, new) = (were.difference(&are).next(), are.difference(&were).next());
        if gone.is_some() || new.is_some() {
            let said = |n: usize, name: Option<&&String>| match name {
                Some(name) => format!("{n} files, \"{name}\" among them"),
                None => format!("{n} files"),
            };
            return Err(changed(said(record.files.len(), gone), said(files.len(), new)));
        }
        for (file, known) in files.iter().zip(&record.files) {
            let (bytes, modified) = stat(&file.path)?;
            let told = |bytes, hash: &str| {
                let (size, hash) = (format::bytes(bytes), hash.get(..12).unwrap_or(hash));
                format!("\"{}\" of {size} ({hash})", file.name)
            };
            let same_time = modified.is_some() && modified == known.modified;
            if bytes == known.bytes && same_time {
                continue;
            }
            let now = hash(&file.path, bytes)?;
            if bytes != known.bytes || now != known.sha256 {
                return Err(changed(told(known.bytes, &known.sha256), told(bytes, &now)));
            }
        }
        Ok(())
    }
}

/// The size of a file, and when it was written.
fn stat(path: &Path) -> Result<(u64, Option<u64>)> {
    let data = fs::metadata(path).map_err(Error::io("read", path))?;
    let since = data.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    Ok((data.len(), since.and_then(|time| u64::try_from(time.as_nanos()).ok())))
}

fn hash(path: &Path, bytes: u64) -> Result<String> {
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    let mut hash = Sha256::new();
    let pieces = bytes.min(HASHED).div_ceil(PIECE);
    let mut piece = Vec::new();
    for i in 0..pieces {
        // The first at the beginning, the last up to the end.
        let at = match bytes > HASHED {
            true => (u128::from(bytes - PIECE) * u128::from(i) / u128::from(pieces - 1)) as u64,
            false => i * PIECE,
        };
        piece.clear();
        file.seek(SeekFrom::Start(at))
            .and_then(|_| (&mut file).take(PIECE).read_to_end(&mut piece))
            .map_err(Error::io("read", path))?;
        hash.update(&piece);
    }
    Ok(hex(hash.finalize()))
}
