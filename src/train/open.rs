//! Runs that lie in a folder, whoever trained them.

use std::fs;
use std::path::{Path, PathBuf};

use super::folder::Folder;
use super::{Run, Runs};
use crate::base::error::{Error, Result};

impl Runs {
    /// Reads the finished runs in a folder, in the order of their names: what
    /// [`Trainer::fit`](super::Trainer::fit), `tsae train` or `tsae compare` has left there.
    ///
    /// ```no_run
    /// use tokenized_sae::prelude::*;
    /// let runs: Runs = Runs::open("runs/mine")?;
    /// plot::reconstruction(&runs)?.save("reconstruction.svg")?;
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Format`] if there is none; [`Error::Checksum`] if a file of one is damaged;
    /// [`Error::Io`].
    pub fn open(dir: impl AsRef<Path>) -> Result<Runs> {
        let dir = dir.as_ref();
        let entries = fs::read_dir(dir).map_err(Error::io("read", dir))?;
        let mut folders = entries
            .map(|entry| Ok(entry.map_err(Error::io("read", dir))?.path()))
            .collect::<Result<Vec<PathBuf>>>()?;
        folders.sort();
        let runs = folders
            .iter()
            .filter_map(|folder| finished(folder).transpose())
            .collect::<Result<Vec<_>>>()?;
        match runs.is_empty() {
            true => Err(Error::format(
                dir,
                "holds no finished run: train there, or name the folder that holds the runs' folders",
            )),
            false => Ok(Runs { runs }),
        }
    }
}

/// The finished run in a folder, if there is one.
fn finished(dir: &Path) -> Result<Option<Run>> {
    let Some(folder) = Folder::there(dir)?.filter(Folder::is_finished) else { return Ok(None) };
    let (sae, history) = folder.load()?;
    let setting = |path: &str| folder.settings().pointer(path).and_then(serde_json::Value::as_f64);
    Ok(Some(Run {
        name: dir.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        tokens: history.train.last().map_or(0, |point| point.tokens),
        lr: setting("/sae/lr").or(setting("/train/lr")).unwrap_or(f64::NAN),
        sae,
        history,
        finished: true,
        scored_in_full: None,
        made: None,
    }))
}
