//! `tsae bench notebook`: what a user of a notebook waits for, and whether the library is as fast
//! in a cell as it is outside.

use std::time::Instant;

use serde::Serialize;

use super::median;
use super::small_step::small_step;
use crate::error::{Error, Result};
use crate::lab::{self, Cold, Lab, TimedCell, time_cells};
use tokenized_sae::display::{Column, Progress, Row, Table};

/// The step that is run in a cell and outside.
const SMALL_STEP: &str = include_str!("small_step.rs");
const STEPS: usize = 40;

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
pub struct NotebookBench {
    /// Begin with an empty cache folder, which is removed at the end: the kernel's files, the
    /// standard library's source and the compiled library and crates are made again (minutes, which
    /// "set-up" reports). Python, evcxr_jupyter and what cargo has downloaded are used where
    /// they are installed, or else installed in that folder.
    #[arg(long)]
    pub cold: bool,
    /// With a warmed spare kernel waiting for each start, as `tsae lab` has it.
    #[arg(long)]
    pub spare: bool,
    /// How many kernels are started; the middle one counts.
    #[arg(long, default_value_t = 3)]
    pub starts: usize,
    /// How often each kind of later cell is run, over all kernels; the middle one counts.
    #[arg(long, default_value_t = 10)]
    pub repetitions: usize,
    /// The set-up.
    #[arg(skip)]
    pub set_up: lab::Options,
}

impl Default for NotebookBench {
    fn default() -> NotebookBench {
        NotebookBench {
            cold: false,
            spare: false,
            starts: 3,
            repetitions: 10,
            set_up: lab::Options::default(),
        }
    }
}

/// What was measured: seconds, of which the middle one counts, and tokens a second.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NotebookReport {
    /// Whether the cache folder was a new one.
    pub cold: bool,
    /// Whether a spare kernel waited for each start.
    pub spare: bool,
    /// The set-up, once: finding what is there and making what is missing.
    pub set_up: f64,
    /// From the start of the kernel until it answers.
    pub kernel_start: f64,
    /// The first cell: `:dep tokenized-sae = …` and `use tokenized_sae::prelude::*;`.
    pub first_cell: f64,
    /// The second: `let model: Model = Model::load("tiny-gpt2")?;`.
    pub first_let: f64,
    /// A cell that calls the library and keeps what it returns.
    pub call: f64,
    /// A cell that prints a line.
    pub print: f64,
    /// A cell that ends in a figure.
    pub figure: f64,
    /// The first `let` whose type is not written, after all these: rust-analyzer reads the standard
    /// library for it. With a spare it has done so.
    pub untyped_let: f64,
    /// Tokens a second of a training step in a cell.
    pub step_in_cell: f64,
    /// Tokens a second of the same in this process, in turn with it.
    pub step_in_command: f64,
    /// The former over the latter.
    pub step_ratio: f64,
}

/// What a cell is measured for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    FirstCell,
    FirstLet,
    /// Made ready for others, and not counted.
    Ready,
    Call,
    Print,
    Figure,
    UntypedLet,
    Step,
}

/// Sets up what is missing, starts kernels one after the other, and runs the same cells in each.
///
/// # Errors
/// [`Error::Library`](crate::Error::Library) if there is nothing to run;
/// [`Error::Setup`](crate::Error::Setup) if the set-up, a kernel or a cell fails.
pub fn notebook(bench: &NotebookBench) -> Result<NotebookReport> {
    if bench.starts == 0 || bench.repetitions == 0 {
        return Err(Error::config(
            "repetitions",
            "there is nothing to run: starts and repetitions are at least 1 each",
        ));
    }
    let cold = if bench.cold { Some(Cold::new(&bench.set_up)?) } else { None };
    let start = Instant::now();
    let lab = lab::set_up(cold.as_ref().map_or(&bench.set_up, Cold::options))?;
    let set_up = start.elapsed().as_secs_f64();

    let cells = cells(&lab, bench.repetitions.div_ceil(bench.starts));
    let sources: Vec<String> = cells.iter().map(|(_, source)| source.clone()).collect();
    let (mut starts, mut timed, mut in_cell, mut in_command) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut progress = Progress::new("notebook", bench.starts as u64, "kernels");
    for started in 1..=bench.starts {
        in_command.push(small_step(STEPS)?);
        let kernel = time_cells(&lab, &sources, bench.spare)?;
        starts.push(kernel.start);
        for ((kind, source), cell) in cells.iter().zip(kernel.cells) {
            check(*kind, source, &cell)?;
            if *kind == Kind::Step {
                in_cell.push(cell.printed.trim().parse().unwrap_or(0.0));
            }
            timed.push((*kind, cell.seconds));
        }
        progress.set(started as u64);
    }
    progress.finish();
    let of = |wanted: Kind| {
        median(
            timed.iter().filter(|(kind, _)| *kind == wanted).map(|(_, seconds)| *seconds).collect(),
        )
    };
    let (step_in_cell, step_in_command) = (median(in_cell), median(in_command));
    Ok(NotebookReport {
        cold: bench.cold,
        spare: bench.spare,
        set_up,
        kernel_start: median(starts),
        first_cell: of(Kind::FirstCell),
        first_let: of(Kind::FirstLet),
        call: of(Kind::Call),
        print: of(Kind::Print),
        figure: of(Kind::Figure),
        untyped_let: of(Kind::UntypedLet),
        step_in_cell,
        step_in_command,
        step_ratio: step_in_cell / step_in_command,
    })
}

/// The cells of a kernel: the quickstart's first two, some rounds of each kind with another text
/// every time, and the step.
fn cells(lab: &Lab, rounds: usize) -> Vec<(Kind, String)> {
    let path = lab.project.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\"");
    let sae = "let hook: HookPoint = HookPoint::resid_pre(2);\n\
               let tsae: Sae = Sae::new(SaeConfig::for_model(&model).with_lookup(Lookup::unigram(&model, hook)?))?;";
    let mut cells = vec![
        (
            Kind::FirstCell,
            format!(":dep tokenized-sae = {{ path = \"{path}\" }}\nuse tokenized_sae::prelude::*;"),
        ),
        (Kind::FirstLet, "let model: Model = Model::load(\"tiny-gpt2\")?;".to_owned()),
        (Kind::Ready, sae.to_owned()),
    ];
    for round in 1..=rounds {
        cells.push((
            Kind::Call,
            format!("let ids: Vec<u32> = model.encode(\"once upon a time there were {round}\")?;"),
        ));
        cells
            .push((Kind::Print, format!("println!(\"{{}} tokens in round {round}\", ids.len());")));
        cells.push((Kind::Figure, "plot::lookup_norms(&tsae)?".to_owned()));
    }
    cells.push((Kind::UntypedLet, "let again = Model::load(\"tiny-gpt2\")?;".to_owned()));
    let step = format!("{SMALL_STEP}\nprintln!(\"{{}}\", small_step({STEPS})?);");
    cells.push((Kind::Step, step));
    cells
}

/// A cell that does not do what it is for is not worth its time.
fn check(kind: Kind, source: &str, cell: &TimedCell) -> Result<()> {
    let missing = match kind {
        Kind::Print if cell.printed.is_empty() => "printed nothing",
        Kind::Figure if !cell.shown => "showed nothing",
        Kind::Step if cell.printed.trim().parse::<f64>().is_err() => "printed no rate",
        _ => return Ok(()),
    };
    Err(Error::Setup {
        step: "timing cells in the kernel".to_owned(),
        why: format!("a cell {missing}:\n{source}"),
    })
}

impl NotebookReport {
    /// The report as a table.
    pub fn table(&self) -> Table {
        let mut table = Table::new("notebook", &[Column::text(""), Column::text("")]);
        let mut push = |name: &str, shown: String, definition: &str| {
            table.push(Row::new(name).defined(definition).text(&shown))
        };
        let begin =
            if self.cold { "from a new cache folder" } else { "from the cache folder as it was" };
        push("set-up", format!("{:.2} s", self.set_up), begin);
        let start = if self.spare {
            "until the kernel answers, a spare one waiting"
        } else {
            "until the kernel answers"
        };
        push("kernel start", format!("{:.2} s", self.kernel_start), start);
        push(
            "first cell",
            format!("{:.2} s", self.first_cell),
            "`:dep tokenized-sae = …` and `use tokenized_sae::prelude::*;`",
        );
        push(
            "first let",
            format!("{:.2} s", self.first_let),
            "`let model: Model = Model::load(\"tiny-gpt2\")?;`",
        );
        push(
            "call",
            format!("{:.2} s", self.call),
            "a later cell that keeps what the library returns",
        );
        push("print", format!("{:.2} s", self.print), "a later cell that prints a line");
        push("figure", format!("{:.2} s", self.figure), "a later cell that ends in a figure");
        push(
            "untyped let",
            format!("{:.2} s", self.untyped_let),
            "the first: `let again = Model::load(\"tiny-gpt2\")?;`",
        );
        let step = "training step of 256,4096,16,2048 without a table";
        push("step in a cell", format!("{:.0} tokens/s", self.step_in_cell), step);
        push("step in the command", format!("{:.0} tokens/s", self.step_in_command), step);
        push("ratio", format!("{:.2}", self.step_ratio), "in a cell over in the command");
        table
    }
}
