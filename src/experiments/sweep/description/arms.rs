//! Arms and axes in a description: settings by name, over those of the model.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::activations::ActivationStore;
use crate::base::error::{Error, Result};
use crate::corpus::Corpus;
use crate::experiments::recipe::{self, LookupRecipe, Table};
use crate::experiments::sweep::{Arm, Axis};
use crate::model::Model;
use crate::sae::SaeConfig;

/// An arm in a [`SweepFile`](super::SweepFile).
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

/// Axes in a [`SweepFile`](super::SweepFile); an empty one counts as absent.
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

impl ArmFile {
    /// The configuration, without a table.
    pub(super) fn config(&self, model: &Model) -> Result<SaeConfig> {
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

    /// The arm, with its table and its axes.
    pub(super) fn arm(
        &self,
        model: &Model,
        corpus: &Corpus,
        acts: &ActivationStore,
    ) -> Result<Arm> {
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
    pub(super) fn axes(&self) -> Vec<Axis> {
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
pub(super) fn overlaid<T: Serialize + DeserializeOwned + Clone>(
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiments::sweep::SweepFile;
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
