//! Tables that say what their numbers mean.

mod html;
mod markdown;
mod text;

use super::show;
use crate::base::format;

/// A table: a title, columns, rows, and a caption; each column and row may carry the definition of
/// what it holds, which is a tooltip in a notebook, and in text a footnote or, in a table without a
/// header, a last column.
///
/// ```
/// use tokenized_sae::display::{Column, Row, Table};
///
/// let mut table = Table::new("Held-out text", &[Column::text("metric"), Column::number("SAE"), Column::number("TSAE")]);
/// table.push(Row::new("NMSE").defined("mean over tokens of ‖x̂ − x‖² / ‖x‖²").lowest_is_best().number(0.0412).number(0.0131));
/// table.push(Row::new("L0").defined("latents that are not zero, a token").number(16.0).number(16.0));
/// assert!(table.text().contains("0.0131"));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    title: String,
    columns: Vec<Column>,
    rows: Vec<Row>,
    caption: String,
}

/// One column of a [`Table`]: its name, on which side its cells stand, and what they mean.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    name: String,
    right: bool,
    definition: String,
    best: Best,
}

/// One row of a [`Table`]: its cells, and what they mean if the row is one metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    cells: Vec<Cell>,
    definition: String,
    best: Best,
}

/// What stands in one place of a [`Table`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    /// Words.
    Text(String),
    /// A number and how it is written.
    Number {
        /// The value, by which the best is found.
        value: f64,
        /// What is shown: `"41.5 %"`.
        shown: String,
    },
    /// A share of one, as a bar and in words.
    Bar {
        /// The share: 1 fills the bar.
        share: f64,
        /// What is written beside it: `"41.5 %"`.
        shown: String,
    },
    /// Nothing: shown as a dash.
    Missing,
}

/// Which number of a row or column is set in bold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Best {
    /// None.
    #[default]
    None,
    /// The least: errors, losses.
    Lowest,
    /// The greatest: explained variance.
    Highest,
}

impl Table {
    /// A table without rows. Columns without any name make a table without a header, as for a list
    /// of settings.
    pub fn new(title: &str, columns: &[Column]) -> Table {
        Table {
            title: title.to_owned(),
            columns: columns.to_vec(),
            rows: Vec::new(),
            caption: String::new(),
        }
    }

    /// A table with all its rows.
    pub(crate) fn filled(
        title: &str,
        columns: &[Column],
        rows: impl IntoIterator<Item = Row>,
    ) -> Table {
        rows.into_iter().fold(Table::new(title, columns), Table::with)
    }

    /// A table of names and values without a header, such as a configuration.
    ///
    /// ```
    /// use tokenized_sae::display::Table;
    /// let table = Table::pairs("tiny-gpt2", &[("d_model", "128".into()), ("n_layers", "4".into())]);
    /// assert_eq!(table.text(), "tiny-gpt2\n\nd_model   128\nn_layers  4\n");
    /// ```
    pub fn pairs(title: &str, pairs: &[(&str, String)]) -> Table {
        let rows = pairs.iter().map(|(name, value)| Row::new(name).text(value));
        Table::filled(title, &[Column::text(""), Column::text("")], rows)
    }

    /// Adds a row at the end. Cells that it lacks are shown as missing.
    pub fn push(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// The table with `row` at its end.
    pub fn with(mut self, row: Row) -> Table {
        self.push(row);
        self
    }

    /// The table with a sentence below it.
    pub fn caption(mut self, caption: &str) -> Table {
        caption.clone_into(&mut self.caption);
        self
    }

    /// The table under another title.
    pub(crate) fn titled(mut self, title: &str) -> Table {
        title.clone_into(&mut self.title);
        self
    }

    /// The table without any number in bold.
    pub(crate) fn without_best(mut self) -> Table {
        self.columns.iter_mut().for_each(|column| column.best = Best::None);
        self.rows.iter_mut().for_each(|row| row.best = Best::None);
        self
    }

    /// The title.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// The rows.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The table as HTML in the colours of the page around it.
    pub fn html(&self) -> String {
        html::html(self)
    }

    /// The table as aligned text, with definitions as footnotes; in a table without a header, they
    /// stand behind the values.
    pub fn text(&self) -> String {
        text::text(self)
    }

    /// The table as Markdown, as GitHub and Jupyter read it; definitions are footnotes, the best
    /// numbers are bold. Without the title.
    pub fn markdown(&self) -> String {
        markdown::markdown(self)
    }

    /// Shows the table in a notebook cell.
    pub fn evcxr_display(&self) {
        show(&self.html(), &self.text());
    }

    fn width(&self) -> usize {
        self.rows.iter().map(|row| row.cells.len()).chain([self.columns.len()]).max().unwrap_or(0)
    }

    fn has_header(&self) -> bool {
        self.columns.iter().any(|column| !column.name.is_empty())
    }

    fn right(&self, column: usize) -> bool {
        self.columns.get(column).is_some_and(|c| c.right)
    }

    /// Whether the cell holds the best of two or more numbers of its row, or of its column.
    fn is_best(&self, row: usize, column: usize) -> bool {
        let cell = |r: usize, c: usize| self.rows[r].cells.get(c).and_then(Cell::value);
        let Some(value) = cell(row, column) else { return false };
        let in_row = (0..self.width()).filter_map(|c| cell(row, c));
        let in_column = (0..self.rows.len()).filter_map(|r| cell(r, column));
        self.rows[row].best.picks(value, in_row)
            || self.columns.get(column).is_some_and(|c| c.best.picks(value, in_column))
    }
}

impl Best {
    fn picks(self, value: f64, all: impl Iterator<Item = f64>) -> bool {
        let finite: Vec<f64> = all.filter(|x| x.is_finite()).collect();
        let differ = finite.iter().any(|&x| x != finite[0]);
        differ
            && match self {
                Best::None => false,
                Best::Lowest => finite.iter().all(|&x| value <= x),
                Best::Highest => finite.iter().all(|&x| value >= x),
            }
    }
}

impl Column {
    /// A column of words, on the left.
    pub fn text(name: &str) -> Column {
        Column { name: name.to_owned(), right: false, definition: String::new(), best: Best::None }
    }

    /// A column of numbers, on the right.
    pub fn number(name: &str) -> Column {
        Column { right: true, ..Column::text(name) }
    }

    /// Says what the column holds.
    pub fn defined(mut self, definition: &str) -> Column {
        definition.clone_into(&mut self.definition);
        self
    }

    /// Sets the least number of the column in bold.
    pub fn lowest_is_best(self) -> Column {
        self.best(Best::Lowest)
    }

    /// Sets the greatest number of the column in bold.
    pub fn highest_is_best(self) -> Column {
        self.best(Best::Highest)
    }

    pub(crate) fn best(self, best: Best) -> Column {
        Column { best, ..self }
    }
}

impl Row {
    /// A row whose first cell is `name`.
    pub fn new(name: &str) -> Row {
        Row {
            cells: vec![Cell::Text(name.to_owned())],
            definition: String::new(),
            best: Best::None,
        }
    }

    /// Says what the row holds; shown at its first cell.
    pub fn defined(mut self, definition: &str) -> Row {
        definition.clone_into(&mut self.definition);
        self
    }

    /// Sets the least number of the row in bold.
    pub fn lowest_is_best(self) -> Row {
        self.best(Best::Lowest)
    }

    /// Sets the greatest number of the row in bold.
    pub fn highest_is_best(self) -> Row {
        self.best(Best::Highest)
    }

    pub(crate) fn best(self, best: Best) -> Row {
        Row { best, ..self }
    }

    /// Adds words.
    pub fn text(self, text: &str) -> Row {
        self.cell(Cell::Text(text.to_owned()))
    }

    /// Adds a number, shown with three significant digits; `None` is an empty place.
    pub fn number(self, value: impl Into<Option<f64>>) -> Row {
        self.written(value.into(), |value| format::significant(value, 3))
    }

    /// Adds a number, shown as the text says: `.shown(0.415, percent(0.415))`.
    pub fn shown(self, value: f64, shown: impl Into<String>) -> Row {
        self.cell(Cell::Number { value, shown: shown.into() })
    }

    /// Adds a whole number with its suffix: `1.2 M`.
    pub fn count(self, n: u64) -> Row {
        self.shown(n as f64, format::count(n))
    }

    /// Adds a share as a percentage; `None` is an empty place.
    pub fn percent(self, share: impl Into<Option<f64>>) -> Row {
        self.written(share.into(), format::percent)
    }

    /// Adds a whole number with all its digits; `None` is an empty place.
    pub(crate) fn digits(self, n: impl Into<Option<usize>>) -> Row {
        self.written(n.into().map(|n| n as f64), |n| n.to_string())
    }

    /// Adds a learning rate.
    pub(crate) fn rate(self, lr: f64) -> Row {
        self.shown(lr, format!("{lr:e}"))
    }

    /// Adds a number as `write` writes it; `None` is an empty place.
    pub(crate) fn written(self, value: Option<f64>, write: impl FnOnce(f64) -> String) -> Row {
        match value {
            Some(value) => self.shown(value, write(value)),
            None => self.missing(),
        }
    }

    /// Adds a share as a bar with its percentage.
    pub fn bar(self, share: f64) -> Row {
        self.cell(Cell::Bar { share, shown: format::percent(share) })
    }

    /// Adds an empty place.
    pub fn missing(self) -> Row {
        self.cell(Cell::Missing)
    }

    pub(crate) fn cell(mut self, cell: Cell) -> Row {
        self.cells.push(cell);
        self
    }
}

impl Cell {
    /// What is shown.
    pub(crate) fn shown(&self) -> &str {
        match self {
            Cell::Text(text) => text,
            Cell::Number { shown, .. } | Cell::Bar { shown, .. } => shown,
            Cell::Missing => "–",
        }
    }

    /// The number, if it is one.
    fn value(&self) -> Option<f64> {
        match self {
            Cell::Number { value, .. } | Cell::Bar { share: value, .. } => Some(*value),
            Cell::Text(_) | Cell::Missing => None,
        }
    }
}

#[cfg(test)]
mod tests;
