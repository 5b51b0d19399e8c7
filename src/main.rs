//! The `tsae` command: a thin skin over the library, one subcommand a verb.

#![deny(clippy::unwrap_used)]

mod command;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde::Serialize;
use tokenized_sae::bench;
use tokenized_sae::compare::{CompareConfig, Text, compare};
use tokenized_sae::display::interrupt;
use tokenized_sae::hub::Hub;
use tokenized_sae::lab;
use tokenized_sae::prelude::*;

/// Tokenized sparse autoencoders: train, compare and look at them.
#[derive(Parser)]
#[command(name = "tsae", version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Set up what is missing, and open JupyterLab on the notebooks.
    Lab {
        /// Only report what is there and what is missing.
        #[arg(long)]
        check: bool,
        /// Further arguments for JupyterLab, after `--`.
        #[arg(last = true)]
        jupyter: Vec<String>,
    },
    /// Run notebooks headless in the real kernel; fail where a cell fails.
    Run {
        /// Where the executed .ipynb and .html go; by default `executed` beside each notebook.
        #[arg(long)]
        out: Option<PathBuf>,
        /// A value for `let NAME: TYPE = …;` in the cell tagged "parameters": text for a String, Rust for other than plain types. Repeatable.
        #[arg(short, long = "parameter", value_name = "NAME=VALUE", value_parser = parameter)]
        parameters: Vec<(String, String)>,
        /// The notebooks.
        #[arg(required = true)]
        notebooks: Vec<PathBuf>,
    },
    /// Train an SAE and a TSAE on the same activations and compare them on held-out text.
    Compare(Compare),
    /// Write what the latents of a trained SAE do into one HTML file: contexts, histograms, the tokens they point at.
    Features(command::Features),
    /// Train and evaluate a grid of SAEs that a file describes; what is finished is not done again.
    Sweep(command::Sweep),
    /// Write a page of what came of sweeps, beside the published figures.
    Results(command::Results),
    /// Read an SAE of this or another library, and write it for one of them.
    Convert(command::Convert),
    /// Show what a model expects next.
    Predict(Predict),
    /// Fetch models from the Hugging Face hub into the local cache, or what is new of them, and print their folders.
    Download {
        /// gpt2, EleutherAI/pythia-70m, pythia-70m, or organisation/name; each with @revision if it is not to be the main branch.
        #[arg(required = true)]
        models: Vec<String>,
    },
    /// Measure how fast this machine does the work, beside what it could do at best.
    #[command(subcommand)]
    Bench(Bench),
}

#[derive(Subcommand)]
enum Bench {
    /// The training step, on made-up activations.
    Step(BenchStep),
    /// Tokens through a model to a hook, with made-up weights of the true shape; writes no file.
    Harvest(BenchHarvest),
    /// A whole experiment at full size, with made-up weights and text: what it was said to take of memory and time, and what it took.
    Experiment(BenchExperiment),
    /// What a notebook's reader waits for: the kernel's start, first and later cells; and the training step in a cell and outside.
    Notebook(BenchNotebook),
}

#[derive(clap::Args)]
struct BenchStep {
    /// gpt2 (768,12288,30,4096), pythia-1.4b (2048,16384,50,4096), or D,N,K,B: d_model, latents, active latents, batch.
    #[arg(long, default_value = "gpt2")]
    shape: bench::StepShape,
    /// The token table.
    #[arg(long, value_enum, default_value_t = bench::StepLookup::Learned)]
    lookup: bench::StepLookup,
    /// int8, bf16, f32, portable, int8-proven, bf16-proven; by default the fastest of this processor.
    #[arg(long)]
    kernel: Option<String>,
    /// SAEs that train on the same batches.
    #[arg(long, default_value_t = 1)]
    saes: usize,
    /// Steps that count; the middle one does.
    #[arg(long, default_value_t = 15)]
    steps: usize,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct BenchHarvest {
    /// The model's shape.
    #[arg(long, value_enum, default_value_t = Shape::Gpt2)]
    shape: Shape,
    /// The hook is blocks.LAYER.hook_resid_pre.
    #[arg(long, default_value_t = 8)]
    layer: usize,
    /// In what products are formed.
    #[arg(long, value_enum, default_value_t = Numbers::F32)]
    dtype: Numbers,
    /// How many sequences.
    #[arg(long, default_value_t = 32)]
    sequences: usize,
    /// Tokens in a sequence.
    #[arg(long, default_value_t = 256)]
    context: usize,
    /// How often; the middle one counts.
    #[arg(long, default_value_t = 5)]
    repetitions: usize,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct BenchExperiment {
    /// The model's shape, and the paper's hook and dictionary for it.
    #[arg(long, value_enum, default_value_t = Shape::Gpt2)]
    shape: Shape,
    /// Write the checkpoint in f32 instead of f16.
    #[arg(long)]
    f32: bool,
    /// In what products are formed.
    #[arg(long, value_enum, default_value_t = Numbers::F32)]
    dtype: Numbers,
    /// Tokens to harvest.
    #[arg(long, default_value_t = 65_536)]
    harvested: usize,
    /// Tokens to train on.
    #[arg(long, default_value_t = 409_600)]
    trained: u64,
    /// Where the checkpoint, the activations and the runs go: 1 to 5 GB.
    #[arg(long)]
    out: PathBuf,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct BenchNotebook {
    /// Begin with an empty cache folder, which is removed at the end: the kernel's files, the standard library's source and the compiled
    /// library and crates are made anew (minutes, which "set-up" reports). Python, evcxr_jupyter and what cargo has downloaded are taken
    /// from where they are installed, and installed in that folder if they are not.
    #[arg(long)]
    cold: bool,
    /// With a warmed spare kernel waiting for each start, as `tsae lab` has it.
    #[arg(long)]
    spare: bool,
    /// How many kernels are started; the middle one counts.
    #[arg(long, default_value_t = 3)]
    starts: usize,
    /// How often each kind of later cell is run, over all kernels; the middle one counts.
    #[arg(long, default_value_t = 10)]
    repetitions: usize,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Shape {
    Gpt2,
    #[value(name = "pythia-160m")]
    Pythia160M,
    #[value(name = "pythia-1.4b")]
    Pythia1_4B,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Numbers {
    F32,
    Bf16,
}

impl From<Shape> for bench::ModelShape {
    fn from(shape: Shape) -> bench::ModelShape {
        match shape {
            Shape::Gpt2 => bench::ModelShape::Gpt2,
            Shape::Pythia160M => bench::ModelShape::Pythia160M,
            Shape::Pythia1_4B => bench::ModelShape::Pythia1_4B,
        }
    }
}

impl From<Numbers> for Compute {
    fn from(numbers: Numbers) -> Compute {
        match numbers {
            Numbers::F32 => Compute::F32,
            Numbers::Bf16 => Compute::Bf16,
        }
    }
}

#[derive(clap::Args)]
struct Compare {
    /// A built-in model (tiny-gpt2, tiny-pythia), a folder with a Hugging Face checkpoint, or a model of the Hugging Face hub (gpt2, pythia-70m).
    model: String,
    /// Text to train on: a file, a folder or a glob.
    #[arg(long, conflicts_with = "sampled")]
    text: Option<String>,
    /// Without text: how many tokens the model samples for itself.
    #[arg(long, default_value_t = 500_000)]
    sampled: usize,
    /// The hook, such as blocks.8.hook_resid_pre; by default hook_resid_pre of the block half-way up.
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
    /// Learning rates to choose from; the SAE gets the best for itself, the TSAE the same one.
    #[arg(long, value_delimiter = ',', default_values_t = tokenized_sae::compare::LEARNING_RATES)]
    lr: Vec<f64>,
    /// Seeds samples, directions and the order of the activations.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Processing of the weights: "transformer-lens" folds layer norms and centres what writes to the residual stream, "raw" leaves them.
    #[arg(long, value_enum, default_value_t = Weights::TransformerLens)]
    processing: Weights,
    /// Seconds between two checkpoints, at least.
    #[arg(long, default_value_t = TrainConfig::default().checkpoint_seconds)]
    checkpoint_seconds: f64,
    /// Where everything goes.
    #[arg(long)]
    out: PathBuf,
}

#[derive(clap::Args)]
struct Predict {
    /// A built-in model, a checkpoint folder, or a model of the Hugging Face hub.
    model: String,
    /// Text to go on from; the beginning-of-sequence token is put before it.
    #[arg(long, required_unless_present = "token_ids", conflicts_with = "token_ids")]
    text: Option<String>,
    /// Token ids to go on from, taken as they are: 1,2,3.
    #[arg(long, value_delimiter = ',')]
    token_ids: Option<Vec<u32>>,
    /// How many next tokens to show.
    #[arg(long, default_value_t = 10)]
    top: usize,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Weights {
    TransformerLens,
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

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Lab { check: true, .. } => lab::check(&lab::Options::default()).map(|report| println!("{report}")),
        Verb::Lab { jupyter, .. } => lab::open(&lab::OpenOptions { arguments: jupyter, ..Default::default() }),
        Verb::Run { out, parameters, notebooks } => run(lab::RunOptions { out, parameters, ..Default::default() }, &notebooks),
        Verb::Compare(args) => args.run(),
        Verb::Features(args) => args.run(),
        Verb::Sweep(args) => args.run(),
        Verb::Results(args) => args.run(),
        Verb::Convert(args) => args.run(),
        Verb::Predict(args) => args.run(),
        Verb::Download { models } => download(&models),
        Verb::Bench(Bench::Step(args)) => args.run(),
        Verb::Bench(Bench::Harvest(args)) => args.run(),
        Verb::Bench(Bench::Experiment(args)) => args.run(),
        Verb::Bench(Bench::Notebook(args)) => args.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tsae: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `NAME=VALUE`; the value may be empty, and may have further `=` in it.
fn parameter(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.to_owned())),
        _ => Err("write it as NAME=VALUE, such as k=32".to_owned()),
    }
}

fn run(options: lab::RunOptions, notebooks: &[PathBuf]) -> Result<()> {
    for executed in lab::run(notebooks, &options)? {
        println!("{}\n{}", executed.ipynb.display(), executed.html.display());
    }
    Ok(())
}

fn download(models: &[String]) -> Result<()> {
    interrupt::watch();
    for model in models {
        println!("{}", Model::download(&Hub::from_env(), model)?.folder.display());
    }
    Ok(())
}

impl Compare {
    fn run(self) -> Result<()> {
        interrupt::watch();
        let model = Model::load_with(&self.model, self.processing.into())?;
        let config = CompareConfig {
            text: self.text.map_or(Text::Sampled(self.sampled), Text::Files),
            hook: self.hook,
            k: self.k,
            expansion: self.expansion,
            tokens: self.tokens,
            learning_rates: self.lr,
            seed: self.seed,
            checkpoint_seconds: self.checkpoint_seconds,
        };
        match compare(&model, &config, &self.out)? {
            Some(found) => {
                println!("{}\n{}\nWritten to {}.", found.evaluations.table().text(), found.report.speedup.text(), self.out.display())
            }
            None => println!("Interrupted. The same command goes on from here."),
        }
        Ok(())
    }
}

/// Prints a report as one line of JSON, or as a table.
fn print_report(json: bool, report: &impl Serialize, table: impl FnOnce() -> Table) -> Result<()> {
    match json {
        true => println!("{}", serde_json::to_string(report).map_err(Error::json("report"))?),
        false => println!("{}", table().text()),
    }
    Ok(())
}

impl BenchStep {
    fn run(self) -> Result<()> {
        let report = bench::step(&bench::StepBench {
            shape: self.shape,
            lookup: self.lookup,
            kernel: self.kernel,
            saes: self.saes,
            steps: self.steps,
        })?;
        print_report(self.json, &report, || report.table())
    }
}

impl BenchHarvest {
    fn run(self) -> Result<()> {
        let report = bench::harvest(&bench::HarvestBench {
            shape: self.shape.into(),
            layer: self.layer,
            compute: self.dtype.into(),
            sequences: self.sequences,
            n_ctx: self.context,
            repetitions: self.repetitions,
        })?;
        print_report(self.json, &report, || report.table())
    }
}

impl BenchExperiment {
    fn run(self) -> Result<()> {
        interrupt::watch();
        let report = bench::experiment(&bench::ExperimentBench {
            shape: self.shape.into(),
            f16: !self.f32,
            compute: self.dtype.into(),
            harvested: self.harvested,
            trained: self.trained,
            dir: self.out,
        })?;
        print_report(self.json, &report, || report.table())
    }
}

impl BenchNotebook {
    fn run(self) -> Result<()> {
        let report = bench::notebook(&bench::NotebookBench {
            cold: self.cold,
            spare: self.spare,
            starts: self.starts,
            repetitions: self.repetitions,
            ..Default::default()
        })?;
        print_report(self.json, &report, || report.table())
    }
}

impl Predict {
    fn run(self) -> Result<()> {
        let model = Model::load(&self.model)?;
        let ids = match (self.text, self.token_ids) {
            (Some(text), _) => {
                let mut ids = vec![model.bos()];
                ids.extend(model.encode(&text)?);
                ids
            }
            (None, ids) => ids.unwrap_or_default(),
        };
        let prediction = model.predict(&ids, self.top)?;
        if self.json {
            println!("{}", serde_json::to_string(&prediction).map_err(Error::json("prediction"))?);
            return Ok(());
        }
        for candidate in &prediction.top {
            println!("{:>9.4}  {:>6}  {:?}", candidate.logprob, candidate.id, candidate.token);
        }
        if let Some(loss) = prediction.loss {
            println!("loss of the given tokens: {loss:.4} nats");
        }
        Ok(())
    }
}
