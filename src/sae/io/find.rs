//! Which library wrote what is in a folder.

use std::path::{Path, PathBuf};

use crate::base::error::{Error, Result};

/// The files of an SAE.
pub(super) struct Found {
    pub kind: Kind,
    pub weights: PathBuf,
    pub settings: Option<PathBuf>,
}

/// Whose files they are by their names.
pub(super) enum Kind {
    SaeLens,
    Sparsify,
    Llamascopium,
    /// A file that `torch.save` wrote, and perhaps a `config.json` that belongs to it.
    Torch,
}

/// Weights and settings that say by their names whose they are.
const BY_NAME: [(&str, &str, Kind); 3] = [
    ("sae_weights.safetensors", "cfg.json", Kind::SaeLens),
    ("sae.safetensors", "cfg.json", Kind::Sparsify),
    ("sae_weights.safetensors", "config.json", Kind::Llamascopium),
];

/// Whether a file of this name holds an SAE's weights, or else its settings or its table; `None` if
/// it is no part of one.
#[cfg(feature = "hub")]
pub(super) fn part(name: &str) -> Option<bool> {
    match name {
        "cfg.json" | "config.json" | super::table::BESIDE => Some(false),
        _ if BY_NAME.iter().any(|(weights, ..)| *weights == name) => Some(true),
        _ => name.ends_with(".pt").then_some(true),
    }
}

/// How many names are listed of a folder that holds no SAE.
const TOLD: usize = 12;

/// How the file of a zip archive begins, as `torch.save` writes it.
const ZIP: &[u8] = b"PK\x03\x04";

/// Finds the files of an SAE in a folder, or around a file.
pub(super) fn find(path: &Path) -> Result<Found> {
    if path.is_file() {
        return of_file(path);
    }
    let names = names(path)?;
    let has = |name: &str| names.iter().any(|there| there == name);
    for (weights, settings, kind) in BY_NAME {
        if has(weights) && has(settings) {
            let settings = Some(path.join(settings));
            return Ok(Found { kind, weights: path.join(weights), settings });
        }
    }
    let mut pickles = names.iter().filter(|name| name.ends_with(".pt"));
    let only = pickles.next().filter(|_| pickles.next().is_none()).map(String::as_str);
    let named = ["ae.pt", "sae_weights.pt"].into_iter().find(|name| has(name));
    if let Some(name) = named.or(only) {
        let settings = has("config.json").then(|| path.join("config.json"));
        return Ok(Found { kind: Kind::Torch, weights: path.join(name), settings });
    }
    Err(Error::format(
        path,
        format!("holds no SAE that can be read: {}", what_is_there(path, &names)),
    ))
}

fn of_file(path: &Path) -> Result<Found> {
    let dir = path
        .parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
        .to_owned();
    let mut start = [0; ZIP.len()];
    let read =
        std::fs::File::open(path).and_then(|mut file| std::io::Read::read(&mut file, &mut start));
    let read = read.map_err(Error::io("read", path))?;
    if &start[..read] == ZIP {
        // A checkpoint in the midst of a training stands in a folder of its own.
        let settings = [Some(&*dir), dir.parent()]
            .into_iter()
            .flatten()
            .map(|dir| dir.join("config.json"))
            .find(|settings| settings.is_file());
        return Ok(Found { kind: Kind::Torch, weights: path.to_owned(), settings });
    }
    let beside = |name: &str| dir.join(name).is_file();
    match path.file_name().and_then(|name| name.to_str()) {
        Some("cfg.json" | "config.json" | "sae.safetensors") => find(&dir),
        Some("sae_weights.safetensors") if beside("cfg.json") || beside("config.json") => {
            find(&dir)
        }
        Some(name) if name.ends_with(".safetensors") => Err(Error::format(
            path,
            "is a file of weights without its settings: cfg.json (SAELens, sparsify) or config.json (Llamascopium) must be in the same folder",
        )),
        Some(name) if name.ends_with(".npz") => Err(Error::format(
            path,
            "is a NumPy archive (Gemma Scope), which cannot be read: load it with SAELens and save it",
        )),
        _ => Err(Error::format(
            path,
            "is not an SAE that can be read: neither a file from torch.save of PyTorch 1.6 or later, nor a safetensors file with its cfg.json",
        )),
    }
}

/// The names in a folder, in order.
fn names(dir: &Path) -> Result<Vec<String>> {
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        Ok(entry?.file_name().to_string_lossy().into_owned())
    };
    let names = std::fs::read_dir(dir).and_then(|entries| entries.map(name).collect());
    let mut names: Vec<String> = names.map_err(Error::io("read", dir))?;
    names.sort();
    Ok(names)
}

/// What stands in a folder without an SAE, and what to do.
fn what_is_there(dir: &Path, names: &[String]) -> String {
    let has = |name: &str| names.iter().any(|there| there == name);
    if has("sae_weights.dcp") {
        return "it has Llamascopium weights of several devices (sae_weights.dcp): save them again from one device".to_owned();
    }
    if has("params.npz") {
        return "it has a NumPy archive (Gemma Scope), which cannot be read: load it with SAELens and save it".to_owned();
    }
    if has("cfg.json") || has("config.json") {
        return format!(
            "it has settings but no weights (sae_weights.safetensors, sae.safetensors or ae.pt); it has {}",
            listed(names)
        );
    }
    let of_saes: Vec<String> = names
        .iter()
        .filter(|name| {
            ["cfg.json", "config.json", "ae.pt"]
                .iter()
                .any(|file| dir.join(name).join(file).is_file())
        })
        .cloned()
        .collect();
    match (of_saes.is_empty(), names.is_empty()) {
        (false, _) => format!("some of its folders do, name one of them: {}", listed(&of_saes)),
        (true, true) => "it is empty".to_owned(),
        (true, false) => format!("it has {}", listed(names)),
    }
}

pub(super) fn listed(names: &[String]) -> String {
    let more = if names.len() > TOLD {
        format!(", and {} more", names.len() - TOLD)
    } else {
        String::new()
    };
    names.iter().take(TOLD).cloned().collect::<Vec<_>>().join(", ") + &more
}
