//! Options that several verbs have.

use std::path::{Path, PathBuf};

use tokenized_sae::activations::Dtype;
use tokenized_sae::experiments::recipe::EvalRecipe;
use tokenized_sae::prelude::*;
use tsae::{Error, Result};

/// Checks that what is to be read is there.
pub fn there(path: &Path) -> Result<()> {
    match path.exists() {
        true => Ok(()),
        false => Err(Error::format(path, "is not there: there is no such file or folder")),
    }
}

/// An enum of the library, to be typed: the same values, each with what `--help` says of it.
macro_rules! typed {
    ($(#[$about:meta])* $name:ident: $library:ident { $($(#[$help:meta])* $value:ident,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
        pub enum $name {
            $($(#[$help])* $value,)+
        }

        impl From<$name> for $library {
            fn from(typed: $name) -> $library {
                match typed {
                    $($name::$value => $library::$value,)+
                }
            }
        }
    };
}
pub(super) use typed;

typed! {
    /// Processing of a model's weights.
    Weights: Processing {
        /// Fold layer norms and centre what writes to the residual stream, as TransformerLens' HookedTransformer does.
        TransformerLens,
        /// Leave them as they are in the checkpoint.
        Raw,
    }
}

/// Where a verb that trains, harvests or evaluates computes.
#[derive(clap::Args)]
pub struct DeviceArgs {
    /// Where training steps and the model's passes are computed: auto, cpu or cuda:N. The result is the
    /// same, to the bit; of a model in bf16 it comes close.
    #[arg(long, value_name = "DEVICE", default_value_t = Device::Auto)]
    device: Device,
}

impl DeviceArgs {
    /// Computes there from now on.
    pub fn begin(&self) {
        Device::prefer(self.device);
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
    ///
    /// # Errors
    /// If one of the SAEs or the store is not there.
    pub fn spec(&self, tokens: Option<usize>) -> Result<EvalRecipe> {
        self.saes.iter().chain(&self.store).try_for_each(|path| there(path))?;
        Ok(EvalRecipe {
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
        })
    }
}

typed! {
    /// The number format of a model's products.
    Products: Compute {
        /// 32 bits.
        F32,
        /// 16 bits, in about half the time.
        Bf16,
    }
}

typed! {
    /// How numbers are stored.
    Stored: Dtype {
        /// 16 bits.
        F16,
        /// All 32.
        F32,
        /// 8, and a scale for every 32 numbers.
        Int8,
    }
}
