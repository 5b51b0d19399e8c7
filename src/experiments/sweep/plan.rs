//! `sweep.json`: the grid that was asked for, so that its results can be read without it.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Sweep;
use super::description::patiently;
use super::grid::Point;
use crate::base::error::{Error, Result};
use crate::base::files::{self, FolderLock};
use crate::model::tokens::Tokens;
use crate::train::{TrainConfig, check_name};

const NAME: &str = "sweep.json";
const FORMAT: u32 = 1;

/// The content of `sweep.json`. Every process of a sweep writes the same bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Plan {
    pub format: u32,
    pub model: String,
    pub processing: String,
    pub n_layers: usize,
    pub train: TrainConfig,
    pub baseline: Option<String>,
    /// The fingerprint of the held-out text on which runs are evaluated, and how many tokens it
    /// has.
    pub text: String,
    pub text_tokens: usize,
    pub runs: Vec<Point>,
}

impl Plan {
    /// The plan of a sweep whose runs are evaluated on `text`.
    pub(super) fn new(sweep: &Sweep, text: &Tokens) -> Result<Plan> {
        let model = &sweep.text()?.0;
        Ok(Plan {
            format: FORMAT,
            model: model.name().to_owned(),
            processing: model.processing().to_string(),
            n_layers: model.config().n_layers,
            train: sweep.train.clone(),
            baseline: sweep.baseline.clone(),
            text: text.fingerprint(),
            text_tokens: text.len(),
            runs: sweep.points()?,
        })
    }

    /// Writes it, unless it is there already: then a process has nothing to write in the folder that
    /// it shares with others.
    pub(super) fn write(&self, dir: &Path) -> Result<()> {
        files::create_folder(dir)?;
        let text = serde_json::to_vec_pretty(self).map_err(Error::json(NAME))?;
        if fs::read(dir.join(NAME)).is_ok_and(|there| there == text) {
            return Ok(());
        }
        let _lock = patiently(|| FolderLock::acquire(dir))?;
        files::remove_stale_files(dir, |name| name == NAME)?;
        files::write_atomic(&dir.join(NAME), |out| out.write_all(&text))
    }

    pub(super) fn read(dir: &Path) -> Result<Plan> {
        let path = dir.join(NAME);
        let none = || "is missing: no sweep has been run in this folder; give the folder that a sweep was run in";
        let text = fs::read(&path).map_err(|_| Error::format(&path, none()))?;
        let plan: Plan = serde_json::from_slice(&text).map_err(Error::json(path.display()))?;
        if plan.format != FORMAT {
            return Err(Error::format(
                &path,
                format!(
                    "has format {}; this version reads {FORMAT}: run the sweep again",
                    plan.format
                ),
            ));
        }
        // They are names of folders that are read.
        plan.runs
            .iter()
            .try_for_each(|run| check_name(&run.name))
            .map_err(|error| error.read_from(&path))?;
        Ok(plan)
    }
}
