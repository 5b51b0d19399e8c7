//! The main job in one call: an SAE and a TSAE on the same activations of the same model, and how
//! they compare.

mod show;

use std::path::Path;

use serde::Serialize;

use crate::activations::{ActivationStore, HarvestConfig};
use crate::base::error::{Error, Result};
use crate::base::files::{self, FolderLock};
use crate::base::format;
use crate::corpus::Corpus;
use crate::display::interrupt;
use crate::eval::{Evaluations, Metrics};
use crate::model::{HookPoint, Model};
use crate::sae::{Lookup, ModelCard, SaeConfig};
use crate::train::figures;
use crate::train::{Run, Runs, Speedup, TrainConfig, Trainer, evaluate, speedup};

/// The learning rates among which the SAE gets the one that serves it best, so that the TSAE is
/// measured against no straw man.
pub const LEARNING_RATES: [f64; 4] = [1e-3, 3e-3, 1e-2, 3e-2];

/// The share of the text that is held out.
const VALID_SHARE: f64 = 0.02;

/// Held-out tokens of the final evaluation, at most.
const EVALUATED: usize = 65_536;

/// The longest context that is used: the authors'.
const N_CTX: usize = 256;

/// Where the text comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Text {
    /// A file, a folder, a glob, or `hub:` and a data set: as [`Corpus::text_files`] takes it.
    Files(String),
    /// This many tokens of the model's own samples.
    Sampled(usize),
}

/// What to compare.
#[derive(Clone, Debug)]
pub struct CompareConfig {
    /// The text.
    pub text: Text,
    /// The format of its files, where their names do not say it: `text`, `json`, `csv`, `tsv` or
    /// `parquet`.
    pub format: Option<String>,
    /// The field of JSON objects, or the column of a table, that holds it, if not `text`.
    pub column: Option<String>,
    /// The hook; by default `hook_resid_pre` of the block half-way up.
    pub hook: Option<HookPoint>,
    /// Active latents per token.
    pub k: usize,
    /// Latents per dimension.
    pub expansion: usize,
    /// Training tokens for each SAE.
    pub tokens: u64,
    /// Learning rates to choose from; the choice is the SAE's.
    pub learning_rates: Vec<f64>,
    /// Seeds samples, directions and the order of the activations.
    pub seed: u64,
    /// Seconds between two checkpoints, at least.
    pub checkpoint_seconds: f64,
}

impl Default for CompareConfig {
    fn default() -> CompareConfig {
        CompareConfig {
            text: Text::Sampled(500_000),
            format: None,
            column: None,
            hook: None,
            k: 16,
            expansion: 16,
            tokens: 4_000_000,
            learning_rates: LEARNING_RATES.to_vec(),
            seed: 0,
            checkpoint_seconds: TrainConfig::default().checkpoint_seconds,
        }
    }
}

/// What was found, as `report.json` has it. Position 0 is left out; `with_bos` has it in.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The SAE, at the learning rate that gave it the lowest held-out NMSE.
    #[serde(rename = "SAE")]
    pub sae: Metrics,
    /// The TSAE, at the same learning rate.
    #[serde(rename = "TSAE")]
    pub tsae: Metrics,
    /// How many times fewer tokens the TSAE needed.
    pub speedup: Speedup,
    /// Training tokens of each.
    pub tokens: u64,
    /// The model's name.
    pub model: String,
    /// The commit of the model's repository on the hub, if it came from there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// How its weights were processed.
    pub processing: String,
    /// The hook.
    pub hook: HookPoint,
    /// The learning rate.
    pub lr: f64,
    /// Final held-out NMSE of the SAE at each learning rate.
    pub learning_rates: Vec<(f64, f64)>,
    /// The same metrics with position 0 reconstructed and counted, as in the paper.
    pub with_bos: WithBos,
}

/// The metrics with position 0.
#[derive(Clone, Debug, Serialize)]
pub struct WithBos {
    /// The SAE.
    #[serde(rename = "SAE")]
    pub sae: Metrics,
    /// The TSAE.
    #[serde(rename = "TSAE")]
    pub tsae: Metrics,
}

/// What [`compare`] returns.
pub struct Comparison {
    /// The figures of `report.json`.
    pub report: Report,
    /// The two runs.
    pub runs: Runs,
    /// Their evaluation.
    pub evaluations: Evaluations,
}

/// Harvests, trains an SAE at several learning rates and a TSAE at the best of them, evaluates both
/// on held-out text, and writes `dir/SAE/`, `dir/TSAE/`, each with a model card, `dir/report.json`
/// and figures.
///
/// The activations and every run stay in `dir/activations` and `dir/runs`; the same call again
/// reuses them, and continues where it was interrupted. `None` if it was.
///
/// # Errors
/// What the steps report.
pub fn compare(
    model: &Model,
    config: &CompareConfig,
    dir: impl AsRef<Path>,
) -> Result<Option<Comparison>> {
    let dir = dir.as_ref();
    let hook = config.hook.unwrap_or(HookPoint::resid_pre(model.config().n_layers / 2));
    model.check_hook(hook)?;
    let sae = SaeConfig {
        k: config.k,
        expansion: config.expansion,
        seed: config.seed,
        ..SaeConfig::for_model(model)
    };
    sae.check()?;
    if config.learning_rates.is_empty() {
        return Err(Error::config("learning_rates", "the list is empty: give at least one"));
    }
    let train = TrainConfig {
        tokens: config.tokens,
        seed: config.seed,
        checkpoint_seconds: config.checkpoint_seconds,
        ..TrainConfig::default()
    };
    train.check()?;
    files::create_folder(dir)?;
    let _lock = FolderLock::acquire(dir)?;
    for folder in [dir.to_owned(), dir.join("SAE"), dir.join("TSAE")] {
        if folder.is_dir() {
            files::remove_stale_files(&folder, |_| true)?;
        }
    }

    let n_ctx = N_CTX.min(model.config().n_ctx);
    let corpus = match &config.text {
        Text::Files(pattern) => {
            let wanted = usize::try_from(config.tokens).unwrap_or(usize::MAX);
            Corpus::text_files(model, pattern)?
                .read_as(config.format.as_deref(), config.column.as_deref())?
                .context(n_ctx)
                .max_tokens(wanted)
                .split(VALID_SHARE)?
        }
        Text::Sampled(tokens) => {
            Corpus::sampled_in(model, *tokens, config.seed, dir.join("corpus"))?
        }
    };
    let acts = ActivationStore::harvest(
        model,
        &[hook],
        &corpus.train,
        dir.join("activations"),
        HarvestConfig::default(),
    )?;
    if !acts.is_complete() {
        return Ok(None);
    }

    let trainer = || Trainer::new(&acts, hook, train.clone())?.held_out(model, &corpus.valid);
    let mut saes = trainer()?;
    for lr in &config.learning_rates {
        saes = saes.add(&format!("SAE lr={lr:e}"), sae.clone().with_lr(*lr))?;
    }
    let saes = saes.fit(dir.join("runs"))?;
    let finished = |runs: &Runs| runs.runs.iter().all(|run| run.finished);
    let Some(best) = saes.best_without_lookup().filter(|_| finished(&saes)) else {
        return Ok(None);
    };
    let tsae =
        sae.with_lookup(Lookup::unigram_in(model, hook, dir.join("tables"))?).with_lr(best.lr);
    let tsaes = trainer()?.add(&format!("TSAE lr={:e}", best.lr), tsae)?.fit(dir.join("runs"))?;
    if !finished(&tsaes) {
        return Ok(None);
    }

    let named = |name: &str, run: &Run| Run { name: name.to_owned(), ..run.clone() };
    let runs = Runs { runs: vec![named("SAE", best), named("TSAE", &tsaes.runs[0])] };
    let valid = corpus.valid.rows(0, EVALUATED.div_ceil(corpus.valid.n_ctx()));
    interrupt::clear();
    let evaluations = evaluate(model, hook, &runs, &valid)?;
    let (sae, tsae) = (evaluations.get("SAE")?, evaluations.get("TSAE")?);
    let report = Report {
        sae: sae.without_bos,
        tsae: tsae.without_bos,
        speedup: speedup(&runs)?,
        tokens: best.tokens,
        model: model.name().to_owned(),
        revision: model.revision().map(str::to_owned),
        processing: model.processing().to_string(),
        hook,
        lr: best.lr,
        learning_rates: saes
            .runs
            .iter()
            .map(|run| (run.lr, run.history.held_out.last().map_or(f64::NAN, |point| point.nmse)))
            .collect(),
        with_bos: WithBos { sae: sae.with_bos, tsae: tsae.with_bos },
    };
    let figures = vec![
        ("reconstruction.svg".to_owned(), figures::reconstruction(&runs)?),
        ("training.svg".to_owned(), figures::training(&runs)?),
    ];
    for (name, figure) in &figures {
        figure.save(dir.join(name))?;
    }
    let about = ModelCard {
        data: vec![
            ("text".to_owned(), show::said(&config.text)),
            ("training tokens".to_owned(), format::count(best.tokens)),
            (
                "activations".to_owned(),
                format!(
                    "{} rows, sequences of {n_ctx} tokens",
                    format::count(acts.n_rows() as u64)
                ),
            ),
            ("SHA-256 of the tokens".to_owned(), acts.corpus_fingerprint().to_owned()),
            ("learning rate at the start".to_owned(), format!("{:e}", best.lr)),
        ],
        metrics: vec![report.table(), report.table_with_bos()],
        figures,
        ..ModelCard::default()
    };
    for run in &runs.runs {
        let folder = dir.join(&run.name);
        run.sae.save(&folder)?;
        run.sae.write_card(&folder, &about)?;
    }
    figures::lookup_norms(&runs.get("TSAE")?.sae)?.save(dir.join("lookup_norms.svg"))?;
    let text = serde_json::to_vec_pretty(&report).map_err(Error::json("report.json"))?;
    files::write_atomic(&dir.join("report.json"), |out| out.write_all(&text))?;
    Ok(Some(Comparison { report, runs, evaluations }))
}
