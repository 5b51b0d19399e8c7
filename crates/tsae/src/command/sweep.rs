//! `tsae sweep` and `tsae results`.

use std::path::PathBuf;

use serde_json::json;
use tokenized_sae::Error as Library;
use tokenized_sae::display::interrupt;
use tokenized_sae::experiments::sweep::{SweepFile, SweepResults, results_page};
use tsae::{Error, Result};

use super::common::{DeviceArgs, there};
use super::jobs::{self, Jobs, JobsArgs};
use super::only::{self, Only};
use super::output::Output;

const EXAMPLES: &str = "\
Examples:
  tsae sweep pareto.toml --out runs/pareto
  tsae sweep pareto.toml --out runs/pareto --only 2/4                    # the second of four shares
  tsae sweep pareto.toml --out runs/pareto --jobs slurm --shares 64      # a script that runs it on a cluster

A description, in the words of a notebook's Sweep:
  model = \"tiny-gpt2\"
  sampled = 500_000                     # or text = \"books/*.txt\"
  hooks = [\"blocks.1.hook_resid_pre\", \"blocks.2.hook_resid_pre\"]
  ks = [5, 10, 20, 30]                  # also expansions, lrs, and vary = { … } for any other setting
  seeds = [0, 1, 2]
  baseline = \"SAE\"
  train = { tokens = 1_000_000, lr = 3e-3 }
  arms = [{ name = \"SAE\" }, { name = \"TSAE\", lookup = \"unigram\" }]";

const RESULTS_EXAMPLES: &str = "\
Examples:
  tsae results runs --out docs/results.md
  tsae results runs/pareto runs/layers --out page.md";

/// Train and evaluate a grid of SAEs that a file describes; what is finished is not done again.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Sweep {
    /// The description: TOML, or JSON if its name ends in .json.
    file: PathBuf,
    /// Where everything goes: the activations, and a folder for each run. Several processes may
    /// work in it at once; without a share, each stays until all is done.
    #[arg(long)]
    out: PathBuf,
    /// Only the Ith of N shares of the runs, equal in the work they take; auto/N: that of the task
    /// of a job array, numbered as Slurm's, HyperQueue's (1 to N) or Kubernetes' (0 to N-1) variables
    /// say; auto: of a Slurm array, which says N. Ends with status 75 if it is not complete.
    #[arg(long, value_name = "I/N", value_parser = only::parse, conflicts_with = "jobs")]
    only: Option<Only>,
    /// Only do what every share needs: harvest, list the runs and make the tables.
    #[arg(long, conflicts_with_all = ["only", "jobs"])]
    prepare: bool,
    /// Only read what shares have made; ends with status 75 and the names of runs if some are
    /// missing.
    #[arg(long, conflicts_with_all = ["only", "prepare", "memory", "jobs"])]
    collect: bool,
    #[command(flatten)]
    jobs: JobsArgs,
    /// Let runs that train together take this many GB of memory, instead of three quarters of the
    /// free memory.
    #[arg(long, value_name = "GB")]
    memory: Option<f64>,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    output: Output,
}

/// Write a page of the results of sweeps, beside the published figures.
#[derive(clap::Args)]
#[command(after_help = RESULTS_EXAMPLES)]
pub struct Results {
    /// Folders that sweeps were run in, or with such folders right below.
    #[arg(required = true)]
    dirs: Vec<PathBuf>,
    /// The page, a name that ends in .md; its figures go to a folder of the same name beside it.
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    output: Output,
}

impl Sweep {
    /// Runs the sweep or a part of it, or prints its jobs.
    pub fn run(self) -> Result<()> {
        self.output.begin();
        self.device.begin();
        if self.collect {
            let results = SweepResults::open(&self.out)?.complete()?;
            return self.output.result(&results, || results.table().text());
        }
        there(&self.file)?;
        if let Some(memory) = self.memory.filter(|memory| memory.is_nan() || *memory <= 0.0) {
            return Err(Error::config("memory", format!("memory = {memory}; it must be above 0")));
        }
        let file = SweepFile::read(&self.file)?;
        if let Some(engine) = self.jobs.jobs {
            let (text, value) = self.jobs(file.n_streams())?.written(engine)?;
            return self.output.result(&value, || text);
        }
        // Before anything is harvested, for it may say that there is no such share.
        let share = self.only.map(Only::share).transpose()?;
        interrupt::watch();
        // None if it was interrupted, which the exit status says.
        let Some(sweep) = file.sweep(&self.out).map_err(|error| self.within(error))? else {
            return Ok(());
        };
        if self.prepare {
            sweep.prepare(&self.out).map_err(|error| self.within(error))?;
            let runs = sweep.names()?.len();
            let made = json!({ "dir": self.out, "planned": runs });
            return self
                .output
                .result(&made, || format!("{} is ready for {runs} runs.", self.out.display()));
        }
        let mut sweep = match share {
            Some(share) => sweep.only(share.number(), share.of())?,
            None => sweep,
        };
        if let Some(gigabytes) = self.memory {
            sweep = sweep.memory((gigabytes * 1e9) as u64);
        }
        let results = sweep.run(&self.out).map_err(|error| self.within(error))?;
        self.output.result(&results, || results.table().text())?;
        self.output.remark(&format!("Written to {}.", self.out.display()));
        Ok(())
    }
}

impl Sweep {
    /// The jobs of the sweep, by default as many shares as there are streams of batches.
    fn jobs(&self, streams: usize) -> Result<Jobs> {
        let words = |further: &[&str]| -> Result<Vec<String>> {
            let (file, out) = (jobs::from_root(&self.file)?, jobs::from_root(&self.out)?);
            let words = ["sweep", &file, "--out", &out].into_iter().chain(further.iter().copied());
            Ok(words.map(str::to_owned).collect())
        };
        let memory = self.memory.map(|gigabytes| gigabytes.to_string());
        let of_share: Vec<&str> =
            memory.iter().flat_map(|gigabytes| ["--memory", gigabytes]).collect();
        Ok(Jobs {
            prepare: words(&["--prepare"])?,
            share: words(&of_share)?,
            collect: words(&["--collect"])?,
            n: self.jobs.shares.unwrap_or(streams),
        })
    }

    /// Says in which file a setting stands that cannot be used.
    fn within(&self, error: Library) -> Library {
        match error {
            Library::Config { field, why } => {
                Library::config(field, format!("{}: {why}", self.file.display()))
            }
            other => other,
        }
    }
}

impl Results {
    /// Writes the page.
    pub fn run(self) -> Result<()> {
        self.output.begin();
        self.dirs.iter().try_for_each(|dir| there(dir))?;
        results_page(&self.dirs, &self.out)?;
        self.output.result(&json!({ "page": self.out }), || self.out.display().to_string())
    }
}
