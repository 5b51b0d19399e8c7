//! How controls show themselves.

use super::{ControlResults, ControlRow, Controls};
use crate::base::format;
use crate::display::{Column, Row, Show, Shown, Table, debug, shows, shows_as_table};
use crate::eval::Measure;
use crate::experiments::sweep::Spread;
use crate::experiments::sweep::signed;

shows_as_table!(ControlResults);
shows!(Controls);
debug!(Controls: it => "Controls of {} at {}", it.model.name(), it.hook);
debug!(ControlResults: it => "ControlResults({} rows)", it.rows.len());

const CHANGE: &str = "the mean less the SAE's on the same activations, as a share of it; after ±, the least change that counts: half of the interval of 95 % over seeds and sequences of the text (bootstrap; with one seed, over sequences)";
const OF_GAIN: &str =
    "how much of what the TSAE gains over the SAE this gains: 0 % at the SAE, 100 % at the TSAE";

/// What is to be trained.
impl Show for Controls {
    fn shown(&self) -> Shown {
        let shuffled =
            if self.shuffled.is_some() { ", and on a model with shuffled weights" } else { "" };
        Shown::line(&format!(
            "{}, {}: an SAE, a TSAE and {} controls{shuffled}, {} seeds, {} training tokens each",
            self.model.name(),
            self.hook,
            self.asked.len(),
            self.seeds.len(),
            format::count(self.train.tokens)
        ))
    }
}

impl ControlResults {
    /// A line for the SAE, the TSAE and each control.
    pub fn table(&self) -> Table {
        // No best is marked: what is trained on other activations is no rival.
        let figure =
            |measure: Measure| Column::number(measure.name()).defined(measure.definition());
        let columns = [
            Column::text("trained"),
            Column::number("latents"),
            Column::number("parameters").defined("weights, biases and the table"),
            figure(Measure::Nmse),
            Column::number("against SAE").defined(CHANGE),
            Column::number("of the gain").defined(OF_GAIN),
            figure(Measure::CeAdded),
            Column::number("against SAE").defined(CHANGE),
            Column::number("of the gain").defined(OF_GAIN),
            Column::number("dead").defined(Measure::Dead.definition()),
        ];
        let title = format!("What the table is worth · {}", self.runs.title());
        Table::filled(&title, &columns, self.rows.iter().map(line)).caption(&self.runs.caption())
    }
}

fn line(row: &ControlRow) -> Row {
    let line = Row::new(&row.name).count(row.d_sae as u64);
    let mut line = line.text(&format::count(row.parameters as u64));
    for change in [&row.nmse, &row.ce_added] {
        let spread = change.spread();
        // The SAE is not compared with itself.
        let least = change.least.filter(|least| *least > 0.0);
        let by = change.change.filter(|by| *by != 0.0);
        line = line
            .shown(spread.mean, spread.text())
            .written(by, |by| signed(by, least))
            .written(change.of_gain, |share| format!("{:.0} %", 100.0 * share).replace('-', "−"));
    }
    match Spread::of(&row.dead) {
        Some(spread) => line.shown(spread.mean, spread.percent()),
        None => line.missing(),
    }
}
