//! Runs under way: step by step, each measured, saved and finished when its time has come.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::ahead::{Drawn, Draws};
use super::checkpoint;
use super::folder::Folder;
use super::job::Job;
use super::material::Material;
use super::penalty::Penalty;
use super::runs::Made;
use super::settings::Settings;
use super::trainer::Trainer;
use super::watch::Watch;
use super::{Run, Runs, TrainConfig};
use crate::backend::{Backend, Chosen};
use crate::base::error::{Error, Result};
use crate::base::files::{self, FolderLock};
use crate::sae::{Keys, Sae, SaeConfig};

impl Trainer {
    /// Locks `dir` and makes every run ready in it.
    pub(super) fn open(self, dir: &Path) -> Result<Session> {
        if self.saes.is_empty() {
            return Err(Error::config("add", "there is nothing to train: add an SAE first"));
        }
        let ranks = self.ranks.clone();
        let mut session = ranks.first_then_others(|| {
            let lock = match ranks.is_first() {
                true => {
                    files::create_folder(dir)?;
                    Some(FolderLock::acquire(dir)?)
                }
                false => None,
            };
            self.open_locked(dir, lock)
        })?;
        session.check_alike(dir)?;
        Ok(session)
    }

    /// Makes every run ready in `dir`, which `lock` is for; a rank that is not the first has none.
    pub(super) fn open_locked(self, dir: &Path, lock: Option<FolderLock>) -> Result<Session> {
        self.check_memory()?;
        let slots = self
            .saes
            .iter()
            .map(|(name, sae)| self.prepare(dir, name, sae))
            .collect::<Result<Vec<_>>>()?;
        let Chosen { backend, remark, .. } = self.choose_backend()?;
        Ok(Session { trainer: self, backend, remark, slots, _lock: lock })
    }

    fn prepare(&self, dir: &Path, name: &str, config: &SaeConfig) -> Result<Slot> {
        let held_out = self.held_out.as_ref().map(|text| text.fingerprint());
        let Settings { key, settings } =
            Settings::new(&self.material, &self.config, held_out, name, config);
        let folder = match self.ranks.is_first() {
            true => Folder::open(dir, name, &key, settings)?,
            false => Folder::opened_elsewhere(dir, name, &key)?,
        };
        let mut sae = Sae::new(config.clone())?;
        sae.origin = self.material.origin();
        let penalty = Penalty::of(config, || self.scale())?;
        penalty.start(&mut sae);
        let lr = config.lr.unwrap_or(self.config.lr);
        let mut job = Job::new(name.to_owned(), key, lr, sae, (penalty, self.unit()?));
        if folder.is_finished() {
            let (trained, history) = folder.load()?;
            job.sae = Sae { config: config.clone(), ..trained };
            job.history = history;
            job.state.steps = self.config.steps();
        } else {
            folder.resume(&mut job, self.config.steps())?;
            if job.state.steps == 0 {
                self.start(&mut job.sae)?;
            }
        }
        if self.ranks.is_first() {
            folder.tidy()?;
        }
        Ok(Slot { is_finished: folder.is_finished(), folder, job })
    }
}

/// Runs that are ready to be trained, in a folder where nobody else trains them until this is
/// dropped.
pub(super) struct Session {
    trainer: Trainer,
    backend: Arc<dyn Backend>,
    /// What there is to say about the choice of the backend.
    remark: Option<String>,
    slots: Vec<Slot>,
    _lock: Option<FolderLock>,
}

impl Session {
    /// The runs as they stand.
    pub(super) fn jobs(&self) -> Vec<&Job> {
        jobs_of(&self.slots)
    }

    /// The settings that the runs share.
    pub(super) fn config(&self) -> &TrainConfig {
        &self.trainer.config
    }

    /// Trains every run to its end, or until `watch` stops it.
    pub(super) fn run(mut self, watch: &mut dyn Watch) -> Result<Runs> {
        let done = self.train(watch);
        self.trainer.ranks.agree(done)?;
        let Trainer { material, config, .. } = self.trainer;
        let made = match material {
            Material::Stored(acts, hook) => Some(Made { acts, hook, train: config.clone() }),
            Material::Synthetic(_) => None,
        };
        let run = |slot: Slot| slot.into_run(&config, made.clone());
        Ok(Runs { runs: self.slots.into_iter().map(run).collect() })
    }

    /// Checks that all ranks go on from the same bits.
    fn check_alike(&mut self, dir: &Path) -> Result<()> {
        let ranks = &self.trainer.ranks;
        if ranks.size() == 1 {
            return Ok(());
        }
        for slot in &mut self.slots {
            let checksum = checkpoint::checksum(&mut slot.job);
            if let Some(rank) = ranks.first_that_differs(checksum)? {
                let why = format!(
                    "rank {rank} has found another state of the run \"{}\" than rank 0: all ranks have to see one folder, and to run the same program",
                    slot.job.name
                );
                return Err(Error::format(dir, why));
            }
        }
        Ok(())
    }

    /// Trains every run to its end, or until `watch` stops it on any rank.
    ///
    /// Whatever can fail on one rank alone is followed by an agreement of all before they next
    /// exchange anything; the last is the caller's. So ranks ask each other in the same order, whatever
    /// one of them has to do besides.
    fn train(&mut self, watch: &mut dyn Watch) -> Result<()> {
        let (trainer, slots) = (&self.trainer, &mut self.slots);
        let ranks = &trainer.ranks;
        let backend = self.backend.as_ref();
        let config = &trainer.config;
        let steps = config.steps();
        let total = slots.len() as u64 * config.tokens;
        let done = |slots: &[Slot]| {
            slots.iter().map(|slot| slot.job.tokens(config)).sum::<u64>().min(total)
        };
        if slots.iter().all(|slot| slot.is_finished) {
            return Ok(());
        }
        watch.begin(done(slots), total);
        if let Some(remark) = &self.remark {
            watch.remarked(remark);
        }
        let mut draws = Draws::new(trainer, backend)?;
        let mut checkpoints = Checkpoints::new(config.checkpoint_seconds);
        let (mut stop, mut before) = (false, None::<u64>);
        // Runs that are behind catch up first; from there on all read the same batch.
        let next = |slots: &[Slot]| {
            slots.iter().filter(|slot| !slot.is_finished).map(|slot| slot.job.state.steps).min()
        };
        while let Some(step) = next(slots).filter(|_| !stop) {
            let now = |slot: &&mut Slot| !slot.is_finished && slot.job.state.steps == step;
            let held_out = trainer.held_out.as_ref().filter(|_| config.evaluates_at(step));
            if held_out.is_some() || step == steps {
                ranks.agree(Ok(()))?;
                slots.iter_mut().filter(now).try_for_each(|slot| slot.job.settle(backend))?;
            }
            if let Some(held_out) = held_out.filter(|_| ranks.is_first()) {
                for slot in slots.iter_mut().filter(now) {
                    slot.job.measure(held_out, config)?;
                }
                watch.measured(&jobs_of(slots));
            }
            if step == steps {
                for slot in slots.iter_mut().filter(now) {
                    if ranks.is_first() {
                        slot.folder.finish(&slot.job, &trainer.about(&slot.job))?;
                    }
                    slot.is_finished = true;
                }
                continue;
            }
            let follows = before.is_some_and(|before| before + 1 == step);
            let asked = trainer.read_ahead(step, !follows);
            before = Some(step);
            // Stopped while it checked the activations: there is no batch, and the rest is written
            // below.
            let (interrupted, sent) = match draws.draw(watch.waiting(), step) {
                Err(Error::Interrupted { .. }) if watch.stops() => (Ok(true), None),
                Err(error) => (Err(error), None),
                Ok(sent) => (asked.map(|()| false), sent),
            };
            stop = ranks.any(interrupted)?;
            if !stop {
                let next = sent.as_ref().map(|_| step + 1).filter(|next| *next < steps);
                stop = draws.meanwhile(watch.waiting(), next, |Drawn { rows, batch }| {
                    let (x, d_model) = (&batch.x, trainer.material.d_model());
                    let prepared = backend.prepare_sent(x, &batch.tokens, d_model, sent)?;
                    for slot in slots.iter_mut().filter(now) {
                        let sae = &slot.job.sae;
                        let (keys, stops) = match trainer.keys(sae, watch.waiting(), rows) {
                            Err(Error::Interrupted { .. }) if watch.stops() => (None, Ok(true)),
                            Err(error) => (None, Err(error)),
                            Ok(keys) => (keys, Ok(watch.stops())),
                        };
                        if ranks.any(stops)? {
                            return Ok(true);
                        }
                        if slot.job.resamples_now(config) {
                            slot.job.settle(backend)?;
                            let of_tokens = Keys::from(&batch.tokens[..]);
                            let keys = keys.as_ref().unwrap_or(&of_tokens);
                            slot.job.resample(&batch.x, keys, config)?;
                        }
                        trainer.step(backend, &mut slot.job, &prepared, keys.as_ref())?;
                    }
                    Ok(false)
                })?;
                watch.stepped(&jobs_of(slots), done(slots));
            }
            stop = ranks.any(Ok(stop || watch.stops()))?;
            // When, the first decides; what is to be written lies on all.
            if ranks.any(Ok(stop || (ranks.is_first() && checkpoints.due())))? {
                let unfinished = |slot: &&mut Slot| !slot.is_finished;
                checkpoints.time(|| {
                    let mut all = slots.iter_mut().filter(unfinished);
                    all.try_for_each(|slot| slot.job.settle(backend))?;
                    let mut written =
                        slots.iter_mut().filter(unfinished).filter(|_| ranks.is_first());
                    written.try_for_each(|slot| slot.folder.checkpoint(&mut slot.job))
                })?;
            }
        }
        watch.end(&jobs_of(slots), stop);
        Ok(())
    }
}

/// A run and its folder.
struct Slot {
    folder: Folder,
    job: Job,
    /// Whether it has been trained to its end: by this call, or before.
    is_finished: bool,
}

impl Slot {
    fn into_run(self, config: &TrainConfig, made: Option<Made>) -> Run {
        let tokens = self.job.tokens(config);
        let scored_in_full = self.job.scored_in_full();
        Run {
            finished: self.is_finished,
            tokens,
            lr: self.job.lr,
            name: self.job.name,
            sae: self.job.sae,
            history: self.job.history,
            scored_in_full,
            made,
        }
    }
}

fn jobs_of(slots: &[Slot]) -> Vec<&Job> {
    slots.iter().map(|slot| &slot.job).collect()
}

/// The share of the time that writing checkpoints may take.
pub(super) const CHECKPOINTS: f64 = 0.05;

/// When to write checkpoints: no more often than asked, and never for more of the time than they
/// may take.
struct Checkpoints {
    every: f64,
    last: Instant,
    cost: f64,
}

impl Checkpoints {
    fn new(every: f64) -> Checkpoints {
        Checkpoints { every, last: Instant::now(), cost: 0.0 }
    }

    fn due(&self) -> bool {
        self.last.elapsed().as_secs_f64() >= self.every.max(self.cost / CHECKPOINTS)
    }

    fn time(&mut self, write: impl FnOnce() -> Result<()>) -> Result<()> {
        let start = Instant::now();
        write()?;
        self.cost = start.elapsed().as_secs_f64();
        self.last = Instant::now();
        Ok(())
    }
}
