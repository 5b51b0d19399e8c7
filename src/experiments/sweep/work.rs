//! What a sweep puts beside a run: its evaluation, or why it failed.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Result};
use crate::base::files;
use crate::eval::{BySequence, Evaluation};

const EVALUATION: &str = "evaluation.json";
const EVALUATING: &str = "evaluating.json";
const FAILED: &str = "failed.json";

/// What an evaluation that was stopped has measured, in the folder of the first of its runs.
pub(super) fn evaluating(run: &Path) -> PathBuf {
    run.join(EVALUATING)
}

/// `evaluation.json`: good as long as weights and text are the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Evaluated {
    /// The checksum of the weights.
    pub weights: String,
    /// The fingerprint of the text.
    pub text: String,
    pub evaluation: Evaluation,
    /// What each sequence adds; files from before it was kept have none.
    #[serde(default)]
    pub by_sequence: BySequence,
}

/// `failed.json`: good as long as the run's settings are the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Failed {
    /// The key of the run.
    pub key: String,
    /// What went wrong.
    pub why: String,
}

impl Evaluated {
    /// Writes it, in the place of what has been measured on the way.
    pub(super) fn write(&self, run: &Path) -> Result<()> {
        files::write_json(&run.join(EVALUATION), self)?;
        let path = evaluating(run);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io("remove", &path)(e)),
            _ => Ok(()),
        }
    }

    /// The evaluation of these weights on this text, if it has been made.
    pub(super) fn read(run: &Path, weights: &str, text: &str) -> Result<Option<Evaluation>> {
        let path = run.join(EVALUATION);
        let found: Option<Evaluated> = read(&path)?;
        if found.as_ref().is_some_and(|found| !found.by_sequence.is_whole()) {
            let why = "lacks figures of some sequences: delete it, and run the sweep again";
            return Err(Error::format(&path, why));
        }
        Ok(found
            .filter(|found| found.weights == weights && found.text == text)
            .map(|found| Evaluation { by_sequence: found.by_sequence, ..found.evaluation }))
    }
}

impl Failed {
    pub(super) fn write(&self, run: &Path) -> Result<()> {
        files::write_json(&run.join(FAILED), self)
    }

    /// Why the run in this folder failed, if it did; `key` is that of the run, where it is known.
    pub(super) fn read(run: &Path, key: Option<&str>) -> Result<Option<String>> {
        let found: Option<Failed> = read(&run.join(FAILED))?;
        Ok(found.filter(|found| key.is_none_or(|key| found.key == key)).map(|found| found.why))
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match fs::read(path) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text).map_err(Error::json(path.display()))?)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("read", path)(e)),
    }
}
