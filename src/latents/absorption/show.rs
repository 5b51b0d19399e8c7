//! How absorption shows itself.

use super::AbsorptionConfig;
use super::result::{Absorptions, SaeAbsorption};
use crate::base::format;
use crate::display::{Column, Row, Show, Shown, Table, settings, shows};

/// Words that a table lists.
const LISTED: usize = 20;

impl Absorptions {
    /// The means over letters, one column for each SAE.
    pub fn table(&self) -> Table {
        let columns = std::iter::once(Column::text(""))
            .chain(self.saes.iter().map(|sae| Column::number(&sae.name)));
        let mut table = Table::new("First-letter absorption", &columns.collect::<Vec<_>>());
        let mut push = |row: Row, value: &dyn Fn(&SaeAbsorption) -> Option<f64>, share: bool| {
            let values: Vec<Option<f64>> = self.saes.iter().map(value).collect();
            if values.iter().any(Option::is_some) {
                let cell =
                    |row: Row, value| if share { row.percent(value) } else { row.number(value) };
                table.push(values.into_iter().fold(row, cell));
            }
        };
        let row = |name: &str, definition: &str| Row::new(name).defined(definition);
        push(
            row("absorption fraction", "mean over words of the share of the letter that up to three other latents say in the place of the main ones").lowest_is_best(),
            &|it| Some(it.fraction),
            true,
        );
        push(
            row("full absorption", "share of words on which all main latents are silent and one other latent says at least 40 % of the letter").lowest_is_best(),
            &|it| Some(it.full),
            true,
        );
        push(
            row(
                "fraction with the table",
                "the absorption fraction with the table's row as one more that may absorb",
            ),
            &|it| it.with_table,
            true,
        );
        push(
            row(
                "said by the table",
                "share of words on which all main latents are silent and the table says at least 40 % of the letter, and more than any latent",
            ),
            &|it| it.by_table,
            true,
        );
        push(
            row(
                "main latents",
                "mean number of latents that stand for a letter: more than 1 is feature splitting",
            ),
            &|it| Some(it.main_latents),
            false,
        );
        push(
            row(
                "F1 of the main latents",
                "of a probe on these, on words that it has not learned from",
            )
            .highest_is_best(),
            &|it| Some(it.f1),
            false,
        );
        let of = "of the distance, along the letter's direction, between words with it and without";
        push(row("carried by main latents", of), &|it| Some(it.carried.main), true);
        push(row("carried by other latents", of), &|it| Some(it.carried.others), true);
        push(row("carried by the table", of), &|it| it.carried.table, true);
        push(row("lost", of), &|it| Some(it.carried.lost), true);
        table.caption(&self.caption())
    }

    fn caption(&self) -> String {
        let letters = self.saes.first().map_or(0, |sae| sae.letters.len());
        let found: usize = self.letters.iter().map(|it| it.found).sum();
        let f1 = self.letters.iter().map(|it| it.f1).sum::<f64>() / self.letters.len() as f64;
        format!(
            "{} ({} weights), {}: means over {letters} of {} letters, those that a probe on the activations finds with an F1 above {} (mean F1 {}). It learned from {} positions of words and finds the letter of {} of {} positions of other words, chosen among {} tokens.",
            self.model,
            self.processing,
            self.hook,
            self.letters.len(),
            self.min_f1,
            format::significant(f1, 3),
            format::count(self.train as u64),
            format::count(found as u64),
            format::count(self.test as u64),
            format::count(self.tokens as u64),
        )
    }
}

impl Show for Absorptions {
    fn shown(&self) -> Shown {
        self.table().into()
    }
}

impl SaeAbsorption {
    /// Each letter: its words, its main latents and their absorption.
    pub fn table(&self) -> Table {
        let columns = [
            Column::text("letter"),
            Column::number("words")
                .defined("test positions whose letter the probe on the activations finds"),
            Column::text("main latents").defined("latents that stand for the letter"),
            Column::number("F1").defined("of a probe on these"),
            Column::number("fraction").defined("the absorption fraction"),
            Column::number("full").defined("the rate of full absorption"),
            Column::number("table").defined("the share of the letter that the table carries"),
            Column::text("absorbed").defined(
                "words that are absorbed, each once, with the latent that says their letter",
            ),
        ];
        let rows = self.letters.iter().map(|it| {
            let main: Vec<String> = it.main.iter().map(usize::to_string).collect();
            let mut words: Vec<String> = it
                .absorbed
                .iter()
                .map(|word| format!("{} ({})", word.text.trim(), word.latent))
                .collect();
            words.sort();
            words.dedup();
            words.truncate(LISTED);
            Row::new(&it.letter.to_string())
                .digits(it.words)
                .text(&main.join(", "))
                .number(it.f1)
                .percent(it.fraction)
                .percent(it.full)
                .percent(it.carried.table)
                .text(&words.join(", "))
        });
        Table::filled(&format!("{}: absorption by letter", self.name), &columns, rows)
    }
}

impl Show for SaeAbsorption {
    fn shown(&self) -> Shown {
        self.table().into()
    }
}

impl Show for AbsorptionConfig {
    fn shown(&self) -> Shown {
        let rows = vec![
            (
                "tokens",
                format::count(self.tokens as u64),
                "tokens among which words are looked for",
            ),
            ("per_word", self.per_word.to_string(), "positions of a token"),
            (
                "min_f1",
                self.min_f1.to_string(),
                "letters found in the activations with no higher F1 are left out",
            ),
            ("seed", self.seed.to_string(), "decides which positions are chosen"),
        ];
        settings("AbsorptionConfig", rows).into()
    }
}

shows!(Absorptions, SaeAbsorption, AbsorptionConfig);
