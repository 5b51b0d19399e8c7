//! The results of a sweep, from its folders.

use std::fs;
use std::path::{Path, PathBuf};

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::grid::Setting;
use super::plan::Plan;
use super::run::folder;
use super::spread::Spread;
use super::work::{Evaluated, Failed};
use crate::base::error::{Error, Result};
use crate::eval::{BySequence, Measure, Metrics};
use crate::sae::Sae;
use crate::train::{self, History, Speedup, TrainConfig};

/// The results of a sweep: its finished runs, and views of them.
#[derive(Clone)]
#[non_exhaustive]
pub struct SweepResults {
    /// The finished runs, in the order of the grid.
    pub runs: Vec<SweepRun>,
    /// The runs whose numbers overflowed.
    pub failed: Vec<FailedRun>,
    pub(super) plan: Plan,
    pub(super) dir: PathBuf,
    /// How many runs were finished when it was read, of which `runs` may be a part.
    pub(super) finished: usize,
}

/// One finished run of a sweep.
#[derive(Clone, PartialEq, Serialize)]
pub struct SweepRun {
    /// Its place in the grid.
    pub setting: Setting,
    /// Its seed.
    pub seed: u64,
    /// Its name, which is its folder's.
    pub name: String,
    /// Its folder.
    pub dir: PathBuf,
    /// Its figures on held-out text; position 0 keeps the model's own activation and is not
    /// counted.
    pub metrics: Metrics,
    /// The same with every position reconstructed and counted, as in the paper.
    pub with_bos: Metrics,
    /// What each sequence of the text adds to its figures; nothing in folders from before it was
    /// kept, which the same sweep adds.
    #[serde(skip)]
    pub by_sequence: BySequence,
    /// How it came there.
    #[serde(skip)]
    pub history: History,
    /// How many times fewer tokens than the run of the baseline it needed for that one's final
    /// values.
    pub speedup: Option<Speedup>,
}

/// A run whose numbers overflowed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FailedRun {
    /// Its place in the grid.
    pub setting: Setting,
    /// Its seed.
    pub seed: u64,
    /// What went wrong.
    pub why: String,
}

/// One place of the grid: the runs of all its seeds.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct SweepRow {
    /// The place.
    pub setting: Setting,
    /// Its runs, one a seed.
    pub runs: Vec<SweepRun>,
}

/// What `tsae sweep --json` prints: the runs without their histories, which lie in their folders.
impl Serialize for SweepResults {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut it = serializer.serialize_struct("SweepResults", 6)?;
        it.serialize_field("model", self.model_name())?;
        it.serialize_field("dir", &self.dir)?;
        it.serialize_field("planned", &self.planned())?;
        it.serialize_field("complete", &self.is_complete())?;
        it.serialize_field("runs", &self.runs)?;
        it.serialize_field("failed", &self.failed)?;
        it.end()
    }
}

impl SweepResults {
    /// Reads the folder in which a sweep was, or is being, run.
    ///
    /// # Errors
    /// [`Error::Format`] if there is no `sweep.json`; [`Error::Checksum`] if a run's history is
    /// damaged; [`Error::UnknownHook`] and others as the files' damage has it.
    pub fn open(dir: impl AsRef<Path>) -> Result<SweepResults> {
        let dir = dir.as_ref();
        let plan = Plan::read(dir)?;
        let (mut runs, mut failed) = (Vec::new(), Vec::new());
        for point in &plan.runs {
            let place = folder(dir, point);
            let (setting, seed) = (point.setting.clone(), point.seed);
            let Some(finished) = train::finished(&place, None)? else {
                failed.extend(Failed::read(&place, None)?.map(|why| FailedRun {
                    setting,
                    seed,
                    why,
                }));
                continue;
            };
            let Some(evaluation) = Evaluated::read(&place, &finished.weights, &plan.text)? else {
                continue;
            };
            runs.push(SweepRun {
                setting,
                seed,
                name: point.name.clone(),
                dir: place,
                metrics: evaluation.without_bos,
                with_bos: evaluation.with_bos,
                by_sequence: evaluation.by_sequence,
                history: finished.history,
                speedup: None,
            });
        }
        let finished = runs.len();
        let results = SweepResults { runs, failed, plan, dir: dir.to_owned(), finished };
        match results.plan.baseline.clone() {
            Some(arm) => Ok(results.compared(&arm)),
            None => Ok(results),
        }
    }

    /// How many runs the grid has, finished or not.
    pub fn planned(&self) -> usize {
        self.plan.runs.len()
    }

    /// Whether every run is finished, or has failed; a [part](SweepResults::best_over) of complete
    /// results is complete too.
    pub fn is_complete(&self) -> bool {
        self.finished + self.failed.len() == self.planned()
    }

    /// The folder of the sweep.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The name of the model.
    pub fn model_name(&self) -> &str {
        &self.plan.model
    }

    /// How many layers the model has.
    pub fn n_layers(&self) -> usize {
        self.plan.n_layers
    }

    /// The settings that all runs share, but for the seed.
    pub fn train(&self) -> &TrainConfig {
        &self.plan.train
    }

    /// The arm that the others are compared with.
    pub fn baseline(&self) -> Option<&str> {
        self.plan.baseline.as_deref()
    }

    /// The same results, with every other arm compared with this one.
    ///
    /// The run of the baseline that a run is compared with has the same hook, seed, k, expansion
    /// and further values, and the same learning rate, or else the only one there is.
    ///
    /// # Errors
    /// [`Error::UnknownRun`] if no run has that arm.
    pub fn with_baseline(mut self, arm: &str) -> Result<SweepResults> {
        if !self.runs.iter().any(|run| run.setting.arm == arm) {
            return Err(Error::UnknownRun { name: arm.to_owned(), there: self.arms() });
        }
        self.plan.baseline = Some(arm.to_owned());
        Ok(self.compared(arm))
    }

    fn compared(mut self, arm: &str) -> SweepResults {
        let speedups: Vec<Option<Speedup>> =
            self.runs.iter().map(|run| self.speedup(run, arm)).collect();
        self.runs.iter_mut().zip(speedups).for_each(|(run, speedup)| run.speedup = speedup);
        self
    }

    fn speedup(&self, run: &SweepRun, arm: &str) -> Option<Speedup> {
        let baseline = self.counterpart(run, arm)?;
        let measured = |run: &SweepRun| !run.history.held_out.is_empty();
        let both = (
            (baseline.setting.arm.as_str(), &baseline.history),
            (run.setting.arm.as_str(), &run.history),
        );
        (measured(baseline) && measured(run)).then(|| Speedup::between(both.0, both.1))
    }

    /// The run of `arm` to compare `run` with; none for a run of that arm itself.
    pub(super) fn counterpart(&self, run: &SweepRun, arm: &str) -> Option<&SweepRun> {
        let same = |other: &&SweepRun| {
            let (a, b) = (&run.setting, &other.setting);
            let further =
                b.also.iter().all(|(axis, value)| a.get(axis).is_none_or(|own| own == *value));
            (other.seed, a.hook, a.k, a.expansion) == (run.seed, b.hook, b.k, b.expansion)
                && b.arm == arm
                && further
        };
        if run.setting.arm == arm {
            return None;
        }
        let all: Vec<&SweepRun> = self.runs.iter().filter(same).collect();
        match &all[..] {
            [only] => Some(only),
            several => several.iter().find(|other| other.setting.lr == run.setting.lr).copied(),
        }
    }

    /// The names of the arms that have runs, in the order of the grid.
    pub fn arms(&self) -> Vec<String> {
        let mut arms: Vec<String> = Vec::new();
        for run in &self.runs {
            if !arms.contains(&run.setting.arm) {
                arms.push(run.setting.arm.clone());
            }
        }
        arms
    }

    /// The places of the grid that have runs, in its order, each with the runs of all its seeds.
    pub fn rows(&self) -> Vec<SweepRow> {
        let mut rows: Vec<SweepRow> = Vec::new();
        for run in &self.runs {
            match rows.iter_mut().find(|row| row.setting == run.setting) {
                Some(row) => row.runs.push(run.clone()),
                None => {
                    rows.push(SweepRow { setting: run.setting.clone(), runs: vec![run.clone()] })
                }
            }
        }
        rows
    }
}

impl SweepRun {
    /// The SAE that was trained.
    ///
    /// # Errors
    /// Those of [`Sae::load`].
    pub fn sae(&self) -> Result<Sae> {
        Sae::load(&self.dir)
    }
}

impl SweepRow {
    /// A figure over the seeds, position 0 left out.
    pub fn spread(&self, measure: Measure) -> Spread {
        let values: Vec<f64> = self.runs.iter().map(|run| run.metrics.get(measure)).collect();
        // A row has at least one run.
        Spread::of(&values).unwrap_or(Spread::NONE)
    }

    /// A figure over the seeds, in words.
    pub(super) fn said(&self, measure: Measure) -> String {
        let spread = self.spread(measure);
        if measure.is_share() { spread.percent() } else { spread.text() }
    }

    /// How many times sooner the baseline's final NMSE is reached, over the seeds that come to
    /// reach it: neither those that never do nor those that have it from the start. None for the
    /// baseline itself.
    pub fn sooner_by_nmse(&self) -> Option<Spread> {
        self.sooner(|speedup| speedup.nmse)
    }

    /// The same by CE added.
    pub fn sooner_by_ce_added(&self) -> Option<Spread> {
        self.sooner(|speedup| speedup.ce_added)
    }

    fn sooner(&self, factor: fn(&Speedup) -> Option<f64>) -> Option<Spread> {
        Spread::of(
            &self
                .factors(factor)
                .into_iter()
                .flatten()
                .filter(|factor| factor.is_finite())
                .collect::<Vec<_>>(),
        )
    }

    /// How many times sooner each seed that is compared with a baseline is.
    pub(super) fn factors(&self, factor: fn(&Speedup) -> Option<f64>) -> Vec<Option<f64>> {
        self.runs.iter().filter_map(|run| run.speedup.as_ref().map(factor)).collect()
    }

    /// Whether it is compared with a baseline.
    pub(super) fn is_compared(&self) -> bool {
        self.runs.iter().any(|run| run.speedup.is_some())
    }
}

/// The folders of sweeps at or right below `dir`.
pub(super) fn sweeps_in(dir: &Path) -> Result<Vec<PathBuf>> {
    let is_sweep = |dir: &Path| dir.join("sweep.json").is_file();
    if is_sweep(dir) {
        return Ok(vec![dir.to_owned()]);
    }
    let entries = fs::read_dir(dir)
        .map_err(Error::io("read", dir))?
        .collect::<Result<Vec<_>, _>>()
        .map_err(Error::io("read", dir))?;
    let mut found: Vec<PathBuf> =
        entries.into_iter().map(|entry| entry.path()).filter(|path| is_sweep(path)).collect();
    found.sort();
    if found.is_empty() {
        return Err(Error::format(
            dir,
            "holds no sweep: give the folder that a sweep was run in, or one with several of them",
        ));
    }
    Ok(found)
}
