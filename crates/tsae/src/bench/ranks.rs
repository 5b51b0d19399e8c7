//! `tsae bench ranks`: what it would bring to share an SAE's training among machines.
//!
//! A step on R ranks, each on a machine of its own and as fast as this one, takes
//!
//! ```text
//! own + shared · most(R) + bytes · (R − 1)/R / bandwidth + gathers · latency · log₂ R
//! ```
//!
//! Measured here: `own`, what every rank does for itself (packing, the order by latent, gradients
//! and Adam, the table), and `shared`, what is done of the rows of each alone (screening, scoring,
//! decoding). Counted: `bytes`, which every rank receives but for its own part; `gathers`; and
//! `most(R)`, the share of the rows of the busiest rank, since only whole blocks are shared out.
//! Assumed: the bandwidth of a machine's link, of which all is had in both directions at once, and
//! its latency.

use std::sync::Barrier;
use std::time::Instant;

use serde::Serialize;

use super::median;
use super::step::{StepBench, StepLookup, StepReport, StepShape, step_over};
use tokenized_sae::backend::{Device, Ranks, bytes_of_step, in_threads, largest_share};
use tokenized_sae::display::{Column, Row, Table};
use tokenized_sae::error::{Error, Result};
use tokenized_sae::format;

/// Numbers of ranks that a forecast is made for.
const SIZES: [usize; 6] = [2, 4, 8, 16, 32, 64];

/// Bandwidths of links that a forecast is made for, in Gbit/s.
const LINKS: [f64; 3] = [1.0, 10.0, 100.0];

/// Exchanges of a step: latents, values, gradients, residuals, two of sums, and whether each row had
/// numbers; and whether all have a batch, and twice whether one is to stop.
const GATHERS: f64 = 10.0;

/// Seconds from one machine to another, as Ethernet takes them.
const LATENCY: f64 = 20e-6;

/// A step that is faster by less is not worth a second machine.
const WORTH: f64 = 1.05;

/// How often an exchange is measured; the middle one counts.
const REPETITIONS: usize = 9;

/// Stages of a step that are done of the rows of each rank alone.
const SHARED: [&str; 3] = ["screen", "rescore", "decode"];

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
pub struct RanksBench {
    /// gpt2 (768,12288,30,4096), pythia-1.4b (2048,16384,50,4096), or D,N,K,B: d_model, latents,
    /// active latents, batch.
    #[arg(long, default_value = "gpt2")]
    pub shape: StepShape,
    /// The token table.
    #[arg(long, value_enum, default_value_t = StepLookup::Lazy)]
    pub lookup: StepLookup,
    /// Steps that count; the middle one does.
    #[arg(long, default_value_t = 7)]
    pub steps: usize,
}

/// What was measured, and what follows.
#[derive(Clone, Debug, Serialize)]
pub struct RanksReport {
    /// Seconds of a step on one rank, measured here.
    pub step_s: f64,
    /// Of those, what every rank does for itself.
    pub own_s: f64,
    /// And what is shared out.
    pub shared_s: f64,
    /// Bytes that are gathered in a step.
    pub exchange_bytes: u64,
    /// Ranks of the measured exchange.
    pub measured_ranks: usize,
    /// Whether those were processes, by MPI; or else threads of this one.
    pub by_mpi: bool,
    /// Seconds of the exchange among them.
    pub exchange_s: f64,
    /// Seconds of a step that they made together, and of its exchanges, waiting included; by MPI alone.
    pub together_s: Option<[f64; 2]>,
    /// What to expect of other numbers of ranks.
    pub forecast: Vec<Forecast>,
}

/// A number of ranks.
#[derive(Clone, Debug, Serialize)]
pub struct Forecast {
    /// How many.
    pub ranks: usize,
    /// The share of the rows of the busiest.
    pub most: f64,
    /// By bandwidth in Gbit/s: the seconds of a step, and by how much that is faster than one rank.
    pub by_gbit: Vec<[f64; 3]>,
}

/// Measures a step and its exchange, and reckons what ranks would make of it.
///
/// # Errors
/// [`Error::Config`] if there is nothing to run; what an exchange reports.
pub fn ranks(bench: &RanksBench, ranks: &Ranks) -> Result<RanksReport> {
    let StepShape { d_model, k, batch, .. } = bench.shape;
    let steps = StepBench {
        shape: bench.shape,
        lookup: bench.lookup,
        backend: None,
        device: Device::Cpu,
        saes: 1,
        steps: bench.steps,
    };
    // One alone, while the others wait, and then all together.
    let alone = ranks.is_first().then(|| step_over(&steps, &Ranks::alone()).map(|it| it.0));
    let alone = ranks.agree(alone.transpose())?;
    let together = match ranks.size() {
        1 => None,
        _ => {
            let (report, gathered) = ranks.agree(step_over(&steps, ranks))?;
            Some([report.step_s[0], gathered])
        }
    };
    let exchange_bytes = bytes_of_step(batch, d_model, k);
    let exchange_s = match ranks.size() {
        1 => among_threads(exchange_bytes)?,
        _ => median(exchanges(ranks, exchange_bytes)?),
    };
    let measured_ranks = ranks.size().max(2);
    let of_step = |report: &StepReport| {
        let of = |name: &&str| report.stages.get(*name).and_then(|it| it.as_f64()).unwrap_or(0.0);
        let shared = SHARED.iter().map(of).sum::<f64>().min(report.step_s[0]);
        [report.step_s[0], report.step_s[0] - shared, shared]
    };
    let [step_s, own_s, shared_s] = alone.as_ref().map_or([0.0; 3], of_step);
    let of_ranks = |ranks: usize| {
        let most = largest_share(batch, ranks);
        let by_gbit = LINKS.map(|gbit| {
            let sent = exchange_bytes as f64 * (ranks - 1) as f64 / ranks as f64;
            let waits = GATHERS * LATENCY * (ranks as f64).log2();
            let seconds = own_s + shared_s * most + 8.0 * sent / (1e9 * gbit) + waits;
            [gbit, seconds, step_s / seconds]
        });
        Forecast { ranks, most, by_gbit: by_gbit.to_vec() }
    };
    Ok(RanksReport {
        step_s,
        own_s,
        shared_s,
        exchange_bytes,
        measured_ranks,
        by_mpi: ranks.size() > 1,
        exchange_s,
        together_s: together,
        forecast: SIZES.map(of_ranks).to_vec(),
    })
}

/// Times of exchanges of as many bytes as a step's; the first finds memory that was never touched.
fn exchanges(ranks: &Ranks, bytes: u64) -> Result<Vec<f64>> {
    let mut all = vec![1u8; bytes as usize];
    let times = (0..=REPETITIONS).map(|_| {
        ranks.agree(Ok(()))?;
        let start = Instant::now();
        ranks.gather_bytes(&mut all)?;
        Ok(start.elapsed().as_secs_f64())
    });
    Ok(times.collect::<Result<Vec<f64>>>()?.split_off(1))
}

/// The time of an exchange between two threads of this process.
fn among_threads(bytes: u64) -> Result<f64> {
    let begin = Barrier::new(2);
    let times: Vec<Result<Vec<f64>>> = std::thread::scope(|scope| {
        let threads = in_threads(2).into_iter().map(|thread| {
            let begin = &begin;
            scope.spawn(move || {
                begin.wait();
                exchanges(&Ranks::over(Box::new(thread)), bytes)
            })
        });
        let started: Vec<_> = threads.collect();
        let ended = started.into_iter().map(|it| {
            let gone = |_| Err(Error::Rank { rank: 0, why: "its thread panicked".to_owned() });
            it.join().unwrap_or_else(gone)
        });
        ended.collect()
    });
    times.into_iter().next().unwrap_or_else(|| Ok(Vec::new())).map(median)
}

impl RanksReport {
    /// The report as a table.
    pub fn table(&self) -> Table {
        let links = LINKS.map(|gbit| Column::text(&format!("{gbit} Gbit/s")));
        let columns: Vec<Column> =
            [Column::text("ranks"), Column::text("rows of one")].into_iter().chain(links).collect();
        let rows = self.forecast.iter().map(|of_ranks| {
            let row = Row::new(&of_ranks.ranks.to_string())
                .text(&format!("{:.0} %", 100.0 * of_ranks.most));
            of_ranks.by_gbit.iter().fold(row, |row, [_, _, speedup]| {
                row.text(&match *speedup >= WORTH {
                    true => format!("{speedup:.1} ×"),
                    false => format!("{speedup:.2} ×, does not pay"),
                })
            })
        });
        let mut table = Table::new("speed-up to expect", &columns).caption(&self.words());
        rows.for_each(|row| table.push(row));
        table
    }

    /// What was measured, what was assumed, and what follows.
    fn words(&self) -> String {
        let ms = |seconds: f64| format!("{:.1} ms", 1e3 * seconds);
        let who = if self.by_mpi { "processes, by MPI" } else { "threads of this process" };
        let mut text = format!(
            "Measured here: a step on one rank {}, of which each of several would do {} for itself and share {}; an exchange of a step's {} among {} {who} {}. ",
            ms(self.step_s),
            ms(self.own_s),
            ms(self.shared_s),
            format::bytes(self.exchange_bytes),
            self.measured_ranks,
            ms(self.exchange_s),
        );
        if let Some([step, exchanged]) = self.together_s {
            text += &format!(
                "A step of those {} together {}, of which exchanges and waiting {}. ",
                self.measured_ranks,
                ms(step),
                ms(exchanged)
            );
        }
        text += &format!(
            "Assumed: a machine of this kind for each rank, links of that bandwidth in both directions at once, {} µs of latency. ",
            1e6 * LATENCY
        );
        for (i, gbit) in LINKS.iter().enumerate() {
            let best =
                self.forecast.iter().max_by(|a, b| a.by_gbit[i][2].total_cmp(&b.by_gbit[i][2]));
            text += &match best.map(|it| (it.ranks, it.by_gbit[i][2])) {
                Some((ranks, best)) if best >= WORTH => {
                    format!(
                        "At {gbit} Gbit/s: {best:.1} times as fast with {ranks} ranks at best. "
                    )
                }
                _ => format!(
                    "At {gbit} Gbit/s it does not pay: train on one machine, or share a sweep. "
                ),
            };
        }
        text.trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_pay_is_said_and_more_bandwidth_is_never_slower() {
        let bench = RanksBench {
            shape: "32,256,4,512".parse().unwrap(),
            lookup: StepLookup::None,
            steps: 2,
        };
        let report = ranks(&bench, &Ranks::alone()).unwrap();
        assert!(report.exchange_s > 0.0 && report.together_s.is_none() && !report.by_mpi);
        assert!((report.own_s + report.shared_s - report.step_s).abs() < 1e-9);
        for of_ranks in &report.forecast {
            assert!(of_ranks.by_gbit.is_sorted_by(|a, b| a[1] > b[1]), "{of_ranks:?}");
        }
        // Four blocks of 112 rows and a bit: more ranks than five have nothing more to share.
        assert_eq!(report.forecast[2].most, report.forecast[5].most);
        let slow = RanksReport { own_s: 0.001, shared_s: 0.0, step_s: 0.001, ..report };
        let slow = RanksReport {
            forecast: vec![Forecast {
                ranks: 2,
                most: 0.5,
                by_gbit: LINKS.map(|gbit| [gbit, 0.002, 0.5]).to_vec(),
            }],
            ..slow
        };
        let text = slow.table().text();
        assert!(text.contains("does not pay") && !slow.words().contains("at best"), "{text}");
    }
}
