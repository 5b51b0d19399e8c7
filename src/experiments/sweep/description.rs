//! A sweep described in a file, for the command line and for clusters.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Arm, Sweep};
use crate::activations::ActivationStore;
use crate::base::error::{Error, Result};
use crate::corpus::Corpus;
use crate::display::interrupt;
use crate::experiments::recipe::{self, HarvestRecipe, LookupRecipe, Table};
use crate::experiments::{SAMPLED, Text};
use crate::model::{HookPoint, Model, Processing};
use crate::sae::SaeConfig;
use crate::train::TrainConfig;

/// A sweep as a TOML or JSON file describes it: in the words of [`Sweep`], with a model and a text.
///
/// ```
/// use tokenized_sae::experiments::sweep::SweepFile;
/// let file = SweepFile::parse(r#"
///     model = "tiny-gpt2"
///     sampled = 500_000                        # or text = "books/*.txt"
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
    /// How activations are harvested.
    #[serde(default)]
    pub harvest: HarvestRecipe,
    /// Fields of [`TrainConfig`] that differ from the default.
    #[serde(default)]
    pub train: Map<String, Value>,
}

/// An arm in a [`SweepFile`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArmFile {
    /// Its name.
    pub name: String,
    /// Its table, made for each hook.
    pub lookup: Option<LookupRecipe>,
    /// Whether training moves the table.
    pub learned: Option<bool>,
    /// The balance α of the table.
    pub balance: Option<f32>,
    /// Whether the table is subtracted before the encoder.
    #[serde(default)]
    pub subtracted: bool,
    /// Axes of its own.
    #[serde(flatten)]
    pub axes: AxesFile,
    /// Fields of [`SaeConfig`] that differ from the default.
    #[serde(flatten)]
    pub settings: Map<String, Value>,
}

/// Axes in a [`SweepFile`]; an empty one counts as absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AxesFile {
    /// Values of [`SaeConfig::k`].
    pub ks: Vec<usize>,
    /// Coefficients of a penalty.
    pub penalties: Vec<f64>,
    /// Values of [`SaeConfig::expansion`].
    pub expansions: Vec<usize>,
    /// Learning rates.
    pub lrs: Vec<f64>,
    /// Values of any other field of [`SaeConfig`] that is a number, by its name; `a.b` is the field
    /// b within a.
    pub vary: BTreeMap<String, Vec<f64>>,
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
        if !self.harvest.hooks.is_empty() {
            let why = "a sweep trains on all that it harvests: name them as its hooks";
            return Err(Error::config("harvest.hooks", why));
        }
        let model = Model::load_with(&self.model, self.processing)?;
        let hooks = match &self.hooks[..] {
            [] => vec![HookPoint::resid_pre(model.config().n_layers / 2)],
            hooks => hooks.to_vec(),
        };
        hooks.iter().try_for_each(|&hook| model.check_hook(hook))?;
        self.arms.iter().try_for_each(|arm| arm.config(&model)?.check())?;
        let corpus = patiently(|| self.corpus(&model, &train, dir))?;
        let harvest = || {
            ActivationStore::harvest(
                &model,
                &hooks,
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
        Text {
            pattern: self.text.as_deref(),
            format: self.format.as_deref(),
            column: self.column.as_deref(),
            context: self.context,
            tokens: train.tokens,
            sampled: self.sampled.unwrap_or(SAMPLED),
            seed: 0,
        }
        .corpus(model, dir)
    }
}

impl ArmFile {
    /// The configuration, without a table.
    fn config(&self, model: &Model) -> Result<SaeConfig> {
        if self.lookup.is_none()
            && (self.learned.is_some() || self.balance.is_some() || self.subtracted)
        {
            let why = format!(
                "\"{}\" has no table to be learned, balanced or subtracted: give it one, as lookup = \"unigram\"",
                self.name
            );
            return Err(Error::config("lookup", why));
        }
        overlaid(&format!("arm \"{}\"", self.name), &SaeConfig::for_model(model), &self.settings)
    }

    fn arm(&self, model: &Model, corpus: &Corpus, acts: &ActivationStore) -> Result<Arm> {
        let config = self.config(model)?;
        let mut arm = match &self.lookup {
            None => Arm::new(&self.name, config),
            Some(kind) => {
                let table = Table {
                    kind: kind.clone(),
                    learned: self.learned,
                    balance: self.balance,
                    subtracted: self.subtracted,
                };
                let (text, acts) = (corpus.train.clone(), acts.clone());
                Arm::with_lookup(&self.name, config, move |model, hook| {
                    table.make(model, hook, &acts, &text)
                })
            }
        };
        for axis in self.axes.axes() {
            arm = arm.along(axis);
        }
        Ok(arm)
    }
}

impl AxesFile {
    fn axes(&self) -> Vec<super::Axis> {
        use super::Axis;
        let mut axes = vec![
            Axis::ks(&self.ks),
            Axis::penalties(&self.penalties),
            Axis::expansions(&self.expansions),
            Axis::lrs(&self.lrs),
        ];
        axes.extend(self.vary.iter().map(|(name, values)| {
            let path = name.clone();
            Axis::new(name.rsplit('.').next().unwrap_or(name), values.clone(), move |sae, value| {
                let setting = Map::from_iter([(path.clone(), number(value))]);
                Ok(SaeConfig { lookup: sae.lookup.clone(), ..overlaid("vary", &sae, &setting)? })
            })
        }));
        axes.retain(|axis| !axis.values.is_empty());
        axes
    }
}

/// Whole numbers as such: a JSON number with a point is not whole.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 2f64.powi(53) {
        Value::from(value as i64)
    } else {
        Value::from(value)
    }
}

/// `base` with some of its fields changed, each named by the path to it: `a.b` is the field b
/// within a. `whose` settings they are is said of one that cannot be used.
fn overlaid<T: Serialize + DeserializeOwned + Clone>(
    whose: &str,
    base: &T,
    settings: &Map<String, Value>,
) -> Result<T> {
    let mut all = serde_json::to_value(base).map_err(Error::json("settings"))?;
    let mut read = base.clone();
    for (path, value) in settings {
        // A setting that is left out where it has its default is one still: not any value will do.
        if all.get(path).is_none() {
            let mut strange = all.clone();
            strange[path] = Value::Array(vec![Value::Null]);
            let told = serde_json::from_value::<T>(strange).err().map(|error| error.to_string());
            if told.is_some_and(|told| !told.starts_with("unknown field")) {
                all[path] = Value::Null;
            }
        }
        let mut place = Some(&mut all);
        for name in path.split('.') {
            place = place.and_then(|place| place.as_object_mut()?.get_mut(name));
        }
        let Some(place) = place else {
            let there: Vec<&str> =
                all.as_object().into_iter().flat_map(Map::keys).map(String::as_str).collect();
            let there = there.join(", ");
            let why = format!("{whose}: there is no setting \"{path}\"; the settings are {there}");
            return Err(Error::config("settings", why));
        };
        *place = value.clone();
        read = serde_json::from_value(all.clone()).map_err(|error| {
            let why = match value {
                // What TOML has beyond JSON's numbers.
                Value::Null => format!("{whose}: {path} is no finite number"),
                value => {
                    format!("{whose}: {path} = {value}: {}", recipe::plain(&error.to_string()))
                }
            };
            Error::config("settings", why)
        })?;
    }
    Ok(read)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sae::Frozen;

    #[test]
    fn settings_that_are_left_out_by_default_can_be_set() {
        let text =
            "model = \"tiny-gpt2\"\n[[arms]]\nname = \"a\"\ncentred = true\nfrozen = \"encoder\"\n";
        let file = SweepFile::parse(text).unwrap();
        let config = file.arms[0].config(&Model::load("tiny-gpt2").unwrap()).unwrap();
        assert_eq!((config.centred, config.frozen), (true, Some(Frozen::Encoder)));
    }
}
