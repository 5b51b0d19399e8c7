//! `tsae lab`.

use tsae::Result;
use tsae::lab::{self, OpenOptions, Options};

use super::output::Output;

const EXAMPLES: &str = "\
Examples:
  tsae lab                      # in the browser, on the notebooks of this folder
  tsae lab --check              # what is set up, and what would be
  tsae lab -- --no-browser --port 9000";

/// Set up what is missing, and open JupyterLab on the notebooks.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Lab {
    /// Only report what is there and what is missing.
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    output: Output,
    /// Further arguments for JupyterLab, after `--`.
    #[arg(last = true)]
    jupyter: Vec<String>,
}

impl Lab {
    pub fn run(self) -> Result<()> {
        self.output.begin();
        if self.check {
            let report = lab::check(&Options::default())?;
            return self.output.result(&report, || report.to_string());
        }
        lab::open(&OpenOptions { arguments: self.jupyter, ..Default::default() })
    }
}
