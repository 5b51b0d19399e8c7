//! The last step: one store of what the shares have made.

use std::path::Path;
use std::sync::Arc;

use crate::activations::manifest::{Manifest, ShardId};
use crate::activations::own_files::is_own;
use crate::activations::plan::Plan;
use crate::activations::shard::Shard;
use crate::activations::{ActivationStore, sidecar};
use crate::base::error::{Error, Result};
use crate::base::files::{FolderLock, remove_stale_files};

impl ActivationStore {
    /// Makes one store of the shards that the shares of a [plan](ActivationStore::plan) have made,
    /// and opens it: it then has the files and the bytes that one process would have written.
    ///
    /// # Errors
    /// [`Error::Incomplete`] with the first missing shards, and which shares they are of;
    /// [`Error::Format`] if there is no plan, or a shard is cut short; [`Error::Checksum`];
    /// [`Error::Locked`] while another process collects; [`Error::Io`].
    pub fn collect(dir: impl AsRef<Path>) -> Result<ActivationStore> {
        let dir = dir.as_ref();
        let Some(plan) = Plan::read(dir)? else { return collected(dir) };
        if is_collected(dir)? {
            // By a process that was killed before it had tidied up.
            let _lock = FolderLock::acquire(dir)?;
            return tidied(dir);
        }
        let mut manifest = plan.store.clone();
        let mut missing = Vec::new();
        for index in 0..plan.parts.len() {
            match there(dir, &plan, index)? {
                Some(shard) => manifest.shards.push(shard),
                None => missing.push(index),
            }
        }
        if !missing.is_empty() {
            return Err(incomplete(dir, plan.parts.len(), &missing));
        }
        let _lock = FolderLock::acquire(dir)?;
        manifest.complete = true;
        let maps = Arc::default(); // of none: only lengths and headers are looked at
        for index in 0..manifest.shards.len() {
            Shard::open(dir, &manifest, index, &maps)?;
        }
        manifest.write(dir)?;
        tidied(dir)
    }
}

/// Whether all shards are in the manifest.
pub(super) fn is_collected(dir: &Path) -> Result<bool> {
    Ok(Manifest::read_if_there(dir)?.is_some_and(|manifest| manifest.complete))
}

/// The store of a folder whose plan is gone because it has been collected.
pub(super) fn collected(dir: &Path) -> Result<ActivationStore> {
    match is_collected(dir)? {
        true => ActivationStore::open(dir),
        false => Err(Error::format(
            dir,
            "holds no plan of a harvest (there is no plan.json): make one first (tsae harvest … --plan)",
        )),
    }
}

/// The store of a locked folder in which all is collected, once nothing else is left in it.
fn tidied(dir: &Path) -> Result<ActivationStore> {
    sidecar::remove_all(dir)?;
    remove_stale_files(dir, is_own)?;
    Plan::remove(dir)?;
    ActivationStore::open(dir)
}

/// What was put down of a shard, if it is there.
pub(super) fn there(dir: &Path, plan: &Plan, index: usize) -> Result<Option<ShardId>> {
    let path = dir.join(Manifest::shard_name(index));
    match path.try_exists().map_err(Error::io("read", &path))? {
        true => sidecar::read(dir, &plan.store, index),
        false => Ok(None),
    }
}

fn incomplete(dir: &Path, all: usize, missing: &[usize]) -> Error {
    /// Shards that are named.
    const NAMED: usize = 8;
    let mut names: Vec<String> =
        missing.iter().take(NAMED).map(|&index| Manifest::shard_name(index)).collect();
    if missing.len() > NAMED {
        names.push("…".to_owned());
    }
    Error::Incomplete {
        what: format!("the harvest in {}", dir.display()),
        left: format!("{} of {all} shards are missing ({})", missing.len(), names.join(", ")),
        remedy: "run its shares again, and then this".to_owned(),
    }
}
