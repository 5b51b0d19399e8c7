//! How the scores show themselves.

use super::{SynthReport, SynthRow};
use crate::base::format;
use crate::display::{Column, Row, Show, Shown, Table, debug, shows};
use crate::synthetic::Scores;

shows!(SynthReport);

impl SynthReport {
    /// Every SAE, and below what was published of the same model.
    pub fn table(&self) -> Table {
        let columns = [
            Column::text("SAE"),
            Column::number("L0").defined("mean number of active latents"),
            Column::number("F1")
                .defined("mean over latents, each as a detector of the nearest feature")
                .highest_is_best(),
            Column::number("precision"),
            Column::number("recall"),
            Column::number("MCC")
                .defined("mean |cosine| of latents and features, paired one to one")
                .highest_is_best(),
            Column::number("unique").defined("features nearest to some latent, over latents"),
            Column::number("EV").defined("1 − Σ‖x − x̂‖² / Σ‖x − x̄‖²").highest_is_best(),
            Column::number("‖x̂‖/‖x‖").defined("mean over rows; 1 is no shrinkage"),
            Column::number("dead").defined("latents that fired on no scored row"),
        ];
        let ours = self.rows.iter().map(|row| scores(&row.name, &row.scores));
        let theirs = self.published.iter().map(|it| {
            Row::new(&format!("{}, published", it.name))
                .number(it.l0)
                .number(it.f1)
                .missing()
                .missing()
                .number(it.mcc)
                .number(it.uniqueness)
                .number(it.explained_variance)
        });
        let true_l0 = self.rows.first().map_or(0.0, |row| row.scores.true_l0);
        let end = self.lr_end.map(|end| format!(" to {end:e}")).unwrap_or_default();
        let mut caption = format!(
            "{} rows of training each, {} latents, learning rate {:e}{end}, seed {}; {} features are active on a row.",
            format::count(self.samples),
            self.latents,
            self.lr,
            self.seed,
            format::significant(true_l0, 3)
        );
        if !self.published.is_empty() {
            caption += " Published: 200 M rows, means of five seeds (arXiv 2602.14687).";
        }
        let title = format!("What SAEs find of {}", self.model);
        Table::filled(&title, &columns, ours.chain(theirs)).caption(&caption)
    }

    /// The features of each kind apart; without rows for a model without tokens.
    pub fn kinds_table(&self) -> Table {
        let columns = [
            Column::text("SAE"),
            Column::text("features").defined(
                "that fire by the context, by context and a token, by a token alone, by a pair of tokens",
            ),
            Column::number("n").defined("features that fired on the scored rows"),
            Column::number("recovered").defined("those whose own latent has an F1 of at least 0.5"),
            Column::number("F1").defined("mean over features, 0 for one without a latent"),
            Column::number("MCC").defined("mean |cosine| with their latents"),
            Column::number("recall").defined("of all their firings"),
            Column::number("on token").defined("recall on rows of the feature's own token"),
            Column::number("elsewhere").defined("recall on all other rows"),
        ];
        let rows = self.rows.iter().flat_map(|SynthRow { name, scores, .. }| {
            scores.kinds.iter().map(move |kind| {
                let finite = |x: f64| x.is_finite().then_some(x);
                Row::new(name)
                    .text(kind.kind)
                    .digits(kind.features)
                    .digits(kind.recovered)
                    .number(kind.f1)
                    .number(finite(kind.mcc))
                    .number(finite(kind.recall))
                    .number(finite(kind.recall_on_token))
                    .number(finite(kind.recall_elsewhere))
            })
        });
        Table::filled("Kind by kind", &columns, rows)
    }

    /// All that there is to say, as text.
    pub fn text(&self) -> String {
        let kinds = self.kinds_table();
        match kinds.rows().is_empty() {
            true => self.table().text(),
            false => format!("{}\n{}", self.table().text(), kinds.text()),
        }
    }
}

fn scores(name: &str, it: &Scores) -> Row {
    Row::new(name)
        .number(it.l0)
        .number(it.f1)
        .number(it.precision)
        .number(it.recall)
        .number(it.mcc)
        .number(it.uniqueness)
        .number(it.explained_variance)
        .number(it.shrinkage)
        .digits(it.dead)
}

impl Show for SynthReport {
    fn shown(&self) -> Shown {
        let kinds = self.kinds_table();
        let all = self.table().shown();
        if kinds.rows().is_empty() { all } else { all.and(kinds.shown()) }
    }
}

debug!(SynthReport: it => "SynthReport of {} SAEs on {}", it.rows.len(), it.model);
