//! How R² of n-grams shows itself.

use super::{NgramR2, NgramR2s};
use crate::base::format;
use crate::display::{Column, Row, Show, Shown, Table, shows};
use crate::latents::tokenness::figures;

const R2: &str = "1 − Σ‖x − prediction‖² / Σ‖x − x̄‖² on the second half of the sequences; the prediction is the mean activation, over the \
                  first half, of the longest n-gram that ends there, drawn towards the shorter one's the more the rarer it is";

const DRAWN: &str = "how many rows the mean of the next shorter n-gram counts as beside its own: the variance of rows about the mean of \
                     their n-gram over that of n-grams about the shorter";

impl NgramR2 {
    /// R² for each length, as a table.
    pub fn table(&self) -> Table {
        let columns = [
            Column::text("n-gram of at most"),
            Column::number("R²").defined(R2),
            Column::number("n-grams").defined(&format!(
                "how many of exactly that length occur {} times or more in the first half",
                self.min_count
            )),
            Column::number("drawn by").defined(DRAWN),
            Column::number("rows covered")
                .defined("the share of rows of the second half that end one of them"),
        ];
        let mut table =
            Table::new(&format!("What the last tokens tell of {}", self.hook), &columns);
        for score in &self.scores {
            let row = Row::new(length(score.n)).number(score.r2);
            table.push(row.count(score.grams as u64).number(score.prior).percent(score.covered));
        }
        let cut =
            if self.cut { " Memory did not suffice for the rarest longest n-grams." } else { "" };
        table.caption(&format!("{}{cut}", self.what_was_counted()))
    }

    fn what_was_counted(&self) -> String {
        let [fitted, scored, outliers] =
            [self.fitted, self.scored, self.outliers].map(|n| format::count(n as u64));
        let outliers = match self.outliers {
            0 => String::new(),
            _ => format!(", and {outliers} over ten medians long"),
        };
        format!(
            "{}: means of {fitted} tokens, scored on {scored} others; position 0 left out{outliers}.",
            self.model
        )
    }
}

fn length(n: usize) -> &'static str {
    match n {
        1 => "1 token",
        2 => "2 tokens",
        _ => "3 tokens",
    }
}

impl NgramR2s {
    /// R² by hook, one column for each length.
    pub fn table(&self) -> Table {
        let lengths: Vec<usize> = self
            .hooks
            .iter()
            .max_by_key(|hook| hook.scores.len())
            .map_or(Vec::new(), |hook| hook.scores.iter().map(|score| score.n).collect());
        let columns = std::iter::once(Column::text("hook"))
            .chain(lengths.iter().map(|n| Column::number(length(*n)).defined(R2)));
        let mut table = Table::new(
            "What the last tokens tell of the activations: R²",
            &columns.collect::<Vec<_>>(),
        );
        for hook in &self.hooks {
            table.push(
                hook.scores
                    .iter()
                    .fold(Row::new(&hook.hook.to_string()), |row, score| row.number(score.r2)),
            );
        }
        match self.hooks.last() {
            Some(last) => table.caption(&last.what_was_counted()),
            None => table,
        }
    }
}

impl Show for NgramR2 {
    fn shown(&self) -> Shown {
        self.table().into()
    }
}

/// The table, and its bars.
impl Show for NgramR2s {
    fn shown(&self) -> Shown {
        Shown::from(self.table()).and_figure(figures::ngram_r2(self))
    }
}

shows!(NgramR2, NgramR2s);
