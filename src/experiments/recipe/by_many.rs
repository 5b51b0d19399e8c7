//! A harvest described once and done by many processes; see [`ActivationStore::plan`].
//!
//! `plan.toml` beside the plan is the description, so that the others need the folder alone. It
//! becomes `harvest.toml` when all is collected.

use std::fs;
use std::path::Path;

use super::store::{DESCRIPTION, HELD_OUT, write_held_out};
use super::{Harvested, RunRecipe};
use crate::activations::{ActivationStore, HarvestPlan};
use crate::base::error::{Error, Result};
use crate::base::files;
use crate::base::share::Share;
use crate::corpus;
use crate::model::Model;

const PLANNED: &str = "plan.toml";

impl RunRecipe {
    /// Reads or samples the text, and lays out a [`harvest`](RunRecipe::harvest) that many processes
    /// do together: each its [share](Harvested::share), and one [collects](Harvested::collect) them.
    ///
    /// # Errors
    /// [`Error::Config`] if the description names no text; what reading the text and
    /// [`ActivationStore::plan`] report.
    pub fn plan(&self, model: &Model, dir: impl AsRef<Path>) -> Result<HarvestPlan> {
        let dir = dir.as_ref();
        let spec = self.resolved(model)?;
        if !spec.names_text() {
            let why = "a harvest needs some: give `text`, or how many tokens are `sampled`";
            return Err(Error::config("text", why));
        }
        let of_harvest = spec.of_harvest();
        if let Some(there) = Harvested::made_by(&of_harvest, dir)? {
            return Ok(HarvestPlan::of(&there.acts));
        }
        let path = dir.join(PLANNED);
        if path.exists()
            && RunRecipe::load(&path)? == of_harvest
            && let Some(plan) = HarvestPlan::read(dir)?
        {
            if let Some(pattern) = &spec.text {
                corpus::is_unchanged(pattern, spec.text_seed, dir)?;
            }
            return Ok(plan);
        }
        let text = spec.read_text(model, dir)?;
        let (hooks, config) = (&spec.harvest.hooks, spec.harvest.config());
        let plan = ActivationStore::plan(model, hooks, text.sequences(), dir, config)?;
        text.remember(dir)?;
        if !text.held_out.is_empty() {
            write_held_out(&dir.join(HELD_OUT), &text.fingerprint(), &text.held_out)?;
        }
        let toml = of_harvest.harvest_toml()?;
        files::write_atomic(&path, |out| out.write_all(toml.as_bytes()))?;
        Ok(plan)
    }
}

impl Harvested {
    /// Makes one share of the harvest that is [planned](RunRecipe::plan) in `dir`, by the model that
    /// the plan names; nothing if all is collected.
    ///
    /// # Errors
    /// [`Error::Format`] if there is no plan; as [`Model::load`] and
    /// [`ActivationStore::harvest_share`].
    pub fn share(dir: impl AsRef<Path>, share: Share) -> Result<()> {
        let dir = dir.as_ref();
        let planned = dir.join(PLANNED);
        let path = if planned.exists() { planned } else { dir.join(DESCRIPTION) };
        if !path.exists() {
            let why = "holds no plan of a harvest (there is no plan.toml): make one first (tsae harvest … --plan)";
            return Err(Error::format(dir, why));
        }
        ActivationStore::harvest_share(&RunRecipe::load(path)?.load_model()?, dir, share)
    }

    /// Makes one store of the shares, with the files and the bytes that
    /// [`RunRecipe::harvest`] would have written.
    ///
    /// # Errors
    /// As [`ActivationStore::collect`]: [`Error::Incomplete`] while shards are missing.
    pub fn collect(dir: impl AsRef<Path>) -> Result<Harvested> {
        let dir = dir.as_ref();
        ActivationStore::collect(dir)?;
        let planned = dir.join(PLANNED);
        if planned.exists() {
            fs::rename(&planned, dir.join(DESCRIPTION)).map_err(Error::io("rename", &planned))?;
            files::sync_folder(dir)?;
        }
        Harvested::open(dir)
    }
}
