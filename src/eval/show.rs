//! How an evaluation shows itself: a table with one column for each SAE and one row for each
//! figure.

use super::{Evaluation, Evaluations, HeldOut, HeldOutMeasure, Measure, Metrics};
use crate::base::format;
use crate::display::{Best, Column, Row, Show, Shown, Table, settings, shows};

/// Every figure of several SAEs on one text, one column each.
pub(crate) fn metrics_table(title: &str, saes: &[(&str, &Metrics)]) -> Table {
    let columns: Vec<Column> = std::iter::once(Column::text(""))
        .chain(saes.iter().map(|(name, _)| Column::number(name)))
        .collect();
    let mut table = Table::new(title, &columns);
    for measure in Measure::ALL {
        let row = Row::new(measure.name()).defined(measure.definition());
        let row = match measure.best() {
            Best::Lowest => row.lowest_is_best(),
            Best::Highest => row.highest_is_best(),
            Best::None => row,
        };
        let cell = |row: Row, metrics: &Metrics| match measure.is_share() {
            true => row.percent(metrics.get(measure)),
            false => row.number(metrics.get(measure)),
        };
        table.push(saes.iter().fold(row, |row, (_, metrics)| cell(row, metrics)));
    }
    table
}

impl Evaluations {
    /// Every figure of every SAE, position 0 left out.
    pub fn table(&self) -> Table {
        self.lines(
            "Held-out evaluation",
            "position 0 keeps the model's own activation and is not counted",
            |row| &row.without_bos,
        )
    }

    /// The same with position 0 reconstructed and counted, as in the paper.
    pub fn table_with_bos(&self) -> Table {
        self.lines(
            "Held-out evaluation, position 0 included",
            "every position is reconstructed and counted",
            |row| &row.with_bos,
        )
    }

    fn lines(&self, title: &str, counted: &str, pick: impl Fn(&Evaluation) -> &Metrics) -> Table {
        let saes: Vec<(&str, &Metrics)> =
            self.rows.iter().map(|row| (row.name.as_str(), pick(row))).collect();
        let tokens = format::count(self.tokens as u64);
        let caption = format!(
            "{} ({} weights), {}, {tokens} held-out tokens; {counted}.",
            self.model, self.processing, self.hook
        );
        metrics_table(title, &saes).caption(&caption)
    }
}

/// Both tables.
impl Show for Evaluations {
    fn shown(&self) -> Shown {
        Shown::from(self.table()).and(self.table_with_bos())
    }
}

impl Show for Evaluation {
    fn shown(&self) -> Shown {
        let both =
            [("position 0 left out", &self.without_bos), ("position 0 counted", &self.with_bos)];
        // Two texts, not two SAEs: none of two columns is the better one.
        metrics_table(&self.name, &both).without_best().into()
    }
}

impl Show for Metrics {
    fn shown(&self) -> Shown {
        let tokens =
            format!("{} tokens were reconstructed and counted.", format::count(self.tokens as u64));
        metrics_table("Metrics", &[("value", self)]).caption(&tokens).into()
    }
}

impl Show for HeldOutMeasure {
    fn shown(&self) -> Shown {
        let rows = vec![
            ("NMSE", format::significant(self.nmse, 3), "mean of ‖x̂ − x‖² / (‖x‖² + 1e-4)"),
            (
                "CE added",
                format::significant(self.ce_added, 3),
                "(CE patched − CE clean) / (CE clean + 0.001)",
            ),
            (
                "loss recovered",
                format::significant(self.loss_recovered, 3),
                "1 − (CE patched − CE clean) / (CE zero − CE clean)",
            ),
            (
                "dead",
                format::percent(self.dead),
                "share of latents that fired on none of the tokens",
            ),
        ];
        settings("Held-out measurement", rows).into()
    }
}

impl Show for HeldOut {
    fn shown(&self) -> Shown {
        let rows = vec![
            (
                "tokens",
                format::count(self.n_tokens() as u64),
                "held-out tokens; position 0 of each sequence is not counted",
            ),
            (
                "fingerprint",
                self.fingerprint()[..12].to_owned(),
                "the first characters of a checksum over the text",
            ),
        ];
        settings("Held-out text", rows).into()
    }
}

impl std::fmt::Debug for HeldOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HeldOut ({} tokens)", self.n_tokens())
    }
}

shows!(Evaluations, Evaluation, Metrics, HeldOutMeasure, HeldOut);
