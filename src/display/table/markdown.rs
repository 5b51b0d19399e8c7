//! A table as Markdown, with definitions as footnotes below it.

use super::text::marked;
use super::{Cell, Table};
use crate::display::chart::superscript;

pub(super) fn markdown(table: &Table) -> String {
    let mut notes = Vec::new();
    let width = table.width();
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let header = (0..width).map(|c| {
        table
            .columns
            .get(c)
            .map_or(String::new(), |c| escaped(&marked(&c.name, &c.definition, &mut notes)))
    });
    let mut out = line(header.collect());
    out +=
        &line((0..width).map(|c| if table.right(c) { "---:" } else { "---" }.to_owned()).collect());
    for (r, row) in table.rows.iter().enumerate() {
        let cells = (0..width).map(|c| {
            let shown = escaped(row.cells.get(c).unwrap_or(&Cell::Missing).shown());
            match c {
                0 => escaped(&marked(
                    row.cells.first().map_or("", Cell::shown),
                    &row.definition,
                    &mut notes,
                )),
                _ if table.is_best(r, c) => format!("**{shown}**"),
                _ => shown,
            }
        });
        out += &line(cells.collect());
    }
    if !table.caption.is_empty() {
        out += &format!("\n{}\n", escaped(&table.caption));
    }
    // A line break after each, which two spaces at its end are.
    let notes: Vec<String> = notes
        .iter()
        .enumerate()
        .map(|(i, note)| format!("{} {}", superscript(i as i32 + 1), escaped(note)))
        .collect();
    if !notes.is_empty() {
        out += &format!("\n{}\n", notes.join("  \n"));
    }
    out
}

/// What Markdown would read as something else than text.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' | '~' => out.extend(['\\', c]),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\n' | '\t' => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
