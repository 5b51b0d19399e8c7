//! A sweep described in a file, for the command line and for clusters.

mod arms;

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Sweep;
use crate::activations::ActivationStore;
use crate::base::error::{Error, Result};
use crate::corpus::Corpus;
use crate::display::interrupt;
use crate::experiments::recipe::{self, HarvestRecipe};
use crate::experiments::{SAMPLED, Text, no_text_to_cut};
use crate::model::{HookPoint, Model, Processing};
use crate::train::TrainConfig;
use arms::overlaid;

pub use arms::{ArmFile, AxesFile};

/// A sweep as a TOML or JSON file describes it: in the words of [`Sweep`], with a model and a text.
///
/// ```
/// use tokenized_sae::experiments::sweep::SweepFile;
/// let file = SweepFile::parse(r#"
///     model = "tiny-gpt2"
///     sampled = 500_000                        # or text = "books/*.txt", with context, max_tokens, format, column
///     hooks = ["blocks.1.hook_resid_pre", "blocks.2.hook_resid_pre"]
///     ks = [5, 10, 20, 30, 50]                 # on every arm that has no ks of its own; so are expansions, lrs and [vary]
///     seeds = [0, 1, 2]
///     baseline = "SAE"
///
///     [harvest]                                # dtype, compute, shard_tokens, batch
///     dtype = "int8"
///
///     [train]                                  # any field of TrainConfig
///     tokens = 1_000_000
///     lr = 3e-3
///
///     [[arms]]
///     name = "SAE"
///     expansion = 8                            # any field of SaeConfig
///
///     [[arms]]
///     name = "TSAE"
///     expansion = 8
///     lookup = "unigram"                       # learned = false freezes it; balance = 0.3, subtracted = true
///
///     [[arms]]
///     name = "3-grams"
///     lookup = { ngrams = { longest = 3, rows = 20_000 } }
///
///     [[arms]]
///     name = "ReLU"
///     architecture = { relu = { l1 = 1.0 } }
///     penalties = [0.5, 1.0, 2.0]
/// "#)?;
/// assert_eq!(file.n_streams(), 6);
/// # Ok::<(), tokenized_sae::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepFile {
    /// The model, as [`Model::load`] takes it.
    pub model: String,
    /// What is done to its weights.
    #[serde(default)]
    pub processing: Processing,
    /// Text to train on: a file, a folder or a glob.
    pub text: Option<String>,
    /// The format of its files, where their names do not say it: `text`, `json`, `csv`, `tsv` or
    /// `parquet`.
    pub format: Option<String>,
    /// The field of JSON objects, or the column of a table, that holds it, if not `text`.
    pub column: Option<String>,
    /// Without text: how many tokens the model samples for itself; 500,000 by default.
    pub sampled: Option<usize>,
    /// Tokens in a sequence of the text; 256 by default, or what the model reads if that is less.
    pub context: Option<usize>,
    /// No more of the text is read than gives this many training tokens; by default as many as are
    /// trained on.
    pub max_tokens: Option<u64>,
    /// The hooks; `hook_resid_pre` of the block half-way up if there are none.
    #[serde(default)]
    pub hooks: Vec<HookPoint>,
    /// The arms.
    pub arms: Vec<ArmFile>,
    /// The axes of all arms.
    #[serde(flatten)]
    pub axes: AxesFile,
    /// The seeds; that of `train` if there are none.
    #[serde(default)]
    pub seeds: Vec<u64>,
    /// The arm that the others are compared with.
    pub baseline: Option<String>,
    /// Held-out tokens of the evaluation of each run; 65,536 by default.
    pub evaluated_on: Option<usize>,
    /// How activations are harvested, and of which hooks, if of others as well: a later sweep may
    /// train on those.
    #[serde(default)]
    pub harvest: HarvestRecipe,
    /// Fields of [`TrainConfig`] that differ from the default.
    #[serde(default)]
    pub train: Map<String, Value>,
}

impl SweepFile {
    /// Reads a description: JSON if the name ends in `.json`, else TOML.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Description`] with the line, or [`Error::Json`], if it cannot be
    /// read.
    pub fn read(path: impl AsRef<Path>) -> Result<SweepFile> {
        let path = path.as_ref();
        let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
        if path.extension().is_some_and(|extension| extension == "json") {
            return serde_json::from_str(&text).map_err(Error::json(path.display()));
        }
        recipe::parse(&text, &path.display().to_string())
    }

    /// Reads a description in TOML.
    ///
    /// # Errors
    /// [`Error::Description`] with the line if it cannot be read.
    pub fn parse(text: &str) -> Result<SweepFile> {
        recipe::parse(text, "the description of a sweep")
    }

    /// How many streams of batches there are: one for each hook and seed.
    pub fn n_streams(&self) -> usize {
        self.hooks.len().max(1) * self.seeds.len().max(1)
    }

    /// Loads the model and reads or samples the text, harvests into `dir/activations` unless that
    /// is done, and gives the sweep; none if it was interrupted. Another process that harvests
    /// there is waited for.
    ///
    /// # Errors
    /// [`Error::Config`] for an unknown setting; what loading, reading and harvesting
    /// report.
    pub fn sweep(&self, dir: impl AsRef<Path>) -> Result<Option<Sweep>> {
        let dir = dir.as_ref();
        let train: TrainConfig = overlaid("train", &TrainConfig::default(), &self.train)?;
        train.check()?;
        let model = Model::load_with(&self.model, self.processing)?;
        let hooks = match &self.hooks[..] {
            [] => vec![HookPoint::resid_pre(model.config().n_layers / 2)],
            hooks => hooks.to_vec(),
        };
        let harvested = match &self.harvest.hooks[..] {
            [] => &hooks,
            all => all,
        };
        if let Some(hook) = hooks.iter().find(|hook| !harvested.contains(hook)) {
            let why = format!("they must include {hook}, which is trained on, or be left out");
            return Err(Error::config("harvest.hooks", why));
        }
        harvested.iter().try_for_each(|&hook| model.check_hook(hook))?;
        self.arms.iter().try_for_each(|arm| arm.config(&model)?.check())?;
        let corpus = patiently(|| self.corpus(&model, &train, dir))?;
        let harvest = || {
            ActivationStore::harvest(
                &model,
                harvested,
                &corpus.train,
                dir.join("activations"),
                self.harvest.config(),
            )
        };
        let acts = patiently(harvest)?;
        if !acts.is_complete() {
            return Ok(None);
        }
        let arms = self
            .arms
            .iter()
            .map(|arm| arm.arm(&model, &corpus, &acts))
            .collect::<Result<Vec<_>>>()?;
        let mut sweep = arms.into_iter().fold(
            Sweep::new(&acts, train)?.hooks(&hooks).held_out(&model, &corpus.valid),
            Sweep::with_arm,
        );
        for axis in self.axes.axes() {
            sweep = sweep.along(axis);
        }
        if !self.seeds.is_empty() {
            sweep = sweep.seeds(&self.seeds);
        }
        if let Some(baseline) = &self.baseline {
            sweep = sweep.baseline(baseline);
        }
        if let Some(tokens) = self.evaluated_on {
            sweep = sweep.evaluated_on(tokens);
        }
        Ok(Some(sweep))
    }

    fn corpus(&self, model: &Model, train: &TrainConfig, dir: &Path) -> Result<Corpus> {
        if self.text.is_some() && self.sampled.is_some() {
            return Err(Error::config("sampled", "text is given as well: keep one of the two"));
        }
        if self.max_tokens.is_some() && self.text.is_none() {
            return Err(no_text_to_cut());
        }
        let tokens = self.max_tokens.unwrap_or(train.tokens);
        Error::at_least_1("max_tokens", tokens)?;
        Text {
            pattern: self.text.as_deref(),
            format: self.format.as_deref(),
            column: self.column.as_deref(),
            context: self.context,
            tokens,
            sampled: self.sampled.unwrap_or(SAMPLED),
            seed: 0,
        }
        .corpus(model, dir)
    }
}

/// Does what another process may be doing; waits as long as that has the folder.
pub(super) fn patiently<T>(mut work: impl FnMut() -> Result<T>) -> Result<T> {
    const LOOK: Duration = Duration::from_millis(100);
    interrupt::watch();
    loop {
        match work() {
            Err(Error::Locked { path }) => {
                std::thread::sleep(LOOK);
                if interrupt::requested() {
                    interrupt::clear();
                    let remedy = format!(
                        "another process was working in {}: run the same call again to continue",
                        path.display()
                    );
                    return Err(Error::Interrupted { what: "the sweep", remedy });
                }
            }
            other => return other,
        }
    }
}
