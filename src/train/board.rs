//! Where a training in the background writes down how far it has come, for other cells to read.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::job::Job;
use super::watch::Watch;
use super::{History, RunStatus, TrainConfig, TrainingState, TrainingStatus};
use crate::activations::Waiting;
use crate::display::Recent;

/// What the thread that trains and the cells that ask share. Nobody holds the lock for longer than
/// it takes to copy a history.
pub(super) struct Board {
    dir: PathBuf,
    /// Tokens in a step.
    batch: u64,
    stop: AtomicBool,
    state: Mutex<State>,
}

struct State {
    courses: Vec<Course>,
    started: Instant,
    /// Tokens of all runs together when this process began, and now.
    first: u64,
    done: u64,
    total: u64,
    recent: Recent,
    /// How it ended, and after how many seconds.
    ended: Option<(f64, TrainingState)>,
}

/// One run as it was last seen.
#[derive(Clone)]
struct Course {
    name: String,
    lr: f64,
    tokens: u64,
    total: u64,
    history: History,
}

impl Board {
    pub(super) fn new(dir: PathBuf, jobs: &[&Job], config: &TrainConfig) -> Board {
        let batch = config.batch as u64;
        let total = config.steps() * batch;
        let course = |job: &&Job| Course {
            name: job.name.clone(),
            lr: job.lr,
            tokens: job.tokens(config),
            total,
            history: job.history.clone(),
        };
        let courses: Vec<Course> = jobs.iter().map(course).collect();
        let done = courses.iter().map(|course| course.tokens).sum();
        let total = total * courses.len() as u64;
        let recent = Recent::from(0.0, done);
        let state = State {
            courses,
            started: Instant::now(),
            first: done,
            done,
            total,
            recent,
            ended: None,
        };
        Board { dir, batch, stop: AtomicBool::new(false), state: Mutex::new(state) }
    }

    /// Asks the training to stop.
    pub(super) fn ask_to_stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Says how the training ended.
    pub(super) fn end(&self, how: TrainingState) {
        let mut state = self.state();
        state.ended = Some((state.started.elapsed().as_secs_f64(), how));
    }

    /// The histories so far.
    pub(super) fn histories(&self) -> Vec<(String, History)> {
        self.state()
            .courses
            .iter()
            .map(|course| (course.name.clone(), course.history.clone()))
            .collect()
    }

    /// Tokens of all runs together: done, and to be done.
    pub(super) fn tokens(&self) -> (u64, u64) {
        let state = self.state();
        (state.done, state.total)
    }

    pub(super) fn status(&self) -> TrainingStatus {
        let state = self.state();
        let (seconds, how) = match &state.ended {
            Some((seconds, how)) => (*seconds, how.clone()),
            None if self.stop.load(Ordering::Relaxed) => {
                (state.started.elapsed().as_secs_f64(), TrainingState::Stopping)
            }
            None => (state.started.elapsed().as_secs_f64(), TrainingState::Running),
        };
        // While it runs, the rate of late; afterwards the rate of the whole.
        let (then, before) = match &state.ended {
            None => state.recent.begin(),
            Some(_) => (0.0, state.first),
        };
        let rate = if state.done > before {
            (state.done - before) as f64 / (seconds - then).max(1e-9)
        } else {
            0.0
        };
        let run = |course: &Course| RunStatus {
            name: course.name.clone(),
            lr: course.lr,
            tokens: course.tokens,
            total: course.total,
            train: course.history.train.last().copied(),
            held_out: course.history.held_out.last().copied(),
        };
        TrainingStatus {
            dir: self.dir.clone(),
            state: how,
            runs: state.courses.iter().map(run).collect(),
            tokens: state.done,
            total: state.total,
            seconds,
            rate,
            seconds_left: (rate > 0.0 && state.ended.is_none())
                .then(|| (state.total - state.done.min(state.total)) as f64 / rate),
        }
    }

    /// A panic while the lock was held leaves numbers that are merely old.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes down what is new.
    fn read(&self, jobs: &[&Job]) {
        let mut state = self.state();
        for (course, job) in state.courses.iter_mut().zip(jobs) {
            course.tokens = job.state.steps * self.batch;
            append(&mut course.history.train, &job.history.train);
            append(&mut course.history.held_out, &job.history.held_out);
        }
        state.done = state.courses.iter().map(|course| course.tokens).sum();
        let (now, done) = (state.started.elapsed().as_secs_f64(), state.done);
        state.recent.see(now, done);
    }
}

/// A history only grows.
fn append<T: Copy>(seen: &mut Vec<T>, now: &[T]) {
    seen.extend_from_slice(now.get(seen.len()..).unwrap_or_default());
}

impl Watch for Arc<Board> {
    fn waiting(&self) -> Waiting<'_> {
        Waiting::Background(&self.stop)
    }

    fn stops(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn measured(&mut self, jobs: &[&Job]) {
        self.read(jobs);
    }

    fn stepped(&mut self, jobs: &[&Job], _done: u64) {
        self.read(jobs);
    }

    fn end(&mut self, _jobs: &[&Job], _early: bool) {}
}
