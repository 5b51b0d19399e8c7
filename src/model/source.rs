//! From a name to the bytes of a checkpoint: built in, a folder, or the local Hugging Face cache. Nothing here uses the network.

use std::borrow::Cow;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// A model that lies inside the crate.
struct BuiltIn {
    name: &'static str,
    config: &'static [u8],
    weights: &'static [u8],
    tokenizer: &'static [u8],
}

macro_rules! built_in {
    ($name:literal) => {
        BuiltIn {
            name: $name,
            config: include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/models/", $name, "/config.json")),
            weights: include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/models/", $name, "/model.safetensors")),
            tokenizer: include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/models/", $name, "/tokenizer.json")),
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

/// A checkpoint that has been found.
pub(super) struct Source {
    pub name: String,
    pub config: Part,
    pub weights: Weights,
    pub tokenizer: Option<Part>,
}

impl Source {
    /// Looks for `name` among the built-in models, then as a folder, then in the local Hugging Face cache.
    pub fn find(name: &str) -> Result<Source> {
        if let Some(model) = BUILT_IN.iter().find(|m| m.name == name) {
            return Ok(Source::built_in(model));
        }
        let folder = Path::new(name);
        if folder.is_dir() {
            let absolute = fs::canonicalize(folder).map_err(Error::io("open", folder))?;
            let last = absolute.file_name().map_or(name.to_owned(), |n| n.to_string_lossy().into_owned());
            return Source::folder(folder, last);
        }
        let cache = cache_folder();
        if let Some(snapshot) = cache.as_deref().and_then(|cache| find_in_cache(name, cache)) {
            return Source::folder(&snapshot, name.to_owned());
        }
        let built_in: Vec<&str> = BUILT_IN.iter().map(|m| m.name).collect();
        let cache = cache
            .map_or("there is no Hugging Face cache".to_owned(), |c| format!("the Hugging Face cache {} has no such model", c.display()));
        Err(Error::UnknownModel {
            name: name.to_owned(),
            why: format!("built in are {}; there is no such folder; {cache}; nothing is downloaded", built_in.join(" and ")),
        })
    }

    fn built_in(model: &'static BuiltIn) -> Source {
        let at = |file: &str| Path::new("built in").join(model.name).join(file);
        let part = |file: &str, bytes: &'static [u8]| Part { path: at(file), bytes: Cow::Borrowed(bytes) };
        Source {
            name: model.name.to_owned(),
            config: part("config.json", model.config),
            weights: Weights::Memory(at("model.safetensors"), model.weights),
            tokenizer: Some(part("tokenizer.json", model.tokenizer)),
        }
    }

    fn folder(folder: &Path, name: String) -> Result<Source> {
        let config = folder.join("config.json");
        if !config.exists() {
            let why =
                "has no config.json: a checkpoint folder holds config.json, model.safetensors (or its index and shards) and tokenizer.json";
            return Err(Error::format(folder, why));
        }
        let tokenizer = folder.join("tokenizer.json");
        Ok(Source {
            name,
            config: Part::read(config)?,
            weights: Weights::Files(weight_files(folder)?),
            tokenizer: if tokenizer.exists() { Some(Part::read(tokenizer)?) } else { None },
        })
    }
}

/// The weight files of a checkpoint folder: one, or the shards that its index names.
fn weight_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let whole = folder.join("model.safetensors");
    if whole.exists() {
        return Ok(vec![whole]);
    }
    let index = folder.join("model.safetensors.index.json");
    if !index.exists() {
        let why = if folder.join("pytorch_model.bin").exists() {
            "has its weights in pytorch_model.bin only: write them as model.safetensors (save_pretrained of transformers does)"
        } else {
            "has neither model.safetensors nor model.safetensors.index.json"
        };
        return Err(Error::format(folder, why));
    }
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: std::collections::BTreeMap<String, String>,
    }
    let text = fs::read(&index).map_err(Error::io("read", &index))?;
    let parsed: Index = serde_json::from_slice(&text).map_err(|e| Error::format(&index, format!("is not an index of shards: {e}")))?;
    let mut shards: Vec<String> = parsed.weight_map.into_values().collect();
    shards.sort();
    shards.dedup();
    // A shard is a file beside its index: a name that leads elsewhere is not followed.
    if let Some(strange) = shards.iter().find(|s| Path::new(s).file_name().is_none_or(|name| name != s.as_str())) {
        return Err(Error::format(&index, format!("names the shard \"{strange}\", which is not a file beside it")));
    }
    if shards.is_empty() {
        return Err(Error::format(&index, "names no shard"));
    }
    Ok(shards.into_iter().map(|shard| folder.join(shard)).collect())
}

/// The cache's folder by the environment, in the order in which Hugging Face's own library looks.
fn cache_folder() -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    set("HF_HUB_CACHE")
        .or_else(|| set("HUGGINGFACE_HUB_CACHE"))
        .or_else(|| set("HF_HOME").map(|home| home.join("hub")))
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("huggingface/hub")))
        .or_else(|| env::home_dir().map(|home| home.join(".cache/huggingface/hub")))
}

/// The snapshot of `org/name` (or `name`) that `refs/main` points at, or the only one there is.
fn find_in_cache(name: &str, cache: &Path) -> Option<PathBuf> {
    let plain = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains(['\\', ':']);
    let parts: Vec<&str> = name.split('/').collect();
    if parts.len() > 2 || !parts.iter().all(|part| plain(part)) {
        return None;
    }
    let model = cache.join(format!("models--{}", parts.join("--")));
    let snapshots = model.join("snapshots");
    if let Ok(commit) = fs::read_to_string(model.join("refs/main")) {
        let snapshot = snapshots.join(commit.trim());
        return (plain(commit.trim()) && snapshot.join("config.json").exists()).then_some(snapshot);
    }
    let mut whole = fs::read_dir(&snapshots).ok()?.flatten().map(|entry| entry.path()).filter(|path| path.join("config.json").exists());
    let only = whole.next()?;
    whole.next().is_none().then_some(only)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: PathBuf, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn the_cache_is_searched_by_its_main_branch() {
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("models--EleutherAI--pythia-70m");
        write(model.join("snapshots/aaaa/config.json"), "{}");
        assert_eq!(find_in_cache("EleutherAI/pythia-70m", dir.path()), Some(model.join("snapshots/aaaa")));
        write(model.join("snapshots/bbbb/config.json"), "{}");
        assert_eq!(find_in_cache("EleutherAI/pythia-70m", dir.path()), None, "two snapshots and no branch");
        write(model.join("refs/main"), "bbbb\n");
        assert_eq!(find_in_cache("EleutherAI/pythia-70m", dir.path()), Some(model.join("snapshots/bbbb")));
        write(dir.path().join("models--gpt2/snapshots/cccc/config.json"), "{}");
        assert_eq!(find_in_cache("gpt2", dir.path()), Some(dir.path().join("models--gpt2/snapshots/cccc")));
        for strange in ["", "/", "../..", "a/b/c", "./gpt2", "nothing/here"] {
            assert_eq!(find_in_cache(strange, dir.path()), None, "{strange}");
        }
    }

    #[test]
    fn an_index_leads_to_its_shards_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let index = dir.path().join("model.safetensors.index.json");
        write(index.clone(), r#"{"weight_map": {"b": "model-2.safetensors", "a": "model-1.safetensors", "c": "model-1.safetensors"}}"#);
        assert_eq!(weight_files(dir.path()).unwrap(), ["model-1.safetensors", "model-2.safetensors"].map(|f| dir.path().join(f)));
        for (text, told) in [
            (r#"{"weight_map": {"a": "../model.safetensors"}}"#, "not a file beside"),
            (r#"{"weight_map": {"a": "/etc/passwd"}}"#, "not a file beside"),
            (r#"{"weight_map": {}}"#, "no shard"),
            ("[]", "not an index"),
        ] {
            write(index.clone(), text);
            let error = weight_files(dir.path()).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn a_folder_that_is_no_checkpoint_says_what_it_lacks() {
        let dir = tempfile::tempdir().unwrap();
        let told = |dir: &Path| Source::find(dir.to_str().unwrap()).err().unwrap().to_string();
        assert!(told(dir.path()).contains("has no config.json"));
        write(dir.path().join("config.json"), "{}");
        assert!(told(dir.path()).contains("neither model.safetensors"));
        write(dir.path().join("pytorch_model.bin"), "");
        assert!(told(dir.path()).contains("pytorch_model.bin only"));
    }

    #[test]
    fn an_unknown_name_tells_what_there_is() {
        let error = Source::find("no-such/model").err().unwrap().to_string();
        assert!(error.contains("tiny-gpt2") && error.contains("tiny-pythia") && error.contains("nothing is downloaded"), "{error}");
    }
}
