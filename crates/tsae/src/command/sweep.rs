//! `tsae sweep` and `tsae results`.

use std::path::PathBuf;

use serde_json::json;
use tokenized_sae::Error as Library;
use tokenized_sae::display::interrupt;
use tokenized_sae::experiments::sweep::{SweepFile, results_page};
use tsae::{Error, Result};

use super::common::{DeviceArgs, there};
use super::output::Output;

const EXAMPLES: &str = "\
Examples:
  tsae sweep pareto.toml --out runs/pareto
  tsae sweep pareto.toml --out runs/pareto --only 2/4    # the second of four shares
  tsae sweep pareto.toml --out runs/pareto --list        # a command for each hook and seed, for a cluster

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
    /// work in it at once.
    #[arg(long)]
    out: PathBuf,
    /// Only the Ith of N equal shares of the runs, in their order.
    #[arg(long, value_name = "I/N", value_parser = share)]
    only: Option<(usize, usize)>,
    /// Only print the commands that run it in N shares (by default one for each hook and seed), for
    /// a cluster's job list.
    #[arg(long, value_name = "N", num_args = 0..=1, conflicts_with = "only")]
    list: Option<Option<usize>>,
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

/// `I/N`.
fn share(text: &str) -> std::result::Result<(usize, usize), String> {
    let parts = text
        .split_once('/')
        .and_then(|(i, n)| Some((i.trim().parse().ok()?, n.trim().parse().ok()?)));
    parts
        .filter(|&(i, n)| 1 <= i && i <= n)
        .ok_or_else(|| "write it as I/N, from 1/N to N/N".to_owned())
}

impl Sweep {
    /// Runs the sweep, or lists its commands.
    pub fn run(self) -> Result<()> {
        self.output.begin();
        self.device.begin();
        there(&self.file)?;
        if let Some(memory) = self.memory.filter(|memory| memory.is_nan() || *memory <= 0.0) {
            return Err(Error::config("memory", format!("memory = {memory}; it must be above 0")));
        }
        let file = SweepFile::read(&self.file)?;
        if let Some(shares) = self.list {
            let n = shares.unwrap_or(file.n_streams());
            if n == 0 {
                return Err(Error::config("list", "list = 0; the sweep needs 1 command at least"));
            }
            let (file, out) = (quoted(&self.file), quoted(&self.out));
            let commands: Vec<String> =
                (1..=n).map(|i| format!("tsae sweep {file} --out {out} --only {i}/{n}")).collect();
            return self.output.result(&commands, || commands.join("\n"));
        }
        interrupt::watch();
        // None if it was interrupted, which the exit status says.
        let Some(sweep) = file.sweep(&self.out).map_err(|error| self.within(error))? else {
            return Ok(());
        };
        let (i, n) = self.only.unwrap_or((1, 1));
        let mut sweep = sweep.only(i, n)?;
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

/// A path as a shell takes it.
fn quoted(path: &std::path::Path) -> String {
    let path = path.display().to_string();
    match path.chars().all(|c| c.is_alphanumeric() || "/._-+=,".contains(c)) {
        true => path,
        false => format!("'{}'", path.replace('\'', "'\\''")),
    }
}
