//! `tsae train`.

use std::path::PathBuf;

use clap::{Args, Command, FromArgMatches};
use serde_json::json;
use tokenized_sae::activations::RowOrder;
use tokenized_sae::backend::{Exchange, Ranks};
use tokenized_sae::display::interrupt;
use tokenized_sae::experiments::recipe::{Harvested, LookupRecipe, RunRecipe, SaeRecipe};
use tokenized_sae::prelude::*;
use tsae::{Error, Result};

use super::common::{DeviceArgs, there};
use super::output::Output;
use super::ranks::Together;

const EXAMPLES: &str = "\
Examples:
  tsae train cache/tiny-gpt2 --k 16 --lr 3e-3 --tokens 2000000 --out runs/mine
  tsae train cache/tiny-gpt2 --lookup none,unigram --k 16 --out runs/both    # an SAE and a TSAE, on the same batches
  tsae train cache/gpt2 --hook blocks.8.hook_resid_pre --arch jumprelu --penalty 2 --out runs/jumprelu
  tsae train run.toml --out runs/described
  tsae train runs/mine/run.toml --out runs/again    # the same bytes once more
  mpiexec -n 4 tsae train run.toml --out runs/described    # by four processes, if built with the feature \"mpi\": the same bytes

A description, of which every key but the model may be left out:
  model = \"tiny-gpt2\"
  hook = \"blocks.2.hook_resid_pre\"
  sampled = 400_000                     # or text = \"books/*.txt\", context = 256
  harvest = { dtype = \"f16\" }           # also hooks, compute, shard_tokens, batch
  train = { tokens = 2_000_000, lr = 3e-3 }
  [[sae]]
  name = \"TSAE\"
  k = 16                                # also expansion, architecture, prefixes, aux, centred, aligned, frozen, lr, seed, …
  lookup = \"unigram\"                    # learned = false freezes it; balance = 0.3, subtracted = true";

/// Train SAEs: by options, on activations from `tsae harvest` or a notebook; or as a TOML file
/// describes.
///
/// Each goes into a folder of its own, and the whole description into run.toml beside them. The
/// same command continues where it was stopped.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Train {
    /// The folder of the activations, or a description: run.toml, or a folder with one.
    source: PathBuf,
    /// Where everything goes.
    #[arg(long)]
    out: PathBuf,
    /// What processes that were started together share of a step. The result is the same, to the bit.
    #[arg(long, value_enum, default_value_t = Shared::Rows)]
    exchange: Shared,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    settings: Option<Settings>,
}

/// How processes share a step.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Shared {
    /// The rows of the batch.
    Rows,
    /// The latents and the rows of the table, and their moments; an SAE that is not plain TopK is
    /// shared by rows.
    Latents,
}

/// What a description says in its place.
#[derive(clap::Args)]
#[command(next_help_heading = "Options instead of a description")]
struct Settings {
    /// The hook; by default the first that was harvested.
    #[arg(long)]
    hook: Option<HookPoint>,
    /// What makes a latent active.
    #[arg(long, value_enum, default_value_t = Arch::Topk)]
    arch: Arch,
    /// Active latents per token, of topk and batch-topk.
    #[arg(long, default_value_t = SaeRecipe::default().k)]
    k: usize,
    /// The coefficient of the penalty of relu and gated (l1) or jumprelu (l0). In a run of some
    /// hundred steps it decides little of jumprelu's L0: say --l0.
    #[arg(long, default_value_t = 1.0)]
    penalty: f64,
    /// How many latents are to be active on a token, of relu, gated and jumprelu.
    #[arg(long, value_name = "N")]
    l0: Option<f64>,
    /// Latents per dimension.
    #[arg(long, default_value_t = SaeRecipe::default().expansion)]
    expansion: usize,
    /// Make negative values among the k largest 0.
    #[arg(long)]
    relu: bool,
    /// Sizes of Matryoshka prefixes, ascending; all latents last.
    #[arg(long, value_delimiter = ',')]
    prefixes: Vec<usize>,
    /// Help for dead latents (AuxK).
    #[arg(long)]
    aux: bool,
    /// Keep the rows of the decoder at length 1.
    #[arg(long)]
    unit_norm: bool,
    /// Start the decoder's bias at the mean of the activations.
    #[arg(long)]
    centred: bool,
    /// Start the decoder in so many directions, those in which activations vary most.
    #[arg(long, value_name = "N")]
    subspace: Option<usize>,
    /// Keep the inner product of a latent's two rows at 1.
    #[arg(long)]
    aligned: bool,
    /// Start dead latents anew so many times, in the first half of training.
    #[arg(long, value_name = "N", default_value_t = 0)]
    resamplings: u32,
    /// A control: leave a matrix as it starts.
    #[arg(long, value_enum, value_name = "MATRIX")]
    freeze: Option<Matrix>,
    /// The table: where it starts. With several, an SAE for each.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "none")]
    lookup: Vec<Start>,
    /// Keep the table as it starts.
    #[arg(long)]
    frozen: bool,
    /// The share of the reconstruction that the table starts with.
    #[arg(long)]
    balance: Option<f32>,
    /// Subtract the table before the encoder, too.
    #[arg(long)]
    subtracted: bool,
    /// The name of the SAE; by default SAE, or TSAE with a table.
    #[arg(long)]
    name: Option<String>,
    /// Training tokens for each SAE.
    #[arg(long, default_value_t = TrainConfig::default().tokens)]
    tokens: u64,
    /// Tokens in a batch.
    #[arg(long, default_value_t = TrainConfig::default().batch)]
    batch: usize,
    /// Learning rate of weights and biases at the start.
    #[arg(long, default_value_t = TrainConfig::default().lr)]
    lr: f64,
    /// Learning rate of the table at the start.
    #[arg(long, default_value_t = TrainConfig::default().lookup_lr)]
    lookup_lr: f64,
    /// Positions at the start of each sequence that are left out of training; by default 1 for the
    /// Llama family, whose first position is like no other, and none for GPT-2 and GPT-NeoX.
    #[arg(long, value_name = "N")]
    skip_first: Option<usize>,
    /// How many times as long as the median activation one may be that is not left out of training;
    /// by default 10 for the Llama family, and inf, which leaves nothing out, for the others.
    #[arg(long, value_name = "TIMES")]
    max_norm_multiple: Option<f64>,
    /// Train as if the activations were scaled to a length of √d_model.
    #[arg(long)]
    normalize: bool,
    /// Seeds the directions of the decoder and the order of the activations.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Read blocks of ROWS rows that lie side by side, in random order, and mix the rows of so many:
    /// for activations on a slow disk that memory does not hold. By default any row may come after
    /// any other.
    #[arg(long, value_name = "ROWSxMIXED", value_parser = blocks)]
    blocks: Option<RowOrder>,
    /// Seconds between two checkpoints, at least.
    #[arg(long, default_value_t = TrainConfig::default().checkpoint_seconds)]
    checkpoint_seconds: f64,
}

/// Reads what is typed as `--blocks`.
fn blocks(text: &str) -> std::result::Result<RowOrder, String> {
    let number = |n: &str| n.trim().parse::<usize>().ok().filter(|n| *n > 0);
    text.split_once('x')
        .and_then(|(rows, mixed)| {
            Some(RowOrder::Blocks { rows: number(rows)?, mixed: number(mixed)? })
        })
        .ok_or_else(|| "write it as ROWSxMIXED, such as 4096x64".to_owned())
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Arch {
    Topk,
    BatchTopk,
    Relu,
    Gated,
    Jumprelu,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Matrix {
    /// W_enc.
    Encoder,
    /// W_dec.
    Decoder,
}

impl From<Matrix> for Frozen {
    fn from(matrix: Matrix) -> Frozen {
        match matrix {
            Matrix::Encoder => Frozen::Encoder,
            Matrix::Decoder => Frozen::Decoder,
        }
    }
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Start {
    /// No table: a plain SAE.
    None,
    /// The hook after BOS and the token: the authors'.
    Unigram,
    /// The mean activation on the token.
    Means,
    /// Zeros.
    Zeros,
    /// What has worked best: the mean activation on the token, drawn towards the authors' start where
    /// the token is rare, and subtracted in full before the encoder.
    Recommended,
}

impl Train {
    pub fn run(self) -> Result<()> {
        let together = Together::begin()?;
        let exchange = match self.exchange {
            Shared::Rows => Exchange::Rows,
            Shared::Latents => Exchange::Latents,
        };
        let done = self.train(&together.ranks().clone().exchanging(exchange));
        together.end(done)
    }

    /// Trains together with other ranks, of which the first prints.
    fn train(self, ranks: &Ranks) -> Result<()> {
        self.output.begin();
        self.device.begin();
        interrupt::watch();
        there(&self.source)?;
        // Opening one whose shards are not collected yet says so.
        let is_store = ["manifest.json", "plan.json"].map(|name| self.source.join(name).exists());
        let spec = match (is_store.contains(&true), self.settings) {
            (true, settings) => settings
                .map_or_else(Settings::unsaid, Ok)?
                .description(&Harvested::open(&self.source)?)?,
            (false, _) if self.source.is_dir() && !self.source.join("run.toml").exists() => {
                return Err(Error::format(
                    &self.source,
                    "holds neither activations (a manifest.json) nor a description (a run.toml): make activations with tsae harvest, or name a description",
                ));
            }
            (false, None) => RunRecipe::load(&self.source)?,
            (false, Some(_)) => {
                let why = format!(
                    "{} is a description, which has all settings: change them there, or give the folder of a harvest",
                    self.source.display()
                );
                return Err(Error::config("options", why));
            }
        };
        let runs = spec.run_over(&self.out, ranks)?;
        if runs.runs.iter().any(|run| !run.finished) {
            interrupt::pressed_elsewhere();
        }
        if !ranks.is_first() {
            return Ok(());
        }
        let told: Vec<_> = runs
            .runs
            .iter()
            .map(|run| {
                json!({
                    "name": run.name, "dir": self.out.join(&run.name), "finished": run.finished, "tokens": run.tokens, "lr": run.lr,
                    "train": run.history.train.last(), "held_out": run.history.held_out.last(),
                })
            })
            .collect();
        self.output.result(&json!({ "dir": self.out, "runs": told }), || runs.table().text())?;
        self.output.remark(&format!("Written to {}.", self.out.display()));
        Ok(())
    }
}

impl Settings {
    /// The settings of a command without any of these options.
    fn unsaid() -> Result<Settings> {
        let matches = Settings::augment_args(Command::new("train")).try_get_matches_from(["train"]);
        let settings = matches.and_then(|matches| Settings::from_arg_matches(&matches));
        settings.map_err(|error| Error::config("options", error.to_string()))
    }

    /// The description that the options stand for.
    fn description(self, harvested: &Harvested) -> Result<RunRecipe> {
        let l = self.penalty;
        let architecture = match self.arch {
            Arch::Topk => Architecture::TopK,
            Arch::BatchTopk => Architecture::BatchTopK,
            Arch::Relu => Architecture::Relu { l1: l },
            Arch::Gated => Architecture::Gated { l1: l },
            Arch::Jumprelu => Architecture::jump_relu(l),
        };
        let hooks = harvested.acts.hooks();
        if let Some(hook) = self.hook.filter(|hook| !hooks.contains(hook)) {
            let there: Vec<String> = hooks.iter().map(HookPoint::to_string).collect();
            let (dir, there) = (harvested.acts.dir().display(), there.join(", "));
            return Err(Error::config(
                "hook",
                format!("{dir} holds no activations of {hook}; it holds those of {there}"),
            ));
        }
        let several = self.lookup.len() > 1;
        if several && self.name.is_some() {
            return Err(Error::config(
                "name",
                "is for one SAE, and there are several tables: leave one of the two out",
            ));
        }
        let sae = self.lookup.iter().map(|&start| {
            let (name, lookup) = match start {
                Start::None => ("SAE", None),
                Start::Unigram => ("TSAE", Some(LookupRecipe::Unigram)),
                Start::Means => ("TSAE means", Some(LookupRecipe::Means)),
                Start::Zeros => ("TSAE zeros", Some(LookupRecipe::Zeros)),
                Start::Recommended => ("TSAE recommended", Some(LookupRecipe::ShrunkMeans)),
            };
            let name = self.name.clone().unwrap_or_else(|| {
                if several || lookup.is_none() { name } else { "TSAE" }.to_owned()
            });
            // Table settings apply to all tables; without any they are an error.
            let is_said = lookup.is_some() || !several;
            let whole = start == Start::Recommended;
            SaeRecipe {
                name,
                expansion: self.expansion,
                k: self.k,
                relu: self.relu,
                architecture,
                target_l0: self.l0,
                prefixes: self.prefixes.clone(),
                aux: self.aux.then(AuxK::default),
                unit_norm: self.unit_norm,
                centred: self.centred,
                subspace: self.subspace,
                aligned: self.aligned,
                resamplings: self.resamplings,
                frozen: self.freeze.map(Into::into),
                seed: self.seed,
                learned: (self.frozen && is_said).then_some(false),
                balance: self.balance.filter(|_| is_said).or(whole.then_some(1.0)),
                subtracted: ((self.subtracted && is_said) || whole).then_some(true),
                lookup,
                ..SaeRecipe::default()
            }
        });
        let train = TrainConfig {
            tokens: self.tokens,
            batch: self.batch,
            lr: self.lr,
            lookup_lr: self.lookup_lr,
            skip_first: self.skip_first,
            max_norm_multiple: self.max_norm_multiple,
            normalize: self.normalize,
            seed: self.seed,
            order: self.blocks.unwrap_or_default(),
            checkpoint_seconds: self.checkpoint_seconds,
            ..TrainConfig::default()
        };
        Ok(RunRecipe { hook: self.hook, train, sae: sae.collect(), ..harvested.description() })
    }
}
