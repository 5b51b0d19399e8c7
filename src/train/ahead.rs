//! The rows of a step. Where steps are computed elsewhere than on this processor, it reads those of
//! the next one meanwhile, and sends them there.

use std::mem;
use std::panic::resume_unwind;
use std::thread::{self, Builder};

use super::trainer::Trainer;
use crate::activations::{Batch, Waiting};
use crate::backend::{Backend, Sent};
use crate::base::error::Result;

/// Reads the rows of one step after the other.
pub(super) struct Draws<'a> {
    trainer: &'a Trainer,
    backend: &'a dyn Backend,
    /// How long a row may be.
    longest: f32,
    now: Drawn,
    next: Drawn,
    /// The step that `next` is of, and how reading it went.
    ahead: Option<(u64, Result<Option<Sent>>)>,
}

/// The rows of a step, by their numbers and as they are.
#[derive(Default)]
pub(super) struct Drawn {
    pub rows: Vec<u64>,
    pub batch: Batch,
}

impl<'a> Draws<'a> {
    pub(super) fn new(trainer: &'a Trainer, backend: &'a dyn Backend) -> Result<Draws<'a>> {
        let (now, next, longest) = (Drawn::default(), Drawn::default(), trainer.longest()?);
        Ok(Draws { trainer, backend, longest, now, next, ahead: None })
    }

    /// Reads the rows of a step, and sends them to where it is computed, unless that was done
    /// meanwhile: an error of it is kept until here, where the step begins.
    pub(super) fn draw(&mut self, waiting: Waiting<'_>, step: u64) -> Result<Option<Sent>> {
        match self.ahead.take().filter(|(of, _)| *of == step) {
            Some((_, sent)) => {
                mem::swap(&mut self.now, &mut self.next);
                sent
            }
            None => self.now.read(self.trainer, self.backend, self.longest, waiting, step),
        }
    }

    /// Does `work` on the rows that were drawn last, while a thread reads those of the step `next`.
    pub(super) fn meanwhile<T>(
        &mut self,
        waiting: Waiting<'_>,
        next: Option<u64>,
        work: impl FnOnce(&Drawn) -> Result<T>,
    ) -> Result<T> {
        let (trainer, backend, longest, rows) =
            (self.trainer, self.backend, self.longest, &mut self.next);
        thread::scope(|scope| {
            // Without a thread to be had, they are read when their step begins.
            let reading = next.and_then(|step| {
                let read = move || (step, rows.read(trainer, backend, longest, waiting, step));
                Builder::new().name("tsae-rows".to_owned()).spawn_scoped(scope, read).ok()
            });
            let done = work(&self.now);
            self.ahead = reading.map(|thread| thread.join().unwrap_or_else(|e| resume_unwind(e)));
            done
        })
    }
}

impl Drawn {
    fn read(
        &mut self,
        trainer: &Trainer,
        backend: &dyn Backend,
        longest: f32,
        waiting: Waiting<'_>,
        step: u64,
    ) -> Result<Option<Sent>> {
        self.rows = trainer.rows(step);
        trainer.gather(waiting, longest, &mut self.rows, &mut self.batch)?;
        backend.send(&self.batch.x, trainer.material.d_model())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend;
    use crate::synthetic::{SyntheticConfig, SyntheticModel};
    use crate::train::TrainConfig;

    #[test]
    fn rows_that_are_read_meanwhile_are_those_of_the_step() {
        let model = SyntheticModel::new(SyntheticConfig::small()).unwrap();
        let config = TrainConfig { batch: 16, ..Default::default() };
        let trainer = Trainer::on_synthetic(&model, config).unwrap();
        let backend = backend::fastest();
        let [mut draws, mut alone] =
            [(); 2].map(|()| Draws::new(&trainer, backend.as_ref()).unwrap());
        let mut check = |draws: &mut Draws<'_>, step| {
            draws.draw(Waiting::Cell, step).unwrap();
            alone.draw(Waiting::Cell, step).unwrap();
            assert!(draws.now.rows == alone.now.rows && draws.now.batch == alone.now.batch);
        };
        check(&mut draws, 3);
        let work = |now: &Drawn| Ok(now.rows.clone());
        let seen = draws.meanwhile(Waiting::Cell, Some(4), work).unwrap();
        assert_eq!(seen, trainer.rows(3));
        assert_eq!(draws.next.rows, trainer.rows(4));
        check(&mut draws, 4);
        // Another step than was foreseen.
        draws.meanwhile(Waiting::Cell, Some(5), work).unwrap();
        check(&mut draws, 9);
        // An error of a step is one when it begins, and no sooner.
        draws.longest = 0.0;
        draws.meanwhile(Waiting::Cell, Some(10), work).unwrap();
        draws.longest = f32::INFINITY;
        assert!(draws.draw(Waiting::Cell, 10).is_err());
        check(&mut draws, 10);
    }
}
