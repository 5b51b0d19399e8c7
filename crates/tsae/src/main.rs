//! The `tsae` command: a thin layer over the library, one subcommand a verb.

#![deny(clippy::unwrap_used)]

mod command;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    command::exit(command::Cli::parse().run())
}
