//! How an evaluation shows itself: a table with one column for each SAE and one row for each figure.

use super::{Evaluation, Evaluations, HeldOut, HeldOutMeasure, Metrics};
use crate::display::{Column, Row, Show, Shown, Table, format, settings, shows};

/// A figure: its name, its definition, how to read it off, and how it is set.
type Line = (&'static str, &'static str, fn(&Metrics) -> f64, Kind);

enum Kind {
    LowerIsBetter,
    HigherIsBetter,
    Plain,
    Share,
}

const LINES: [Line; 14] = [
    ("NMSE", "mean over tokens of ‖x̂ − x‖² / (‖x‖² + 1e-4): the paper's, not centred", |m| m.nmse, Kind::LowerIsBetter),
    ("FVU", "Σ‖x̂ − x‖² / Σ‖x − x̄‖², x̄ the mean over all tokens counted", |m| m.fvu, Kind::LowerIsBetter),
    ("explained variance", "1 − FVU, as SAELens since 6.45.1", |m| m.explained_variance, Kind::HigherIsBetter),
    ("cosine", "mean over tokens of cos(x, x̂)", |m| m.cosine, Kind::HigherIsBetter),
    ("L0", "mean number of codes per token that are not 0", |m| m.l0, Kind::Plain),
    ("dead", "share of latents that fire on none of these tokens", |m| m.dead, Kind::Share),
    ("CE clean", "mean next-token cross-entropy of the model as it is, nats", |m| m.ce_clean, Kind::Plain),
    ("CE patched", "the same with the activation replaced by x̂", |m| m.ce_patched, Kind::LowerIsBetter),
    ("CE zero", "the same with the activation replaced by 0", |m| m.ce_zero, Kind::Plain),
    ("CE mean", "the same with the activation replaced by its mean over the text", |m| m.ce_mean, Kind::Plain),
    ("CE added", "(CE patched − CE clean) / (CE clean + 0.001): the paper's, relative", |m| m.ce_added, Kind::LowerIsBetter),
    ("CE added, nats", "CE patched − CE clean", |m| m.ce_added_nats, Kind::LowerIsBetter),
    ("loss recovered", "1 − (CE patched − CE clean) / (CE zero − CE clean)", |m| m.loss_recovered, Kind::HigherIsBetter),
    ("KL", "mean over positions of KL(clean ‖ patched), nats", |m| m.kl, Kind::LowerIsBetter),
];

/// Every figure of several SAEs on one text, one column each.
pub(crate) fn metrics_table(title: &str, saes: &[(&str, &Metrics)]) -> Table {
    let columns: Vec<Column> = std::iter::once(Column::text("")).chain(saes.iter().map(|(name, _)| Column::number(name))).collect();
    let mut table = Table::new(title, &columns);
    for (name, definition, value, kind) in &LINES {
        let row = Row::new(name).defined(definition);
        let row = match kind {
            Kind::LowerIsBetter => row.lowest_is_best(),
            Kind::HigherIsBetter => row.highest_is_best(),
            Kind::Plain | Kind::Share => row,
        };
        let cell = |row: Row, metrics: &Metrics| match kind {
            Kind::Share => row.percent(value(metrics)),
            _ => row.number(value(metrics)),
        };
        table.push(saes.iter().fold(row, |row, (_, metrics)| cell(row, metrics)));
    }
    table
}

impl Evaluations {
    /// Every figure of every SAE, position 0 left out.
    pub fn table(&self) -> Table {
        self.lines("Held-out evaluation", "position 0 keeps the model's own activation and is not counted", |row| &row.without_bos)
    }

    /// The same with position 0 reconstructed and counted, as in the paper.
    pub fn table_with_bos(&self) -> Table {
        self.lines("Held-out evaluation, position 0 included", "every position is reconstructed and counted", |row| &row.with_bos)
    }

    fn lines(&self, title: &str, counted: &str, pick: impl Fn(&Evaluation) -> &Metrics) -> Table {
        let saes: Vec<(&str, &Metrics)> = self.rows.iter().map(|row| (row.name.as_str(), pick(row))).collect();
        let tokens = format::count(self.tokens as u64);
        let caption = format!("{} ({} weights), {}, {tokens} held-out tokens; {counted}.", self.model, self.processing, self.hook);
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
        let both = [("position 0 left out", &self.without_bos), ("position 0 counted", &self.with_bos)];
        // Two texts, not two SAEs: none of two columns is the better one.
        metrics_table(&self.name, &both).without_best().into()
    }
}

impl Show for Metrics {
    fn shown(&self) -> Shown {
        let tokens = format!("{} tokens were reconstructed and counted.", format::count(self.tokens as u64));
        metrics_table("Metrics", &[("value", self)]).caption(&tokens).into()
    }
}

impl Show for HeldOutMeasure {
    fn shown(&self) -> Shown {
        let rows = vec![
            ("NMSE", format::significant(self.nmse, 3), "mean of ‖x̂ − x‖² / (‖x‖² + 1e-4)"),
            ("CE added", format::significant(self.ce_added, 3), "(CE patched − CE clean) / (CE clean + 0.001)"),
            ("loss recovered", format::significant(self.loss_recovered, 3), "1 − (CE patched − CE clean) / (CE zero − CE clean)"),
            ("dead", format::percent(self.dead), "share of latents that fired on none of the tokens"),
        ];
        settings("Held-out measurement", rows).into()
    }
}

impl Show for HeldOut {
    fn shown(&self) -> Shown {
        let rows = vec![
            ("tokens", format::count(self.n_tokens() as u64), "held-out tokens; position 0 of each sequence is not counted"),
            ("fingerprint", self.fingerprint()[..12].to_owned(), "the first characters of a checksum over the text"),
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
