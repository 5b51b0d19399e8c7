//! A run described in one file: model, text, harvest, training, and the SAEs, in TOML.
//!
//! ```toml
//! model = "tiny-gpt2"
//! hook = "blocks.2.hook_resid_pre"
//! sampled = 400_000                        # or text = "books/*.txt"
//!
//! [train]                                  # any field of TrainConfig
//! tokens = 2_000_000
//! lr = 3e-3
//!
//! [[sae]]                                  # any field of SaeConfig
//! name = "SAE"
//! k = 16
//!
//! [[sae]]
//! name = "TSAE"
//! k = 16
//! lookup = "unigram"
//! ```
//!
//! `tsae train run.toml --out runs/mine` and [`RunRecipe::run`] do it, and leave the whole
//! description, with all defaults filled in, as `runs/mine/run.toml`: that file,
//! run anywhere, gives the same bytes. [`Runs::description`](crate::train::Runs::description) gives
//! it of runs that a notebook trained, [`Trainer::description`](crate::train::Trainer::description)
//! before they are; a cell that ends in one shows the same TOML.
//!
//! A sweep has a description [of its own](crate::experiments::sweep::SweepFile), in the same words.

mod by_many;
mod describe;
mod evaluate;
mod lookup;
mod read;
mod resolve;
mod run;
mod sae;
mod show;
mod store;
#[cfg(test)]
mod tests;
mod text;
mod write;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

#[doc(hidden)] // what the command's own verbs take
pub use evaluate::{EvalRecipe, hook_of, model_of};
pub use lookup::LookupRecipe;
pub use sae::SaeRecipe;
#[doc(hidden)]
pub use store::Harvested;

pub(crate) use lookup::Table;
#[doc(hidden)] // `..RunRecipe::new(model)` needs it to be seen; nobody writes one
pub use read::Written;
pub(crate) use read::{parse, plain};

use super::{EVALUATED, HELD_OUT, SAMPLED};
use crate::activations::{Dtype, HarvestConfig};
use crate::model::{Compute, HookPoint, Processing};
use crate::train::TrainConfig;

/// The name of the description in the folder of a run.
pub(crate) const FILE: &str = "run.toml";

/// All that decides a run, as a file describes it; see the [module](self).
///
/// What is `None` is decided when the model is known, and is there in the description that
/// [`run`](RunRecipe::run) writes.
///
/// ```no_run
/// use tokenized_sae::prelude::*;
/// use tokenized_sae::experiments::recipe::RunRecipe;
/// let spec: RunRecipe = RunRecipe::load("run.toml")?;
/// let runs: Runs = spec.run("runs/mine")?; // harvests, trains; again, it reads
/// println!("{}", spec.evaluate("runs/mine")?.table().text());
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRecipe {
    /// The model, as [`Model::load`](crate::model::Model::load) takes it; with `@commit` behind it
    /// if it came from the hub.
    pub model: String,
    /// What is done to its weights.
    #[serde(default)]
    pub processing: Processing,
    /// The hook that is trained on; by default `hook_resid_pre` of the block half-way up.
    pub hook: Option<HookPoint>,
    /// Text to train on, as [`Corpus::text_files`](crate::corpus::Corpus::text_files) takes it: a
    /// file, a folder, a glob, or `hub:` and a data set.
    pub text: Option<String>,
    /// The format of the text's files, where their names do not say it: `text`, `json`, `csv`,
    /// `tsv` or `parquet`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// The field of JSON objects, or the column of a table, that holds the text, if it is not
    /// `text`.
    pub column: Option<String>,
    /// Documents of fewer characters are left out.
    pub min_chars: Option<usize>,
    /// Documents of more characters are left out.
    pub max_chars: Option<usize>,
    /// Whether the text is read while the model runs, instead of before: it may then be larger than
    /// memory, and needs `max_tokens`.
    #[serde(default)]
    pub stream: bool,
    /// Seeds the order of the files, and of data sets which documents are held out.
    #[serde(default)]
    pub text_seed: u64,
    /// Without text: how many tokens the model samples for itself; 500,000 by default.
    pub sampled: Option<usize>,
    /// Seeds those samples.
    #[serde(default)]
    pub sampling_seed: u64,
    /// Tokens in a sequence of the text; by default 256, or what the model reads if that is less.
    pub context: Option<usize>,
    /// No more of the text is read than gives this many training tokens; by default as many as are
    /// trained on, and all of it for activations with a folder of their own.
    pub max_tokens: Option<usize>,
    /// The share of the text that is held out. (Of samples it is always 2 %, but at least 32
    /// sequences.)
    #[serde(default = "held_out")]
    pub held_out_share: f64,
    /// Held-out tokens of the evaluation at the end, at most.
    #[serde(default = "evaluated")]
    pub evaluated_on: usize,
    /// The folder of the activations, which are harvested into it unless they are there; by default
    /// `activations` in the folder of the run. With neither `text` nor `sampled`, what is in it is
    /// trained on as it is.
    pub store: Option<PathBuf>,
    /// How activations are harvested.
    #[serde(default)]
    pub harvest: HarvestRecipe,
    /// How all SAEs are trained.
    #[serde(default)]
    pub train: TrainConfig,
    /// The SAEs, which are trained on the same batches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sae: Vec<SaeRecipe>,
    /// Where it was read, so that errors can name the line.
    #[serde(skip)]
    pub written: Written,
}

/// How activations are harvested: the fields of [`HarvestConfig`] that decide what comes of it, and the
/// hooks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HarvestRecipe {
    /// The hooks that are harvested together; by default the one that is trained on, and those that
    /// preceding SAEs read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookPoint>,
    /// How numbers are stored.
    pub dtype: Dtype,
    /// The number format of the model's products.
    pub compute: Compute,
    /// Tokens in a file.
    pub shard_tokens: usize,
    /// Sequences in one pass of the model.
    pub batch: usize,
}

impl Default for HarvestRecipe {
    fn default() -> HarvestRecipe {
        HarvestRecipe::of(HarvestConfig::default(), &[])
    }
}

impl HarvestRecipe {
    /// These settings, for these hooks.
    pub fn of(config: HarvestConfig, hooks: &[HookPoint]) -> HarvestRecipe {
        let HarvestConfig { dtype, compute, shard_tokens, batch, device: _ } = config;
        HarvestRecipe { hooks: hooks.to_vec(), dtype, compute, shard_tokens, batch }
    }

    /// The settings, without the hooks.
    pub fn config(&self) -> HarvestConfig {
        HarvestConfig {
            dtype: self.dtype,
            compute: self.compute,
            shard_tokens: self.shard_tokens,
            batch: self.batch,
            ..HarvestConfig::default()
        }
    }
}

impl RunRecipe {
    /// The description of a run on this model's own samples, with all defaults, and so far without
    /// an SAE.
    ///
    /// ```
    /// use tokenized_sae::prelude::*;
    /// use tokenized_sae::experiments::recipe::{RunRecipe, SaeRecipe};
    /// let mut spec = RunRecipe::new("tiny-gpt2");
    /// spec.sae.push(SaeRecipe { k: 16, ..SaeRecipe::new("SAE") });
    /// assert_eq!(RunRecipe::parse(&spec.to_toml()?)?, spec);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn new(model: &str) -> RunRecipe {
        RunRecipe {
            model: model.to_owned(),
            processing: Processing::default(),
            hook: None,
            text: None,
            format: None,
            column: None,
            min_chars: None,
            max_chars: None,
            stream: false,
            text_seed: 0,
            sampled: None,
            sampling_seed: 0,
            context: None,
            max_tokens: None,
            held_out_share: HELD_OUT,
            evaluated_on: EVALUATED,
            store: None,
            harvest: HarvestRecipe::default(),
            train: TrainConfig::default(),
            sae: Vec::new(),
            written: Written::default(),
        }
    }
}

fn held_out() -> f64 {
    HELD_OUT
}

fn evaluated() -> usize {
    EVALUATED
}
