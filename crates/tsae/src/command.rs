//! The commands, one file per verb, and how a command ends.

mod bench;
mod common;
mod compare;
mod completions;
mod convert;
mod download;
mod eval;
mod features;
mod harvest;
mod jobs;
mod lab;
mod only;
mod output;
mod plot;
mod predict;
mod probe;
mod ranks;
mod run;
mod sweep;
mod synth;
#[cfg(test)]
mod tests;
mod tokenness;
mod train;
mod words;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Command, CommandFactory, FromArgMatches, Parser, Subcommand};
use tokenized_sae::Error as Library;
use tokenized_sae::display::interrupt;
use tsae::{Error, Result};

/// What stands below the list of verbs.
const AFTER: &str = "\
Exit status:
  0    done
  1    failed; the standard error says why
  2    wrong usage: no such option, or a setting that cannot be used
  75   a share of work, or what is collected, is not complete; run it again
  130  interrupted; what was made is kept, and the same command continues from there

Results go to the standard output, with --json as one line of JSON; progress and remarks go to the standard error (--quiet: neither).
Every verb continues where it was stopped, and repeats nothing that is done. `tsae VERB --help` has examples of each.

Examples:
  tsae lab                                        # JupyterLab, on the notebooks
  tsae compare tiny-gpt2 --out results            # the whole job without a notebook: offline, in minutes
  tsae features results/TSAE --out features.html  # what its latents do

  tsae harvest tiny-gpt2 --sampled 400000 --out cache/tiny    # the same step by step
  tsae train cache/tiny --lookup none,unigram --k 16 --out runs/mine
  tsae eval runs/mine";

/// Tokenized sparse autoencoders: train, compare and look at them.
#[derive(Parser)]
#[command(name = "tsae", version, after_help = AFTER)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Lab(lab::Lab),
    Run(run::Run),
    Compare(compare::Compare),
    Harvest(harvest::Harvest),
    Train(Box<train::Train>),
    Eval(eval::Eval),
    Plot(plot::Plot),
    Speedup(plot::Speed),
    Tokenness(tokenness::Tokenness),
    Ngrams(tokenness::Ngrams),
    Probe(probe::Probe),
    Absorption(probe::Absorption),
    Features(features::Features),
    Sweep(sweep::Sweep),
    Results(sweep::Results),
    Synth(synth::Synth),
    Convert(convert::Convert),
    Predict(predict::Predict),
    Download(download::Download),
    Bench(bench::Bench),
    Completions(completions::Completions),
}

impl Cli {
    /// Does what was typed.
    pub fn run(self) -> Result<()> {
        match self.verb {
            Verb::Lab(args) => args.run(),
            Verb::Run(args) => args.run(),
            Verb::Compare(args) => args.run(),
            Verb::Harvest(args) => args.run(),
            Verb::Train(args) => args.run(),
            Verb::Eval(args) => args.run(),
            Verb::Plot(args) => args.run(),
            Verb::Speedup(args) => args.run(),
            Verb::Tokenness(args) => args.run(),
            Verb::Ngrams(args) => args.run(),
            Verb::Probe(args) => args.run(),
            Verb::Absorption(args) => args.run(),
            Verb::Features(args) => args.run(),
            Verb::Sweep(args) => args.run(),
            Verb::Results(args) => args.run(),
            Verb::Synth(args) => args.run(),
            Verb::Convert(args) => args.run(),
            Verb::Predict(args) => args.run(),
            Verb::Download(args) => args.run(),
            Verb::Bench(args) => args.run(),
            Verb::Completions(args) => args.run(),
        }
    }
}

/// Runs what was typed.
pub fn main() -> ExitCode {
    let command = words::at_home(Cli::command());
    let matches = command.clone().get_matches();
    let mut verb = &command;
    let mut typed = &matches;
    while let Some((name, further)) = typed.subcommand() {
        verb = verb.find_subcommand(name).unwrap_or(verb);
        typed = further;
    }
    match Cli::from_arg_matches(&matches) {
        Ok(cli) => exit(cli.run(), verb),
        Err(error) => error.exit(),
    }
}

/// Says what went wrong, and gives the exit status; see [`AFTER`].
fn exit(done: Result<()>, verb: &Command) -> ExitCode {
    let status = match &done {
        Err(Error::Library(Library::Interrupted { .. })) => 130,
        // Whoever read our output has stopped reading.
        Err(Error::Library(Library::Io { path, source, .. }))
            if output::is_stdout(path) && source.kind() == io::ErrorKind::BrokenPipe =>
        {
            return 0.into();
        }
        Err(Error::Library(Library::Config { .. } | Library::Description { .. })) => 2,
        // What sysexits.h calls a temporary failure, for engines that start it again.
        Err(Error::Library(Library::Incomplete { .. })) => 75,
        Err(_) => 1,
        Ok(()) if interrupt::was_pressed() => 130,
        Ok(()) => 0,
    };
    if ranks::is_spoken_for(verb.get_name()) {
        return status.into();
    }
    // Nothing can be done if nobody listens there either.
    let _ = match &done {
        Err(error) => writeln!(io::stderr(), "tsae: {}", words::told(error, verb)),
        Ok(()) if status == 130 => {
            writeln!(io::stderr(), "tsae: interrupted; the same command continues from here")
        }
        Ok(()) => Ok(()),
    };
    status.into()
}
