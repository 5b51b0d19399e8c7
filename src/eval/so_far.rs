//! How far an evaluation has come, in memory and in a file from which it continues.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::language::Ablations;
use super::reconstruction::Sums;
use crate::base::error::{Error, Result};
use crate::base::files;
use crate::base::number::list;
use crate::model::tokens::Tokens;
use crate::model::{HookPoint, Model};
use crate::sae::Sae;

/// What has been measured on the first sequences of a text. The first of every pair leaves out
/// position 0, the second has all positions.
#[derive(Serialize, Deserialize)]
pub(super) struct SoFar {
    /// How many sequences these are.
    pub seen: usize,
    /// The mean activation of the whole text.
    means: [Activation; 2],
    /// What the model says of the text without an SAE.
    pub ablations: [Ablations; 2],
    /// What each SAE's figures are made of.
    pub sums: Vec<[Sums; 2]>,
}

/// An activation `[d_model]`.
#[derive(Serialize, Deserialize)]
pub(super) struct Activation(#[serde(with = "list")] pub(super) Vec<f64>);

impl SoFar {
    /// Nothing yet.
    pub(super) fn new(means: [Activation; 2], saes: &[(&str, &Sae)]) -> SoFar {
        let sums = saes.iter().map(|(_, sae)| [Sums::new(sae), Sums::new(sae)]).collect();
        SoFar { seen: 0, means, ablations: Default::default(), sums }
    }

    /// The mean activations as the model takes them.
    pub(super) fn means(&self) -> [Vec<f32>; 2] {
        self.means.each_ref().map(|Activation(mean)| mean.iter().map(|&v| v as f32).collect())
    }
}

/// The file in which an evaluation is kept, for the same call to continue from.
pub(crate) struct Kept {
    path: PathBuf,
    /// What is measured on what.
    key: String,
    written: Instant,
}

impl Kept {
    /// Work that is lost at most if the process is killed, but for the sequences in hand.
    const EVERY: Duration = Duration::from_secs(10);

    /// To be kept at `path`; `weights` are checksums of the SAEs, in order.
    pub(crate) fn new(
        path: PathBuf,
        model: &Model,
        hook: HookPoint,
        tokens: &Tokens,
        weights: &[String],
    ) -> Kept {
        let (model, compute) = (model.fingerprint(), model.compute());
        let (text, weights) = (tokens.fingerprint(), weights.join(" "));
        let key = format!("{model} {compute} {hook} {text} {weights}");
        Kept { path, key, written: Instant::now() }
    }

    /// What an earlier call has measured of the same. A file of something else, or that cannot be
    /// read, is as none: it saves time, and holds nothing that is not measured again.
    pub(super) fn read(&self) -> Option<SoFar> {
        let text = fs::read(&self.path).ok()?;
        let (key, so_far): (String, SoFar) = serde_json::from_slice(&text).ok()?;
        (key == self.key).then_some(so_far)
    }

    /// Writes what has been measured, if it is time.
    pub(super) fn write_if_due(&mut self, so_far: &SoFar) -> Result<()> {
        match self.written.elapsed() < Kept::EVERY {
            true => Ok(()),
            false => self.write(so_far),
        }
    }

    /// Writes what has been measured.
    pub(super) fn write(&mut self, so_far: &SoFar) -> Result<()> {
        let text =
            serde_json::to_vec(&(&self.key, so_far)).map_err(Error::json(self.path.display()))?;
        files::write_atomic(&self.path, |out| out.write_all(&text))?;
        self.written = Instant::now();
        Ok(())
    }
}
