//! What is harvested: the options that say it, and what they come to.

use clap::ValueEnum;
use tokenized_sae::experiments::recipe::{HarvestRecipe, RunRecipe};
use tokenized_sae::prelude::*;
use tsae::{Error, Result};

use crate::command::common::{Products, Stored, TextArgs, Weights};
use crate::command::jobs;

/// What is harvested, but for the text; of a share and of a collection the plan says it.
// (The text stands apart because clap leaves a group empty in which another is flattened.)
#[derive(clap::Args)]
#[group(multiple = true, conflicts_with_all = ["only", "collect"])]
pub struct Of {
    /// A built-in model (tiny-gpt2, tiny-pythia), a folder with a Hugging Face checkpoint, or a
    /// model of the Hugging Face hub (gpt2, pythia-70m).
    #[arg(required_unless_present_any = ["only", "collect"])]
    model: Option<String>,
    /// What is done to its weights.
    #[arg(long, value_enum, default_value_t = Weights::TransformerLens)]
    processing: Weights,
    /// A hook, such as blocks.8.hook_resid_pre; by default hook_resid_pre of the block half-way up.
    /// Repeatable: all are harvested in one pass.
    #[arg(long = "hook", value_name = "HOOK")]
    hooks: Vec<HookPoint>,
    /// Train on at most this many tokens of the text, with held-out ones in proportion; by default
    /// on all of it.
    #[arg(long, conflicts_with = "sampled")]
    tokens: Option<usize>,
    /// Leave out documents of fewer characters.
    #[arg(long, requires = "text")]
    min_chars: Option<usize>,
    /// Leave out documents of more characters.
    #[arg(long, requires = "text")]
    max_chars: Option<usize>,
    /// Read the text while the model runs: it may be larger than memory.
    #[arg(long, requires = "tokens")]
    stream: bool,
    /// The share of the text that is held out.
    #[arg(long, default_value_t = RunRecipe::new("").held_out_share)]
    held_out_share: f64,
    /// Seeds the model's own samples; for text, the order of the files, and which documents of a
    /// data set are held out.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How numbers are stored.
    #[arg(long, value_enum, default_value_t = Stored::F16)]
    dtype: Stored,
    /// The number format of the model's products.
    #[arg(long, value_enum, default_value_t = Products::F32)]
    compute: Products,
    /// Sequences in one pass of the model.
    #[arg(long, default_value_t = HarvestConfig::default().batch)]
    batch: usize,
    /// Tokens in a file: what a kill can lose.
    #[arg(long, default_value_t = HarvestConfig::default().shard_tokens)]
    shard_tokens: usize,
}

impl Of {
    /// The description that they come to, with the text.
    ///
    /// # Errors
    /// [`Config`](tokenized_sae::Error::Config) if no model is named.
    pub fn recipe(&self, text: &TextArgs) -> Result<RunRecipe> {
        let Some(model) = &self.model else {
            return Err(Error::config("model", "is not given: name the model that is run"));
        };
        Ok(RunRecipe {
            processing: self.processing.into(),
            text: text.text.clone(),
            sampled: text.sampled,
            format: text.format.clone(),
            column: text.column.clone(),
            min_chars: self.min_chars,
            max_chars: self.max_chars,
            stream: self.stream,
            text_seed: self.seed,
            sampling_seed: self.seed,
            context: text.context,
            max_tokens: self.tokens,
            held_out_share: self.held_out_share,
            harvest: HarvestRecipe {
                hooks: self.hooks.clone(),
                dtype: self.dtype.into(),
                compute: self.compute.into(),
                shard_tokens: self.shard_tokens,
                batch: self.batch,
            },
            ..RunRecipe::new(model)
        })
    }

    /// The same as it is typed, with every default and with paths from the root.
    ///
    /// # Errors
    /// [`Io`](tokenized_sae::Error::Io) if there is no current folder.
    pub fn words(&self, of: &TextArgs) -> Result<Vec<String>> {
        let model = self.model.as_deref().unwrap_or_default();
        let model = match std::path::Path::new(model) {
            folder if folder.is_dir() => jobs::from_root(folder)?,
            _ => model.to_owned(),
        };
        let text = match of.text.as_deref() {
            Some(files) if !files.starts_with("hub:") => Some(jobs::from_root(files.as_ref())?),
            other => other.map(str::to_owned),
        };
        let number = |n: Option<usize>| n.map(|n| n.to_string());
        let mut words = vec![model];
        for hook in &self.hooks {
            words.extend(["--hook".to_owned(), hook.to_string()]);
        }
        for (option, value) in [
            ("--text", text),
            ("--format", of.format.clone()),
            ("--column", of.column.clone()),
            ("--sampled", number(of.sampled)),
            ("--context", number(of.context)),
            ("--tokens", number(self.tokens)),
            ("--min-chars", number(self.min_chars)),
            ("--max-chars", number(self.max_chars)),
            ("--held-out-share", Some(self.held_out_share.to_string())),
            ("--seed", Some(self.seed.to_string())),
            ("--processing", typed(self.processing)),
            ("--dtype", typed(self.dtype)),
            ("--compute", typed(self.compute)),
            ("--batch", number(Some(self.batch))),
            ("--shard-tokens", number(Some(self.shard_tokens))),
        ] {
            words.extend(value.into_iter().flat_map(|value| [option.to_owned(), value]));
        }
        words.extend(self.stream.then(|| "--stream".to_owned()));
        Ok(words)
    }
}

/// A value of an option as it is typed.
fn typed(value: impl ValueEnum) -> Option<String> {
    value.to_possible_value().map(|value| value.get_name().to_owned())
}
