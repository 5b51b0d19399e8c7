//! `shard-00000.json`: what the manifest will say of a shard, kept beside it until it does.
//!
//! A manifest that were written for every shard would at 10⁹ tokens have been written 15,000 times,
//! 95 GB in all; and of many processes that harvest into one folder none could write it. So every
//! shard gets a file of its own, by a rename, when it is whole, and the manifest is written once.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::manifest::{Manifest, ShardId};
use crate::base::error::{Error, Result};
use crate::base::files::{sha256, sync_folder, write_atomic};

/// What the file holds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sidecar {
    /// The checksum of the rest.
    sha256: String,
    /// What decides what the store holds: a shard of another is noticed.
    store: String,
    shard: ShardId,
}

impl Sidecar {
    fn checksum(&self) -> Result<String> {
        let text = serde_json::to_vec(&(&self.store, &self.shard)).map_err(Error::json("shard"))?;
        Ok(sha256(&text))
    }
}

fn path(dir: &Path, index: usize) -> PathBuf {
    dir.join(format!("shard-{index:05}.json"))
}

/// Whether `name` is that of such a file.
pub fn is_sidecar(name: &str) -> bool {
    let number = name.strip_prefix("shard-").and_then(|rest| rest.strip_suffix(".json"));
    number.is_some_and(|n| n.len() >= 5 && n.bytes().all(|b| b.is_ascii_digit()))
}

/// Puts down what shard `index` of a store is.
pub fn write(dir: &Path, store: &Manifest, index: usize, shard: &ShardId) -> Result<()> {
    let mut told = Sidecar { sha256: String::new(), store: store.identity(), shard: shard.clone() };
    told.sha256 = told.checksum()?;
    write_atomic(&path(dir, index), |out| Ok(serde_json::to_writer(out, &told)?))
}

/// What shard `index` of a store is, if that was put down.
///
/// # Errors
/// [`Error::Format`] if the file is damaged or of another store.
pub fn read(dir: &Path, store: &Manifest, index: usize) -> Result<Option<ShardId>> {
    let path = path(dir, index);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("read", &path)(e)),
    };
    let damaged = |why: String| {
        let remedy = "delete it, and the same harvest makes its shard anew";
        Error::format(
            &path,
            format!("does not say what the shard beside it holds ({why}): {remedy}"),
        )
    };
    let told: Sidecar = serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
    if told.checksum()? != told.sha256 {
        return Err(damaged("its checksum is another".to_owned()));
    }
    if told.store != store.identity() {
        return Err(damaged("it is of another store".to_owned()));
    }
    store.check_shard(index, &told.shard).map_err(|why| damaged(why.to_owned()))?;
    Ok(Some(told.shard))
}

/// Removes them all, once the manifest lists their shards.
pub fn remove_all(dir: &Path) -> Result<()> {
    let mut any = false;
    for entry in fs::read_dir(dir).map_err(Error::io("read", dir))? {
        let entry = entry.map_err(Error::io("read", dir))?;
        if is_sidecar(&entry.file_name().to_string_lossy()) {
            fs::remove_file(entry.path()).map_err(Error::io("remove", entry.path()))?;
            any = true;
        }
    }
    if any { sync_folder(dir) } else { Ok(()) }
}
