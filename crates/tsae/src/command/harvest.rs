//! `tsae harvest`.

use std::path::PathBuf;

use serde_json::json;
use tokenized_sae::display::{Show, interrupt};
use tokenized_sae::experiments::recipe::{HarvestRecipe, RunRecipe};
use tokenized_sae::prelude::*;
use tsae::Result;

use super::common::{ModelArgs, Products, Stored, TextArgs};
use super::output::Output;

const EXAMPLES: &str = "\
Examples:
  tsae harvest tiny-gpt2 --hook blocks.2.hook_resid_pre --sampled 400000 --out cache/tiny-gpt2
  tsae harvest gpt2 --hook blocks.5.hook_resid_pre --hook blocks.8.hook_resid_pre --text 'books/*.txt' --tokens 100000000 --out cache/gpt2
  tsae harvest gpt2 --text hub:NeelNanda/pile-10k --tokens 10000000 --stream --out cache/pile
  tsae harvest pythia-160m --text books --context 128 --compute bf16 --out cache/pythia
  tsae train cache/tiny-gpt2 --lookup none,unigram --k 16 --out runs/mine    # continues from there";

/// Run a model over text, and keep its activations, each beside its token.
///
/// The folder remembers how it was made, and the text that was held out, so that `tsae train` and
/// `tsae eval` need no more than its name.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Harvest {
    #[command(flatten)]
    model: ModelArgs,
    /// A hook, such as blocks.8.hook_resid_pre; by default hook_resid_pre of the block half-way up.
    /// Repeatable: all are harvested in one pass.
    #[arg(long = "hook", value_name = "HOOK")]
    hooks: Vec<HookPoint>,
    #[command(flatten)]
    text: TextArgs,
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
    /// How numbers are stored: 16 bits, or all 32.
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
    /// The folder of the activations.
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    output: Output,
}

impl Harvest {
    pub fn run(self) -> Result<()> {
        self.output.begin();
        interrupt::watch();
        let spec = RunRecipe {
            processing: self.model.processing.into(),
            text: self.text.text,
            sampled: self.text.sampled,
            format: self.text.format,
            column: self.text.column,
            min_chars: self.min_chars,
            max_chars: self.max_chars,
            stream: self.stream,
            text_seed: self.seed,
            sampling_seed: self.seed,
            context: self.text.context,
            max_tokens: self.tokens,
            held_out_share: self.held_out_share,
            harvest: HarvestRecipe {
                hooks: self.hooks,
                dtype: self.dtype.into(),
                compute: self.compute.into(),
                shard_tokens: self.shard_tokens,
                batch: self.batch,
            },
            ..RunRecipe::new(&self.model.model)
        };
        spec.check()?;
        let harvested = spec.harvest(&spec.load_model()?, &self.out)?;
        let acts = &harvested.acts;
        let made = json!({
            "dir": acts.dir(), "model": acts.model_name(), "revision": acts.model_revision(), "processing": acts.processing(), "hooks": acts.hooks(),
            "dtype": acts.dtype(), "compute": acts.compute(), "n_ctx": acts.n_ctx(), "d_model": acts.d_model(), "tokens": acts.n_rows(),
            "held_out_tokens": harvested.held_out.as_ref().map_or(0, |tokens| tokens.len()), "bytes": acts.bytes(), "fingerprint": acts.fingerprint(),
        });
        self.output.result(&made, || harvested.shown().text)
    }
}
