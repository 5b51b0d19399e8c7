//! How probes show themselves.

use super::ProbeConfig;
use super::score::{Input, ProbeScore, Probes, SaeProbes, mean};
use super::task::Task;
use crate::base::format;
use crate::display::{Column, Row, Show, Shown, Table, settings, shows};

impl Input {
    fn name(self) -> String {
        match self {
            Input::Activation => "activation".to_owned(),
            Input::Latents(1) => "1 latent".to_owned(),
            Input::Latents(k) => format!("{k} latents"),
            Input::Table => "table".to_owned(),
            Input::LatentsAndTable(k) => format!("{k} latents and table"),
        }
    }

    fn definition(self) -> &'static str {
        match self {
            Input::Activation => "logistic regression on the activation: what is there to be found",
            Input::Latents(_) => {
                "on the latents whose means with and without the class lie farthest apart"
            }
            Input::Table => "on what the SAE's table adds to the reconstruction of the position",
            Input::LatentsAndTable(_) => "on both",
        }
    }
}

impl Probes {
    /// How often probes are right on one task: a row for what they read, two columns for each SAE.
    pub fn table(&self, task: Task) -> Table {
        let columns = self.saes.iter().flat_map(|sae| {
            [
                Column::number(&sae.name)
                    .defined("share of held-out positions on which the probe is right, a mean over classes; chance is 50 %"),
                Column::number(&format!("{}: F1", sae.name)).defined("of the class, a mean over classes"),
            ]
        });
        let columns: Vec<Column> =
            std::iter::once(Column::text("probe on")).chain(columns).collect();
        let rows = self.inputs().into_iter().map(|input| {
            let row = Row::new(&input.name()).defined(input.definition());
            self.saes.iter().fold(row, |row, sae| {
                let scores = self.scores(sae, input);
                row.percent(mean(scores, task, input, |it| it.accuracy)).number(mean(
                    scores,
                    task,
                    input,
                    |it| it.f1,
                ))
            })
        });
        let title = format!("Probes: {}", task.name());
        Table::filled(&title, &columns, rows).caption(&self.caption(task))
    }

    fn scores<'a>(&'a self, sae: &'a SaeProbes, input: Input) -> &'a [ProbeScore] {
        if input == Input::Activation { &self.activations } else { &sae.scores }
    }

    /// What probes read, in the order in which they were tried.
    fn inputs(&self) -> Vec<Input> {
        let all = self.activations.iter().chain(self.saes.iter().flat_map(|sae| &sae.scores));
        let mut inputs: Vec<Input> = Vec::new();
        for input in all.map(|it| it.input) {
            if !inputs.contains(&input) {
                inputs.push(input);
            }
        }
        let last = |it: &Input| matches!(it, Input::Table | Input::LatentsAndTable(_));
        inputs.sort_by_key(last);
        inputs
    }

    fn caption(&self, task: Task) -> String {
        let (tokens, text) = (format::count(self.tokens as u64), task.definition());
        let of: Vec<_> = self.activations.iter().filter(|it| it.task == task).collect();
        let held_out = match task.is_contextual() {
            true => {
                "Every token stands equally often on both sides; sequences to learn from and to try on are apart"
            }
            false => "Tokens to learn from and to try on are apart",
        };
        let classes = match task.classes().len() {
            1 => "Yes is told from no".to_owned(),
            n => format!("{} of {n} letters are told from the rest", of.len()),
        };
        let test = format::count(of.iter().map(|it| it.test as u64).sum());
        format!(
            "{} ({} weights), {}: {text}. {classes}, on {test} positions chosen among {tokens} tokens. {held_out}.",
            self.model, self.processing, self.hook,
        )
    }
}

/// A table for every task of which the text has examples.
impl Show for Probes {
    fn shown(&self) -> Shown {
        let asked = |task: &Task| self.accuracy(*task).is_some();
        let tables = Task::ALL.into_iter().filter(asked).map(|task| Shown::from(self.table(task)));
        tables.reduce(Shown::and).unwrap_or_default()
    }
}

impl Show for ProbeConfig {
    fn shown(&self) -> Shown {
        let rows = vec![
            (
                "tokens",
                format::count(self.tokens as u64),
                "tokens among which positions are chosen",
            ),
            ("train", self.train.to_string(), "positions to learn from, for each class"),
            ("test", self.test.to_string(), "positions to try on, for each class"),
            ("per_word", self.per_word.to_string(), "positions of a token, where it decides"),
            ("ks", format!("{:?}", self.ks), "how many latents a probe reads"),
            ("seed", self.seed.to_string(), "decides which positions are chosen"),
        ];
        settings("ProbeConfig", rows).into()
    }
}

shows!(Probes, ProbeConfig);
