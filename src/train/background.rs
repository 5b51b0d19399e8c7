//! Training while other cells run.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::board::Board;
use super::{History, Runs, Trainer, TrainingState, TrainingStatus};
use crate::base::error::{Error, Result, panic_message};
use crate::display::{Figure, Progress, interrupt};
use crate::train::figures;

/// How often a cell that waits looks whether the training has ended, or whether the stop button was
/// pressed.
const LOOK: Duration = Duration::from_millis(20);

/// A training that continues while other cells run; [`Trainer::fit_in_background`] starts it.
///
/// It prints nothing: ask for its [`status`](Training::status), or [`plot`](Training::plot) what it
/// has so far. Whoever trains beside other cells shares the processor with them.
///
/// **The stop button does not reach it.** That is for the cell that runs; this is stopped by
/// [`stop`](Training::stop).
///
/// **Dropping it stops it**, and waits until it has written a checkpoint, which takes a step of
/// each run, or a measurement of held-out text. Nothing is lost: the same call continues there.
/// So does a new value for the notebook's variable, and a process that is killed loses no more than
/// the seconds since the [last checkpoint](super::TrainConfig::checkpoint_seconds).
pub struct Training {
    dir: PathBuf,
    board: Arc<Board>,
    outcome: Mutex<Outcome>,
}

/// The thread until it has ended, and then what it gave.
struct Outcome {
    thread: Option<JoinHandle<Result<Runs>>>,
    /// The runs; or why there are none, once the error itself was given away.
    known: Option<std::result::Result<Runs, String>>,
}

impl Trainer {
    /// As [`fit`](Trainer::fit), but returns at once and trains while other cells run. The result
    /// is the same to the bit.
    ///
    /// What can be known beforehand is reported by this call: settings, a folder in use, damaged
    /// files.
    ///
    /// ```no_run
    /// # use tokenized_sae::prelude::*;
    /// # let model = Model::load("tiny-gpt2")?;
    /// # let hook = HookPoint::resid_pre(2);
    /// # let acts = ActivationStore::open("cache")?;
    /// let training: Training = Trainer::new(&acts, hook, TrainConfig::default())?
    ///     .add("SAE", SaeConfig::for_model(&model))?
    ///     .fit_in_background("runs/quickstart")?;
    /// // In later cells:
    /// println!("{}", training.status());
    /// training.plot()?;
    /// let runs: Runs = training.join()?;
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Locked`] if the folder is in use, by another process or by a training in this one;
    /// [`Error::Checksum`] if a finished run's files are damaged; [`Error::Io`].
    pub fn fit_in_background(self, dir: impl AsRef<Path>) -> Result<Training> {
        let dir = dir.as_ref().to_owned();
        let session = self.open(&dir)?;
        let board = Arc::new(Board::new(dir.clone(), &session.jobs(), session.config()));
        let (mut watch, place) = (board.clone(), dir.clone());
        let train = move || {
            let result = catch_unwind(AssertUnwindSafe(|| session.run(&mut watch))).unwrap_or_else(
                |panic| {
                    Err(Error::Training {
                        dir: place,
                        why: format!("panic: {}", panic_message(panic.as_ref())),
                    })
                },
            );
            watch.end(match &result {
                Ok(runs) if runs.runs.iter().all(|run| run.finished) => TrainingState::Finished,
                Ok(_) => TrainingState::Stopped,
                Err(error) => TrainingState::Failed(error.to_string()),
            });
            result
        };
        let thread = std::thread::Builder::new()
            .name("tsae-training".to_owned())
            .spawn(train)
            .map_err(Error::io("train in", &dir))?;
        Ok(Training {
            dir,
            board,
            outcome: Mutex::new(Outcome { thread: Some(thread), known: None }),
        })
    }
}

impl Training {
    /// How far it has come, how fast, and how long it will take. Does not wait for anything.
    pub fn status(&self) -> TrainingStatus {
        self.board.status()
    }

    /// The curves so far: loss, NMSE and what else [`plot::training`](crate::plot::training) draws,
    /// and held-out NMSE where it is measured.
    ///
    /// # Errors
    /// [`Error::Figure`] if nothing was logged yet, which the first
    /// [`log_every`](super::TrainConfig::log_every) steps take.
    pub fn plot(&self) -> Result<Figure> {
        let histories = self.histories();
        let courses: Vec<(&str, &History)> =
            histories.iter().map(|(name, history)| (name.as_str(), history)).collect();
        figures::courses(&format!("Training in {}", self.dir.display()), &courses)
    }

    /// The history of each run so far, with its name.
    pub fn histories(&self) -> Vec<(String, History)> {
        self.board.histories()
    }

    /// Whether it has ended: by itself, because it was asked to stop, or by an error.
    pub fn is_finished(&self) -> bool {
        self.outcome().thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Asks it to stop and returns at once. It writes a checkpoint after the step in hand;
    /// [`join`](Training::join) waits for that and gives the runs as they stand. The same training,
    /// started again, continues from there.
    pub fn stop(&self) {
        self.board.ask_to_stop();
    }

    /// Waits for its end and gives the runs: what [`Trainer::fit`] would have given. Asked again,
    /// it gives them again.
    ///
    /// The stop button ends the waiting, not the training.
    ///
    /// # Errors
    /// [`Error::Interrupted`] if the waiting was stopped by hand; what the training itself failed
    /// with, or [`Error::Training`] with the reason if that was given already, or if it was a
    /// panic.
    pub fn join(&self) -> Result<Runs> {
        interrupt::watch();
        interrupt::clear();
        let (done, total) = self.board.tokens();
        let mut progress =
            (!self.is_finished()).then(|| Progress::new("train", total, "tokens").resumed_at(done));
        while !self.is_finished() {
            if interrupt::requested() {
                interrupt::clear();
                let remedy =
                    "the training is still running: ask for its status(), stop() it, or join() it again"
                        .to_owned();
                return Err(Error::Interrupted {
                    what: "waiting for the training in the background",
                    remedy,
                });
            }
            if let Some(progress) = &mut progress {
                progress.set(self.board.tokens().0);
            }
            std::thread::sleep(LOOK);
        }
        if let Some(mut progress) = progress {
            progress.set(self.board.tokens().0);
            progress.finish();
        }
        self.result()
    }

    fn result(&self) -> Result<Runs> {
        let mut outcome = self.outcome();
        if let Some(thread) = outcome.thread.take() {
            // The thread catches its panics; one that it cannot catch is reported here.
            let panicked = |panic: Box<dyn Any + Send>| {
                Err(self.failed(format!("panic: {}", panic_message(panic.as_ref()))))
            };
            let result = thread.join().unwrap_or_else(panicked);
            outcome.known = Some(result.as_ref().map(Runs::clone).map_err(Error::to_string));
            return result;
        }
        match &outcome.known {
            Some(Ok(runs)) => Ok(runs.clone()),
            Some(Err(why)) => Err(self.failed(why.clone())),
            None => Err(self.failed("its thread is gone".to_owned())),
        }
    }

    fn failed(&self, why: String) -> Error {
        Error::Training { dir: self.dir.clone(), why }
    }

    /// What it holds is whole at any time, so a panic elsewhere does no harm.
    fn outcome(&self) -> MutexGuard<'_, Outcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Training {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.outcome().thread.take() {
            // Whatever it failed with, nobody is left to hear of it.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Training {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.status();
        write!(f, "Training in {} ({}): {}", self.dir.display(), status.state.name(), status.line())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activations::{ActivationStore, HarvestConfig};
    use crate::backend::{self, AdamState, Backend, PreparedBatch, Rates, Scratch, StepReport};
    use crate::model::{HookPoint, Model};
    use crate::sae::{Codes, Sae, SaeConfig};
    use crate::train::TrainConfig;

    /// A backend with a defect.
    #[derive(Debug)]
    struct Defective(Arc<dyn Backend>);

    impl Backend for Defective {
        fn name(&self) -> String {
            "defective".to_owned()
        }

        fn prepare<'a>(
            &self,
            x: &'a [f32],
            tokens: &'a [u32],
            d_model: usize,
        ) -> Result<PreparedBatch<'a>> {
            self.0.prepare(x, tokens, d_model)
        }

        fn encode(&self, sae: &Sae, x: &[f32]) -> Result<Codes> {
            self.0.encode(sae, x)
        }

        fn train_step(
            &self,
            _: &mut Sae,
            _: &mut AdamState,
            _: &PreparedBatch<'_>,
            _: &Rates,
            _: &mut Scratch,
        ) -> Result<StepReport> {
            panic!("row {} of 3", 4)
        }

        fn settle(&self, sae: &mut Sae, state: &mut AdamState, _: &mut Scratch) -> Result<()> {
            state.flush(sae);
            Ok(())
        }
    }

    #[test]
    fn a_panic_becomes_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let model = Model::load("tiny-gpt2").unwrap();
        let hook = HookPoint::resid_pre(1);
        let tokens = model.sample(4, 16, 0).unwrap();
        let acts = ActivationStore::harvest(
            &model,
            &[hook],
            &tokens,
            dir.path().join("acts"),
            HarvestConfig::default(),
        )
        .unwrap();
        let config = TrainConfig { tokens: 64, batch: 16, ..Default::default() };
        let sae = SaeConfig { expansion: 1, k: 4, ..SaeConfig::for_model(&model) };
        let mut trainer = Trainer::new(&acts, hook, config).unwrap().add("SAE", sae).unwrap();
        trainer.backend = Some(Arc::new(Defective(backend::fastest())));
        let training = trainer.fit_in_background(dir.path().join("runs")).unwrap();
        for _ in 0..2 {
            let told = training.join().unwrap_err();
            assert!(
                matches!(told, Error::Training { .. })
                    && told.to_string().contains("panic: row 4 of 3"),
                "{told}"
            );
        }
        assert!(matches!(training.status().state, TrainingState::Failed(_)));
    }
}
