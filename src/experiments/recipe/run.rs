//! Doing what a description says.

use std::path::{Path, PathBuf};

use super::{Harvested, RunRecipe, Written};
use crate::activations::{ActivationStore, refuse_plan};
use crate::backend::Ranks;
use crate::base::error::{Error, Result};
use crate::base::files;
use crate::corpus;
use crate::model::Model;
use crate::train::{Runs, TrainConfig, Trainer};

/// The folder of the activations in that of the run, unless they have one of their own.
const STORE: &str = "activations";

impl RunRecipe {
    /// The model that it names.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn load_model(&self) -> Result<Model> {
        Model::load_with(&self.model, self.processing)
    }

    /// The part of the description that decides the activations.
    pub(super) fn of_harvest(&self) -> RunRecipe {
        let defaults = RunRecipe::new(&self.model);
        let train = TrainConfig::default();
        RunRecipe {
            store: None,
            evaluated_on: defaults.evaluated_on,
            train,
            sae: Vec::new(),
            written: Written::default(),
            hook: None,
            ..self.clone()
        }
    }

    /// Reads or samples the text, and harvests the hooks into `dir`, where the description and the
    /// held-out text are kept beside the activations.
    ///
    /// What a finished harvest of the same description has left there is used again, without the
    /// text being read once more; one that was interrupted continues.
    ///
    /// # Errors
    /// [`Error::Interrupted`] if it was stopped, with what is kept; what reading the text and
    /// [`ActivationStore::harvest`] report.
    pub fn harvest(&self, model: &Model, dir: impl AsRef<Path>) -> Result<Harvested> {
        let dir = dir.as_ref();
        let spec = self.resolved(model)?;
        if !spec.names_text() {
            return spec.as_it_is(model, Harvested::open(dir)?);
        }
        if let Some(there) = Harvested::made_by(&spec.of_harvest(), dir)? {
            if let Some(pattern) = &spec.text {
                corpus::is_unchanged(pattern, spec.text_seed, dir)?;
            }
            return spec.as_it_is(model, there);
        }
        refuse_plan(dir)?;
        let text = spec.read_text(model, dir)?;
        let (hooks, config) = (&spec.harvest.hooks, spec.harvest.config());
        let acts = ActivationStore::harvest(model, hooks, text.sequences(), dir, config)?;
        text.remember(dir)?;
        if !acts.is_complete() {
            let remedy = format!(
                "{} tokens are kept in {}, and the same call continues from there",
                acts.n_rows(),
                dir.display()
            );
            return Err(Error::Interrupted { what: "the harvest", remedy });
        }
        Harvested::remember(acts, &spec.of_harvest(), &text.held_out)
    }

    /// Activations that are there already: are they of this model?
    fn as_it_is(&self, model: &Model, harvested: Harvested) -> Result<Harvested> {
        let acts = &harvested.acts;
        acts.check_model(
            model,
            "name the model and processing that they came from, or another store",
        )?;
        Ok(harvested)
    }

    /// The trainer of a resolved description: all its SAEs, with their tables.
    ///
    /// # Errors
    /// As [`Trainer::new`] and [`Trainer::add`]; what making a table reports.
    pub fn trainer(&self, model: &Model, harvested: &Harvested) -> Result<Trainer> {
        let spec = self.resolved(model)?;
        if spec.sae.is_empty() {
            return Err(Error::config(
                "sae",
                "there is nothing to train: describe an SAE, as [[sae]] in the file",
            ));
        }
        let acts = &harvested.acts;
        let hook = spec.hook.ok_or_else(|| Error::config("hook", "no hook is named"))?;
        let mut trainer = Trainer::new(acts, hook, spec.train.clone())?;
        if let Some(text) = &harvested.held_out {
            trainer = trainer.held_out(model, text)?;
        }
        let text = acts.tokens()?;
        for sae in &spec.sae {
            let mut config = sae.config(acts.d_model(), acts.d_vocab());
            if let Some(table) = sae.table()? {
                config = config.with_lookup(table.make(model, hook, acts, &text)?);
            }
            trainer = trainer.add(&sae.name, config)?;
        }
        Ok(trainer)
    }

    /// Where the activations of a run in `out` are.
    pub(super) fn store_of(&self, out: &Path) -> PathBuf {
        self.store.clone().unwrap_or_else(|| out.join(STORE))
    }

    /// Harvests unless that is done, and trains every SAE to its end in `out/NAME/`; the whole
    /// description is written to `out/run.toml`.
    ///
    /// The same call again reads what is finished and continues the rest, as [`Trainer::fit`]
    /// does, and so does `tsae train`. At an interrupt the runs are returned as they stand.
    ///
    /// # Errors
    /// As [`harvest`](RunRecipe::harvest), [`trainer`](RunRecipe::trainer) and [`Trainer::fit`].
    pub fn run(&self, out: impl AsRef<Path>) -> Result<Runs> {
        self.run_over(out, &Ranks::alone())
    }

    /// As [`run`](RunRecipe::run), together with other ranks that make the same call. The first
    /// writes what is not there yet, and the others read it: all have to see one folder.
    #[doc(hidden)]
    pub fn run_over(&self, out: impl AsRef<Path>, ranks: &Ranks) -> Result<Runs> {
        let out = out.as_ref();
        let trainer = ranks.first_then_others(|| {
            let model = self.load_model()?;
            let spec = self.resolved(&model)?;
            let harvested = spec.harvest(&model, spec.store_of(out))?;
            let trainer = spec.trainer(&model, &harvested)?;
            if ranks.is_first() {
                files::create_folder(out)?;
                spec.save(out.join(super::FILE))?;
            }
            Ok(trainer)
        })?;
        trainer.over(ranks).fit(out)
    }
}
