//! `tsae download`.

use serde_json::json;
use tokenized_sae::display::interrupt;
use tokenized_sae::hub::{Hub, Snapshot};
use tokenized_sae::prelude::*;
use tsae::Result;

use super::output::Output;

const EXAMPLES: &str = "\
Examples:
  tsae download gpt2
  tsae download EleutherAI/pythia-70m pythia-160m@step3000
  HF_HOME=/scratch/hf tsae download pythia-1.4b    # into another cache";

/// Fetch models, or what is new of them, from the Hugging Face hub into the local cache, and print
/// their folders.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Download {
    /// gpt2, EleutherAI/pythia-70m, pythia-70m, or organisation/name; each with @revision for
    /// another than the main branch.
    #[arg(required = true)]
    models: Vec<String>,
    #[command(flatten)]
    output: Output,
}

impl Download {
    pub fn run(self) -> Result<()> {
        self.output.begin();
        interrupt::watch();
        let all = self
            .models
            .iter()
            .map(|model| Model::download(&Hub::from_env(), model))
            .collect::<Result<Vec<Snapshot>, tokenized_sae::Error>>()?;
        let told = |it: &Snapshot| json!({ "model": it.repo.id, "revision": it.repo.revision, "commit": it.commit, "folder": it.folder });
        let lines = || all.iter().map(|it| it.folder.display().to_string()).collect::<Vec<_>>();
        self.output.result(&all.iter().map(told).collect::<Vec<_>>(), || lines().join("\n"))
    }
}
