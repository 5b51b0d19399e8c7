//! Training in a folder where other processes train other runs at the same time, as those of a
//! sweep do.

use std::path::Path;
use std::sync::Arc;

use super::material::Material;
use super::settings::Settings;
use super::watch::Part;
use super::{Runs, TrainConfig, Trainer};
use crate::activations::ActivationStore;
use crate::base::error::Result;
use crate::base::files::{self, FolderLock};
use crate::display::Progress;
use crate::eval::HeldOut;
use crate::model::HookPoint;
use crate::model::tokens::Tokens;
use crate::sae::SaeConfig;

/// Where the locks of single runs are, in the folder that the runs are in.
const LOCKS: &str = ".locks";

/// The key of a run: a checksum over everything that determines its result. `measured` is the text
/// on which it is measured.
pub(crate) fn key(
    acts: &ActivationStore,
    hook: HookPoint,
    config: &TrainConfig,
    measured: &Tokens,
    name: &str,
    sae: &SaeConfig,
) -> String {
    let material = Material::Stored(acts.clone(), hook);
    Settings::new(&material, config, Some(&HeldOut::fingerprint_of(measured)), name, sae).key
}

/// Sole right to train the run `dir/name`, until dropped.
///
/// # Errors
/// [`Error::Locked`](crate::Error::Locked) if another process has it.
pub(crate) fn lock(dir: &Path, name: &str) -> Result<FolderLock> {
    let place = dir.join(LOCKS).join(name);
    files::create_folder(&place)?;
    FolderLock::acquire(&place)
}

impl Trainer {
    /// Measures on a held-out text that is ready, and may be in use by other trainers of the same
    /// hook.
    pub(crate) fn measured_on(self, held_out: Arc<HeldOut>) -> Trainer {
        Trainer { held_out: Some(held_out), ..self }
    }

    /// As [`fit`](Trainer::fit), under a bar that stands at `before` tokens, and without keeping
    /// others from training other runs in `dir`: the caller has a [`lock`] for each of these.
    pub(crate) fn fit_beside_others(
        self,
        dir: &Path,
        progress: &mut Progress,
        before: u64,
    ) -> Result<Runs> {
        files::create_folder(dir)?;
        let lock = FolderLock::share(dir)?;
        self.open_locked(dir, Some(lock))?.run(&mut Part { progress, before })
    }
}
