//! `tsae bench ranks`: what it would bring to share an SAE's training among machines.
//!
//! A step on R ranks, each on a machine of its own and as fast as this one, that share the rows takes
//!
//! ```text
//! own + shared · most(R) + bytes · (R − 1)/R / bandwidth + gathers · latency · log₂ R
//! ```
//!
//! and of ranks that share the latents
//!
//! ```text
//! own' + shared'/R + bytes'/2 · (2 + (R − 1)/pieces) / bandwidth + (gathers' · log₂ R + 2·R) · latency
//! ```
//!
//! since the last rank has its first piece when R − 1 others have had it.
//!
//! Measured here: `own`, what every rank does for itself (by rows: packing, the order by latent,
//! gradients and Adam, the table; by latents: packing rows, the exact scores of k latents a row, the order by latent), and `shared`, all
//! else. Counted: `bytes`, which every rank receives but for its own part, and half of which are handed
//! on and half come back where latents are shared; `gathers`; the pieces that are handed on; and
//! `most(R)`, the share of the rows of the busiest rank, since only whole blocks are shared out.
//! Assumed: the bandwidth of a machine's link, of which all is had in both directions at once, and
//! its latency. Rows of a table, which are gathered where latents are shared, are not counted.

mod show;

use std::sync::Barrier;
use std::time::Instant;

use serde::Serialize;

use super::median;
use super::step::{StepBench, StepLookup, StepShape, step_over};
use tokenized_sae::backend::{
    Device, Exchange, HANDED_ON, Ranks, bytes_of_chain, bytes_of_step, in_threads, largest_share,
};
use tokenized_sae::error::{Error, Result};

/// Numbers of ranks that a forecast is made for.
const SIZES: [usize; 6] = [2, 4, 8, 16, 32, 64];

/// Bandwidths of links that a forecast is made for, in Gbit/s.
const LINKS: [f64; 3] = [1.0, 10.0, 100.0];

/// Exchanges of a step by rows: latents, values, gradients, residuals, two of sums, and whether each row
/// had numbers; and whether all have a batch, twice whether one is to stop, and whether to write.
const GATHERS: f64 = 11.0;

/// Those by latents, besides what is handed on: whether each row had numbers, codes, residuals, two of
/// sums, and what b_dec receives; and the same four.
const OF_CHAIN: f64 = 10.0;

/// Seconds from one machine to another, as Ethernet takes them.
const LATENCY: f64 = 20e-6;

/// How often an exchange is measured; the middle one counts.
const REPETITIONS: usize = 9;

/// Stages of a step that are done of the rows of each rank alone.
const BY_ROWS: [&str; 3] = ["screen", "rescore", "decode"];

/// Those that are done of the latents of each alone.
const BY_LATENTS: [&str; 5] = ["pack_encoder", "screen", "decode", "gradients_adam", "table_adam"];

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
    /// By rows and by latents.
    pub exchanges: [Shared; 2],
    /// Ranks of the measured exchange.
    pub measured_ranks: usize,
    /// Whether those were processes, by MPI; or else threads of this one.
    pub by_mpi: bool,
    /// Seconds of the exchange of a step's rows among them.
    pub exchange_s: f64,
    /// What to expect of other numbers of ranks.
    pub forecast: Vec<Forecast>,
}

/// A way to share a step.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Shared {
    /// Of the seconds of a step on one rank, what every rank does for itself.
    pub own_s: f64,
    /// And what is shared out.
    pub shared_s: f64,
    /// Bytes that reach a rank in a step.
    pub bytes: u64,
    /// Seconds of a step that the measured ranks made together, and of its exchanges, waiting included;
    /// by MPI alone.
    pub together_s: Option<[f64; 2]>,
}

/// A number of ranks.
#[derive(Clone, Debug, Serialize)]
pub struct Forecast {
    /// How many.
    pub ranks: usize,
    /// The share of the rows of the busiest.
    pub most: f64,
    /// By bandwidth in Gbit/s: the seconds of a step that shares rows, and by how much that is faster
    /// than one rank.
    pub rows: Vec<[f64; 3]>,
    /// The same where latents are shared.
    pub latents: Vec<[f64; 3]>,
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
    let together = |exchange| -> Result<Option<[f64; 2]>> {
        if ranks.size() == 1 {
            return Ok(None);
        }
        let ranks = ranks.clone().exchanging(exchange);
        let (report, exchanged) = ranks.agree(step_over(&steps, &ranks))?;
        Ok(Some([report.step_s[0], exchanged]))
    };
    let of_step = |stages: &[&str], bytes, exchange| -> Result<Shared> {
        let together_s = together(exchange)?;
        let Some(report) = &alone else { return Ok(Shared::default()) };
        let of = |name: &&str| report.stages.get(*name).and_then(|it| it.as_f64()).unwrap_or(0.0);
        let shared_s = stages.iter().map(of).sum::<f64>().min(report.step_s[0]);
        Ok(Shared { own_s: report.step_s[0] - shared_s, shared_s, bytes, together_s })
    };
    let by_rows = of_step(&BY_ROWS, bytes_of_step(batch, d_model, k), Exchange::Rows)?;
    let by_latents = of_step(&BY_LATENTS, bytes_of_chain(batch, d_model, k), Exchange::Latents)?;
    let exchange_bytes = bytes_of_step(batch, d_model, k);
    let exchange_s = match ranks.size() {
        1 => among_threads(exchange_bytes)?,
        _ => median(exchanges(ranks, exchange_bytes)?),
    };
    let step_s = alone.as_ref().map_or(0.0, |report| report.step_s[0]);
    let of_ranks = |ranks: usize| {
        let (most, size) = (largest_share(batch, ranks), ranks as f64);
        let by_gbit = |seconds: &dyn Fn(f64) -> f64| {
            LINKS
                .map(|gbit| (gbit, seconds(gbit * 1e9 / 8.0)))
                .map(|(gbit, s)| [gbit, s, step_s / s])
        };
        let rows = by_gbit(&|bandwidth| {
            let Shared { own_s, shared_s, bytes, .. } = by_rows;
            let sent = bytes as f64 * (size - 1.0) / size;
            own_s + shared_s * most + sent / bandwidth + GATHERS * LATENCY * size.log2()
        });
        let latents = by_gbit(&|bandwidth| {
            let Shared { own_s, shared_s, bytes, .. } = by_latents;
            let fill = (size - 1.0) / batch.div_ceil(HANDED_ON) as f64;
            let waits = LATENCY * (OF_CHAIN * size.log2() + 2.0 * size);
            own_s + shared_s / size + bytes as f64 / 2.0 * (2.0 + fill) / bandwidth + waits
        });
        Forecast { ranks, most, rows: rows.to_vec(), latents: latents.to_vec() }
    };
    Ok(RanksReport {
        step_s,
        exchanges: [by_rows, by_latents],
        measured_ranks: ranks.size().max(2),
        by_mpi: ranks.size() > 1,
        exchange_s,
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
        assert!(report.exchange_s > 0.0 && !report.by_mpi);
        for shared in &report.exchanges {
            assert!((shared.own_s + shared.shared_s - report.step_s).abs() < 1e-9);
            assert!(shared.together_s.is_none() && shared.bytes > 0);
        }
        for Forecast { rows, latents, .. } in &report.forecast {
            assert!(rows.is_sorted_by(|a, b| a[1] > b[1]), "{rows:?}");
            assert!(latents.is_sorted_by(|a, b| a[1] > b[1]), "{latents:?}");
        }
        // Four blocks of 112 rows and a bit: more ranks than five have nothing more to share.
        assert_eq!(report.forecast[2].most, report.forecast[5].most);
        let slower = LINKS.map(|gbit| [gbit, 0.002, 0.5]).to_vec();
        let forecast =
            vec![Forecast { ranks: 2, most: 0.5, rows: slower.clone(), latents: slower }];
        let slow = RanksReport { step_s: 0.001, forecast, ..report };
        let text = slow.table().text();
        assert!(text.contains("does not pay") && !slow.words().contains("at best"), "{text}");
    }
}
