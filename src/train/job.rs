//! One SAE in training.

use super::history::{TrainPoint, recorded_held_out};
use super::penalty::Penalty;
use super::{History, TrainConfig};
use crate::backend::{AdamState, Backend, PreparedBatch, Scratch};
use crate::base::error::{Error, Result};
use crate::eval::{HeldOut, HeldOutPoint};
use crate::sae::Sae;

/// Sums over the steps since the last point of the history.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub(super) struct Sums {
    pub loss: f64,
    pub nmse: f64,
    pub l0: f64,
}

/// An SAE, its optimiser and its history.
pub(super) struct Job {
    pub name: String,
    /// A checksum over everything that determines the result.
    pub key: String,
    pub lr: f64,
    pub sae: Sae,
    pub state: AdamState,
    pub sums: Sums,
    /// The step at which each latent last fired, counted from 1; 0 if it never has.
    pub fired_at: Vec<u32>,
    pub history: History,
    /// Rows whose scores were all computed in full, and all rows of the steps of this process.
    in_full: [u64; 2],
    /// The size of the activations in the units of their rates.
    unit: f64,
    penalty: Penalty,
    scratch: Scratch,
}

impl Job {
    pub(super) fn new(
        name: String,
        key: String,
        lr: f64,
        sae: Sae,
        (penalty, unit): (Penalty, f64),
    ) -> Job {
        let (state, fired_at) = (AdamState::new(&sae).lazy(), vec![0; sae.d_sae()]);
        let (history, scratch) = (History::default(), Scratch::default());
        Job {
            name,
            key,
            lr,
            sae,
            state,
            sums: Sums::default(),
            fired_at,
            history,
            in_full: [0; 2],
            unit,
            penalty,
            scratch,
        }
    }

    pub(super) fn tokens(&self, config: &TrainConfig) -> u64 {
        self.state.steps * config.batch as u64
    }

    /// Brings everything up to date, before anybody looks at it.
    pub(super) fn settle(&mut self, backend: &dyn Backend) -> Result<()> {
        backend.settle(&mut self.sae, &mut self.state, &mut self.scratch)
    }

    /// Trains on one batch and takes down what it saw.
    pub(super) fn step(
        &mut self,
        backend: &dyn Backend,
        batch: &PreparedBatch<'_>,
        config: &TrainConfig,
    ) -> Result<()> {
        let mut rates = config.rates(self.state.steps, self.lr);
        rates.bias_lr *= self.unit;
        rates.lookup_lr *= self.unit;
        let share = config.sparsity_share(self.state.steps);
        self.penalty.aim(&mut self.state.objective, share);
        if self.sae.config.aux.is_some() {
            self.state.objective.dead = self.dead(config).map(|latent| latent as u32).collect();
        }
        let report =
            backend.train_step(&mut self.sae, &mut self.state, batch, &rates, &mut self.scratch);
        let report = report.map_err(|error| match error {
            Error::NotFinite { what, value, at } => {
                let at = format!("{at} (run \"{}\", after {} steps)", self.name, self.state.steps);
                Error::NotFinite { what, value, at }
            }
            other => other,
        })?;
        self.sums.loss += report.loss;
        self.sums.nmse += report.nmse;
        self.sums.l0 += report.l0;
        self.in_full[0] += report.fallback_rows as u64;
        self.in_full[1] += config.batch as u64;
        self.penalty.steer(&mut self.sae, &self.scratch, share);
        let codes = self.scratch.codes();
        for (&latent, &value) in codes.latents().iter().zip(codes.values()) {
            if value != 0.0 {
                self.fired_at[latent as usize] = self.state.steps as u32;
            }
        }
        if self.state.steps.is_multiple_of(config.log_every) || self.state.steps == config.steps() {
            self.log(backend, config)?;
        }
        Ok(())
    }

    /// The share of rows whose scores were all computed in full, of the steps of this process.
    pub(super) fn scored_in_full(&self) -> Option<f64> {
        let [in_full, all] = self.in_full;
        (all > 0).then(|| in_full as f64 / all as f64)
    }

    /// The latents that have not fired for a while.
    pub(super) fn dead(&self, config: &TrainConfig) -> impl Iterator<Item = usize> {
        let (steps, window) = (self.state.steps, config.dead_window.div_ceil(config.batch as u64));
        (0..self.fired_at.len())
            .filter(move |&latent| steps - u64::from(self.fired_at[latent]) >= window)
    }

    pub(super) fn log(&mut self, backend: &dyn Backend, config: &TrainConfig) -> Result<()> {
        if self.sae.lookup.is_some() {
            backend.settle_table(&mut self.sae, &mut self.state, &mut self.scratch)?;
        }
        let since = match self.state.steps % config.log_every {
            0 => config.log_every,
            rest => rest,
        };
        let mean = |sum: f64| sum / since as f64;
        let dead = self.dead(config).count();
        let lookup_sim = match (&self.sae.config.lookup, &self.sae.lookup) {
            (Some(start), Some(table)) => Some(start.similarity(table)),
            _ => None,
        };
        let point = TrainPoint {
            tokens: self.tokens(config),
            loss: mean(self.sums.loss),
            nmse: mean(self.sums.nmse),
            l0: mean(self.sums.l0),
            dead: dead as f64 / self.fired_at.len() as f64,
            lookup_sim,
        };
        self.history.train.push(point.recorded());
        self.sums = Sums::default();
        Ok(())
    }

    /// Measures the held-out text on what is [settled](Job::settle), unless that was done at this
    /// step before an interrupt.
    pub(super) fn measure(&mut self, held_out: &HeldOut, config: &TrainConfig) -> Result<()> {
        let tokens = self.tokens(config);
        if self.history.held_out.last().is_some_and(|point| point.tokens == tokens) {
            return Ok(());
        }
        let point = HeldOutPoint { tokens, ..held_out.measure(&self.sae)? };
        self.history.held_out.push(recorded_held_out(point));
        Ok(())
    }
}
