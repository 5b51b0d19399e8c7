//! How an evaluation shows itself: a table with one column for each SAE and one row for each
//! figure.

use super::{Evaluation, Evaluations, HeldOut, Measure, Metrics};
use crate::base::format;
use crate::display::{Column, Row, Show, Shown, Table, debug, shows};

/// Every figure of several SAEs on one text, one column each.
pub(crate) fn metrics_table(title: &str, saes: &[(&str, &Metrics)]) -> Table {
    let columns: Vec<Column> = std::iter::once(Column::text(""))
        .chain(saes.iter().map(|(name, _)| Column::number(name)))
        .collect();
    let row = |measure: Measure| {
        let cell = |row: Row, (_, metrics): &(&str, &Metrics)| match measure.is_share() {
            true => row.percent(metrics.get(measure)),
            false => row.number(metrics.get(measure)),
        };
        let row = Row::new(measure.name()).defined(measure.definition()).best(measure.best());
        saes.iter().fold(row, cell)
    };
    Table::filled(title, &columns, Measure::ALL.map(row))
}

/// What is not counted without BOS.
pub(crate) fn left_out(outliers: usize) -> String {
    match outliers {
        0 => "position 0 keeps the model's own activation and is not counted".to_owned(),
        n => format!(
            "position 0 and {} elsewhere that are over ten medians long keep the model's own activation and are not counted",
            format::count(n as u64)
        ),
    }
}

impl Evaluations {
    /// Every figure of every SAE, position 0 left out.
    pub fn table(&self) -> Table {
        let outliers = self.rows.first().map_or(0, |row| row.without_bos.outliers);
        self.lines("Held-out evaluation", &left_out(outliers), |row| &row.without_bos)
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

debug!(HeldOut: it => "HeldOut ({} tokens)", it.n_tokens());

shows!(Evaluations, Evaluation, Metrics);
