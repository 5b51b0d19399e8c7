//! Where the lines go. Each way of showing progress is one variant.

use std::io::{IsTerminal, Write};

/// The width of the bar on a terminal, in characters.
const BAR: usize = 20;

/// A way to show progress.
pub(super) enum Sink {
    /// Nothing at all.
    Off,
    /// A line of text each time, on the standard output (in a notebook cell) or error.
    Lines(Out),
    /// One line with a bar, drawn again and again.
    Terminal(Out),
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
        Sink::of(&wish, crate::display::in_notebook(), std::io::stderr().is_terminal())
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

    /// The least time between two updates, after so many seconds. Lines that stay, one below the other, must not fill a notebook.
    pub(super) fn interval_s(&self, elapsed: f64) -> f64 {
        match self {
            Sink::Terminal(_) => 0.1,
            Sink::Off | Sink::Lines(_) => (elapsed / 20.0).max(1.0),
        }
    }

    pub(super) fn update(&mut self, line: &str, share: Option<f64>) {
        match self {
            Sink::Off => {}
            Sink::Lines(out) => out.write(&format!("{line}\n")),
            // Wrapping is off while the line is drawn: a line too long for the terminal is cut instead of leaving its head behind.
            Sink::Terminal(out) => out.write(&format!("\r\x1b[?7l{}{line}\x1b[K\x1b[?7h", share.map(bar).unwrap_or_default())),
        }
    }

    pub(super) fn last(&mut self, line: &str) {
        match self {
            Sink::Off => {}
            Sink::Lines(out) => out.write(&format!("{line}\n")),
            Sink::Terminal(out) => out.write(&format!("\r{line}\x1b[K\n")),
        }
    }

    /// The call ended without a last line.
    pub(super) fn abandon(&mut self) {
        if let Sink::Terminal(out) = self {
            out.write("\r\x1b[K");
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

fn bar(share: f64) -> String {
    let full = (share * BAR as f64) as usize;
    format!("{}{} {:3.0} %  ", "━".repeat(full), "╌".repeat(BAR - full.min(BAR)), (share * 100.0).floor())
}
