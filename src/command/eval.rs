//! `tsae eval`.

use std::path::PathBuf;

use tokenized_sae::display::interrupt;
use tokenized_sae::prelude::*;

use super::common::{TextArgs, Weights};
use super::output::Output;

const EXAMPLES: &str = "\
Examples:
  tsae eval runs/mine                          # all SAEs of a run, on the text that was held out
  tsae eval runs/mine/TSAE --json
  tsae eval results/SAE results/TSAE --text 'other books/*.txt'
  tsae eval my-sae --model gpt2 --hook blocks.8.hook_resid_pre --text books --context 128 --tokens 200000";

/// Evaluate SAEs: how well they reconstruct, and what the model loses when it runs on the reconstruction.
///
/// By default on the text that was held out when the activations were harvested.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Eval {
    /// Folders of SAEs, or folders that `tsae train` has written, or the run.toml in one. All must read the same hook of the same model.
    #[arg(required = true)]
    saes: Vec<PathBuf>,
    /// The model; by default the one that the SAE names.
    #[arg(long)]
    model: Option<String>,
    /// How its weights are processed; by default as the SAE says.
    #[arg(long, value_enum)]
    processing: Option<Weights>,
    /// The hook; by default the SAE's.
    #[arg(long)]
    hook: Option<HookPoint>,
    #[command(flatten)]
    text: TextArgs,
    /// The text that was held out of these activations.
    #[arg(long, group = "source")]
    store: Option<PathBuf>,
    /// Evaluate on at most so many tokens; by default as the run says, or 65,536.
    #[arg(long)]
    tokens: Option<usize>,
    /// Print the table with position 0 reconstructed and counted, too, as in the paper.
    #[arg(long)]
    with_bos: bool,
    #[command(flatten)]
    output: Output,
}

impl Eval {
    pub fn run(self) -> Result<()> {
        self.output.begin();
        interrupt::watch();
        let spec = EvalSpec {
            model: self.model,
            processing: self.processing.map(Into::into),
            hook: self.hook,
            text: self.text.text,
            sampled: self.text.sampled,
            store: self.store,
            context: self.text.context,
            tokens: self.tokens,
        };
        let found = spec.evaluate(&self.saes)?;
        self.output.result(&found, || match self.with_bos {
            true => format!("{}\n{}", found.table().text(), found.table_with_bos().text()),
            false => found.table().text(),
        })
    }
}
