//! How a comparison shows itself.

use super::{Comparison, Report};
use crate::base::format;
use crate::display::{Show, Shown, Table, debug, shows};
use crate::eval::metrics_table;
use crate::train::{Speedup, figures};

shows!(Comparison);
shows!(tables: Report);

impl Report {
    /// Every metric of all four, position 0 left out.
    pub fn table(&self) -> Table {
        let title = format!("{} ({} weights), {}", self.model, self.processing, self.hook);
        let tokens = format::count(self.tokens);
        let caption = format!(
            "{tokens} training tokens each, learning rate {:e}, of the centred SAE {:e}. {}",
            self.lr,
            self.centred_lr,
            self.sooner().join(" ")
        );
        let saes = [
            ("SAE", &self.sae),
            ("centred", &self.centred),
            ("TSAE", &self.tsae),
            ("recommended", &self.recommended),
        ];
        metrics_table(&title, &saes).caption(&caption)
    }

    /// How many times sooner, a sentence for each pair.
    pub fn sooner(&self) -> [String; 3] {
        [&self.speedup, &self.recommended_speedup, &self.speedup_over_centred].map(Speedup::text)
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
