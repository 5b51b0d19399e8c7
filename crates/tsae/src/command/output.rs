//! What a verb prints: results on the standard output, remarks on the standard error.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use tokenized_sae::display::Progress;
use tsae::{Error, Result};

/// How the result is printed.
#[derive(clap::Args)]
pub struct Output {
    /// Print the result as one line of JSON.
    #[arg(long)]
    pub json: bool,
    /// Show no progress and make no remarks.
    #[arg(long, short)]
    quiet: bool,
}

impl Output {
    /// Keeps quiet from now on, if requested.
    pub fn begin(&self) {
        if self.quiet {
            Progress::silence();
        }
    }

    /// Prints the result: as JSON, or as `text` if there is any.
    pub fn result(&self, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<()> {
        match self.json {
            true => print(&serde_json::to_string(value).map_err(Error::json("result"))?),
            false => print(&text()),
        }
    }

    /// Makes a remark, which is not part of the result.
    pub fn remark(&self, text: &str) {
        if !self.quiet {
            // Nobody has to listen.
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    /// Whether to leave remarks out.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }
}

/// The name of the standard output in an error.
const STDOUT: &str = "the standard output";

/// Whether an error is about the standard output.
pub fn is_stdout(path: &Path) -> bool {
    path == Path::new(STDOUT)
}

/// Prints a line, or several, on the standard output.
pub fn print(text: &str) -> Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush())
        .map_err(Error::io("write to", STDOUT))
}
