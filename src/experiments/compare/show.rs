//! How a comparison shows itself.

use std::fmt;

use super::{CompareConfig, Comparison, Report, Text, WithBos};
use crate::base::format;
use crate::display::{Show, Shown, Table, settings, shows};
use crate::eval::metrics_table;
use crate::train::figures;

shows!(Text, CompareConfig, Report, WithBos, Comparison);

impl Show for Text {
    fn shown(&self) -> Shown {
        Shown::line(&said(self))
    }
}

/// In words.
pub(super) fn said(text: &Text) -> String {
    match text {
        Text::Files(pattern) => format!("text files: {pattern}"),
        Text::Sampled(tokens) => {
            format!("{} tokens of the model's own samples", format::count(*tokens as u64))
        }
    }
}

impl CompareConfig {
    /// The settings, as a table.
    pub fn table(&self) -> Table {
        let hook = self
            .hook
            .map_or("hook_resid_pre of the block half-way up".to_owned(), |hook| hook.to_string());
        let rates: Vec<String> = self.learning_rates.iter().map(|lr| format!("{lr:e}")).collect();
        let rows = vec![
            ("text", said(&self.text), "where the text comes from"),
            ("hook", hook, "the place in the model whose activations are read"),
            ("k", self.k.to_string(), "active latents per token"),
            ("expansion", self.expansion.to_string(), "latents per dimension"),
            ("tokens", format::count(self.tokens), "training tokens for each SAE"),
            (
                "learning_rates",
                rates.join(", "),
                "learning rates to choose from; the choice is the SAE's",
            ),
            (
                "seed",
                self.seed.to_string(),
                "decides samples, directions and the order of the activations",
            ),
            (
                "checkpoint_seconds",
                format::duration(self.checkpoint_seconds),
                "time between two checkpoints, at least",
            ),
        ];
        settings("CompareConfig", rows)
    }
}

impl Show for CompareConfig {
    fn shown(&self) -> Shown {
        self.table().into()
    }
}

impl Report {
    /// Every metric of both, position 0 left out.
    pub fn table(&self) -> Table {
        let title = format!("{} ({} weights), {}", self.model, self.processing, self.hook);
        let tokens = format::count(self.tokens);
        let caption = format!(
            "{tokens} training tokens each, learning rate {:e}. {}",
            self.lr,
            self.speedup.text()
        );
        metrics_table(&title, &[("SAE", &self.sae), ("TSAE", &self.tsae)]).caption(&caption)
    }

    /// The same with position 0 reconstructed and counted, as in the paper.
    pub fn table_with_bos(&self) -> Table {
        metrics_table(
            "Position 0 included",
            &[("SAE", &self.with_bos.sae), ("TSAE", &self.with_bos.tsae)],
        )
    }
}

impl Show for Report {
    fn shown(&self) -> Shown {
        self.table().into()
    }
}

impl Show for WithBos {
    fn shown(&self) -> Shown {
        metrics_table(
            "Position 0 reconstructed and counted",
            &[("SAE", &self.sae), ("TSAE", &self.tsae)],
        )
        .into()
    }
}

/// The report, and how both came there.
impl Show for Comparison {
    fn shown(&self) -> Shown {
        self.report.shown().and_figure(figures::reconstruction(&self.runs))
    }
}

impl fmt::Debug for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Comparison on {}: {}", self.report.hook, self.report.speedup.text())
    }
}
