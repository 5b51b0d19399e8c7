//! Running a sweep: stream by stream, part by part; locked, trained, evaluated.

mod elsewhere;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::grid::{self, Point};
use super::plan::Plan;
use super::work::{self, Evaluated, Failed};
use super::{Sweep, memory};
use crate::base::error::{Error, Result};
use crate::base::files::FolderLock;
use crate::display::{Progress, interrupt};
use crate::eval::{HeldOut, Kept};
use crate::model::tokens::Tokens;
use crate::model::{HookPoint, Model};
use crate::sae::SaeConfig;
use crate::train::{self, Runs, TrainConfig, Trainer};
use elsewhere::Elsewhere;

/// Trains and evaluates what is not finished yet of the sweep's share.
///
/// # Errors
/// [`Error::Incomplete`] if a share is not complete because another process has runs of it in hand.
pub(super) fn run(sweep: &Sweep, dir: &Path) -> Result<()> {
    let mut running = Running::begin(sweep, dir)?;
    let mut todo = sweep.mine()?;
    let stopped = loop {
        if running.pass(dir, &todo)? {
            break true;
        }
        if running.elsewhere.is_empty() || sweep.share.is_some() {
            break false;
        }
        match running.wait(dir)? {
            Some(free) => todo = free,
            None => break true,
        }
    };
    running.progress.note("");
    if stopped {
        interrupt::clear();
        running.progress.note("interrupted; the same call continues from here");
    }
    running.progress.finish();
    match sweep.share {
        Some(share) if !stopped => elsewhere::nothing_in(&running.elsewhere, share, dir),
        _ => Ok(()),
    }
}

/// Lists the grid and makes the arms' tables.
pub(super) fn prepare(sweep: &Sweep, dir: &Path) -> Result<()> {
    let running = Running::begin(sweep, dir)?;
    for points in sweep.points()?.chunk_by(|a, b| a.setting.hook == b.setting.hook) {
        running.arms_at(points[0].setting.hook, points)?;
    }
    running.progress.finish_if_long();
    Ok(())
}

/// A sweep under way.
struct Running<'a> {
    sweep: &'a Sweep,
    model: &'a Model,
    /// The text on which runs are measured while they train.
    measured: Tokens,
    /// The text on which they are evaluated, and its fingerprint.
    text: Tokens,
    fingerprint: String,
    budget: u64,
    progress: Progress,
    /// Tokens trained on so far, of all runs together.
    done: u64,
    /// The configurations of the arms at the hook in hand; held until those of the next are made,
    /// whose tables continue from theirs.
    at_hook: HashMap<String, SaeConfig>,
    /// The runs that another process has in hand.
    elsewhere: Vec<Elsewhere>,
}

/// A run to train, or only to evaluate.
struct Job {
    point: Point,
    sae: SaeConfig,
    key: String,
}

impl<'a> Running<'a> {
    /// Writes down what is to be run.
    fn begin(sweep: &'a Sweep, dir: &Path) -> Result<Running<'a>> {
        interrupt::watch();
        interrupt::clear();
        let (model, held_out) = sweep.text()?;
        let text = held_out.rows(0, sweep.evaluated.div_ceil(held_out.n_ctx()).max(1));
        Plan::new(sweep, &text)?.write(dir)?;
        let mine = sweep.mine()?;
        // The bar begins behind what earlier calls have finished.
        let mut done = 0;
        for point in &mine {
            done += u64::from(train::finished(&folder(dir, point), None)?.is_some())
                * sweep.train.tokens;
        }
        Ok(Running {
            sweep,
            model,
            measured: sweep.train.measured(held_out),
            fingerprint: text.fingerprint(),
            text,
            budget: sweep.memory.unwrap_or_else(memory::budget),
            progress: Progress::new("sweep", mine.len() as u64 * sweep.train.tokens, "tokens")
                .resumed_at(done),
            done,
            at_hook: HashMap::new(),
            elsewhere: Vec::new(),
        })
    }

    /// Goes once through these runs, which are in the order of the grid; true if it was stopped by
    /// hand.
    fn pass(&mut self, dir: &Path, points: &[Point]) -> Result<bool> {
        for points in points.chunk_by(|a, b| a.setting.hook == b.setting.hook) {
            if self.at_hook(dir, points[0].setting.hook, points)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Does the work at one hook; true if it was stopped by hand.
    fn at_hook(&mut self, dir: &Path, hook: HookPoint, points: &[Point]) -> Result<bool> {
        self.at_hook = self.arms_at(hook, points)?;
        let root = dir.join(hook.to_string());
        let mut held_out = None;
        for stream in points.chunk_by(|a, b| a.seed == b.seed) {
            let config = TrainConfig { seed: stream[0].seed, ..self.sweep.train.clone() };
            let jobs =
                stream.iter().map(|point| self.job(point, &config)).collect::<Result<Vec<_>>>()?;
            let mut todo = Vec::new();
            for job in jobs {
                if self.is_to_be_done(&root, &job.point, &job.key)? {
                    todo.push(job);
                }
            }
            for part in
                memory::parts(todo, self.budget, |job| train::memory_of(&job.sae, config.batch))
            {
                if interrupt::requested() || self.part(&root, hook, &config, part, &mut held_out)? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// The configurations of the arms that are needed, complete for the hook.
    fn arms_at(&self, hook: HookPoint, points: &[Point]) -> Result<HashMap<String, SaeConfig>> {
        let needed = self
            .sweep
            .arms
            .iter()
            .filter(|arm| points.iter().any(|point| point.setting.arm == arm.name));
        needed
            .map(|arm| {
                let base = arm.base.clone();
                let made = arm
                    .made
                    .as_ref()
                    .map_or(Ok(base.clone()), |made| made(self.model, hook, base))?;
                Ok((arm.name.clone(), made))
            })
            .collect()
    }

    fn job(&self, point: &Point, config: &TrainConfig) -> Result<Job> {
        let arm = self.sweep.arms.iter().find(|arm| arm.name == point.setting.arm);
        let unknown = || Error::UnknownRun {
            name: point.setting.arm.clone(),
            there: self.at_hook.keys().cloned().collect(),
        };
        let (arm, sae) = arm.zip(self.at_hook.get(&point.setting.arm)).ok_or_else(unknown)?;
        let hook = point.setting.hook;
        for values in grid::combinations(arm, &self.sweep.axes) {
            let sae = grid::config(sae, &values, point.seed, self.sweep.train.lr)?;
            if grid::point(hook, &arm.name, &values, &sae) == *point {
                let key =
                    train::key(&self.sweep.acts, hook, config, &self.measured, &point.name, &sae);
                return Ok(Job { point: point.clone(), sae, key });
            }
        }
        let why = format!(
            "the per-hook configuration for {hook} changes k, expansion or lr of \"{}\": vary them by axes instead",
            arm.name
        );
        Err(Error::config("per_hook", why))
    }

    /// Whether a run is not trained, or trained but not evaluated, and has not failed.
    fn is_to_be_done(&self, root: &Path, point: &Point, key: &str) -> Result<bool> {
        let folder = root.join(&point.name);
        match train::finished(&folder, Some(key))? {
            Some(finished) => {
                let found = Evaluated::read(&folder, &finished.weights, &self.fingerprint)?;
                Ok(found.is_none_or(|found| found.by_sequence.is_empty()))
            }
            None => Ok(Failed::read(&folder, Some(key))?.is_none()),
        }
    }

    /// Trains and evaluates runs of one stream, but for those that another process has in hand,
    /// which are noted; true if it was stopped by hand.
    fn part(
        &mut self,
        root: &Path,
        hook: HookPoint,
        config: &TrainConfig,
        jobs: Vec<Job>,
        held_out: &mut Option<Arc<HeldOut>>,
    ) -> Result<bool> {
        let mut mine: Vec<(Job, FolderLock)> = Vec::new();
        for job in jobs {
            match train::lock(root, &job.point.name) {
                // Another process may have done it before it gave the lock away.
                Ok(lock) if self.is_to_be_done(root, &job.point, &job.key)? => {
                    mine.push((job, lock));
                }
                Ok(_) => {}
                Err(Error::Locked { .. }) => {
                    self.elsewhere.push(Elsewhere { point: job.point, key: job.key });
                }
                Err(error) => return Err(error),
            }
        }
        if mine.is_empty() {
            return Ok(false);
        }
        self.progress.note(&format!("{hook}, seed {}: {} at once", config.seed, mine.len()));
        let held_out = match held_out {
            Some(text) => text.clone(),
            None => {
                held_out.insert(Arc::new(HeldOut::new(self.model, hook, &self.measured)?)).clone()
            }
        };
        let Some(runs) = self.trained(root, hook, config, &mut mine, &held_out)? else {
            return Ok(false);
        };
        if runs.runs.iter().any(|run| !run.finished) || interrupt::requested() {
            return Ok(true);
        }
        self.evaluate(root, hook, &mine, &runs)
    }

    /// Trains runs together. One whose numbers overflow is put down as failed, and the others go
    /// on; none if all did.
    fn trained(
        &mut self,
        root: &Path,
        hook: HookPoint,
        config: &TrainConfig,
        mine: &mut Vec<(Job, FolderLock)>,
        held_out: &Arc<HeldOut>,
    ) -> Result<Option<Runs>> {
        while !mine.is_empty() {
            let mut trainer =
                Trainer::new(&self.sweep.acts, hook, config.clone())?.measured_on(held_out.clone());
            let mut new = 0;
            for (job, _) in &*mine {
                trainer = trainer.add(&job.point.name, job.sae.clone())?;
                new += u64::from(train::finished(&root.join(&job.point.name), None)?.is_none());
            }
            match trainer.fit_beside_others(root, &mut self.progress, self.done) {
                Ok(runs) => {
                    self.done += new * config.tokens;
                    return Ok(Some(runs));
                }
                Err(error @ Error::NotFinite { .. }) => {
                    let why = error.to_string();
                    let Some(at) = mine
                        .iter()
                        .position(|(job, _)| why.contains(&format!("run \"{}\"", job.point.name)))
                    else {
                        return Err(error);
                    };
                    let (job, _lock) = mine.remove(at);
                    Failed { key: job.key, why }.write(&root.join(&job.point.name))?;
                    self.done += config.tokens;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Evaluates runs that are trained, from where that was stopped before; true if it is stopped
    /// by hand.
    fn evaluate(
        &self,
        root: &Path,
        hook: HookPoint,
        mine: &[(Job, FolderLock)],
        runs: &Runs,
    ) -> Result<bool> {
        let folders: Vec<PathBuf> =
            mine.iter().map(|(job, _)| root.join(&job.point.name)).collect();
        let weights = train::weights(&folders)?;
        let path = work::evaluating(&folders[0]);
        let kept = Kept::new(path, self.model, hook, &self.text, &weights);
        let found = train::evaluate_kept(self.model, hook, runs, &self.text, Some(kept));
        let evaluations = match found {
            Ok(evaluations) if evaluations.tokens == self.text.len() => evaluations,
            Ok(_) | Err(Error::Interrupted { .. }) => return Ok(true),
            Err(error) => return Err(error),
        };
        for ((folder, weights), evaluation) in folders.iter().zip(weights).zip(evaluations.rows) {
            let evaluated = Evaluated {
                weights,
                text: self.fingerprint.clone(),
                by_sequence: evaluation.by_sequence.clone(),
                evaluation,
            };
            evaluated.write(folder)?;
        }
        Ok(false)
    }
}

/// The folder of a run below that of its sweep.
pub(super) fn folder(dir: &Path, point: &Point) -> PathBuf {
    dir.join(point.setting.hook.to_string()).join(&point.name)
}
