//! Asking the hub, and fetching what a snapshot lacks.

mod address;
mod blob;
mod check;
mod client;
mod failure;
mod snapshot;

use std::path::Path;

use serde::Deserialize;

use super::cache::is_commit;
use super::{Hub, Kind, Repo, Snapshot};
use crate::base::error::{Error, Result};
use crate::display::{Progress, interrupt};
use blob::{Blobs, Remote};
use client::{Client, Method};
use failure::{Attempts, Failure};

/// The longest answer of the API that is read: a repository of a hundred thousand files has one of
/// 10 MB.
const LONGEST_LISTING: u64 = 64 << 20;

/// What a repository holds at one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The repository, at the revision that was asked for.
    pub repo: Repo,
    /// The commit that this revision stands at.
    pub commit: String,
    /// The names of all files; those in folders have a path, `data/train.parquet`.
    pub files: Vec<String>,
}

impl Listing {
    /// Whether there is a file of this name.
    pub fn has(&self, file: &str) -> bool {
        self.files.iter().any(|f| f == file)
    }
}

#[derive(Deserialize)]
struct ApiAnswer {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

impl Hub {
    /// Asks the hub at which commit `repo` stands, and which files it has there. Nothing is
    /// written.
    ///
    /// # Errors
    /// [`Error::Hub`] if it cannot be reached or refuses, with what to do; [`Error::Interrupted`].
    pub fn list(&self, repo: &Repo) -> Result<Listing> {
        self.may_download().map_err(|why| self.error(repo, why))?;
        interrupt::clear();
        let ask = || {
            let client = Client::new(self, repo)?;
            let url = format!(
                "{}/api/{}/{}/revision/{}",
                self.endpoint,
                repo.kind.plural(),
                repo.id,
                address::quoted(&repo.revision, false)
            );
            let mut attempts = Attempts::new(&self.patience, false);
            loop {
                match client.ask(Method::Get, &url, 0).and_then(|reply| reply.text(LONGEST_LISTING))
                {
                    Ok(text) => return Ok(text),
                    Err(failure) => attempts.again(failure, |_| {})?,
                }
            }
        };
        let text = ask().map_err(|failure: Failure| {
            failure.into_error(self, repo, "nothing was written yet")
        })?;
        match serde_json::from_slice::<ApiAnswer>(&text) {
            Ok(answer) if is_commit(&answer.sha) => {
                let files = answer.siblings.into_iter().map(|sibling| sibling.rfilename).collect();
                Ok(Listing { repo: repo.clone(), commit: answer.sha, files })
            }
            _ => {
                Err(self.error(repo, failure::no_hub("its list of files is not in the hub's form")))
            }
        }
    }

    /// Fetches files of a listing that are not in the cache yet, with a bar, and sets the
    /// revision's ref to the commit.
    ///
    /// What has come before an error or a stop stays in the cache, and the same call continues from
    /// there.
    ///
    /// # Errors
    /// [`Error::Hub`] if the hub cannot be reached, refuses, or sends other data than it announced,
    /// with what to do; [`Error::Io`], for example if the disk is full; [`Error::Interrupted`].
    pub fn download<S: AsRef<str>>(&self, listing: &Listing, files: &[S]) -> Result<Snapshot> {
        let repo = &listing.repo;
        let cache = match (self.may_download(), self.cache.as_deref()) {
            (Ok(()), Some(cache)) => cache,
            (refused, _) => return Err(self.error(repo, refused.err().unwrap_or_default())),
        };
        if !is_commit(&listing.commit) {
            return Err(self.error(repo, format!("\"{}\" is not a commit", listing.commit)));
        }
        if let Some(strange) =
            files.iter().map(AsRef::as_ref).find(|file| !listing.has(file) || !is_inside(file))
        {
            return Err(
                self.error(repo, format!("has no file \"{strange}\" that could be downloaded"))
            );
        }
        interrupt::clear();
        let folder = repo.folder(cache);
        let snapshot = Snapshot {
            repo: repo.clone(),
            commit: listing.commit.clone(),
            folder: folder.join("snapshots").join(&listing.commit),
        };
        let lacking: Vec<&str> = files
            .iter()
            .map(AsRef::as_ref)
            .filter(|file| !snapshot.folder.join(file).exists())
            .collect();
        if !lacking.is_empty() {
            self.fetch(&snapshot, &lacking, cache)?;
        }
        snapshot::set_ref(&folder, &repo.revision, &listing.commit)?;
        Ok(snapshot)
    }

    fn fetch(&self, snapshot: &Snapshot, files: &[&str], cache: &Path) -> Result<()> {
        let repo = &snapshot.repo;
        let failed = |failure: Failure| {
            failure.into_error(
                self,
                repo,
                "what has come is in the cache, and the same call continues from there",
            )
        };
        let client = Client::new(self, repo).map_err(failed)?;
        let blobs =
            Blobs::open(&repo.folder(cache), &cache.join(".locks").join(repo.folder_name()))?;
        let remotes: Vec<Remote> = files
            .iter()
            .map(|file| client.find(file, &snapshot.commit))
            .collect::<Result<_, Failure>>()
            .map_err(failed)?;
        // Sizes are what the hub says, and need not be true.
        let total = remotes.iter().map(|remote| remote.size).fold(0, u64::saturating_add);
        let there = remotes.iter().map(|remote| blobs.has(remote)).fold(0, u64::saturating_add);
        let mut progress = Progress::new(&format!("download {repo}"), total, "B").resumed_at(there);
        let mut done = 0;
        for remote in &remotes {
            blobs.fetch(&client, remote, &mut progress, done).map_err(failed)?;
            snapshot::link(&blobs.path(remote), &snapshot.folder, &remote.file)?;
            done = remote.size.saturating_add(done);
            progress.set(done);
        }
        progress.note("");
        if there < total {
            progress.finish();
        }
        Ok(())
    }

    /// Notes in the cache that a commit has no file of this name, so that it is not looked for
    /// again.
    pub(crate) fn note_lacking(&self, snapshot: &Snapshot, file: &str) -> Result<()> {
        match &self.cache {
            Some(cache) => {
                snapshot::note_lacking(&snapshot.repo.folder(cache), &snapshot.commit, file)
            }
            None => Ok(()),
        }
    }

    fn error(&self, repo: &Repo, why: String) -> Error {
        Error::Hub { repo: repo.to_string(), endpoint: self.endpoint.clone(), why }
    }
}

impl Repo {
    /// The address of its page, to which the addresses of its files are added.
    fn page(&self, endpoint: &str) -> String {
        match self.kind {
            Kind::Model => format!("{endpoint}/{}", self.id),
            Kind::Dataset => format!("{endpoint}/datasets/{}", self.id),
        }
    }
}

/// Whether a name, taken as a path, stays within its folder.
fn is_inside(file: &str) -> bool {
    !file.is_empty()
        && !file.contains(['\\', ':', '\0'])
        && file.split('/').all(|part| !["", ".", ".."].contains(&part))
}

#[cfg(test)]
mod tests {
    use super::is_inside;

    #[test]
    fn a_file_s_name_does_not_lead_out_of_the_snapshot() {
        for inside in ["config.json", "data/train-00000-of-00001.parquet", "a..b", ".gitattributes"]
        {
            assert!(is_inside(inside), "{inside}");
        }
        for outside in
            ["", "/etc/passwd", "../x", "a/../../x", "a//b", "./x", "a\\..\\x", "c:x", "a/"]
        {
            assert!(!is_inside(outside), "{outside}");
        }
    }
}
