//! The cache's folders: looking for a snapshot, and putting one together.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Hub, Repo};

/// A repository's files at one commit, as far as they lie in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The repository, at the revision that was asked for.
    pub repo: Repo,
    /// The commit that this revision stands at, or stood at when the hub was last asked.
    pub commit: String,
    /// The folder in which the files lie, under their own names, or will lie once they are fetched.
    pub folder: PathBuf,
    /// The names of all files that the commit has, `data/train.parquet` for one in a folder; none
    /// if the hub was not asked for them.
    pub files: Vec<String>,
}

impl Snapshot {
    pub(super) fn new(repo: Repo, commit: String, cache: &Path) -> Snapshot {
        let folder = repo.folder(cache).join("snapshots").join(&commit);
        Snapshot { repo, commit, folder, files: Vec::new() }
    }

    /// Whether the hub listed a file of this name.
    pub fn has(&self, file: &str) -> bool {
        self.files.iter().any(|known| known == file)
    }

    /// Whether the commit is known not to have a file of this name.
    pub fn lacks(&self, file: &str) -> bool {
        let model = self.folder.parent().and_then(Path::parent);
        model.is_some_and(|model| model.join(".no_exist").join(&self.commit).join(file).exists())
    }
}

impl Repo {
    /// Its folder in `cache`: `models--EleutherAI--pythia-70m`.
    pub(super) fn folder(&self, cache: &Path) -> PathBuf {
        cache.join(self.folder_name())
    }

    pub(super) fn folder_name(&self) -> String {
        format!("{}--{}", self.kind, self.id.replace('/', "--"))
    }

    /// The repository and the commit of a snapshot's folder, if it is one in a cache.
    pub(crate) fn of_snapshot(folder: &Path) -> Option<(Repo, String)> {
        let commit = folder.file_name()?.to_str()?;
        let snapshots = folder
            .parent()
            .filter(|parent| parent.file_name().is_some_and(|name| name == "snapshots"))?;
        let id =
            snapshots.parent()?.file_name()?.to_str()?.strip_prefix("models--")?.replace("--", "/");
        Some((Repo::model(&id).ok()?.at(commit), commit.to_owned())).filter(|_| is_commit(commit))
    }
}

impl Hub {
    /// Looks for a snapshot of `repo` in the cache, without asking the hub. What it holds may be
    /// less than what the repository has.
    ///
    /// A model that is older than organisations on the hub is found under its old name and its new
    /// one, `gpt2` and `openai-community/gpt2`.
    pub fn cached(&self, repo: &Repo) -> Option<Snapshot> {
        self.cached_by_each_name(repo).into_iter().next()
    }

    pub(crate) fn cached_by_each_name(&self, repo: &Repo) -> Vec<Snapshot> {
        let Some(cache) = self.cache.as_deref() else { return Vec::new() };
        let snapshot = |repo: Repo| {
            let commit = commit(&repo.folder(cache), &repo.revision)?;
            Some(Snapshot::new(repo, commit, cache))
        };
        repo.also_known().into_iter().filter_map(snapshot).collect()
    }
}

/// The commit of a revision, if it has a snapshot: what its ref says, or the revision itself.
fn commit(folder: &Path, revision: &str) -> Option<String> {
    let commit = fs::read_to_string(folder.join("refs").join(revision))
        .unwrap_or_else(|_| revision.to_owned());
    let commit = commit.trim();
    let is_name =
        !commit.is_empty() && !commit.starts_with('.') && !commit.contains(['/', '\\', ':']);
    (is_name && folder.join("snapshots").join(commit).is_dir()).then(|| commit.to_owned())
}

/// Whether `text` is the hash of a commit.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: PathBuf, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn the_cache_is_searched_by_revision() {
        let dir = tempfile::tempdir().unwrap();
        let hub = Hub { cache: Some(dir.path().to_owned()), ..Hub::from_env() };
        let found =
            |name: &str| hub.cached(&Repo::model(name).unwrap()).map(|snapshot| snapshot.commit);
        let model = dir.path().join("models--EleutherAI--pythia-70m");
        let (a, b) = ("a".repeat(40), "b".repeat(40));
        assert_eq!(found("pythia-70m"), None);
        write(model.join("snapshots").join(&a).join("config.json"), "{}");
        write(model.join("snapshots").join(&b).join("config.json"), "{}");
        assert_eq!(found("EleutherAI/pythia-70m"), None, "no commit is known to be the branch's");
        write(model.join("refs/main"), &format!("{b}\n"));
        write(model.join("refs/refs/pr/1"), &a);
        assert_eq!(found("pythia-70m"), Some(b.clone()));
        assert_eq!(found("pythia-70m@refs/pr/1"), Some(a.clone()));
        assert_eq!(found(&format!("pythia-70m@{a}")), Some(a.clone()));
        write(model.join("refs/main"), "../../../etc");
        assert_eq!(found("pythia-70m"), None);
        write(model.join("refs/main"), &"c".repeat(40));
        assert_eq!(found("pythia-70m"), None, "a branch whose snapshot is gone");
    }

    #[test]
    fn old_names_and_new_ones_are_found_as_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let hub = Hub { cache: Some(dir.path().to_owned()), ..Hub::from_env() };
        for (model, commit) in [("models--openai-community--gpt2", "c"), ("models--gpt2-xl", "d")] {
            write(dir.path().join(model).join("snapshots").join(commit).join("config.json"), "{}");
            write(dir.path().join(model).join("refs/main"), commit);
        }
        let found = |name: &str| hub.cached(&Repo::model(name).unwrap()).unwrap();
        assert_eq!(
            found("gpt2-small").folder,
            dir.path().join("models--openai-community--gpt2/snapshots/c")
        );
        assert_eq!(found("openai-community/gpt2-xl").commit, "d");
        assert!(!found("gpt2").lacks("tokenizer.json"));
        write(dir.path().join("models--openai-community--gpt2/.no_exist/c/tokenizer.json"), "");
        assert!(found("gpt2").lacks("tokenizer.json"));
    }

    #[test]
    fn a_snapshot_s_folder_says_whose_it_is() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let of = |path: &str| Repo::of_snapshot(Path::new(path)).map(|(repo, _)| repo.to_string());
        assert_eq!(
            of(&format!("/c/models--a--b-c/snapshots/{commit}")),
            Some(format!("a/b-c@{commit}"))
        );
        assert_eq!(
            of(&format!("/c/models--gpt2/snapshots/{commit}")),
            Some(format!("gpt2@{commit}"))
        );
        for other in ["/c/models--a--b/snapshots/main", "/c/mine/snapshots", "/", "models"] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
