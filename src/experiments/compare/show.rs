//! How a comparison shows itself.

use super::{Comparison, Report};
use crate::base::format;
use crate::display::{Show, Shown, Table, debug, shows};
use crate::eval::metrics_table;
use crate::train::figures;

shows!(Comparison);
shows!(tables: Report);

impl Report {
    /// Every metric of all three, position 0 left out.
    pub fn table(&self) -> Table {
        let title = format!("{} ({} weights), {}", self.model, self.processing, self.hook);
        let tokens = format::count(self.tokens);
        let caption = format!(
            "{tokens} training tokens each, learning rate {:e}. {} {}",
            self.lr,
            self.speedup.text(),
            self.recommended_speedup.text()
        );
        let saes = [("SAE", &self.sae), ("TSAE", &self.tsae), ("recommended", &self.recommended)];
        metrics_table(&title, &saes).caption(&caption)
    }

    /// The same with position 0 reconstructed and counted, as in the paper.
    pub fn table_with_bos(&self) -> Table {
        let saes: Vec<_> = self.with_bos.iter().map(|(name, it)| (name.as_str(), it)).collect();
        metrics_table("Position 0 included", &saes)
    }
}

/// The report, and how all came there.
impl Show for Comparison {
    fn shown(&self) -> Shown {
        self.report.shown().and_figure(figures::reconstruction(&self.runs))
    }
}

debug!(Comparison: it => "Comparison on {}: {}", it.report.hook, it.report.speedup.text());
