//! The `tsae` command: a thin layer over the library, one subcommand a verb.

#![deny(clippy::unwrap_used)]

mod command;

use std::process::ExitCode;

fn main() -> ExitCode {
    command::main()
}
