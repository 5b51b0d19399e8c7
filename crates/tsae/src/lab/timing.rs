//! How long the kernel takes to start, and to run cells.

use serde::Deserialize;
use serde_json::json;

use super::process::{self, Input, Line};
use super::{KERNEL, Lab, run};
use crate::error::{Error, Result};

const DRIVER: &str = include_str!("time_cells.py");
/// The longest that the start or a cell may take: a kernel compiles the library again if it was
/// edited since the set-up.
const SECONDS: u64 = 600;

/// A kernel that ran some cells.
pub(crate) struct Timed {
    /// Seconds until it answered.
    pub start: f64,
    /// The result of each cell.
    pub cells: Vec<TimedCell>,
}

/// The result of a cell.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct TimedCell {
    /// From the request until the kernel had replied and was idle.
    pub seconds: f64,
    /// Its standard output.
    pub printed: String,
    /// Whether it showed a value.
    pub shown: bool,
}

/// What the driver says; see time_cells.py.
#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event {
    Started { seconds: f64 },
    Cell(TimedCell),
    Done,
}

/// Starts a kernel in the project's folder, with a spare waiting for it or without, runs the cells
/// one after the other, and ends it.
///
/// # Errors
/// [`Error::Setup`] with the message and source of a cell that fails, or with what keeps the kernel
/// from starting.
pub(crate) fn time_cells(lab: &Lab, cells: &[String], spare: bool) -> Result<Timed> {
    let spares = spare.then(|| lab.jupyter_path.with_file_name("spares"));
    let request = json!({ "kernel": KERNEL, "folder": lab.project, "seconds": SECONDS, "cells": cells, "spares": spares });
    let mut timed = Timed { start: 0.0, cells: Vec::new() };
    let mut done = false;
    let mut told = Vec::new();
    let step = "timing cells in the kernel";
    let mut command = run::python(&lab.python, &lab.jupyter_path, DRIVER);
    let ended =
        process::run(step, &mut command, Input::Line(&request.to_string()), |line| match line {
            Line::Out(text) => match serde_json::from_str(text) {
                Ok(Event::Started { seconds }) => timed.start = seconds,
                Ok(Event::Cell(cell)) => timed.cells.push(cell),
                Ok(Event::Done) => done = true,
                // The kernel's own output is ours.
                Err(_) => {}
            },
            Line::Err(text) => told.push(text.clone()),
        })?;
    if ended.success && done {
        return Ok(timed);
    }
    let why = if told.is_empty() { ended.last_words } else { told.join("\n") };
    Err(Error::Setup { step: step.to_owned(), why })
}
