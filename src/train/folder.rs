//! The folder of a run: `run.json`, `checkpoint.safetensors` while it lasts, and at the end
//! `cfg.json`, `sae_weights.safetensors`, `history.json` and a model card, `README.md`.
//!
//! A folder belongs to one set of settings, whose checksum is its key. When other settings are
//! asked for under the same name, the folder is put aside under `.previous/` and found again there
//! when they are asked for again: turning a knob back and forth loses nothing and trains nothing
//! twice.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::job::Job;
use super::{History, checkpoint};
use crate::base::error::{Error, Result};
use crate::base::files;
use crate::sae::{ModelCard, Sae};

const RUN: &str = "run.json";
const CHECKPOINT: &str = "checkpoint.safetensors";
const HISTORY: &str = "history.json";
const WEIGHTS: &str = "sae_weights.safetensors";
const PREVIOUS: &str = ".previous";

/// `run.json`: whose folder it is, and, once the run is finished, what its files must be.
#[derive(Serialize, Deserialize)]
struct Card {
    format: u32,
    key: String,
    settings: serde_json::Value,
    finished: Option<Checksums>,
}

#[derive(Serialize, Deserialize)]
struct Checksums {
    weights: String,
    history: String,
}

/// A finished run, as its folder tells without its weights being read.
pub(crate) struct Finished {
    /// The checksum of the weights.
    pub weights: String,
    /// Its history.
    pub history: History,
}

/// The version of this layout.
const FORMAT: u32 = 1;

/// Characters of a SHA-256 in hexadecimal.
const KEY: usize = 64;

/// The folder of one run.
pub(super) struct Folder {
    dir: PathBuf,
    card: Card,
}

impl Folder {
    /// Opens or makes `root/name` for these settings, putting aside what other settings have left
    /// there.
    pub(super) fn open(
        root: &Path,
        name: &str,
        key: &str,
        settings: serde_json::Value,
    ) -> Result<Folder> {
        let dir = root.join(name);
        let aside = |key: &str| root.join(PREVIOUS).join(format!("{name}-{}", &key[..16]));
        if dir.exists() && !is_bare(&dir)? {
            let card = read_card(&dir)?;
            if card.key == key {
                return Ok(Folder { dir, card });
            }
            let place = aside(&card.key);
            files::create_folder(&root.join(PREVIOUS))?;
            if place.exists() {
                // Equal settings give equal bytes; the older copy can only be shorter.
                fs::remove_dir_all(&place).map_err(Error::io("remove", &place))?;
            }
            fs::rename(&dir, &place).map_err(Error::io("rename", &dir))?;
        }
        let earlier = aside(key);
        if earlier.exists() && read_card(&earlier)?.key == key {
            if dir.exists() {
                fs::remove_dir_all(&dir).map_err(Error::io("remove", &dir))?;
            }
            fs::rename(&earlier, &dir).map_err(Error::io("rename", &earlier))?;
            return Ok(Folder { card: read_card(&dir)?, dir });
        }
        files::create_folder(&dir)?;
        let folder = Folder {
            dir,
            card: Card { format: FORMAT, key: key.to_owned(), settings, finished: None },
        };
        folder.write_card()?;
        Ok(folder)
    }

    /// The folder of a run of these settings that another rank has opened.
    pub(super) fn opened_elsewhere(root: &Path, name: &str, key: &str) -> Result<Folder> {
        let dir = root.join(name);
        match Folder::there(&dir)? {
            Some(folder) if folder.card.key == key => Ok(folder),
            _ => Err(Error::format(
                dir.join(RUN),
                "is not what the first rank has written: all ranks have to see one folder, and to be given the same settings and activations",
            )),
        }
    }

    /// The folder of a run, if `dir` is one.
    pub(super) fn there(dir: &Path) -> Result<Option<Folder>> {
        match dir.join(RUN).exists() {
            true => Ok(Some(Folder { dir: dir.to_owned(), card: read_card(dir)? })),
            false => Ok(None),
        }
    }

    /// Everything that determined its result.
    pub(super) fn settings(&self) -> &serde_json::Value {
        &self.card.settings
    }

    /// Whether the run has been trained to its end.
    pub(super) fn is_finished(&self) -> bool {
        self.card.finished.is_some()
    }

    /// Reads a finished run, once its checksums are found right.
    pub(super) fn load(&self) -> Result<(Sae, History)> {
        let want = self.card.finished.as_ref();
        if let Some(want) = want {
            let path = self.dir.join(WEIGHTS);
            check(&path, &files::sha256_file(&path)?, &want.weights)?;
        }
        Ok((
            Sae::load(&self.dir)?,
            read_history(&self.dir, want.map(|want| want.history.as_str()))?,
        ))
    }

    /// Writes what a killed run needs to continue.
    pub(super) fn checkpoint(&self, job: &mut Job) -> Result<()> {
        checkpoint::save(&self.dir.join(CHECKPOINT), job)
    }

    /// Continues from the checkpoint, if there is one, of a run of this many steps.
    pub(super) fn resume(&self, job: &mut Job, steps: u64) -> Result<()> {
        let path = self.dir.join(CHECKPOINT);
        if path.exists() && !checkpoint::load(&path, job, steps)? {
            return Err(Error::format(
                &path,
                "does not belong to the settings in run.json beside it: delete the folder to restart this run",
            ));
        }
        Ok(())
    }

    /// Writes the result; `run.json`, which says that it is there, comes last but for the removal
    /// of the checkpoint.
    pub(super) fn finish(&mut self, job: &Job, about: &ModelCard) -> Result<()> {
        job.sae.save(&self.dir)?;
        job.sae.write_card(&self.dir, about)?;
        let path = self.dir.join(HISTORY);
        files::write_json(&path, &job.history)?;
        let weights = files::sha256_file(&self.dir.join(WEIGHTS))?;
        self.card.finished = Some(Checksums { weights, history: files::sha256_file(&path)? });
        self.write_card()?;
        self.tidy()
    }

    /// Removes the checkpoint of a finished run.
    pub(super) fn tidy(&self) -> Result<()> {
        files::remove_stale_files(&self.dir, |_| true)?;
        let path = self.dir.join(CHECKPOINT);
        if self.is_finished() && path.exists() {
            fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
        Ok(())
    }

    fn write_card(&self) -> Result<()> {
        files::write_json(&self.dir.join(RUN), &self.card)
    }
}

/// The run in the folder `dir`, if it is finished and was made with the settings of `key`, whatever
/// they are without one; its weights are not read.
pub(crate) fn finished(dir: &Path, key: Option<&str>) -> Result<Option<Finished>> {
    if !dir.join(RUN).exists() {
        return Ok(None);
    }
    let card = read_card(dir)?;
    let Some(want) = card.finished.filter(|_| key.is_none_or(|key| card.key == key)) else {
        return Ok(None);
    };
    let history = read_history(dir, Some(&want.history))?;
    Ok(Some(Finished { weights: want.weights, history }))
}

/// Checksums of the weights of the finished runs in these folders.
pub(crate) fn weights(folders: &[PathBuf]) -> Result<Vec<String>> {
    let weights = |folder: &PathBuf| {
        finished(folder, None)?
            .map(|finished| finished.weights)
            .ok_or_else(|| Error::format(folder, "is not the folder of a finished run"))
    };
    folders.iter().map(weights).collect()
}

/// Whether a folder holds nothing but temporary files: what is left if a process is killed before
/// it has written `run.json`.
fn is_bare(dir: &Path) -> Result<bool> {
    files::remove_stale_files(dir, |name| name == RUN)?;
    Ok(fs::read_dir(dir).map_err(Error::io("read", dir))?.next().is_none())
}

/// Reads `history.json`, once its checksum is found right.
fn read_history(dir: &Path, want: Option<&str>) -> Result<History> {
    let path = dir.join(HISTORY);
    let text = fs::read(&path).map_err(Error::io("read", &path))?;
    if let Some(want) = want {
        check(&path, &files::sha256(&text), want)?;
    }
    serde_json::from_slice(&text).map_err(Error::json(path.display()))
}

fn check(path: &Path, got: &str, want: &str) -> Result<()> {
    if got == want {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(path).display();
    let remedy = format!("delete the folder {folder} and run the same call again");
    Err(Error::Checksum {
        path: path.to_owned(),
        want: want.to_owned(),
        got: got.to_owned(),
        remedy,
    })
}

fn read_card(dir: &Path) -> Result<Card> {
    let path = dir.join(RUN);
    let no_run = "is missing or not a run's: the folder does not hold a run; choose another folder, or move it away";
    let text = fs::read(&path).map_err(|_| Error::format(&path, no_run))?;
    let card: Card = serde_json::from_slice(&text).map_err(Error::json(path.display()))?;
    if card.format != FORMAT {
        return Err(Error::format(
            &path,
            format!(
                "has format {}; this version reads {FORMAT}: choose another folder",
                card.format
            ),
        ));
    }
    // It becomes the name of a folder, and folders of that name are removed.
    if card.key.len() != KEY || !card.key.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Error::format(
            &path,
            "has a key that is not a checksum of settings: choose another folder, or move this one away",
        ));
    }
    Ok(card)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_leads_elsewhere_or_is_no_checksum_is_refused_and_nothing_is_moved() {
        let (dir, key) = (tempfile::tempdir().unwrap(), "ab".repeat(32));
        let root = dir.path().join("runs");
        Folder::open(&root, "SAE", &key, serde_json::Value::Null).unwrap();
        // What `.previous/SAE-/../../..` would be.
        fs::create_dir_all(root.join(".previous/SAE-")).unwrap();
        fs::write(dir.path().join("precious"), "").unwrap();
        let card = root.join("SAE").join(RUN);
        let whole = fs::read_to_string(&card).unwrap();
        for strange in ["/../../..", "aaaaaaaaaaaaaaa\u{e9}aaaa", "", "ab", &"../".repeat(22)[..64]]
        {
            fs::write(&card, whole.replace(&key, strange)).unwrap();
            let opened = Folder::open(&root, "SAE", &"cd".repeat(32), serde_json::Value::Null);
            let told = opened.err().expect("it is refused").to_string();
            assert!(told.contains(RUN) && told.contains("not a checksum"), "{strange}: {told}");
        }
        assert!(dir.path().join("precious").exists() && card.exists());
        fs::write(&card, whole).unwrap();
        Folder::open(&root, "SAE", &"cd".repeat(32), serde_json::Value::Null).unwrap();
        assert!(root.join(".previous/SAE-abababababababab").join(RUN).exists());
    }
}
