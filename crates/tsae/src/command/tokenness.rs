//! `tsae tokenness` and `tsae ngrams`.

use std::path::PathBuf;

use tokenized_sae::display::{Show, interrupt};
use tokenized_sae::prelude::*;
use tsae::Result;

use super::common::{SaesArgs, there};
use super::output::Output;

const EXAMPLES: &str = "\
Examples:
  tsae tokenness runs/mine                        # all SAEs of a run, on the activations it was trained on
  tsae tokenness results/SAE results/TSAE --store results/activations --tokens 300000 --json";

const NGRAM_EXAMPLES: &str = "\
Examples:
  tsae ngrams cache/tiny-gpt2
  tsae ngrams cache/gpt2 --hook blocks.8.hook_resid_pre --longest 2 --json";

/// Tell token latents from context latents by how closely each is tied to the token it fires on.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Tokenness {
    #[command(flatten)]
    on: SaesArgs,
    /// Count at most this many tokens.
    #[arg(long, default_value_t = TokennessConfig::default().tokens)]
    tokens: usize,
    #[command(flatten)]
    output: Output,
}

/// How much of harvested activations the last one, two or three tokens tell, before any training.
#[derive(clap::Args)]
#[command(after_help = NGRAM_EXAMPLES)]
pub struct Ngrams {
    /// The folder of the activations.
    store: PathBuf,
    /// Only this hook; by default all that were harvested.
    #[arg(long)]
    hook: Option<HookPoint>,
    /// The longest n-grams: 1, 2 or 3 tokens.
    #[arg(long, default_value_t = 3)]
    longest: usize,
    #[command(flatten)]
    output: Output,
}

impl Tokenness {
    pub fn run(self) -> Result<()> {
        self.output.begin();
        interrupt::watch();
        let spec = self.on.spec(Some(self.tokens))?;
        let found = spec.token_or_context(
            &self.on.saes,
            &TokennessConfig { tokens: self.tokens, ..Default::default() },
        )?;
        self.output.result(&found, || found.shown().text)
    }
}

impl Ngrams {
    pub fn run(self) -> Result<()> {
        self.output.begin();
        interrupt::watch();
        there(&self.store)?;
        let acts = ActivationStore::open(&self.store)?;
        let found = match self.hook {
            Some(hook) => NgramR2s { hooks: vec![ngram_r2(&acts, hook, self.longest)?] },
            None => ngram_r2_of_all(&acts, self.longest)?,
        };
        self.output.result(&found, || found.shown().text)
    }
}
