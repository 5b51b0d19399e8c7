//! `tsae eval`.

use tokenized_sae::display::interrupt;
use tsae::Result;

use super::common::{DeviceArgs, SaesArgs};
use super::output::Output;

const EXAMPLES: &str = "\
Examples:
  tsae eval runs/mine                          # all SAEs of a run, on the text that was held out
  tsae eval runs/mine/TSAE --json
  tsae eval results/SAE results/TSAE --text 'other books/*.txt'
  tsae eval my-sae --model gpt2 --hook blocks.8.hook_resid_pre --text books --context 128 --tokens 200000";

/// Evaluate SAEs: how well they reconstruct, and what the model loses when it runs on the
/// reconstruction.
///
/// By default on the text that was held out when the activations were harvested.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Eval {
    #[command(flatten)]
    on: SaesArgs,
    /// Evaluate on at most this many tokens; by default as the run says, or 65,536.
    #[arg(long)]
    tokens: Option<usize>,
    /// Print the table with position 0 reconstructed and counted, too, as in the paper.
    #[arg(long)]
    with_bos: bool,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    output: Output,
}

impl Eval {
    pub fn run(self) -> Result<()> {
        self.output.begin();
        self.device.begin();
        interrupt::watch();
        let spec = self.on.spec(self.tokens)?;
        let found = spec.evaluate(&self.on.saes)?;
        self.output.result(&found, || match self.with_bos {
            true => format!("{}\n{}", found.table().text(), found.table_with_bos().text()),
            false => found.table().text(),
        })
    }
}
