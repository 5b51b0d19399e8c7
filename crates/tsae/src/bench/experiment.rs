//! A whole experiment at full size with synthetic weights: its forecast, and what it
//! took.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Zipf};
use serde::Serialize;

use super::synthetic::checkpoint;
use super::{ModelShape, Weights};
use tokenized_sae::activations::{ActivationStore, HarvestConfig};
use tokenized_sae::display::{Column, Row, Table};
use tokenized_sae::error::{Error, Result};
use tokenized_sae::forecast::Forecast;
use tokenized_sae::format;
use tokenized_sae::internal::files;
use tokenized_sae::internal::memory;
use tokenized_sae::model::tokens::Tokens;
use tokenized_sae::model::{Compute, HookPoint, Model, Processing};
use tokenized_sae::sae::{Lookup, SaeConfig};
use tokenized_sae::train::{TrainConfig, Trainer};

/// What is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExperimentBench {
    /// The model's shape. With it come the paper's hook and dictionary: before block 8 of 12 and
    /// 12,288 latents, k 30, for GPT-2 and Pythia 160M; before block 20 of 24 and 16,384 latents, k
    /// 50, for Pythia 1.4B.
    pub shape: ModelShape,
    /// The number format of the checkpoint.
    pub weights: Weights,
    /// The number format of the model's products.
    pub compute: Compute,
    /// Tokens to harvest.
    pub harvested: usize,
    /// Tokens to train on, drawn from those.
    pub trained: u64,
    /// Where the checkpoint, the activations and the runs go; earlier ones are removed, but
    /// for a checkpoint of the same shape.
    pub dir: PathBuf,
}

/// A part of the experiment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Part {
    /// What is done.
    pub name: &'static str,
    /// Bytes of memory in its forecast; `None` without a forecast.
    pub memory_said: Option<u64>,
    /// Bytes that it took at most, beyond what was in memory when it began; files' pages not
    /// counted.
    pub memory: u64,
    /// Seconds in its forecast.
    pub seconds_said: Option<f64>,
    /// Seconds that it took.
    pub seconds: f64,
}

/// The results.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExperimentReport {
    /// Loading, the table, harvesting, training.
    pub parts: Vec<Part>,
    /// The most memory that the process held for itself, in bytes.
    pub memory: u64,
    /// Bytes that it held for itself once the model was loaded.
    pub model: u64,
}

/// Runs the experiment.
///
/// # Errors
/// What its parts report, [`Error::Memory`] among them; [`Error::Config`] where the system does not
/// say how much memory a process holds.
pub fn experiment(bench: &ExperimentBench) -> Result<ExperimentReport> {
    let (layer, d_sae, k) = match bench.shape {
        ModelShape::Gpt2 | ModelShape::Pythia160M => (8, 12_288, 30),
        ModelShape::Pythia1_4B => (20, 16_384, 50),
        ModelShape::SmolLm2 => (8, 9216, 32),
    };
    let folder = checkpoint_of(bench)?;
    for old in ["activations", "runs"] {
        let old = bench.dir.join(old);
        if old.exists() {
            fs::remove_dir_all(&old).map_err(Error::io("remove", &old))?;
        }
    }
    let name = folder.to_string_lossy().into_owned();
    let mut watch = MemoryWatch::start()?;
    let mut parts = Vec::new();

    let said = || Model::forecast(&name, Processing::default()).map(Some);
    let model = watch.time(&mut parts, "load the model", said, || Model::load(&name))?;
    let held = anonymous().unwrap_or(0);
    let hook = HookPoint::resid_pre(layer);

    let tokens = zipf(bench.harvested, model.config().d_vocab, model.bos())?;
    let config = HarvestConfig { compute: bench.compute, ..Default::default() };
    let said = || ActivationStore::forecast(&model, &[hook], &tokens, &config).map(Some);
    let dir = bench.dir.join("activations");
    let harvest = || ActivationStore::harvest(&model, &[hook], &tokens, dir, config.clone());
    let acts = watch.time(&mut parts, "harvest", said, harvest)?;

    let table = || Lookup::unigram(&model.computing(bench.compute), hook);
    let table = watch.time(&mut parts, "make the token table", || Ok(None), table)?;
    let sae =
        SaeConfig { expansion: d_sae / model.config().d_model, k, ..SaeConfig::for_model(&model) };
    let train = TrainConfig { tokens: bench.trained, ..Default::default() };
    let trainer = || {
        Trainer::new(&acts, hook, train.clone())?
            .add("TSAE", sae.clone().with_lookup(table.clone()))
    };
    watch.time(
        &mut parts,
        "train",
        || trainer()?.forecast().map(Some),
        || trainer()?.fit(bench.dir.join("runs")),
    )?;
    Ok(ExperimentReport { parts, memory: watch.peak, model: held })
}

/// The checkpoint's folder; written if there is none of the shape.
fn checkpoint_of(bench: &ExperimentBench) -> Result<PathBuf> {
    let folder =
        bench.dir.join(format!("{}-{}", bench.shape.name(), bench.weights.name().to_lowercase()));
    if !folder.join("config.json").exists() {
        files::create_folder(&folder)?;
        files::write_atomic(&folder.join("model.safetensors"), |out| {
            checkpoint(bench.shape, bench.weights, out)
        })?;
        // Comes last, and says that the rest is there.
        files::write_atomic(&folder.join("config.json"), |out| {
            out.write_all(bench.shape.config().as_bytes())
        })?;
    }
    Ok(folder)
}

/// Sequences of 256 tokens that fall off as Zipf's law has it.
fn zipf(n: usize, d_vocab: usize, bos: u32) -> Result<Tokens> {
    const N_CTX: usize = 256;
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let law = Zipf::new(d_vocab as f64, 1.15).map_err(|e| Error::config("shape", e.to_string()))?;
    let ids = (0..n.div_ceil(N_CTX) * N_CTX)
        .map(|at| if at % N_CTX == 0 { bos } else { law.sample(&mut rng) as u32 - 1 });
    Tokens::new(ids.collect(), N_CTX)
}

/// Bytes that this process holds for itself.
fn anonymous() -> Option<u64> {
    let status = fs::read_to_string(Path::new("/proc/self/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    Some(1024 * line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?)
}

/// Looks again and again at how much memory the process holds.
struct MemoryWatch {
    now: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// Over all parts so far.
    peak: u64,
}

impl MemoryWatch {
    fn start() -> Result<MemoryWatch> {
        if anonymous().is_none() {
            return Err(Error::config(
                "shape",
                "this system does not say how much memory a process holds: run this on Linux",
            ));
        }
        let (now, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (seen, ask) = (now.clone(), stop.clone());
        let look = move || {
            while !ask.load(Ordering::Relaxed) {
                seen.fetch_max(anonymous().unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        let thread = std::thread::Builder::new()
            .name("tsae-memory".to_owned())
            .spawn(look)
            .map_err(Error::io("start a thread in", "."))?;
        Ok(MemoryWatch { now, stop, thread: Some(thread), peak: 0 })
    }

    /// Asks what a part will take, and does it. What asking leaves behind, such as the rooms of a
    /// pass through the model, counts as the part's.
    fn time<T>(
        &mut self,
        parts: &mut Vec<Part>,
        name: &'static str,
        said: impl FnOnce() -> Result<Option<Forecast>>,
        run: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        memory::trim_heap();
        let before = anonymous().unwrap_or(0);
        let said = said()?;
        self.now.store(before, Ordering::Relaxed);
        let start = Instant::now();
        let done = run()?;
        let (seconds, most) = (start.elapsed().as_secs_f64(), self.now.load(Ordering::Relaxed));
        self.peak = self.peak.max(most);
        let memory = most.saturating_sub(before);
        parts.push(Part {
            name,
            memory_said: said.map(|said| said.memory),
            memory,
            seconds_said: said.map(|said| said.seconds),
            seconds,
        });
        Ok(done)
    }
}

impl Drop for MemoryWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl ExperimentReport {
    /// The report as a table.
    pub fn table(&self) -> Table {
        let columns = [
            Column::text(""),
            Column::text("memory said"),
            Column::text("memory"),
            Column::text("time said"),
            Column::text("time"),
        ];
        let mut table = Table::new("experiment", &columns);
        for part in &self.parts {
            let said = |bytes: Option<u64>| bytes.map_or("–".to_owned(), format::bytes);
            let row =
                Row::new(part.name).text(&said(part.memory_said)).text(&format::bytes(part.memory));
            let time = part.seconds_said.map_or("–".to_owned(), format::duration);
            table.push(row.text(&time).text(&format::duration(part.seconds)));
        }
        let held =
            |name, bytes| Row::new(name).text("–").text(&format::bytes(bytes)).text("–").text("–");
        table.push(held("held by the model", self.model));
        table.push(held("held at most", self.memory));
        table
    }
}
