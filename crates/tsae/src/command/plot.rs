//! `tsae plot` and `tsae speedup`.

use std::path::PathBuf;

use serde_json::json;
use tokenized_sae::prelude::*;
use tsae::Result;

use super::common::there;
use super::output::Output;

const EXAMPLES: &str = "\
Examples:
  tsae plot runs/mine --out figures
  tsae plot results/runs --out figures --json";

const SPEEDUP_EXAMPLES: &str = "\
Examples:
  tsae speedup runs/mine
  tsae speedup results/runs --json";

/// Draw the figures of finished runs: training and held-out curves, and the lengths of the rows
/// of tables.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Plot {
    /// The folder that the runs are in.
    runs: PathBuf,
    /// The folder of the figures, each an .svg.
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    output: Output,
}

/// How many times fewer tokens the best TSAE of a folder needed to reach the final value of the
/// best SAE.
#[derive(clap::Args)]
#[command(after_help = SPEEDUP_EXAMPLES)]
pub struct Speed {
    /// The folder that the runs are in.
    runs: PathBuf,
    #[command(flatten)]
    output: Output,
}

impl Plot {
    pub fn run(self) -> Result<()> {
        self.output.begin();
        there(&self.runs)?;
        let figures = Runs::open(&self.runs)?.save_figures(&self.out)?;
        let lines =
            || figures.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join("\n");
        self.output.result(&json!({ "figures": figures }), lines)
    }
}

impl Speed {
    pub fn run(self) -> Result<()> {
        self.output.begin();
        there(&self.runs)?;
        let found = speedup(&Runs::open(&self.runs)?)?;
        self.output.result(&found, || found.text())
    }
}
