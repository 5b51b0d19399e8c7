//! Where the lines go. Each way of showing progress is one variant.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use super::bar::{self, State};
use crate::display::Place;

/// The width of the bar on a terminal, in characters.
const BAR: usize = 20;

/// Whether this process shows no progress at all.
static SILENT: AtomicBool = AtomicBool::new(false);

pub(super) fn silence() {
    SILENT.store(true, Ordering::Relaxed);
}

/// A way to show progress.
pub(super) enum Sink {
    /// Nothing at all.
    Off,
    /// A line of text each time, on the standard output (in a notebook cell) or error.
    Lines(Out),
    /// One line with a bar, drawn again and again.
    Terminal(Out),
    /// A bar in a notebook cell, drawn again and again; what it showed last.
    Live(Place, String),
}

/// A stream.
pub(super) enum Out {
    Stdout,
    Stderr,
    #[cfg(test)]
    Memory(std::rc::Rc<std::cell::RefCell<String>>),
}

impl Sink {
    /// By the environment: the notebook, a terminal, a file.
    pub(super) fn choose() -> Sink {
        let wish = std::env::var("TSAE_PROGRESS").unwrap_or_default();
        if SILENT.load(Ordering::Relaxed) {
            return Sink::Off;
        }
        match Place::new() {
            Some(place) => Sink::Live(place, String::new()),
            None => Sink::of(&wish, crate::display::in_notebook(), std::io::stderr().is_terminal()),
        }
    }

    pub(super) fn of(wish: &str, in_notebook: bool, on_terminal: bool) -> Sink {
        match wish {
            "off" => Sink::Off,
            _ if in_notebook => Sink::Lines(Out::Stdout),
            "lines" => Sink::Lines(Out::Stderr),
            _ if on_terminal => Sink::Terminal(Out::Stderr),
            _ => Sink::Lines(Out::Stderr),
        }
    }

    pub(super) fn is_off(&self) -> bool {
        matches!(self, Sink::Off)
    }

    /// The least time between two updates, after so many seconds. Lines that stay, one below the
    /// other, must not fill a notebook.
    pub(super) fn interval_s(&self, elapsed: f64) -> f64 {
        match self {
            Sink::Terminal(_) => 0.1,
            Sink::Live(..) => 0.2,
            Sink::Off | Sink::Lines(_) => (elapsed / 20.0).max(1.0),
        }
    }

    pub(super) fn update(&mut self, line: &str, share: Option<f64>) {
        match self {
            Sink::Off => {}
            Sink::Lines(out) => out.write(&format!("{line}\n")),
            // Wrapping is off while the line is drawn: a line too long for the terminal is cut
            // instead of leaving its head behind.
            Sink::Terminal(out) => out.write(&format!(
                "\r\x1b[?7l{}{line}\x1b[K\x1b[?7h",
                share.map(drawn).unwrap_or_default()
            )),
            Sink::Live(place, shown) => {
                line.clone_into(shown);
                place.draw(&bar::html(line, share, State::Running), line);
            }
        }
    }

    /// A line that stays, above those that follow.
    pub(super) fn remark(&mut self, line: &str) {
        match self {
            Sink::Off => {}
            Sink::Lines(out) => out.write(&format!("{line}\n")),
            Sink::Terminal(out) => out.write(&format!("\r{line}\x1b[K\n")),
            Sink::Live(..) => Out::Stdout.write(&format!("{line}\n")),
        }
    }

    /// The last line; `share` is how much was done.
    pub(super) fn last(&mut self, line: &str, share: Option<f64>) {
        match self {
            Sink::Off => {}
            Sink::Lines(out) => out.write(&format!("{line}\n")),
            Sink::Terminal(out) => out.write(&format!("\r{line}\x1b[K\n")),
            Sink::Live(place, _) if place.is_drawn() => {
                let state = if share.is_some_and(|share| share < 1.0) {
                    State::Stopped
                } else {
                    State::Done
                };
                place.draw(&bar::html(line, share, state), line);
            }
            // It was too quick for a bar.
            Sink::Live(..) => Out::Stdout.write(&format!("{line}\n")),
        }
    }

    /// The call ended without a last line.
    pub(super) fn abandon(&mut self, share: Option<f64>) {
        match self {
            Sink::Terminal(out) => out.write("\r\x1b[K"),
            Sink::Live(place, shown) if place.is_drawn() => {
                place.draw(&bar::html(shown, share, State::Stopped), shown)
            }
            Sink::Off | Sink::Lines(_) | Sink::Live(..) => {}
        }
    }
}

impl Out {
    /// Progress is never worth an error: a closed stream swallows it.
    fn write(&mut self, text: &str) {
        fn to(mut stream: impl Write, text: &str) {
            let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
        }
        match self {
            Out::Stdout => to(std::io::stdout().lock(), text),
            Out::Stderr => to(std::io::stderr().lock(), text),
            #[cfg(test)]
            Out::Memory(memory) => memory.borrow_mut().push_str(text),
        }
    }
}

fn drawn(share: f64) -> String {
    let full = (share * BAR as f64) as usize;
    format!(
        "{}{} {:3.0} %  ",
        "━".repeat(full),
        "╌".repeat(BAR - full.min(BAR)),
        (share * 100.0).floor()
    )
}
