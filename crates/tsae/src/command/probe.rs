//! `tsae probe` and `tsae absorption`.

use tokenized_sae::display::{Show, interrupt};
use tokenized_sae::latents::absorption::AbsorptionConfig;
use tokenized_sae::latents::probe::ProbeConfig;
use tsae::Result;

use super::common::SaesArgs;
use super::output::Output;

const EXAMPLES: &str = "\
Examples:
  tsae probe runs/mine                            # all SAEs of a run, on the activations it was trained on
  tsae probe results/SAE results/TSAE --text 'other books/*.txt' --tokens 300000 --json
  tsae probe my-sae --model gpt2 --hook blocks.8.hook_resid_pre --text books --latents 1 --latents 5";

const ABSORPTION_EXAMPLES: &str = "\
Examples:
  tsae absorption runs/mine
  tsae absorption results/SAE results/TSAE --text 'other books/*.txt' --tokens 300000 --json";

/// Probe SAEs: how well do a few latents, and a table, tell first letters, quotation marks and what
/// came before?
///
/// A logistic regression for each class, on the activations, on the latents that tell most, and on
/// what a table adds; tried on words or sequences that it has not learned from.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Probe {
    #[command(flatten)]
    on: SaesArgs,
    /// Choose positions among at most this many tokens.
    #[arg(long, default_value_t = ProbeConfig::default().tokens)]
    tokens: usize,
    /// How many latents a probe reads. Repeatable; by default 1, 2, 5 and 16.
    #[arg(long = "latents", value_name = "K")]
    ks: Vec<usize>,
    #[command(flatten)]
    output: Output,
}

/// Measure first-letter absorption: is the latent of a letter silent where a latent of the word says
/// it?
#[derive(clap::Args)]
#[command(after_help = ABSORPTION_EXAMPLES)]
pub struct Absorption {
    #[command(flatten)]
    on: SaesArgs,
    /// Look for words among at most this many tokens.
    #[arg(long, default_value_t = AbsorptionConfig::default().tokens)]
    tokens: usize,
    /// Leave out letters that a probe on the activations finds with no higher F1 than this.
    #[arg(long, value_name = "F1", default_value_t = AbsorptionConfig::default().min_f1)]
    min_f1: f64,
    #[command(flatten)]
    output: Output,
}

impl Probe {
    pub fn run(self) -> Result<()> {
        self.output.begin();
        interrupt::watch();
        let mut config = ProbeConfig { tokens: self.tokens, ..Default::default() };
        if !self.ks.is_empty() {
            config.ks = self.ks;
        }
        let found = self.on.spec(Some(self.tokens))?.probe(&self.on.saes, &config)?;
        self.output.result(&found, || found.shown().text)
    }
}

impl Absorption {
    pub fn run(self) -> Result<()> {
        self.output.begin();
        interrupt::watch();
        let config =
            AbsorptionConfig { tokens: self.tokens, min_f1: self.min_f1, ..Default::default() };
        let found = self.on.spec(Some(self.tokens))?.absorption(&self.on.saes, &config)?;
        self.output.result(&found, || found.shown().text)
    }
}
