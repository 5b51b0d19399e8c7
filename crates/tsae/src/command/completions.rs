//! `tsae completions`.

use clap::CommandFactory;
use clap_complete::Shell;
use tsae::Result;

use super::{Cli, output};

const EXAMPLES: &str = "\
Examples:
  tsae completions bash > ~/.local/share/bash-completion/completions/tsae
  tsae completions zsh > ~/.zfunc/_tsae    # with ~/.zfunc in fpath
  tsae completions fish > ~/.config/fish/completions/tsae.fish";

/// Print what a shell needs to complete verbs and options.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Completions {
    /// The shell.
    shell: Shell,
}

impl Completions {
    pub fn run(self) -> Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "tsae", &mut script);
        output::print(String::from_utf8_lossy(&script).trim_end())
    }
}
