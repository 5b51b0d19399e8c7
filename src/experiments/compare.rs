//! The main job in one call: two SAEs and two TSAEs on the same activations of the same model, and how
//! they compare.

mod show;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{EVALUATED, SAMPLED, Text};
use crate::activations::{ActivationStore, HarvestConfig};
use crate::base::error::{Error, Result};
use crate::base::files::{self, FolderLock};
use crate::base::format;
use crate::display::interrupt;
use crate::eval::{Evaluations, Kept, Metrics};
use crate::model::{HookPoint, Model};
use crate::sae::{Lookup, ModelCard, SaeConfig};
use crate::train::{self, Run, Runs, Speedup, TrainConfig, Trainer, figures, speedup};

/// The learning rates among which each SAE gets the one that serves it best, so that the TSAE is
/// measured against no straw man.
pub const LEARNING_RATES: [f64; 4] = [1e-3, 3e-3, 1e-2, 3e-2];

/// What to compare.
#[derive(Clone, Debug)]
pub struct CompareConfig {
    /// A file, a folder, a glob, or `hub:` and a data set, as
    /// [`Corpus::text_files`](crate::corpus::Corpus::text_files) takes it; if
    /// `None`, the model's own samples.
    pub text: Option<String>,
    /// The format of its files, where their names do not say it: `text`, `json`, `csv`, `tsv` or
    /// `parquet`.
    pub format: Option<String>,
    /// The field of JSON objects, or the column of a table, that holds it, if not `text`.
    pub column: Option<String>,
    /// How many tokens the model samples without a text.
    pub sampled: usize,
    /// The hook; by default `hook_resid_pre` of the block half-way up.
    pub hook: Option<HookPoint>,
    /// Active latents per token.
    pub k: usize,
    /// Latents per dimension.
    pub expansion: usize,
    /// Training tokens for each SAE.
    pub tokens: u64,
    /// Learning rates to choose from; the choice is the SAEs'.
    pub learning_rates: Vec<f64>,
    /// Seeds samples, directions and the order of the activations.
    pub seed: u64,
    /// Seconds between two checkpoints, at least.
    pub checkpoint_seconds: f64,
}

impl Default for CompareConfig {
    fn default() -> CompareConfig {
        CompareConfig {
            text: None,
            format: None,
            column: None,
            sampled: SAMPLED,
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
    /// The [centred](SaeConfig::centred) SAE, at its own best learning rate.
    pub centred: Metrics,
    /// The authors' TSAE, whose table starts at [`Lookup::unigram`] and is added, at the same
    /// learning rate as the SAE.
    #[serde(rename = "TSAE")]
    pub tsae: Metrics,
    /// The TSAE of [`SaeConfig::recommended`], at the same learning rate as the SAE.
    pub recommended: Metrics,
    /// How many times fewer tokens the authors' TSAE needed than the SAE.
    pub speedup: Speedup,
    /// How many times fewer the recommended one needed.
    pub recommended_speedup: Speedup,
    /// How many times fewer the recommended one needed than the centred SAE.
    pub speedup_over_centred: Speedup,
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
    /// The learning rate of the SAE and of the TSAEs.
    pub lr: f64,
    /// The learning rate of the centred SAE.
    pub centred_lr: f64,
    /// Final held-out NMSE of the SAE and of the centred one at each learning rate.
    pub learning_rates: Vec<(f64, f64, f64)>,
    /// The same metrics with position 0 reconstructed and counted, as in the paper.
    pub with_bos: BTreeMap<String, Metrics>,
}

/// What [`compare`] returns.
pub struct Comparison {
    /// The figures of `report.json`.
    pub report: Report,
    /// The four runs.
    pub runs: Runs,
    /// Their evaluation.
    pub evaluations: Evaluations,
}

/// Harvests, trains an SAE and a centred one at several learning rates and two TSAEs at the SAE's best,
/// the authors' and the recommended one, evaluates all on held-out text, and writes `dir/SAE/`,
/// `dir/centred/`, `dir/TSAE/` and `dir/recommended/`, each with a model card, `dir/report.json` and
/// figures.
///
/// The activations, every run and their evaluation stay in `dir/activations` and `dir/runs`; the
/// same call again reuses them, and continues where it was interrupted. `None` if it was.
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
    let (sae, train) = config.checked(model)?;
    files::create_folder(dir)?;
    let _lock = FolderLock::acquire(dir)?;
    for folder in ["", "SAE", "centred", "TSAE", "recommended"].map(|name| dir.join(name)) {
        if folder.is_dir() {
            files::remove_stale_files(&folder, |_| true)?;
        }
    }

    let text = Text {
        pattern: config.text.as_deref(),
        format: config.format.as_deref(),
        column: config.column.as_deref(),
        context: None,
        tokens: config.tokens,
        sampled: config.sampled,
        seed: config.seed,
    };
    let corpus = text.corpus(model, dir)?;
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
        let at = sae.clone().with_lr(*lr);
        saes = saes
            .add(&format!("SAE lr={lr:e}"), at.clone())?
            .add(&format!("centred lr={lr:e}"), at.centred())?;
    }
    let saes = saes.fit(dir.join("runs"))?;
    let finished = |runs: &Runs| runs.runs.iter().all(|run| run.finished);
    let best_that_is = |centred| saes.best_without_lookup_that_is(centred);
    let (Some(best), Some(centred), true) =
        (best_that_is(false), best_that_is(true), finished(&saes))
    else {
        return Ok(None);
    };
    let with = |lookup: Lookup| sae.clone().with_lookup(lookup).with_lr(best.lr);
    let unigram = Lookup::unigram_in(model, hook, dir.join("tables"))?;
    let recommended = Lookup::shrunk_means(model, &acts, hook)?.subtracted_in_full();
    let tsaes = trainer()?
        .add(&format!("TSAE lr={:e}", best.lr), with(unigram))?
        .add(&format!("recommended lr={:e}", best.lr), with(recommended))?
        .fit(dir.join("runs"))?;
    if !finished(&tsaes) {
        return Ok(None);
    }
    let named = |name: &str, run: &Run| Run { name: name.to_owned(), ..run.clone() };
    let folders: Vec<PathBuf> = [best, centred, &tsaes.runs[0], &tsaes.runs[1]]
        .iter()
        .map(|run| dir.join("runs").join(&run.name))
        .collect();
    let (sae, centred) = (named("SAE", best), named("centred", centred));
    let (tsae, recommended) = (named("TSAE", &tsaes.runs[0]), named("recommended", &tsaes.runs[1]));
    let sooner = |run: &Run, than: &Run| speedup(&Runs { runs: vec![than.clone(), run.clone()] });
    let speedup = sooner(&tsae, &sae)?;
    let recommended_speedup = sooner(&recommended, &sae)?;
    let speedup_over_centred = sooner(&recommended, &centred)?;
    let centred_lr = centred.lr;
    let runs = Runs { runs: vec![sae, centred, tsae, recommended] };

    let valid = corpus.valid.rows(0, EVALUATED.div_ceil(corpus.valid.n_ctx()));
    // A stop that came after the last step of training is not meant for this.
    interrupt::clear();
    let path = dir.join("runs").join("evaluation.json");
    let kept = Kept::new(path, model, hook, &valid, &train::weights(&folders)?);
    let evaluations = match train::evaluate_kept(model, hook, &runs, &valid, Some(kept)) {
        Ok(evaluations) if evaluations.tokens == valid.len() => evaluations,
        Ok(_) | Err(Error::Interrupted { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let last = |run: &Run| run.history.held_out.last().map_or(f64::NAN, |point| point.nmse);
    let report = Report {
        sae: evaluations.get("SAE")?.without_bos,
        centred: evaluations.get("centred")?.without_bos,
        tsae: evaluations.get("TSAE")?.without_bos,
        recommended: evaluations.get("recommended")?.without_bos,
        speedup,
        recommended_speedup,
        speedup_over_centred,
        tokens: best.tokens,
        model: model.name().to_owned(),
        revision: model.revision().map(str::to_owned),
        processing: model.processing().to_string(),
        hook,
        lr: best.lr,
        centred_lr,
        learning_rates: saes
            .runs
            .chunks_exact(2)
            .map(|pair| (pair[0].lr, last(&pair[0]), last(&pair[1])))
            .collect(),
        with_bos: evaluations.rows.iter().map(|row| (row.name.clone(), row.with_bos)).collect(),
    };
    write(dir, config, &acts, &runs, &report)?;
    Ok(Some(Comparison { report, runs, evaluations }))
}

impl CompareConfig {
    /// The settings of every SAE and of the training, if they can be used.
    fn checked(&self, model: &Model) -> Result<(SaeConfig, TrainConfig)> {
        let sae = SaeConfig {
            k: self.k,
            expansion: self.expansion,
            seed: self.seed,
            ..SaeConfig::for_model(model)
        };
        sae.check()?;
        if self.learning_rates.is_empty() {
            return Err(Error::config("learning_rates", "the list is empty: give at least one"));
        }
        if self.text.is_none() {
            Error::at_least_1("sampled", self.sampled as u64)?;
        }
        self.learning_rates.iter().try_for_each(|&lr| sae.clone().with_lr(lr).check())?;
        let train = TrainConfig {
            tokens: self.tokens,
            seed: self.seed,
            checkpoint_seconds: self.checkpoint_seconds,
            ..TrainConfig::default()
        };
        train.check()?;
        Ok((sae, train))
    }

    /// Where the text comes from, in words.
    fn said(&self) -> String {
        match &self.text {
            Some(pattern) => format!("text files: {pattern}"),
            None => {
                let tokens = format::count(self.sampled as u64);
                format!("{tokens} tokens of the model's own samples")
            }
        }
    }
}

/// Writes the SAEs with their cards, the figures, and last the report.
fn write(
    dir: &Path,
    config: &CompareConfig,
    acts: &ActivationStore,
    runs: &Runs,
    report: &Report,
) -> Result<()> {
    let figures = vec![
        ("reconstruction.svg".to_owned(), figures::reconstruction(runs)?),
        ("training.svg".to_owned(), figures::training(runs)?),
    ];
    for (name, figure) in &figures {
        figure.save(dir.join(name))?;
    }
    let (rows, n_ctx) = (format::count(acts.n_rows() as u64), acts.n_ctx());
    let data = [
        ("text", config.said()),
        ("training tokens", format::count(report.tokens)),
        ("activations", format!("{rows} rows, sequences of {n_ctx} tokens")),
        ("SHA-256 of the tokens", acts.corpus_fingerprint().to_owned()),
        ("learning rate at the start", format!("{:e}", report.lr)),
    ];
    let about = ModelCard {
        data: data.map(|(name, value)| (name.to_owned(), value)).to_vec(),
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
    files::write_json(&dir.join("report.json"), report)
}
