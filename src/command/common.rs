//! Options that several verbs have.

use tokenized_sae::prelude::*;

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
    /// A built-in model (tiny-gpt2, tiny-pythia), a folder with a Hugging Face checkpoint, or a model of the Hugging Face hub (gpt2, pythia-70m).
    pub model: String,
    /// What is done to its weights.
    #[arg(long, value_enum, default_value_t = Weights::TransformerLens)]
    pub processing: Weights,
}

impl ModelArgs {
    /// Loads it.
    pub fn load(&self) -> Result<Model> {
        Model::load_with(&self.model, self.processing.into())
    }
}
