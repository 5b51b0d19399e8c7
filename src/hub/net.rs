//! Asking the hub, and fetching what a snapshot lacks.

mod address;
mod blob;
mod check;
mod client;
mod failure;
mod head;
mod snapshot;

use std::path::Path;

use serde::Deserialize;

use super::cache::is_commit;
use super::{Hub, Repo, Snapshot};
use crate::base::error::{Error, Result};
use crate::display::{Progress, interrupt};
use blob::Blobs;
use client::Client;
use failure::{Attempts, Failure};
use head::{Method, Remote};

/// The longest answer of the API that is read: a repository of a hundred thousand files has one of
/// 10 MB.
const LONGEST_LISTING: u64 = 64 << 20;

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
    pub fn list(&self, repo: &Repo) -> Result<Snapshot> {
        let cache = self.cache_to_fill(repo)?;
        interrupt::clear();
        let ask = || {
            let client = Client::new(self, repo)?;
            let url = format!(
                "{}/api/{}/{}/revision/{}",
                self.endpoint,
                repo.kind,
                repo.id,
                address::quoted(&repo.revision, false)
            );
            Attempts::new(self, false)
                .until(|| client.ask(Method::Get, &url, 0)?.text(LONGEST_LISTING))
        };
        let text = ask().map_err(|failure: Failure| {
            failure.into_error(self, repo, "nothing was written yet")
        })?;
        match serde_json::from_slice::<ApiAnswer>(&text) {
            Ok(answer) if is_commit(&answer.sha) => {
                let files = answer.siblings.into_iter().map(|sibling| sibling.rfilename).collect();
                Ok(Snapshot { files, ..Snapshot::new(repo.clone(), answer.sha, cache) })
            }
            _ => {
                Err(self.error(repo, failure::no_hub("its list of files is not in the hub's form")))
            }
        }
    }

    /// Fetches files of a snapshot that was [listed](Hub::list) and are not in the cache yet, with
    /// a bar, and sets the revision's ref to the commit.
    ///
    /// What has come before an error or a stop stays in the cache, and the same call continues from
    /// there.
    ///
    /// # Errors
    /// [`Error::Hub`] if the hub cannot be reached, refuses, or sends other data than it announced,
    /// with what to do; [`Error::Io`], for example if the disk is full; [`Error::Interrupted`].
    pub fn download<S: AsRef<str>>(&self, listed: &Snapshot, files: &[S]) -> Result<Snapshot> {
        let Snapshot { repo, commit, .. } = listed;
        let cache = self.cache_to_fill(repo)?;
        if !is_commit(commit) {
            return Err(self.error(repo, format!("\"{commit}\" is not a commit")));
        }
        let files = files.iter().map(AsRef::as_ref);
        if let Some(strange) = files.clone().find(|file| !listed.has(file) || !is_inside(file)) {
            return Err(
                self.error(repo, format!("has no file \"{strange}\" that could be downloaded"))
            );
        }
        interrupt::clear();
        let snapshot = Snapshot::new(repo.clone(), commit.clone(), cache);
        let lacking: Vec<&str> =
            files.filter(|file| !snapshot.folder.join(file).exists()).collect();
        if !lacking.is_empty() {
            self.fetch(&snapshot, &lacking, cache)?;
        }
        snapshot::set_ref(&repo.folder(cache), &repo.revision, commit)?;
        Ok(snapshot)
    }

    /// The cache, if something may be downloaded to it.
    fn cache_to_fill(&self, repo: &Repo) -> Result<&Path> {
        self.may_download().map_err(|why| self.error(repo, why))?;
        Ok(self.cache.as_deref().unwrap_or(Path::new("")))
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
