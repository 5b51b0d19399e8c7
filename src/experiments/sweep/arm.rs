//! A named configuration, and the axes along which it is varied.

use std::sync::Arc;

use super::Sweep;
use crate::base::error::{Error, Result};
use crate::model::{HookPoint, Model};
use crate::sae::{Architecture, Lookup, SaeConfig};

/// Completes the configuration of an arm at a hook.
type Made = Arc<dyn Fn(&Model, HookPoint, SaeConfig) -> Result<SaeConfig> + Send + Sync>;

/// Puts a value of an axis into a configuration.
type Set = Arc<dyn Fn(SaeConfig, f64) -> Result<SaeConfig> + Send + Sync>;

/// A named configuration of a sweep, what it gets at each hook, and axes of its own.
///
/// ```no_run
/// # use tokenized_sae::prelude::*;
/// # let model = Model::load("tiny-gpt2")?;
/// let sae = SaeConfig::for_model(&model);
/// let wide = Arm::new("wide SAE", sae.clone()).expansions(&[32, 64]);
/// let frozen = Arm::with_lookup("frozen", sae.clone(), |model, hook| Ok(Lookup::unigram(model, hook)?.frozen()));
/// // An axis over any setting.
/// let balanced = Arm::with_lookup("TSAE", sae, Lookup::unigram).vary("alpha", &[0.0, 0.5], |sae, alpha| match sae.lookup.clone() {
///     Some(lookup) => Ok(sae.with_lookup(lookup.with_balance(alpha as f32)?)),
///     None => Ok(sae),
/// });
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone)]
pub struct Arm {
    pub(super) name: String,
    pub(super) base: SaeConfig,
    pub(super) made: Option<Made>,
    pub(super) axes: Vec<Axis>,
}

impl Arm {
    /// The same configuration at every hook.
    pub fn new(name: &str, config: SaeConfig) -> Arm {
        Arm { name: name.to_owned(), base: config, made: None, axes: Vec::new() }
    }

    /// The same configuration at every hook, with a table that is made for each:
    /// `Arm::with_lookup("TSAE", config, Lookup::unigram)`.
    pub fn with_lookup(
        name: &str,
        config: SaeConfig,
        lookup: impl Fn(&Model, HookPoint) -> Result<Lookup> + Send + Sync + 'static,
    ) -> Arm {
        Arm::per_hook(name, config, move |model, hook, sae| {
            Ok(sae.with_lookup(lookup(model, hook)?))
        })
    }

    /// A configuration that is completed for each hook, once, before the axes are applied to it.
    /// What it is varied by, `k`, `expansion` and `lr`, has to be left as it is.
    pub fn per_hook(
        name: &str,
        config: SaeConfig,
        made: impl Fn(&Model, HookPoint, SaeConfig) -> Result<SaeConfig> + Send + Sync + 'static,
    ) -> Arm {
        Arm { made: Some(Arc::new(made)), ..Arm::new(name, config) }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its configuration before it is completed at a hook and varied.
    pub fn config(&self) -> &SaeConfig {
        &self.base
    }
}

/// The ways to vary settings, which a sweep has for all its arms and an arm for itself.
macro_rules! axes {
    ($of:ty, $where:literal) => {
        impl $of {
            #[doc = concat!("Varies [`SaeConfig::k`] ", $where, ", where the")]
            /// [`Architecture`](crate::sae::Architecture) uses it.
            pub fn ks(self, ks: &[usize]) -> $of {
                self.along(Axis::ks(ks))
            }

            #[doc = concat!("Varies the coefficient of the penalty, `l1` or `l0`, ", $where, ", where the")]
            /// [`Architecture`](crate::sae::Architecture) has one. It is named "penalty".
            pub fn penalties(self, coefficients: &[f64]) -> $of {
                self.along(Axis::penalties(coefficients))
            }

            #[doc = concat!("Varies [`SaeConfig::expansion`] ", $where, ".")]
            pub fn expansions(self, expansions: &[usize]) -> $of {
                self.along(Axis::expansions(expansions))
            }

            #[doc = concat!("Varies the learning rate ", $where, ".")]
            /// Without, it is each configuration's own, or that of the
            /// [`TrainConfig`](crate::train::TrainConfig).
            pub fn lrs(self, lrs: &[f64]) -> $of {
                self.along(Axis::lrs(lrs))
            }

            #[doc = concat!("Varies any other setting ", $where, ":")]
            /// `set` puts a value into the configuration. The name stands in the
            /// names of the runs and on the tables.
            pub fn vary(
                self,
                name: &str,
                values: &[f64],
                set: impl Fn(SaeConfig, f64) -> Result<SaeConfig> + Send + Sync + 'static,
            ) -> $of {
                self.along(Axis::new(name, values.to_vec(), set))
            }

            /// With one more axis, or other values for one that there is.
            pub(super) fn along(mut self, axis: Axis) -> $of {
                add(&mut self.axes, axis);
                self
            }
        }
    };
}
axes!(Arm, "of this arm");
axes!(Sweep, "of every arm that has no values of its own");

/// A setting that is varied, and its values.
#[derive(Clone)]
pub(super) struct Axis {
    pub name: String,
    pub values: Vec<f64>,
    set: Set,
    /// Whether it means anything to a configuration.
    pub applies: fn(&SaeConfig) -> bool,
}

/// Adds an axis, in the place of one of the same name if there is one.
pub(super) fn add(axes: &mut Vec<Axis>, axis: Axis) {
    match axes.iter_mut().find(|old| old.name == axis.name) {
        Some(old) => *old = axis,
        None => axes.push(axis),
    }
}

impl Axis {
    pub(super) fn new(
        name: &str,
        values: Vec<f64>,
        set: impl Fn(SaeConfig, f64) -> Result<SaeConfig> + Send + Sync + 'static,
    ) -> Axis {
        Axis { name: name.to_owned(), values, set: Arc::new(set), applies: |_| true }
    }

    pub(super) fn ks(ks: &[usize]) -> Axis {
        let all = Axis::new("k", ks.iter().map(|&k| k as f64).collect(), |sae, k| {
            Ok(SaeConfig { k: k as usize, ..sae })
        });
        Axis { applies: |sae| sae.architecture.uses_k(), ..all }
    }

    pub(super) fn penalties(coefficients: &[f64]) -> Axis {
        let all = Axis::new("penalty", coefficients.to_vec(), |sae, coefficient| {
            let architecture = match sae.architecture {
                Architecture::Relu { .. } => Architecture::Relu { l1: coefficient },
                Architecture::Gated { .. } => Architecture::Gated { l1: coefficient },
                Architecture::JumpRelu { bandwidth, threshold, .. } => {
                    Architecture::JumpRelu { l0: coefficient, bandwidth, threshold }
                }
                without @ (Architecture::TopK | Architecture::BatchTopK) => without,
            };
            Ok(sae.with_architecture(architecture))
        });
        Axis { applies: |sae| !sae.architecture.uses_k(), ..all }
    }

    pub(super) fn expansions(expansions: &[usize]) -> Axis {
        let set = |sae, expansion: f64| Ok(SaeConfig { expansion: expansion as usize, ..sae });
        Axis::new("expansion", expansions.iter().map(|&expansion| expansion as f64).collect(), set)
    }

    pub(super) fn lrs(lrs: &[f64]) -> Axis {
        Axis::new("lr", lrs.to_vec(), |sae, lr| Ok(sae.with_lr(lr)))
    }

    /// The configuration with a value of this axis.
    pub(super) fn applied(&self, sae: SaeConfig, value: f64) -> Result<SaeConfig> {
        (self.set)(sae, value)
    }

    /// Checks that there are values, each once.
    pub(super) fn check(&self) -> Result<()> {
        let name = &self.name;
        if self.values.is_empty() {
            return Err(Error::config(
                "axes",
                format!("\"{name}\" has no value: give at least one, or leave it out"),
            ));
        }
        for (i, value) in self.values.iter().enumerate() {
            if !value.is_finite() || self.values[..i].contains(value) {
                return Err(Error::config(
                    "axes",
                    format!(
                        "\"{name}\" has the value {value}, which is not finite or is given twice"
                    ),
                ));
            }
        }
        Ok(())
    }
}
