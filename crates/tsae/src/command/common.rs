//! Options that several verbs have.

use std::path::PathBuf;

use tokenized_sae::activations::Dtype;
use tokenized_sae::experiments::recipe::EvalRecipe;
use tokenized_sae::prelude::*;
use tsae::Result;

/// Processing of a model's weights.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Weights {
    /// Fold layer norms and centre what writes to the residual stream, as TransformerLens does.
    TransformerLens,
    /// Leave them as they are in the checkpoint.
    Raw,
}

impl From<Weights> for Processing {
    fn from(weights: Weights) -> Processing {
        match weights {
            Weights::TransformerLens => Processing::TransformerLens,
            Weights::Raw => Processing::Raw,
        }
    }
}

/// The model of a verb that begins with one.
#[derive(clap::Args)]
pub struct ModelArgs {
    /// A built-in model (tiny-gpt2, tiny-pythia), a folder with a Hugging Face checkpoint, or a
    /// model of the Hugging Face hub (gpt2, pythia-70m).
    pub model: String,
    /// What is done to its weights.
    #[arg(long, value_enum, default_value_t = Weights::TransformerLens)]
    pub processing: Weights,
}

impl ModelArgs {
    /// Loads it.
    pub fn load(&self) -> Result<Model> {
        Ok(Model::load_with(&self.model, self.processing.into())?)
    }
}

/// What files of text may be.
pub const FORMATS: [&str; 5] = ["text", "json", "csv", "tsv", "parquet"];

/// The text of a verb that reads some.
#[derive(clap::Args)]
pub struct TextArgs {
    /// Text: a file, a folder, a glob, or hub:ORGANISATION/NAME, a data set of the Hugging Face
    /// hub.
    #[arg(long, group = "source")]
    pub text: Option<String>,
    /// The format of the text's files, where their names do not say it; `text` insists on plain
    /// text.
    #[arg(long, requires = "text", value_parser = FORMATS)]
    pub format: Option<String>,
    /// The field of JSON objects, or the column of a table, that holds the text; by default `text`.
    #[arg(long, requires = "text")]
    pub column: Option<String>,
    /// Without text: how many tokens the model samples for itself.
    #[arg(long, group = "source")]
    pub sampled: Option<usize>,
    /// Tokens in a sequence of the text.
    #[arg(long)]
    pub context: Option<usize>,
}

/// What an SAE reads, where its files do not say or something else is meant.
#[derive(clap::Args)]
pub struct OriginArgs {
    /// The model, as any verb takes it; by default the one that the SAE names.
    #[arg(long)]
    pub model: Option<String>,
    /// How its weights are processed; by default as the SAE says.
    #[arg(long, value_enum)]
    pub processing: Option<Weights>,
    /// The hook; by default the SAE's.
    #[arg(long)]
    pub hook: Option<HookPoint>,
}

/// SAEs of a verb that measures them, and on what.
#[derive(clap::Args)]
pub struct SaesArgs {
    /// Folders of SAEs, or folders that `tsae train` has written, or the run.toml in one. All must
    /// read the same hook of the same model.
    #[arg(required = true)]
    pub saes: Vec<PathBuf>,
    #[command(flatten)]
    origin: OriginArgs,
    #[command(flatten)]
    text: TextArgs,
    /// The folder of the activations that they were trained on, with the text that was held out of
    /// them; by default that of the run.
    #[arg(long, group = "source")]
    store: Option<PathBuf>,
}

impl SaesArgs {
    /// What to measure, on at most this many tokens.
    pub fn spec(&self, tokens: Option<usize>) -> EvalRecipe {
        EvalRecipe {
            model: self.origin.model.clone(),
            processing: self.origin.processing.map(Into::into),
            hook: self.origin.hook,
            text: self.text.text.clone(),
            format: self.text.format.clone(),
            column: self.text.column.clone(),
            sampled: self.text.sampled,
            store: self.store.clone(),
            context: self.text.context,
            tokens,
        }
    }
}

/// The number format of a model's products.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Products {
    /// 32 bits.
    F32,
    /// 16 bits, in about half the time.
    Bf16,
}

impl From<Products> for Compute {
    fn from(products: Products) -> Compute {
        match products {
            Products::F32 => Compute::F32,
            Products::Bf16 => Compute::Bf16,
        }
    }
}

/// How numbers are stored.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Stored {
    /// 16 bits.
    F16,
    /// All 32.
    F32,
}

impl From<Stored> for Dtype {
    fn from(stored: Stored) -> Dtype {
        match stored {
            Stored::F16 => Dtype::F16,
            Stored::F32 => Dtype::F32,
        }
    }
}
