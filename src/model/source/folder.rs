//! The files of a checkpoint's folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::base::error::{Error, Result};

pub(super) const CONFIG: &str = "config.json";
pub(super) const TOKENIZER: &str = "tokenizer.json";

/// The forms that weights come in, the better first: a file, and the index that stands in for it if
/// they are in several.
pub(super) const WEIGHTS: [[&str; 2]; 2] = [
    ["model.safetensors", "model.safetensors.index.json"],
    ["pytorch_model.bin", "pytorch_model.bin.index.json"],
];

/// The weight files of a checkpoint folder: one, or the shards that its index names.
pub(super) fn weight_files(folder: &Path) -> Result<Vec<PathBuf>> {
    for [whole, index] in WEIGHTS {
        let (whole, index) = (folder.join(whole), folder.join(index));
        if whole.exists() {
            return Ok(vec![whole]);
        }
        if index.exists() {
            return Ok(shards(&index)?.into_iter().map(|shard| folder.join(shard)).collect());
        }
    }
    Err(Error::format(
        folder,
        "has neither model.safetensors nor model.safetensors.index.json, nor pytorch_model.bin",
    ))
}

/// The names of the files that an index names.
pub(super) fn shards(index: &Path) -> Result<Vec<String>> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let text = fs::read(index).map_err(Error::io("read", index))?;
    let parsed: Index = serde_json::from_slice(&text)
        .map_err(|e| Error::format(index, format!("is not an index of shards: {e}")))?;
    let mut shards: Vec<String> = parsed.weight_map.into_values().collect();
    shards.sort();
    shards.dedup();
    // A shard is a file beside its index: a name that leads elsewhere is not followed.
    if let Some(strange) =
        shards.iter().find(|s| Path::new(s).file_name().is_none_or(|name| name != s.as_str()))
    {
        return Err(Error::format(
            index,
            format!("names the shard \"{strange}\", which is not a file beside it"),
        ));
    }
    if shards.is_empty() {
        return Err(Error::format(index, "names no shard"));
    }
    Ok(shards)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_leads_to_its_shards_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let index = dir.path().join("model.safetensors.index.json");
        fs::write(&index, r#"{"weight_map": {"b": "model-2.safetensors", "a": "model-1.safetensors", "c": "model-1.safetensors"}}"#)
            .unwrap();
        assert_eq!(
            weight_files(dir.path()).unwrap(),
            ["model-1.safetensors", "model-2.safetensors"].map(|f| dir.path().join(f))
        );
        for (text, told) in [
            (r#"{"weight_map": {"a": "../model.safetensors"}}"#, "not a file beside"),
            (r#"{"weight_map": {"a": "/etc/passwd"}}"#, "not a file beside"),
            (r#"{"weight_map": {}}"#, "no shard"),
            ("[]", "not an index"),
        ] {
            fs::write(&index, text).unwrap();
            let error = weight_files(dir.path()).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn safetensors_come_before_pickles() {
        let dir = tempfile::tempdir().unwrap();
        let files = || {
            weight_files(dir.path())
                .unwrap()
                .into_iter()
                .map(|f| f.file_name().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert!(weight_files(dir.path()).unwrap_err().to_string().contains("neither"));
        for (file, text, want) in [
            (
                "pytorch_model.bin.index.json",
                r#"{"weight_map": {"a": "part-1.bin"}}"#,
                "part-1.bin",
            ),
            ("pytorch_model.bin", "", "pytorch_model.bin"),
            (
                "model.safetensors.index.json",
                r#"{"weight_map": {"a": "part-1.safetensors"}}"#,
                "part-1.safetensors",
            ),
            ("model.safetensors", "", "model.safetensors"),
        ] {
            fs::write(dir.path().join(file), text).unwrap();
            assert_eq!(files(), [want]);
        }
    }
}
