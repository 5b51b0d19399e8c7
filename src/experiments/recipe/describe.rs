//! The description of what a notebook trains, or has trained.

use super::{Harvested, RunRecipe, SaeRecipe};
use crate::activations::ActivationStore;
use crate::base::error::{Error, Result};
use crate::model::HookPoint;
use crate::sae::SaeConfig;
use crate::train::{Runs, TrainConfig, Trainer};

impl Trainer {
    /// The description of what it is going to train: what `tsae train run.toml` takes.
    ///
    /// ```no_run
    /// # use tokenized_sae::prelude::*;
    /// # let model = Model::load("tiny-gpt2")?;
    /// # let acts = ActivationStore::open("cache")?;
    /// let trainer = Trainer::new(&acts, HookPoint::resid_pre(2), TrainConfig::default())?.add("SAE", SaeConfig::for_model(&model))?;
    /// trainer.description()?.save("run.toml")?;
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`SaeRecipe::of`]; [`Error::Config`] of synthetic rows; what reading the description beside
    /// the activations reports.
    pub fn description(&self) -> Result<RunRecipe> {
        let (acts, hook, train) = self.settings()?;
        described(acts, hook, train, self.saes())
    }
}

impl Runs {
    /// The description of the training that they came from: what `tsae train run.toml` takes, and
    /// what gives the same bytes again.
    ///
    /// ```no_run
    /// # use tokenized_sae::prelude::*;
    /// # use tokenized_sae::experiments::recipe::RunRecipe;
    /// # let runs = RunRecipe::load("run.toml")?.run("runs/mine")?;
    /// let spec: RunRecipe = runs.description()?;
    /// spec // shown as the TOML that it is
    /// # ; Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] if they were not trained with the same settings on the same activations,
    /// and as [`SaeRecipe::of`].
    pub fn description(&self) -> Result<RunRecipe> {
        let why = "they were not trained with the same settings on the same activations, so no single description covers them all";
        let made = self.made().ok_or_else(|| Error::config("runs", why))?;
        let saes: Vec<(String, SaeConfig)> =
            self.runs.iter().map(|run| (run.name.clone(), run.sae.config.clone())).collect();
        described(&made.acts, made.hook, &made.train, &saes)
    }
}

fn described(
    acts: &ActivationStore,
    hook: HookPoint,
    train: &TrainConfig,
    saes: &[(String, SaeConfig)],
) -> Result<RunRecipe> {
    let sae = saes
        .iter()
        .map(|(name, config)| SaeRecipe::of(name, config, acts, hook))
        .collect::<Result<_>>()?;
    Ok(RunRecipe {
        hook: Some(hook),
        train: train.clone(),
        sae,
        ..Harvested::open(acts.dir())?.description()
    })
}
