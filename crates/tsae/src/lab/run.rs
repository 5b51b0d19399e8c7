//! Notebooks without a browser: each cell in the real kernel, and a failure where there is one.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::process::{self, Input, Line};
use super::{KERNEL, Lab, Options, parameters, set_up};
use crate::error::{Error, Result};
use tokenized_sae::internal::files;

const DRIVER: &str = include_str!("run_notebook.py");
const DRIVERS: &str = include_str!("driver.py");
/// The kernel compiles the library again if it was edited since the set-up.
const START_SECONDS: u64 = 600;

/// How notebooks are run.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// Where the executed copies go. By default a folder `executed` beside each notebook; a
    /// notebook's own folder replaces the notebook.
    pub out: Option<PathBuf>,
    /// The longest that a cell may take, in seconds. By default as long as it likes.
    pub cell_seconds: Option<u64>,
    /// Names and values that replace those of the cell tagged `parameters`, in every notebook. A
    /// value is the text of a number, a bool or a string where the cell's `let NAME: TYPE = …;`
    /// says so, and Rust otherwise. See [`run`].
    pub parameters: Vec<(String, String)>,
    /// Whether to print a line for each cell.
    pub quiet: bool,
    /// The set-up.
    pub set_up: Options,
}

/// How long a cell took.
#[derive(Clone, Debug, Serialize)]
pub struct CellTime {
    /// The cell's number, counted over code cells of the executed copy from 1.
    pub cell: usize,
    /// Seconds, compiling included.
    pub seconds: f64,
}

/// A notebook that ran to its end.
#[derive(Clone, Debug, Serialize)]
pub struct Executed {
    /// The notebook.
    pub notebook: PathBuf,
    /// Its executed copy.
    pub ipynb: PathBuf,
    /// The same as a page.
    pub html: PathBuf,
    /// Its cells.
    pub cells: Vec<CellTime>,
}

/// What the driver says; see run_notebook.py.
#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Event {
    Started { cells: usize },
    Cell,
    Output,
    Remark { text: String },
    CellDone { cell: usize, seconds: f64, failed: Option<String>, source: String },
    Done { failed: bool },
}

impl Event {
    pub fn parse(line: &str) -> Option<Event> {
        serde_json::from_str(line).ok()
    }
}

/// The driver, ready to be given its request.
pub(super) fn driver(python: &Path, jupyter_path: &Path) -> Command {
    self::python(python, jupyter_path, DRIVER)
}

/// A Python script that knows our kernel and nothing of the user's Jupyter; what all of them need
/// stands before it.
pub(super) fn python(interpreter: &Path, jupyter_path: &Path, script: &str) -> Command {
    let mut command = Command::new(interpreter);
    command
        .args(["-c", &format!("{DRIVERS}\n{script}")])
        .env("JUPYTER_PATH", jupyter_path)
        // Nothing of the user's Jupyter is read or written.
        .env("JUPYTER_CONFIG_DIR", jupyter_path.join("config"))
        .env("JUPYTER_DATA_DIR", jupyter_path)
        .env("JUPYTER_RUNTIME_DIR", jupyter_path.join("runtime"))
        .env("IPYTHONDIR", jupyter_path.join("ipython"))
        .env("JUPYTER_PLATFORM_DIRS", "0")
        // The relay sees to it that a cell that failed says so, and has said all when it ends.
        .env_remove("TSAE_LIVE")
        .env("PYTHONWARNINGS", "ignore")
        .env("PYTHONUTF8", "1");
    if let Some(path) = process::path_to_tsae() {
        command.env("PATH", path);
    }
    command
}

/// Runs notebooks one after the other in the kernel, each cell in the notebook's folder, and writes
/// executed copies as `.ipynb` and `.html`.
///
/// A cell fails that does not compile, panics, ends with a failing `?` or reads standard input, which
/// nobody can answer here; one tagged `raises-exception` may. The first failure ends everything.
/// What cells write to standard error is output, in the executed copies, and on ours as it comes.
///
/// With parameters, a cell tagged `injected-parameters` follows the cell tagged `parameters`, as
/// with papermill. It is that whole cell with the values replaced, so that whatever the cell
/// computes from them follows; the cell itself runs before it, as it is. The executed copy
/// has the injected cell, and the values in `metadata.papermill.parameters`; with other parameters
/// it can be run again.
///
/// # Errors
/// [`Error::Cell`] with the number, source and message of the cell that failed, whose executed copy
/// is written all the same; [`Error::Parameter`], before anything runs, for a name that the
/// notebook does not declare or a value that does not fit its type; [`Error::Setup`] if the set-up
/// fails or the kernel does not start; [`Error::Library`] for a notebook that cannot be read.
pub fn run(notebooks: &[PathBuf], options: &RunOptions) -> Result<Vec<Executed>> {
    // A name that is wrong should say so before a set-up of many minutes.
    let mut injected = Vec::new();
    for notebook in notebooks {
        std::fs::metadata(notebook).map_err(Error::io("read", notebook))?;
        let given = &options.parameters;
        injected.push(if given.is_empty() {
            None
        } else {
            Some(parameters::inject(notebook, given)?)
        });
    }
    let lab = set_up(&options.set_up)?;
    notebooks
        .iter()
        .zip(injected)
        .map(|(notebook, injected)| run_one(&lab, notebook, injected, options))
        .collect()
}

/// Runs a notebook, or in its place what parameters have made of it.
fn run_one(
    lab: &Lab,
    notebook: &Path,
    injected: Option<Value>,
    options: &RunOptions,
) -> Result<Executed> {
    let notebook = std::path::absolute(notebook).map_err(Error::io("resolve", notebook))?;
    let folder = notebook.parent().unwrap_or(Path::new("/"));
    let stem = notebook.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let out = match &options.out {
        Some(out) => std::path::absolute(out).map_err(Error::io("resolve", out))?,
        None => folder.join("executed"),
    };
    files::create_folder(&out)?;
    let (ipynb, html) = (out.join(format!("{stem}.ipynb")), out.join(format!("{stem}.html")));
    let request = json!({
        "notebook": injected.unwrap_or_else(|| json!(notebook)), "title": stem, "kernel": KERNEL, "folder": folder, "ipynb": ipynb, "html": html,
        "start_seconds": START_SECONDS, "cell_seconds": options.cell_seconds,
    });

    let mut teller = Teller::new(&notebook, options.quiet);
    let step = format!("running {}", notebook.display());
    let ended = process::run(
        &step,
        &mut driver(&lab.python, &lab.jupyter_path),
        Input::Line(&request.to_string()),
        |line| {
            if let Line::Out(text) = line
                && let Some(event) = Event::parse(text)
            {
                teller.hear(event);
            }
        },
    )?;
    if let Some((cell, message, source_text)) = teller.failed {
        return Err(Error::Cell { notebook, cell, message, source_text });
    }
    if !ended.success || !teller.done {
        let why = format!(
            "{}\nIf the kernel does not start, `tsae lab --check` says what is missing.",
            ended.last_words
        );
        return Err(Error::Setup { step, why });
    }
    Ok(Executed { notebook, ipynb, html, cells: teller.cells })
}

/// Prints what the driver says, and keeps what counts.
struct Teller {
    quiet: bool,
    of: usize,
    cells: Vec<CellTime>,
    failed: Option<(usize, String, String)>,
    done: bool,
    name: String,
}

impl Teller {
    fn new(notebook: &Path, quiet: bool) -> Teller {
        let name = notebook.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !quiet {
            eprintln!("{name}: starting the kernel");
        }
        Teller { quiet, of: 0, cells: Vec::new(), failed: None, done: false, name }
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Started { cells } => self.of = cells,
            Event::Cell | Event::Output => {}
            Event::Remark { text } => {
                if !self.quiet {
                    eprint!("{text}");
                }
            }
            Event::CellDone { cell, seconds, failed, source } => {
                if !self.quiet {
                    let word = if failed.is_some() { "FAILED" } else { "ok" };
                    let first =
                        source.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
                    let first: String = first.chars().take(80).collect();
                    eprintln!(
                        "{}: cell {cell} of {}  {seconds:7.2} s  {word}  {first}",
                        self.name, self.of
                    );
                }
                self.cells.push(CellTime { cell, seconds });
                if let Some(message) = failed {
                    self.failed = Some((cell, message, source));
                }
            }
            Event::Done { failed } => {
                self.done = true;
                if !failed {
                    // Cells that may fail have.
                    self.failed = None;
                }
            }
        }
    }
}
