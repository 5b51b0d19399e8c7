//! `tsae run`.

use std::path::PathBuf;

use tsae::Result;
use tsae::lab::{self, RunOptions};

use super::output::Output;

const EXAMPLES: &str = "\
Examples:
  tsae run notebooks/01_quickstart.ipynb
  tsae run --out executed notebooks/02_pareto_gpt2.ipynb notebooks/04_pythia.ipynb
  tsae run -p k=32 -p layer=1 notebooks/01_quickstart.ipynb    # as papermill does";

/// Run notebooks headless in the real kernel; fail where a cell fails.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Run {
    /// Where the executed .ipynb and .html go; by default `executed` beside each notebook.
    #[arg(long)]
    out: Option<PathBuf>,
    /// A value for `let NAME: TYPE = …;` in the cell tagged "parameters": text for a String, Rust
    /// for types that are not plain. Repeatable.
    #[arg(short, long = "parameter", value_name = "NAME=VALUE", value_parser = parameter)]
    parameters: Vec<(String, String)>,
    #[command(flatten)]
    output: Output,
    /// The notebooks.
    #[arg(required = true)]
    notebooks: Vec<PathBuf>,
}

impl Run {
    pub fn run(self) -> Result<()> {
        self.output.begin();
        let options = RunOptions {
            out: self.out,
            parameters: self.parameters,
            quiet: self.output.is_quiet(),
            ..Default::default()
        };
        let executed = lab::run(&self.notebooks, &options)?;
        let lines = || {
            executed
                .iter()
                .map(|it| format!("{}\n{}", it.ipynb.display(), it.html.display()))
                .collect::<Vec<_>>()
        };
        self.output.result(&executed, || lines().join("\n"))
    }
}

/// `NAME=VALUE`; the value may be empty, and may have further `=` in it.
fn parameter(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.to_owned()))
        }
        _ => Err("write it as NAME=VALUE, such as k=32".to_owned()),
    }
}
