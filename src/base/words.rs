//! What to do, in the words of where one is: a method in a cell, an option on a command line, a key
//! of a description.

use std::sync::atomic::{AtomicU8, Ordering};

/// Where a person reads what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Words {
    /// A cell, or a program that uses the library.
    Cell,
    /// A command line.
    Command,
    /// A file that describes a run.
    Description,
}

static SPOKEN: AtomicU8 = AtomicU8::new(Words::Cell as u8);

/// From now on, everything is said in these words.
pub fn speak(words: Words) {
    SPOKEN.store(words as u8, Ordering::Relaxed);
}

/// One setting in the words that are spoken.
pub(crate) fn say(cell: &str, command: &str, description: &str) -> String {
    let said = match SPOKEN.load(Ordering::Relaxed) {
        0 => cell,
        1 => command,
        _ => description,
    };
    said.to_owned()
}

/// The setting of the column that holds the text: of this name, or of one to be chosen.
pub(crate) fn column(name: Option<&str>) -> String {
    let quoted = |name: &str| match name.contains(|c: char| !c.is_alphanumeric() && c != '_') {
        true => format!("'{name}'"),
        false => name.to_owned(),
    };
    let option = name.map_or("NAME".to_owned(), quoted);
    let name = name.unwrap_or("…");
    say(
        &format!("column({name:?})"),
        &format!("--column {option}"),
        &format!("column = {name:?}"),
    )
}

/// The setting of the format of a text's files, by the name of its variant and by its own.
pub(crate) fn text_format(variant: &str, name: &str) -> String {
    say(
        &format!("format(TextFormat::{variant})"),
        &format!("--format {name}"),
        &format!("format = {name:?}"),
    )
}
