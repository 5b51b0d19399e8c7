//! Displays that are redrawn while a cell runs.
//!
//! evcxr passes a cell's text on line by line, and a display only at the end. The kernel "Rust
//! (tsae)" has a relay in front of it, which makes a display of every line marked as below and
//! redraws it when another line of the same id comes (see `lab/relay.py`). Under any other kernel
//! there is no such place, and whoever wants one falls back to lines.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;

/// The variable that the kernel sets if it has the relay.
const VARIABLE: &str = "TSAE_LIVE";
/// What a marked line begins with: a character that no text has a use for, and our name.
const MARK: &str = "\u{1e}TSAE ";

fn is(variable: &str, wanted: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| value == wanted)
}

fn has_relay() -> bool {
    super::in_notebook() && is(VARIABLE, "1")
}

/// What ends a line that a cell has left open, where the kernel has the relay: evcxr knows its own
/// lines only at a line's beginning.
pub(super) fn line_end() -> String {
    if has_relay() { format!("{MARK}\n") } else { String::new() }
}

/// A place in the output of the cell that runs, which can be drawn again and again.
pub(crate) struct Place {
    id: String,
    is_drawn: bool,
}

impl Place {
    /// A place below what the cell has shown so far, if the kernel can redraw it and nobody has
    /// asked for lines, or for nothing, instead (`TSAE_PROGRESS`).
    pub(crate) fn new() -> Option<Place> {
        static PLACES: AtomicU64 = AtomicU64::new(0);
        let is_wanted = !is("TSAE_PROGRESS", "off") && !is("TSAE_PROGRESS", "lines");
        (has_relay() && is_wanted).then(|| {
            Place::called(format!(
                "tsae-{}-{}",
                std::process::id(),
                PLACES.fetch_add(1, Ordering::Relaxed)
            ))
        })
    }

    pub(super) fn called(id: String) -> Place {
        Place { id, is_drawn: false }
    }

    /// Whether it has been drawn.
    pub(crate) fn is_drawn(&self) -> bool {
        self.is_drawn
    }

    /// Draws it, or redraws it. It is never worth an error: a closed stream swallows it.
    pub(crate) fn draw(&mut self, html: &str, text: &str) {
        let line = self.line(html, text);
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
    }

    /// What is printed to draw it.
    pub(super) fn line(&mut self, html: &str, text: &str) -> String {
        let picture = json!({ "id": self.id, "update": self.is_drawn, "data": { "text/html": html, "text/plain": text } });
        self.is_drawn = true;
        // In JSON no line ends before its end.
        format!("{MARK}{picture}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_drawn_once_and_then_redrawn_each_time_in_one_line() {
        let mut place = Place::called("p".into());
        let [first, second] = [place.line("<b>\n1</b>", "1"), place.line("<b>2</b>", "2")];
        assert_eq!(
            first,
            "\u{1e}TSAE {\"data\":{\"text/html\":\"<b>\\n1</b>\",\"text/plain\":\"1\"},\"id\":\"p\",\"update\":false}\n"
        );
        assert!(second.contains("\"update\":true") && second.matches('\n').count() == 1);
    }

    #[test]
    fn outside_a_live_kernel_there_is_no_place() {
        assert!(Place::new().is_none());
    }
}
