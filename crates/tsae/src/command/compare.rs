//! `tsae compare`.

use std::path::PathBuf;

use tokenized_sae::display::interrupt;
use tokenized_sae::experiments::compare::{CompareConfig, LEARNING_RATES, compare};
use tokenized_sae::prelude::*;
use tsae::Result;

use super::common::{DeviceArgs, FORMATS, ModelArgs};
use super::output::Output;
use super::ranks;

const EXAMPLES: &str = "\
Examples:
  tsae compare tiny-gpt2 --out results
  tsae compare tiny-gpt2 --sampled 40000 --tokens 60000 --lr 3e-3 --out results    # a minute
  tsae compare gpt2 --text 'books/*.txt' --hook blocks.8.hook_resid_pre --k 30 --lr 1e-4 --tokens 100000000 --out results";

/// Train an SAE, a centred SAE, the authors' TSAE and the recommended one on the same activations, and
/// compare them on held-out text.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Compare {
    #[command(flatten)]
    model: ModelArgs,
    /// Text to train on: a file, a folder or a glob.
    #[arg(long, conflicts_with = "sampled")]
    text: Option<String>,
    /// The format of the text's files, where their names do not say it; `text` insists on plain
    /// text.
    #[arg(long, requires = "text", value_parser = FORMATS)]
    format: Option<String>,
    /// The field of JSON objects, or the column of a table, that holds the text; by default `text`.
    #[arg(long, requires = "text")]
    column: Option<String>,
    /// Without text: how many tokens the model samples for itself.
    #[arg(long, default_value_t = 500_000)]
    sampled: usize,
    /// The hook, such as blocks.8.hook_resid_pre; by default hook_resid_pre of the block half-way
    /// up.
    #[arg(long)]
    hook: Option<HookPoint>,
    /// Active latents per token.
    #[arg(long, default_value_t = 16)]
    k: usize,
    /// Latents per dimension.
    #[arg(long, default_value_t = 16)]
    expansion: usize,
    /// Training tokens for each SAE.
    #[arg(long, default_value_t = 4_000_000)]
    tokens: u64,
    /// Learning rates to choose from; each SAE gets its best one, the TSAEs that of the first.
    #[arg(long, value_delimiter = ',', default_values_t = LEARNING_RATES)]
    lr: Vec<f64>,
    /// Seeds samples, directions and the order of the activations.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Seconds between two checkpoints, at least.
    #[arg(long, default_value_t = TrainConfig::default().checkpoint_seconds)]
    checkpoint_seconds: f64,
    /// Where everything goes.
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    output: Output,
}

impl Compare {
    pub fn run(self) -> Result<()> {
        ranks::refuse("compare")?;
        self.output.begin();
        self.device.begin();
        interrupt::watch();
        let model = self.model.load()?;
        let config = CompareConfig {
            text: self.text,
            format: self.format,
            column: self.column,
            sampled: self.sampled,
            hook: self.hook,
            k: self.k,
            expansion: self.expansion,
            tokens: self.tokens,
            learning_rates: self.lr,
            seed: self.seed,
            checkpoint_seconds: self.checkpoint_seconds,
        };
        // None if it was interrupted, which the exit status says.
        if let Some(found) = compare(&model, &config, &self.out)? {
            let report = &found.report;
            let text =
                || format!("{}\n{}", found.evaluations.table().text(), report.sooner().join("\n"));
            self.output.result(report, text)?;
            self.output.remark(&format!("Written to {}.", self.out.display()));
        }
        Ok(())
    }
}
