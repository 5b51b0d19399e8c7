//! From a name to the bytes of a checkpoint: built in, a folder, the local Hugging Face cache, or
//! the hub.

mod folder;
mod remote;

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};

use crate::base::error::{Error, Result};
use crate::hub::{Hub, Repo, Snapshot};

/// A model that lies inside the crate.
struct BuiltIn {
    name: &'static str,
    config: &'static [u8],
    weights: &'static [u8],
    tokenizer: &'static [u8],
}

macro_rules! file {
    ($name:literal, $file:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/models/", $name, "/", $file))
    };
}

macro_rules! built_in {
    ($name:literal) => {
        BuiltIn {
            name: $name,
            config: file!($name, "config.json"),
            weights: file!($name, "model.safetensors"),
            tokenizer: file!($name, "tokenizer.json"),
        }
    };
}

/// The models inside the crate; `models/` holds them and the script that trained them.
static BUILT_IN: [BuiltIn; 2] = [built_in!("tiny-gpt2"), built_in!("tiny-pythia")];

/// A file of a checkpoint: where it lies, and its bytes.
pub(super) struct Part {
    pub path: PathBuf,
    pub bytes: Cow<'static, [u8]>,
}

impl Part {
    fn read(path: PathBuf) -> Result<Part> {
        let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
        Ok(Part { path, bytes: Cow::Owned(bytes) })
    }
}

/// Where a checkpoint's weights lie.
pub(super) enum Weights {
    Memory(PathBuf, &'static [u8]),
    Files(Vec<PathBuf>),
}

/// Fetches the model `name` into the cache, whether or not it is there already in an older
/// revision.
pub(super) fn download(hub: &Hub, name: &str) -> Result<Snapshot> {
    remote::fetch(&Repo::model(name)?, hub)
}

/// A checkpoint that has been found.
pub(super) struct Source {
    pub name: String,
    /// The commit that it stands at on the hub, if it came from there.
    pub revision: Option<String>,
    pub config: Part,
    pub weights: Weights,
    pub tokenizer: Option<Part>,
}

impl Source {
    /// Looks for `name` among the built-in models, then as a folder, then in the local Hugging Face
    /// cache, then on the hub.
    pub fn find(name: &str, hub: &Hub) -> Result<Source> {
        if let Some(model) = BUILT_IN.iter().find(|m| m.name == name) {
            return Ok(Source::built_in(model));
        }
        if Path::new(name).is_dir() {
            return Source::of_folder(Path::new(name));
        }
        let repo = Repo::model(name).map_err(|error| match error {
            Error::UnknownModel { name, why } => {
                let built_in: Vec<&str> = BUILT_IN.iter().map(|m| m.name).collect();
                Error::UnknownModel {
                    name,
                    why: format!(
                        "the built-in models are {}; there is no such folder; {why}",
                        built_in.join(" and ")
                    ),
                }
            }
            other => other,
        })?;
        remote::find(name, &repo, hub)
    }

    fn built_in(model: &'static BuiltIn) -> Source {
        let at = |file: &str| Path::new("built in").join(model.name).join(file);
        let part =
            |file: &str, bytes: &'static [u8]| Part { path: at(file), bytes: Cow::Borrowed(bytes) };
        Source {
            name: model.name.to_owned(),
            revision: None,
            config: part("config.json", model.config),
            weights: Weights::Memory(at("model.safetensors"), model.weights),
            tokenizer: Some(part("tokenizer.json", model.tokenizer)),
        }
    }

    /// A folder goes by its own name; a snapshot in a Hugging Face cache by its repository's.
    fn of_folder(folder: &Path) -> Result<Source> {
        let absolute = fs::canonicalize(folder).map_err(Error::io("open", folder))?;
        match Repo::of_snapshot(&absolute) {
            Some((repo, commit)) => Source::read(folder, repo.id, Some(commit)),
            None => {
                let last = absolute
                    .file_name()
                    .unwrap_or(folder.as_os_str())
                    .to_string_lossy()
                    .into_owned();
                Source::read(folder, last, None)
            }
        }
    }

    fn read(folder: &Path, name: String, revision: Option<String>) -> Result<Source> {
        let config = folder.join(folder::CONFIG);
        if !config.exists() {
            let why = "has no config.json: a checkpoint folder holds config.json, model.safetensors (or its index and shards) and tokenizer.json";
            return Err(Error::format(folder, why));
        }
        let tokenizer = folder.join(folder::TOKENIZER);
        Ok(Source {
            name,
            revision,
            config: Part::read(config)?,
            weights: Weights::Files(folder::weight_files(folder)?),
            tokenizer: if tokenizer.exists() { Some(Part::read(tokenizer)?) } else { None },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_no_checkpoint_says_what_it_lacks() {
        let dir = tempfile::tempdir().unwrap();
        let hub = Hub { cache: None, offline: true, ..Hub::from_env() };
        let told =
            |dir: &Path| Source::find(dir.to_str().unwrap(), &hub).err().unwrap().to_string();
        assert!(told(dir.path()).contains("has no config.json"));
        fs::write(dir.path().join("config.json"), "{}").unwrap();
        assert!(told(dir.path()).contains("neither model.safetensors"));
    }

    #[test]
    fn an_unknown_name_tells_what_there_is() {
        let dir = tempfile::tempdir().unwrap();
        let hub = Hub { cache: Some(dir.path().to_owned()), offline: true, ..Hub::from_env() };
        let told = |name: &str| Source::find(name, &hub).err().unwrap().to_string();
        assert!(told("no-such").contains("tiny-gpt2 and tiny-pythia"), "{}", told("no-such"));
        assert!(told("tiny-gtp2").contains("did you mean \"tiny-gpt2\"?"), "{}", told("tiny-gtp2"));
        let path = dir.path().display().to_string();
        assert!(
            told("no-such/model").contains(&path)
                && told("no-such/model").contains("HF_HUB_OFFLINE"),
            "{}",
            told("no-such/model")
        );
    }

    #[test]
    fn a_snapshot_is_known_by_its_repository_however_it_is_named() {
        let (cache, commit) = (tempfile::tempdir().unwrap(), "a".repeat(40));
        let folder = cache.path().join("models--org--name/snapshots").join(&commit);
        fs::create_dir_all(&folder).unwrap();
        for file in ["config.json", "model.safetensors", "tokenizer.json"] {
            fs::write(folder.join(file), "{}").unwrap();
        }
        fs::create_dir_all(cache.path().join("models--org--name/refs")).unwrap();
        fs::write(cache.path().join("models--org--name/refs/main"), &commit).unwrap();
        let hub = Hub { cache: Some(cache.path().to_owned()), offline: true, ..Hub::from_env() };
        for (asked, name) in [("org/name", "org/name"), (folder.to_str().unwrap(), "org/name")] {
            let source = Source::find(asked, &hub).unwrap();
            assert_eq!(
                (source.name.as_str(), source.revision.as_deref()),
                (name, Some(commit.as_str())),
                "{asked}"
            );
        }
    }
}
