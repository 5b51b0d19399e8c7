//! A checkpoint by its repository's name: from the local Hugging Face cache, or with what that
//! lacks from the hub.

use std::path::Path;

use super::Source;
use super::folder::{self, CONFIG, TOKENIZER};
use crate::base::error::{Error, Result};
use crate::hub::{Hub, Repo, Snapshot};

/// Finds the model `repo`, which was asked for as `name`.
pub(super) fn find(name: &str, repo: &Repo, hub: &Hub) -> Result<Source> {
    let cached = hub.cached_by_each_name(repo);
    let read = |snapshot: &Snapshot| {
        Source::read(&snapshot.folder, name.to_owned(), Some(snapshot.commit.clone()))
    };
    if let Some(snapshot) = cached.iter().find(|snapshot| is_whole(snapshot)) {
        return read(snapshot);
    }
    if let Err(why) = hub.may_download() {
        // Without its tokenizer a model still reads token ids.
        return match cached.iter().find(|snapshot| missing(&snapshot.folder).is_none()) {
            Some(snapshot) => read(snapshot),
            None => Err(Error::UnknownModel {
                name: name.to_owned(),
                why: format!("{}; {why}", looked(repo, hub, cached.first())),
            }),
        };
    }
    // What an earlier download began is finished at its own commit, whether or not the branch has
    // moved on since.
    let repo = cached.first().map_or(repo.clone(), |snapshot| snapshot.repo.at(&snapshot.commit));
    read(&fetch(&repo, hub)?)
}

/// Fetches what a model needs, and nothing else: its configuration, its tokenizer, and its weights
/// in one form.
#[cfg(feature = "hub")]
pub(super) fn fetch(repo: &Repo, hub: &Hub) -> Result<Snapshot> {
    let listing = hub.list(repo)?;
    let refused = |why: &str| Error::Hub {
        repo: repo.to_string(),
        endpoint: hub.endpoint.clone(),
        why: why.to_owned(),
    };
    if !listing.has(CONFIG) {
        return Err(refused("it has no config.json, so it is not a model that transformers wrote"));
    }
    let Some([whole, index]) =
        folder::WEIGHTS.into_iter().find(|[whole, index]| listing.has(whole) || listing.has(index))
    else {
        return Err(refused(
            "it has its weights neither as model.safetensors nor as pytorch_model.bin, whole or in shards",
        ));
    };
    let small = [CONFIG, TOKENIZER].into_iter().filter(|file| listing.has(file));
    let snapshot = if listing.has(whole) {
        hub.download(&listing, &small.chain([whole]).collect::<Vec<_>>())?
    } else {
        let snapshot = hub.download(&listing, &small.chain([index]).collect::<Vec<_>>())?;
        hub.download(&listing, &folder::shards(&snapshot.folder.join(index))?)?
    };
    if !listing.has(TOKENIZER) {
        hub.note_lacking(&snapshot, TOKENIZER)?;
    }
    Ok(snapshot)
}

#[cfg(not(feature = "hub"))]
pub(super) fn fetch(repo: &Repo, hub: &Hub) -> Result<Snapshot> {
    Err(Error::UnknownModel {
        name: repo.to_string(),
        why: hub.may_download().err().unwrap_or_default(),
    })
}

/// Whether a snapshot has all that its commit has for us.
fn is_whole(snapshot: &Snapshot) -> bool {
    missing(&snapshot.folder).is_none()
        && (snapshot.folder.join(TOKENIZER).exists() || snapshot.lacks(TOKENIZER))
}

/// The first file that a model cannot do without and that is not there.
fn missing(folder: &Path) -> Option<String> {
    if !folder.join(CONFIG).exists() {
        return Some(CONFIG.to_owned());
    }
    match folder::weight_files(folder) {
        Ok(files) => files
            .iter()
            .find(|file| !file.exists())
            .map(|file| file.file_name().unwrap_or_default().to_string_lossy().into_owned()),
        Err(_) => Some("model.safetensors".to_owned()),
    }
}

/// Where a model was looked for, and what was there.
fn looked(repo: &Repo, hub: &Hub, part: Option<&Snapshot>) -> String {
    let Some(cache) = &hub.cache else {
        return "there is no such folder, and no Hugging Face cache".to_owned();
    };
    match part {
        Some(part) => {
            format!(
                "{} has only a part of it, without {}",
                part.folder.display(),
                missing(&part.folder).unwrap_or_else(|| TOKENIZER.to_owned())
            )
        }
        None => format!(
            "there is no such folder, and the Hugging Face cache {} has no {repo}",
            cache.display()
        ),
    }
}
