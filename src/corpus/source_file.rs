//! A file with text that has been found.

use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::documents::{Documents, Place};
use super::form::Form;
use super::remote::Remote;
use super::stop::Stop;
use crate::base::error::Result;

/// A file that has been found but not read.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// The file.
    pub path: PathBuf,
    /// Its path below the folder that all files have in common, with `/` between folders: the same
    /// wherever that folder lies.
    pub name: String,
    /// Its size; 0 of one that has not been fetched, and nobody has asked for.
    pub bytes: u64,
    /// How documents lie in it.
    pub form: Form,
    /// The data set on the hub that it is one of.
    pub remote: Option<Arc<Remote>>,
}

impl SourceFile {
    /// Opens the file at the document at `place`, and fetches it first if need be.
    ///
    /// # Errors
    /// As [`Documents::open`], and those of a download.
    pub fn open(&self, column: &str, place: Place, stop: Stop<'_>) -> Result<Documents> {
        if let Some(remote) = &self.remote {
            remote.fetch(&self.name, &self.path)?;
        }
        Documents::open_at(&self.path, self.form, column, place, stop)
    }
}

/// Puts files in the order of a hash of their names, and of the seed unless it is 0.
pub fn order(files: &mut [SourceFile], seed: u64) {
    let seed = if seed == 0 { String::new() } else { format!("\0{seed}") };
    files.sort_by_cached_key(|file| {
        (Sha256::digest(format!("{}{seed}", file.name)), file.path.clone())
    });
}
