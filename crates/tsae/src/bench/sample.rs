//! How many tokens a second a model writes.

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::ModelShape;
use tokenized_sae::backend::gpu::{Driver, Timed};
use tokenized_sae::backend::{self, Device};
use tokenized_sae::display::{Column, Row, Table};
use tokenized_sae::error::{Error, Result};
use tokenized_sae::internal::{OnDevice, Precision};
use tokenized_sae::model::Model;

/// Sequences whose tokens make the checksum.
const CHECKED: usize = 8;

/// Tokens of each sequence for which a card's kernels are waited for one by one.
const TIMED: usize = 8;

/// What is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SampleBench {
    /// A [`ModelShape`] by its name, with made-up weights, or else a model that is here.
    pub model: String,
    /// The processor, or a card.
    pub device: Device,
    /// How many sequences are written; on a card, at once. Default 128.
    pub sequences: usize,
    /// Tokens in each. Default 256.
    pub n_ctx: usize,
}

impl Default for SampleBench {
    fn default() -> SampleBench {
        SampleBench { model: "gpt2".into(), device: Device::Cpu, sequences: 128, n_ctx: 256 }
    }
}

/// The results.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SampleReport {
    /// Tokens written per second.
    pub tokens_per_s: f64,
    /// On a card, the seconds of each kernel and of the copies for the first few tokens of all
    /// sequences, in which the host waits for every kernel.
    pub stages: Map<String, Value>,
    /// The SHA-256 of the tokens of the first eight sequences, the same on every card and every
    /// processor with AVX-512, however many more are written.
    pub sha256: String,
}

/// Has a model write text. Keeps nothing.
///
/// # Errors
/// [`Error::Config`] if there is nothing to write, it is more than the model can read, or the card
/// is not there or does not give the processor's bits; those of [`Model::load`].
pub fn sample(bench: &SampleBench) -> Result<SampleReport> {
    let model = match ModelShape::ALL.into_iter().find(|shape| shape.name() == bench.model) {
        Some(shape) => Model::synthetic(shape.name(), shape.config(), Precision::Single)?,
        None => Model::load(&bench.model)?,
    };
    let (n, n_ctx) = (bench.sequences, bench.n_ctx);
    if n == 0 || !(2..=model.config().n_ctx).contains(&n_ctx) {
        let most = model.config().n_ctx;
        let why = format!("{n} sequences of {n_ctx} tokens: take at least 1, of 2 to {most}");
        return Err(Error::config("sequences", why));
    }
    let (seconds, texts, stages) = match bench.device {
        Device::Cuda(ordinal) => on_card(ordinal, &model, n, n_ctx)?,
        Device::Auto | Device::Cpu => on_processor(&model, n, n_ctx)?,
    };
    let checked = texts
        .iter()
        .take(CHECKED)
        .fold(Sha256::new(), |hash, text| hash.chain_update(bytemuck::cast_slice::<u32, u8>(text)));
    Ok(SampleReport {
        tokens_per_s: (n * (n_ctx - 1)) as f64 / seconds,
        stages,
        sha256: checked.finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
    })
}

/// Seconds, what was written after BOS, and the seconds of its parts.
type Measured = (f64, Vec<Vec<u32>>, Map<String, Value>);

fn on_processor(model: &Model, n: usize, n_ctx: usize) -> Result<Measured> {
    Device::prefer(Device::Cpu);
    let start = Instant::now();
    let tokens = model.sample(n, n_ctx, 0)?;
    let seconds = start.elapsed().as_secs_f64();
    Ok((seconds, (0..n).map(|i| tokens.row(i)[1..].to_vec()).collect(), Map::new()))
}

/// With the copies of ids to the card, and of logits from it, and what is drawn from them here.
fn on_card(ordinal: usize, model: &Model, n: usize, n_ctx: usize) -> Result<Measured> {
    let card = backend::card(ordinal)?;
    let on_card = OnDevice::whole(&card, model)?;
    on_card.prove_text(n_ctx)?;
    let start = Instant::now();
    let texts = on_card.write(0..n, n_ctx - 1, 0)?;
    let seconds = start.elapsed().as_secs_f64();
    drop(on_card);
    let timed = Arc::new(Timed::new(&card)?);
    let driver: Arc<dyn Driver> = timed.clone();
    let on_card = OnDevice::whole(&driver, model)?;
    timed.take(); // the weights
    on_card.write(0..n, TIMED.min(n_ctx - 1), 0)?;
    let stages = timed.take().into_iter().map(|(name, took)| (name, took.as_secs_f64().into()));
    Ok((seconds, texts, stages.collect()))
}

impl SampleReport {
    /// The report as a table.
    pub fn table(&self) -> Table {
        let mut table = Table::new("sample", &[Column::text(""), Column::text("")]);
        let mut push = |name: &str, shown: String| table.push(Row::new(name).text(&shown));
        push("tokens per second", format!("{:.0}", self.tokens_per_s));
        for (name, seconds) in &self.stages {
            push(name, format!("{:.3} s", seconds.as_f64().unwrap_or(0.0)));
        }
        table
    }
}
