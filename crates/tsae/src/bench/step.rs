//! `tsae bench step`: the training step on synthetic activations.

use std::panic::resume_unwind;
use std::str::FromStr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::machine::{Numbers, peak, peak_rss_bytes};
use super::synthetic::Synthetic;
use tokenized_sae::backend;
use tokenized_sae::backend::gpu::{Gpu, Timed};
use tokenized_sae::backend::{
    AdamState, Backend, Device, Exactness, Moments, Ranks, Scratch, Stage, Stages,
};
use tokenized_sae::display::{Column, Row, Table};
use tokenized_sae::error::{Error, Result};
use tokenized_sae::format;
use tokenized_sae::sae::{Lookup, Sae, SaeConfig};
use tokenized_sae::train::TrainConfig;

/// The shape of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepShape {
    /// Dimensions of an activation.
    pub d_model: usize,
    /// Latents.
    pub d_sae: usize,
    /// Active latents a row.
    pub k: usize,
    /// Rows in a batch.
    pub batch: usize,
    /// Tokens that the table has a row for.
    pub d_vocab: usize,
}

impl FromStr for StepShape {
    type Err = Error;

    /// `gpt2` (768, 12288, 30, 4096), `pythia-1.4b` (2048, 16384, 50, 4096), `smollm2` (576, 9216,
    /// 32, 4096), or `D,N,K,B`.
    fn from_str(text: &str) -> Result<StepShape> {
        let shape =
            |d_model, d_sae, k, batch, d_vocab| StepShape { d_model, d_sae, k, batch, d_vocab };
        match text {
            "gpt2" => return Ok(shape(768, 12_288, 30, 4096, 50_257)),
            "pythia-1.4b" => return Ok(shape(2048, 16_384, 50, 4096, 50_304)),
            "smollm2" => return Ok(shape(576, 9216, 32, 4096, 49_152)),
            _ => {}
        }
        let numbers: Vec<usize> = text
            .split(',')
            .filter_map(|number| number.trim().parse().ok())
            .filter(|&n| n > 0)
            .collect();
        match numbers[..] {
            [d, n, k, b] if n.is_multiple_of(d) && k <= n => Ok(shape(d, n, k, b, 50_257)),
            _ => {
                let why = format!(
                    "\"{text}\" is not a shape: use gpt2, pythia-1.4b, smollm2, or D,N,K,B with N a multiple of D and K at most N"
                );
                Err(Error::config("shape", why))
            }
        }
    }
}

/// The token table of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum StepLookup {
    /// No table.
    None,
    /// A learned table, of which every step moves every row, as PyTorch's Adam does.
    Learned,
    /// A learned table with the same bits, of which a step moves the rows whose tokens occur and
    /// leaves the others for later.
    Lazy,
}

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
pub struct StepBench {
    /// gpt2 (768,12288,30,4096), pythia-1.4b (2048,16384,50,4096), or D,N,K,B: d_model, latents,
    /// active latents, batch.
    #[arg(long, default_value = "gpt2")]
    pub shape: StepShape,
    /// The token table.
    #[arg(long, value_enum, default_value_t = StepLookup::Learned)]
    pub lookup: StepLookup,
    /// int8, bf16, f32, portable, int8-proven, bf16-proven; by default the fastest of this
    /// processor.
    #[arg(long)]
    pub backend: Option<String>,
    /// On a card: cuda:N. What its kernels take, waited for one by one, is measured in further steps.
    #[arg(long, value_name = "DEVICE", default_value_t = Device::Cpu, conflicts_with = "backend")]
    pub device: Device,
    /// SAEs that train on the same batches.
    #[arg(long, default_value_t = 1)]
    pub saes: usize,
    /// Steps that count; the middle one does.
    #[arg(long, default_value_t = 15)]
    pub steps: usize,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct StepReport {
    /// The backend that ran.
    pub backend: String,
    /// Rows a second, times the number of SAEs, at the median step.
    pub tokens_per_s: f64,
    /// Seconds of the median, the fastest and the slowest step.
    pub step_s: [f64; 3],
    /// Multiplications and additions that the step's result calls for, 2·d·N for the encoder and
    /// 8·d·k for the rest a token, over time.
    pub gflops: f64,
    /// As a share of what the machine's multipliers can do in the numbers of the screen, measured
    /// just before and after; of a card it is not known.
    pub peak_share: Option<f64>,
    /// The most memory that the process has held, in bytes, synthetic batches included; 0 where the
    /// system does not tell.
    pub peak_rss_bytes: u64,
    /// Rows scored in full, over all steps.
    pub fallback_rows: usize,
    /// Mean seconds a step and SAE, by stage.
    pub stages: Map<String, Value>,
    /// Losses of the first and last step.
    pub loss: [f64; 2],
    /// The SHA-256 of all parameters and of what Adam remembers, after the steps: the same on every
    /// backend and device.
    pub sha256: String,
}

/// Different batches, taken in turn.
const BATCHES: usize = 4;

/// Steps in which a card's kernels are timed, after one that is not.
const TIMED: usize = 4;

/// Runs the measurement.
///
/// # Errors
/// [`Error::Config`] for an unknown backend, or one that this processor cannot run, a card that is
/// not there, or if there is nothing to run.
pub fn step(bench: &StepBench) -> Result<StepReport> {
    Ok(step_over(bench, &Ranks::alone())?.0)
}

/// The same by several ranks together, each of which makes this call; and the seconds of a step that
/// their exchanges took.
pub(super) fn step_over(bench: &StepBench, ranks: &Ranks) -> Result<(StepReport, f64)> {
    let StepShape { d_model, d_sae, k, batch, d_vocab } = bench.shape;
    if bench.saes == 0 || bench.steps == 0 {
        return Err(Error::config(
            "steps",
            "there is nothing to run: steps and SAEs are at least 1 each",
        ));
    }
    let card = match bench.device {
        Device::Cuda(ordinal) => Some(backend::card(ordinal)?),
        Device::Auto | Device::Cpu => None,
    };
    let backend = match (&bench.backend, &card) {
        (Some(name), _) => backend::by_name(name)?,
        (None, Some(card)) => Arc::new(Gpu::new(card.clone(), Exactness::default())),
        (None, None) => backend::fastest(),
    };
    let backend = match ranks.size() {
        1 => backend,
        _ => backend.over(ranks).unwrap_or(backend),
    };
    let data = Synthetic::new(BATCHES * batch, d_model, d_vocab, 8 * d_model, 0);
    let mut config =
        SaeConfig { expansion: d_sae / d_model, k, ..SaeConfig::new(d_model, d_vocab) };
    if bench.lookup != StepLookup::None {
        config = config.with_lookup(Lookup::from_table(
            Synthetic::new(d_vocab, d_model, d_vocab, 8 * d_model, 1).x,
            d_model,
        )?);
    }
    let train = TrainConfig::default();
    let rates = train.rates(0, train.lr);
    let mut saes = Vec::new();
    for seed in 0..bench.saes as u64 {
        let mut sae = Sae::new(SaeConfig { seed, ..config.clone() })?;
        let state = AdamState::new(&sae);
        let state = if bench.lookup == StepLookup::Lazy { state.lazy() } else { state };
        sae.config.lookup = None; // where the table started does not matter to a step, and need not stay in memory
        saes.push((state, sae, Scratch::default()));
    }
    drop(config);
    let numbers = match backend.name().as_str() {
        name if name.starts_with("int8") => Numbers::Int8,
        name if name.starts_with("bf16") => Numbers::Bf16,
        _ => Numbers::F32,
    };
    let before = card.is_none().then(|| peak(numbers));
    let (mut times, mut fallback_rows, mut losses) = (Vec::new(), 0, Vec::new());
    let (mut packing, mut before_steps) = (0.0, Duration::ZERO);
    // The first step finds cold caches and memory that was never touched.
    let mut warm_up = vec![Stages::default(); saes.len()];
    let rows_of = |step: usize| {
        let at = step % BATCHES * batch;
        (&data.x[at * d_model..][..batch * d_model], &data.tokens[at..at + batch])
    };
    let send = |step: usize| backend.send(rows_of(step).0, d_model);
    let mut sent = send(0)?;
    for step in 0..=bench.steps {
        let start = Instant::now();
        let (x, tokens) = rows_of(step);
        let elsewhere = sent.is_some();
        let prepared = backend.prepare_sent(x, tokens, d_model, sent)?;
        packing += if step > 0 { start.elapsed().as_secs_f64() } else { 0.0 };
        sent = thread::scope(|scope| {
            // As in a training, the rows of the next step travel while this one is computed.
            let sending = elsewhere.then(|| scope.spawn(|| send(step + 1)));
            for ((state, sae, scratch), warm_up) in saes.iter_mut().zip(&mut warm_up) {
                let report = backend.train_step(sae, state, &prepared, &rates, scratch)?;
                fallback_rows += report.fallback_rows;
                losses.push(report.loss);
                if step == 0 {
                    *warm_up = *scratch.stages();
                    before_steps = ranks.gathered().1;
                }
            }
            sending.map_or(Ok(None), |sending| {
                sending.join().unwrap_or_else(|panic| resume_unwind(panic))
            })
        })?;
        if step > 0 {
            times.push(start.elapsed().as_secs_f64());
        }
    }
    times.sort_by(f64::total_cmp);
    let exchanged = ranks.gathered().1;
    let mut hash = Sha256::new();
    for (state, sae, scratch) in &mut saes {
        backend.settle(sae, state, scratch)?;
        add_up(&mut hash, sae, state);
    }
    let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let a_step = 1.0 / bench.steps as f64 / bench.saes as f64;
    let mut stages = Map::new();
    match (&card, saes.first_mut()) {
        (Some(card), Some((state, sae, _))) => {
            let timed = Arc::new(Timed::new(card)?);
            let backend = Gpu::new(timed.clone(), Exactness::default());
            let mut scratch = Scratch::default();
            for step in 0..=TIMED {
                let (x, tokens) = rows_of(step);
                let prepared = backend.prepare(x, tokens, d_model)?;
                backend.train_step(sae, state, &prepared, &rates, &mut scratch)?;
                if step == 0 {
                    timed.take(); // all that was taken to the card
                }
            }
            for (kernel, took) in timed.take() {
                stages.insert(kernel, (took.as_secs_f64() / TIMED as f64).into());
            }
        }
        _ => {
            stages.insert("pack_rows".to_owned(), (packing * a_step).into());
            for stage in Stage::ALL {
                let total: f64 = saes
                    .iter()
                    .zip(&warm_up)
                    .map(|((_, _, scratch), warm_up)| {
                        (scratch.stages().get(stage) - warm_up.get(stage)).as_secs_f64()
                    })
                    .sum();
                stages.insert(stage.name().to_owned(), (total * a_step).into());
            }
        }
    }
    let median = times[times.len() / 2];
    let rows = (batch * bench.saes) as f64;
    let flops = rows * (2 * d_model * d_sae + 8 * d_model * k) as f64 / median;
    let gathered = (exchanged - before_steps).as_secs_f64() / bench.steps as f64;
    let report = StepReport {
        backend: backend.name(),
        tokens_per_s: rows / median,
        step_s: [median, times[0], times[times.len() - 1]],
        gflops: flops / 1e9,
        peak_share: before.map(|before| flops / before.max(peak(numbers))),
        peak_rss_bytes: peak_rss_bytes().unwrap_or(0),
        fallback_rows,
        stages,
        loss: [losses[0], losses[losses.len() - 1]],
        sha256,
    };
    Ok((report, gathered))
}

/// Adds an SAE and its optimiser to a checksum.
fn add_up(hash: &mut Sha256, sae: &Sae, state: &AdamState) {
    let none = Moments::default();
    let of_table = state.lookup.as_ref().unwrap_or(&none);
    let moments = [&state.w_enc, &state.b_enc, &state.w_dec, &state.b_dec, of_table];
    let table = sae.lookup.as_deref().unwrap_or(&[]);
    for part in [&sae.w_enc[..], &sae.b_enc, &sae.w_dec, &sae.b_dec, table]
        .into_iter()
        .chain(moments.iter().flat_map(|moments| [&moments.m[..], &moments.v]))
    {
        hash.update(bytemuck::cast_slice::<f32, u8>(part));
    }
}

impl StepReport {
    /// The report as a table.
    pub fn table(&self) -> Table {
        let mut table = Table::new("training step", &[Column::text(""), Column::text("")]);
        let mut push = |name: &str, shown: String| table.push(Row::new(name).text(&shown));
        push("backend", self.backend.clone());
        push("tokens per second", format!("{:.0}", self.tokens_per_s));
        push("GFLOP/s", format!("{:.0}", self.gflops));
        if let Some(share) = self.peak_share {
            push("of the machine's peak", format!("{:.1} %", 100.0 * share));
        }
        push("peak memory", format::bytes(self.peak_rss_bytes));
        push("rows scored in full", self.fallback_rows.to_string());
        for (name, seconds) in &self.stages {
            push(name, format!("{:.2} ms", 1e3 * seconds.as_f64().unwrap_or(0.0)));
        }
        table
    }
}
