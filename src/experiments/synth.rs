//! SAEs on rows whose features are known: which architecture finds them, and what a token table takes
//! away.

mod arms;
mod published;
mod recipe;
mod show;

use std::path::Path;

use serde::Serialize;

use crate::base::error::{Error, Result};
use crate::base::files;
use crate::sae::SaeConfig;
use crate::synthetic::{Scores, SyntheticConfig, SyntheticModel};
use crate::train::{TrainConfig, Trainer};

pub use arms::Arm;
pub use published::{Published, published};
pub use recipe::SynthArch;

/// Rows of which a table's means are taken.
const MEANS: u64 = 100_000;

/// What to train and to score.
///
/// ```no_run
/// use tokenized_sae::experiments::synth::{SynthArch, SynthConfig};
/// let config = SynthConfig { archs: vec![SynthArch::Matryoshka], ..SynthConfig::small() };
/// if let Some(report) = config.run("results")? {
///     println!("{}", report.table().text());
/// }
/// # Ok::<(), tokenized_sae::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct SynthConfig {
    /// The model whose features are to be found.
    pub model: SyntheticConfig,
    /// An SAE of each of these, all on one stream.
    pub archs: Vec<SynthArch>,
    /// Of each of them one without a table and one with each of these tables; only in a model with
    /// tokens. Empty: none has a table.
    pub arms: Vec<Arm>,
    /// Rows that each SAE is trained on.
    pub samples: u64,
    /// How many latents there are.
    pub latents: usize,
    /// How many are to be active on a row; by default as many as of the model's first features, as
    /// many as there are latents, and half of what its tokens add.
    pub l0: Option<f64>,
    /// The learning rate at the start.
    pub lr: f64,
    /// The learning rate at the end, which it nears along a cosine; by default it stays, as in the
    /// benchmark.
    pub lr_end: Option<f64>,
    /// Seeds SAEs and their stream.
    pub seed: u64,
    /// Rows that are scored.
    pub scored: u64,
    /// Seconds between two checkpoints, at least.
    pub checkpoint_seconds: f64,
}

impl SynthConfig {
    /// Two minutes on two cores: a sixteenth of the benchmark, a million rows.
    pub fn small() -> SynthConfig {
        SynthConfig {
            model: SyntheticConfig::small(),
            archs: SynthArch::ALL.to_vec(),
            arms: Vec::new(),
            samples: 1_000_000,
            latents: 256,
            l0: None,
            lr: 2e-3,
            lr_end: None,
            seed: 0,
            scored: 100_000,
            checkpoint_seconds: TrainConfig::default().checkpoint_seconds,
        }
    }

    /// SynthSAEBench-16k as published: 200 million rows, 4,096 latents, learning rate 3e-4, scores
    /// of 500,000 rows. Hours.
    pub fn full() -> SynthConfig {
        SynthConfig {
            model: SyntheticConfig::synth_sae_bench_16k(),
            samples: 200_000_000,
            latents: 4_096,
            lr: 3e-4,
            scored: 500_000,
            checkpoint_seconds: 60.0,
            ..SynthConfig::small()
        }
    }

    /// A small model with tokens: BatchTopK without and with tables.
    pub fn tokens() -> SynthConfig {
        SynthConfig {
            model: SyntheticConfig::tokens(),
            archs: vec![SynthArch::BatchTopK],
            arms: Arm::ALL.to_vec(),
            latents: 512,
            ..SynthConfig::small()
        }
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first that cannot be used.
    pub fn check(&self) -> Result<()> {
        self.model.check()?;
        Error::at_least_1("samples", self.samples)?;
        Error::at_least_1("latents", self.latents as u64)?;
        Error::at_least_1("scored", self.scored)?;
        if self.archs.is_empty() {
            return Err(Error::config("archs", "no architecture: name at least one"));
        }
        if !self.arms.is_empty() && self.model.tokens.is_none() {
            let why = "a table needs tokens, and this model has none: take the preset tokens";
            return Err(Error::config("arms", why));
        }
        if let Some(l0) = self.l0
            && !(l0 >= 1.0 && l0 <= self.latents as f64)
        {
            let why = format!("l0 = {l0}; it must lie between 1 and {} latents", self.latents);
            return Err(Error::config("l0", why));
        }
        self.train().check()
    }

    fn train(&self) -> TrainConfig {
        TrainConfig {
            tokens: self.samples,
            batch: recipe::BATCH,
            lr: self.lr,
            lr_end: self.lr_end.unwrap_or(self.lr),
            seed: self.seed,
            // A point of history a hundred steps, and no fewer than some dozens.
            log_every: (self.samples / recipe::BATCH as u64 / 50).clamp(1, 100),
            dead_window: recipe::DEAD_STEPS * recipe::BATCH as u64,
            sparsity_warmup: recipe::SPARSITY_WARMUP,
            checkpoint_seconds: self.checkpoint_seconds,
            ..TrainConfig::default()
        }
    }

    /// The trainer of all its SAEs, by name.
    ///
    /// # Errors
    /// As [`check`](SynthConfig::check).
    pub fn trainer(&self, model: &SyntheticModel) -> Result<Trainer> {
        self.trainer_of(model, &self.saes(model)?)
    }

    fn trainer_of(
        &self,
        model: &SyntheticModel,
        saes: &[(String, SynthArch, SaeConfig)],
    ) -> Result<Trainer> {
        let trainer = Trainer::on_synthetic(model, self.train())?;
        saes.iter().try_fold(trainer, |trainer, (name, _, sae)| trainer.add(name, sae.clone()))
    }

    /// The L0 that is aimed at.
    fn target_l0(&self, model: &SyntheticModel) -> f64 {
        let of_tokens = self.model.tokens.map_or(0.0, |it| it.strength * it.per_token as f64);
        self.l0
            .unwrap_or_else(|| (model.l0_of_first(self.latents) + of_tokens / 2.0).round().max(1.0))
    }

    /// Every SAE with its name and its architecture.
    fn saes(&self, model: &SyntheticModel) -> Result<Vec<(String, SynthArch, SaeConfig)>> {
        let l0 = self.target_l0(model);
        let mut saes = Vec::new();
        for &arch in &self.archs {
            let size = (model.d_model(), model.d_vocab(), self.latents);
            let plain = SaeConfig { seed: self.seed, ..arch.sae(size, l0) };
            saes.push((arch.name().to_owned(), arch, plain.clone()));
            for &arm in &self.arms {
                let name = format!("{}, {}", arch.name(), arm.name());
                saes.push((name, arch, arm.of(model, plain.clone(), arch, l0)?));
            }
        }
        Ok(saes)
    }

    /// Makes the model, trains all SAEs on one stream of its rows, scores them on others, and writes
    /// `dir/model`, `dir/runs` and `dir/scores.json`.
    ///
    /// What is done is found again, and what was interrupted continues: the same call ends with the
    /// same bytes. `None` if training was interrupted.
    ///
    /// # Errors
    /// As [`check`](SynthConfig::check), [`SyntheticModel::new_in`], [`Trainer::fit`] and
    /// [`SyntheticModel::score`].
    pub fn run(&self, dir: impl AsRef<Path>) -> Result<Option<SynthReport>> {
        let dir = dir.as_ref();
        self.check()?;
        files::create_folder(dir)?;
        let model = SyntheticModel::new_in(self.model.clone(), dir.join("model"))?;
        let saes = self.saes(&model)?;
        let runs = self.trainer_of(&model, &saes)?.fit(dir.join("runs"))?;
        if runs.runs.iter().any(|run| !run.finished) {
            return Ok(None);
        }
        let mut rows = Vec::new();
        for (name, arch, config) in &saes {
            rows.push(SynthRow {
                name: name.clone(),
                arch: *arch,
                parameters: config.parameters() as u64,
                scores: model.score(&runs[name.as_str()].sae, self.scored)?,
            });
        }
        let report = SynthReport {
            model: model.describe(),
            fingerprint: model.fingerprint(),
            samples: self.samples,
            latents: self.latents,
            target_l0: self.target_l0(&model),
            lr: self.lr,
            lr_end: self.lr_end,
            seed: self.seed,
            published: match self.model == SyntheticConfig::synth_sae_bench_16k() {
                true => published(),
                false => Vec::new(),
            },
            rows,
        };
        files::write_json(&dir.join("scores.json"), &report)?;
        Ok(Some(report))
    }
}

/// What [`SynthConfig::run`] found, as `scores.json` has it.
#[derive(Clone, Serialize)]
#[non_exhaustive]
pub struct SynthReport {
    /// The model, in a line.
    pub model: String,
    /// A checksum of its settings.
    pub fingerprint: String,
    /// Rows that each SAE was trained on.
    pub samples: u64,
    /// How many latents each has, but for those that have more in the place of a table.
    pub latents: usize,
    /// The L0 that was aimed at.
    pub target_l0: f64,
    /// The learning rate at the start.
    pub lr: f64,
    /// That at the end, if it did not stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr_end: Option<f64>,
    /// The seed of SAEs and stream.
    pub seed: u64,
    /// The SAEs.
    pub rows: Vec<SynthRow>,
    /// What was published of the same model; empty for others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub published: Vec<Published>,
}

/// One SAE and its scores.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct SynthRow {
    /// The name of its run.
    pub name: String,
    /// Its architecture.
    pub arch: SynthArch,
    /// Numbers that training moves.
    pub parameters: u64,
    /// Its scores.
    pub scores: Scores,
}
