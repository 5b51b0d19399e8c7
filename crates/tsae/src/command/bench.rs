//! `tsae bench`.

use std::path::PathBuf;

use clap::Subcommand;
use tokenized_sae::prelude::Device;
use tsae::Result;
use tsae::bench::{
    self, ExperimentBench, HarvestBench, ModelShape, NotebookBench, RanksBench, SampleBench,
    StepBench, Weights,
};

use super::common::{Products, typed};
use super::output::Output;
use super::ranks::Together;

const EXAMPLES: &str = "\
Examples:
  tsae bench step --shape gpt2
  tsae bench harvest --shape pythia-160m --dtype bf16
  tsae bench notebook";

const STEP_EXAMPLES: &str = "\
Examples:
  tsae bench step --shape pythia-1.4b --lookup lazy
  tsae bench step --shape 128,1024,16,256 --steps 3 --json    # seconds";

const HARVEST_EXAMPLES: &str = "\
Examples:
  tsae bench harvest --shape gpt2 --layer 8
  tsae bench harvest --shape pythia-160m --dtype bf16 --weights f16 --json";

const SAMPLE_EXAMPLES: &str = "\
Examples:
  tsae bench sample --model gpt2
  tsae bench sample --model tiny-gpt2 --sequences 8 --context 32 --json    # seconds";

const EXPERIMENT_EXAMPLES: &str = "\
Examples:
  tsae bench experiment --shape gpt2 --out full-size
  tsae bench experiment --shape pythia-1.4b --weights f16 --dtype bf16 --out full-size";

const NOTEBOOK_EXAMPLES: &str = "\
Examples:
  tsae bench notebook --starts 1
  tsae bench notebook --spare --json";

const MACHINE_EXAMPLES: &str = "\
Examples:
  tsae bench machine
  tsae bench machine --json";

const RANKS_EXAMPLES: &str = "\
Examples:
  tsae bench ranks --shape pythia-1.4b
  mpiexec -n 2 tsae bench ranks --json    # with the exchange of two processes, if built with the feature \"mpi\"";

/// Measure how fast this machine works, beside what it could do at best.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Step(Step),
    Harvest(Harvest),
    Sample(Sample),
    Experiment(Experiment),
    Notebook(Notebook),
    Machine(Machine),
    Ranks(Ranks),
}

/// The training step, on synthetic activations.
#[derive(clap::Args)]
#[command(after_help = STEP_EXAMPLES)]
struct Step {
    #[command(flatten)]
    bench: StepBench,
    #[command(flatten)]
    output: Output,
}

/// Tokens through a model to a hook, with synthetic weights of the true shape; writes no files.
#[derive(clap::Args)]
#[command(after_help = HARVEST_EXAMPLES)]
struct Harvest {
    /// The model's shape.
    #[arg(long, value_enum, default_value_t = Shape::Gpt2)]
    shape: Shape,
    /// The hook is blocks.LAYER.hook_resid_pre.
    #[arg(long, default_value_t = 8)]
    layer: usize,
    /// The number format of products.
    #[arg(long, value_enum, default_value_t = Products::F32)]
    dtype: Products,
    /// On a card: cuda:N. What its kernels take, waited for one by one, is measured in a further
    /// repetition.
    #[arg(long, value_name = "DEVICE", default_value_t = Device::Cpu)]
    device: Device,
    /// The number format of the checkpoint: 16 bits are kept in memory, and widened as they are
    /// multiplied.
    #[arg(long, value_enum, default_value_t = Weights::F32)]
    weights: Weights,
    /// How many sequences.
    #[arg(long, default_value_t = 32)]
    sequences: usize,
    /// Tokens in a sequence.
    #[arg(long, default_value_t = 256)]
    context: usize,
    /// How often; the middle one counts.
    #[arg(long, default_value_t = 5)]
    repetitions: usize,
    #[command(flatten)]
    output: Output,
}

/// Text that a model writes itself, token by token; keeps nothing.
#[derive(clap::Args)]
#[command(after_help = SAMPLE_EXAMPLES)]
struct Sample {
    /// The shape of gpt2, pythia-160m, pythia-1.4b or smollm2, with made-up weights; or else a model
    /// that is here.
    #[arg(long, default_value = "gpt2")]
    model: String,
    /// On a card: cuda:N. What its kernels take, waited for one by one, is measured on some further
    /// tokens.
    #[arg(long, value_name = "DEVICE", default_value_t = Device::Cpu)]
    device: Device,
    /// How many sequences; on a card, at once.
    #[arg(long, default_value_t = 128)]
    sequences: usize,
    /// Tokens in a sequence.
    #[arg(long, default_value_t = 256)]
    context: usize,
    #[command(flatten)]
    output: Output,
}

/// A whole experiment at full size, with synthetic weights and text: the forecast of memory and
/// time, and what it took.
#[derive(clap::Args)]
#[command(after_help = EXPERIMENT_EXAMPLES)]
struct Experiment {
    /// The model's shape, and the paper's hook and dictionary for it.
    #[arg(long, value_enum, default_value_t = Shape::Gpt2)]
    shape: Shape,
    /// The number format of the checkpoint.
    #[arg(long, value_enum, default_value_t = Weights::F16)]
    weights: Weights,
    /// The number format of products.
    #[arg(long, value_enum, default_value_t = Products::F32)]
    dtype: Products,
    /// Tokens to harvest.
    #[arg(long, default_value_t = 65_536)]
    harvested: usize,
    /// Tokens to train on.
    #[arg(long, default_value_t = 409_600)]
    trained: u64,
    /// Where the checkpoint, the activations and the runs go: 1 to 5 GB. The checkpoint is
    /// reused.
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    output: Output,
}

/// What a notebook's user waits for: the kernel's start, first and later cells; and the training
/// step in a cell and outside.
#[derive(clap::Args)]
#[command(after_help = NOTEBOOK_EXAMPLES)]
struct Notebook {
    #[command(flatten)]
    bench: NotebookBench,
    #[command(flatten)]
    output: Output,
}

/// What the training step would run on: the processor, and the cards that were found, or why there
/// is no using any.
#[derive(clap::Args)]
#[command(after_help = MACHINE_EXAMPLES)]
struct Machine {
    #[command(flatten)]
    output: Output,
}

/// What it would bring to share an SAE's training among machines: the bytes of a step's exchange, its
/// time here, and the speed-up to expect by bandwidth and number of ranks.
#[derive(clap::Args)]
#[command(after_help = RANKS_EXAMPLES)]
struct Ranks {
    #[command(flatten)]
    bench: RanksBench,
    #[command(flatten)]
    output: Output,
}

typed! {
    /// [`ModelShape`], to be typed.
    Shape: ModelShape {
        Gpt2,
        #[value(name = "pythia-160m")]
        Pythia160M,
        #[value(name = "pythia-1.4b")]
        Pythia1_4B,
        #[value(name = "smollm2")]
        SmolLm2,
    }
}

impl Bench {
    pub fn run(self) -> Result<()> {
        match self.what {
            What::Step(args) => args.run(),
            What::Harvest(args) => args.run(),
            What::Sample(args) => args.run(),
            What::Experiment(args) => args.run(),
            What::Notebook(args) => args.run(),
            What::Machine(args) => args.run(),
            What::Ranks(args) => args.run(),
        }
    }
}

impl Step {
    fn run(self) -> Result<()> {
        self.output.begin();
        let report = bench::step(&self.bench)?;
        self.output.result(&report, || report.table().text())
    }
}

impl Harvest {
    fn run(self) -> Result<()> {
        self.output.begin();
        let report = bench::harvest(&HarvestBench {
            shape: self.shape.into(),
            layer: self.layer,
            compute: self.dtype.into(),
            device: self.device,
            weights: self.weights,
            sequences: self.sequences,
            n_ctx: self.context,
            repetitions: self.repetitions,
        })?;
        self.output.result(&report, || report.table().text())
    }
}

impl Sample {
    fn run(self) -> Result<()> {
        self.output.begin();
        let report = bench::sample(&SampleBench {
            model: self.model,
            device: self.device,
            sequences: self.sequences,
            n_ctx: self.context,
        })?;
        self.output.result(&report, || report.table().text())
    }
}

impl Experiment {
    fn run(self) -> Result<()> {
        self.output.begin();
        let report = bench::experiment(&ExperimentBench {
            shape: self.shape.into(),
            weights: self.weights,
            compute: self.dtype.into(),
            harvested: self.harvested,
            trained: self.trained,
            dir: self.out,
        })?;
        self.output.result(&report, || report.table().text())
    }
}

impl Notebook {
    fn run(self) -> Result<()> {
        self.output.begin();
        let report = bench::notebook(&self.bench)?;
        self.output.result(&report, || report.table().text())
    }
}

impl Machine {
    fn run(self) -> Result<()> {
        self.output.begin();
        let found = bench::machine();
        self.output.result(&found, || found.text())
    }
}

impl Ranks {
    fn run(self) -> Result<()> {
        let together = Together::begin()?;
        self.output.begin();
        let report = bench::ranks(&self.bench, together.ranks());
        let printed =
            report.map_err(Into::into).and_then(|report| match together.ranks().is_first() {
                true => self.output.result(&report, || report.table().text()),
                false => Ok(()),
            });
        together.end(printed)
    }
}
