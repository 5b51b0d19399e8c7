//! What was measured of ranks, as a table and in words.

use tokenized_sae::display::{Column, Row, Table};
use tokenized_sae::format;

use super::{Forecast, LATENCY, LINKS, RanksReport};

/// A step that is faster by less is not worth a second machine.
const WORTH: f64 = 1.05;

impl RanksReport {
    /// The report as a table.
    pub fn table(&self) -> Table {
        let links = LINKS.map(|gbit| Column::text(&format!("{gbit} Gbit/s")));
        let columns: Vec<Column> = [Column::text("ranks share"), Column::text("rows of one")]
            .into_iter()
            .chain(links)
            .collect();
        let row = |name: String, most: String, by_gbit: &[[f64; 3]]| {
            by_gbit.iter().fold(Row::new(&name).text(&most), |row, [_, _, speedup]| {
                row.text(&match *speedup >= WORTH {
                    true => format!("{speedup:.1} ×"),
                    false => format!("{speedup:.2} ×, does not pay"),
                })
            })
        };
        let mut table = Table::new("speed-up to expect", &columns).caption(&self.words());
        for Forecast { ranks, most, rows, .. } in &self.forecast {
            table.push(row(format!("rows, {ranks}"), format!("{:.0} %", 100.0 * most), rows));
        }
        for Forecast { ranks, latents, .. } in &self.forecast {
            table.push(row(format!("latents, {ranks}"), "100 %".to_owned(), latents));
        }
        table
    }

    /// What was measured, what was assumed, and what follows.
    pub(super) fn words(&self) -> String {
        let ms = |seconds: f64| format!("{:.1} ms", 1e3 * seconds);
        let who = if self.by_mpi { "processes, by MPI" } else { "threads of this process" };
        let names = ["rows", "latents"];
        let mut text = format!("Measured here: a step on one rank {}. ", ms(self.step_s));
        for (name, shared) in names.iter().zip(&self.exchanges) {
            text += &format!(
                "Of several that share {name} each would do {} for itself, share {}, and receive {}. ",
                ms(shared.own_s),
                ms(shared.shared_s),
                format::bytes(shared.bytes)
            );
            if let Some([step, exchanged]) = shared.together_s {
                text += &format!(
                    "A step of {} together {}, of which exchanges and waiting {}. ",
                    self.measured_ranks,
                    ms(step),
                    ms(exchanged)
                );
            }
        }
        text += &format!(
            "The exchange of rows among {} {who} {}. Assumed: a machine of this kind for each rank, links of that bandwidth in both directions at once, {} µs of latency. ",
            self.measured_ranks,
            ms(self.exchange_s),
            1e6 * LATENCY
        );
        for (i, gbit) in LINKS.iter().enumerate() {
            let of_both = |it: &Forecast| {
                [(names[0], it.ranks, it.rows[i][2]), (names[1], it.ranks, it.latents[i][2])]
            };
            let best = self.forecast.iter().flat_map(of_both).max_by(|a, b| a.2.total_cmp(&b.2));
            text += &match best {
                Some((name, ranks, best)) if best >= WORTH => format!(
                    "At {gbit} Gbit/s: {best:.1} times as fast with {ranks} ranks that share {name} at best. "
                ),
                _ => format!(
                    "At {gbit} Gbit/s it does not pay: train on one machine, or share a sweep. "
                ),
            };
        }
        text.trim_end().to_owned()
    }
}
