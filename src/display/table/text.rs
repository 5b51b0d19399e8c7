//! A table as aligned text: definitions as footnotes, or, where there is no header, behind the
//! values.

use super::{Cell, Table};
use crate::base::format::width;
use crate::display::chart::superscript;

const GAP: &str = "  ";

pub(super) fn text(table: &Table) -> String {
    let mut notes = Vec::new();
    let header: Vec<String> =
        table.columns.iter().map(|c| marked(&c.name, &c.definition, &mut notes)).collect();
    let rows: Vec<Vec<String>> =
        (0..table.rows.len()).map(|r| row_text(table, r, &mut notes)).collect();

    let columns = rows.iter().map(Vec::len).chain([table.width()]).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|c| {
            rows.iter()
                .chain([&header])
                .filter_map(|row| row.get(c))
                .map(|cell| width(cell))
                .max()
                .unwrap_or(0)
        })
        .collect();
    let line = |cells: &[String]| {
        let places = widths
            .iter()
            .enumerate()
            .map(|(c, &w)| padded(cells.get(c).map_or("", String::as_str), w, table.right(c)));
        format!("{}\n", places.collect::<Vec<_>>().join(GAP).trim_end())
    };

    let mut out = String::new();
    if !table.title.is_empty() {
        out += &format!("{}\n\n", one_line(&table.title));
    }
    if table.has_header() {
        out += &line(&header);
        let total = widths.iter().sum::<usize>() + GAP.len() * widths.len().saturating_sub(1);
        out += &format!("{}\n", "─".repeat(total));
    }
    rows.iter().for_each(|row| out += &line(row));
    if !table.caption.is_empty() {
        out += &format!("\n{}\n", table.caption);
    }
    if !notes.is_empty() {
        out.push('\n');
        for (i, note) in notes.iter().enumerate() {
            out += &format!("{} {note}\n", superscript(i as i32 + 1));
        }
    }
    out
}

fn row_text(table: &Table, r: usize, notes: &mut Vec<String>) -> Vec<String> {
    let row = &table.rows[r];
    let mut cells: Vec<String> = (0..table.width())
        .map(|c| {
            let cell = row.cells.get(c).unwrap_or(&Cell::Missing);
            let shown = match cell {
                Cell::Bar { share, shown } => format!("{} {}", bar(*share), one_line(shown)),
                cell => one_line(cell.shown()),
            };
            if c == 0 && table.has_header() {
                marked(&shown, &row.definition, notes)
            } else if table.is_best(r, c) {
                format!("*{shown}")
            } else {
                shown
            }
        })
        .collect();
    if !table.has_header() && !row.definition.is_empty() {
        cells.push(one_line(&row.definition));
    }
    cells
}

/// Ten blocks of which a share is filled.
fn bar(share: f64) -> String {
    let full = if share.is_finite() { (share.clamp(0.0, 1.0) * 10.0).round() as usize } else { 0 };
    "█".repeat(full) + &"░".repeat(10 - full)
}

/// The name with the number of its footnote; equal definitions share one.
pub(super) fn marked(name: &str, definition: &str, notes: &mut Vec<String>) -> String {
    if definition.is_empty() {
        return one_line(name);
    }
    let i = notes.iter().position(|note| note == definition).unwrap_or_else(|| {
        notes.push(definition.to_owned());
        notes.len() - 1
    });
    format!("{} {}", one_line(name), superscript(i as i32 + 1))
}

fn padded(cell: &str, to: usize, right: bool) -> String {
    let gap = " ".repeat(to.saturating_sub(width(cell)));
    if right { gap + cell } else { cell.to_owned() + &gap }
}

/// A line break inside a cell would break the table.
fn one_line(text: &str) -> String {
    text.replace('\n', "⏎").replace('\t', " ")
}
