//! The settings of a training run.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use crate::activations::RowOrder;
use crate::backend::{Device, Rates};
use crate::base::error::{Error, Result};
use crate::base::number;
use crate::model::tokens::Tokens;
use crate::sae::check_rate;

/// The settings that all SAEs of one [`Trainer`](super::Trainer) share. The defaults are the
/// authors', but for `tokens`.
///
/// ```
/// use tokenized_sae::prelude::*;
/// let config = TrainConfig { tokens: 1_000_000, lr: 1e-3, ..Default::default() };
/// assert_eq!(config.steps(), 245);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Tokens to train on, rounded up to whole batches. The authors used 131 M and 393 M; the
    /// default, 4 M, suits the built-in models.
    pub tokens: u64,
    /// Tokens in a batch.
    pub batch: usize,
    /// Learning rate of weights and biases at the start.
    pub lr: f64,
    /// Learning rate of the table at the start.
    pub lookup_lr: f64,
    /// Where the cosine schedule ends, for both.
    pub lr_end: f64,
    /// Share of the steps over which the learning rates rise from 0, in a straight line that the
    /// cosine is multiplied with. The authors have none.
    pub lr_warmup: f64,
    /// Share of the steps over which the coefficient of a penalty rises from 0: without it many
    /// latents of a ReLU SAE die early. SAELens proposes 0.05.
    pub sparsity_warmup: f64,
    /// How many positions at the start of each sequence are left out of training.
    ///
    /// A language model parks attention that it has no use for on its first position, whose
    /// activation is then like no other: in SmolLM2 a hundred times as long, and left in, it is most
    /// of what is learned. By default, `None`, position 0 is left out for the Llama family and kept
    /// for GPT-2 and GPT-NeoX, where it was kept by the authors of tokenized SAEs. Evaluation says
    /// in any case what holds [without](crate::eval::Metrics) and with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skip_first: Option<usize>,
    /// How many times as long as the median activation one may be that is not left out of training
    /// ([`ActivationStore::median_norm`]); infinite to keep all.
    ///
    /// Where the first position is like no other, others are as well: in SmolLM2 one row in a
    /// thousand holds nine tenths of the squares at block 16, and then of the loss. By default,
    /// `None`, 10 for the Llama family, which is what dictionary_learning proposes for its
    /// `max_activation_norm_multiple`, and infinite for GPT-2 and GPT-NeoX, whose authors kept all.
    /// A batch has so much fewer rows. [`Lookup::means`] and evaluation leave the same out by family.
    ///
    /// [`ActivationStore::median_norm`]: crate::activations::ActivationStore::median_norm
    /// [`Lookup::means`]: crate::sae::Lookup::means
    #[serde(with = "number::option", skip_serializing_if = "Option::is_none")]
    pub max_norm_multiple: Option<f64>,
    /// Whether to train as if the activations had been scaled to a length that is the same for all
    /// models and layers, as SAELens' `expected_average_only_in` does: so that their distance from
    /// their mean has the median √d_model ([`ActivationStore::scale`] 1). Adam moves a number by about
    /// its rate whatever the gradient's size; so all that this changes are the rates of what is in
    /// units of the activations, biases, thresholds and the table: they are multiplied by that scale,
    /// and the SAE is one of the activations as they are. The authors did not.
    ///
    /// [`ActivationStore::scale`]: crate::activations::ActivationStore::scale
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub normalize: bool,
    /// Adam's decay of the first moment.
    pub beta1: f64,
    /// Adam's decay of the second moment.
    pub beta2: f64,
    /// Adam's ε.
    pub epsilon: f64,
    /// Seeds the order of the activations.
    pub seed: u64,
    /// In which order rows are read: by default any after any other. In blocks for a store that is
    /// larger than memory and lies on a slow disk.
    #[serde(skip_serializing_if = "RowOrder::is_rows")]
    pub order: RowOrder,
    /// Steps between two points of the training history, which are means over those steps.
    pub log_every: u64,
    /// Held-out measurements over the run, the first before any training. They stand closer
    /// together early on: the i-th of n at the share (i/n)².
    pub evaluations: u64,
    /// Held-out tokens for those measurements; whole sequences.
    pub held_out_tokens: usize,
    /// A latent is dead if it has not fired for this many training tokens.
    pub dead_window: u64,
    /// Seconds between two checkpoints, at least; writing them never takes more than a twentieth of
    /// the time.
    #[serde(with = "number")]
    pub checkpoint_seconds: f64,
    /// Where the steps are computed. It decides nothing of the result, and no file says it.
    #[serde(skip)]
    pub device: Device,
}

impl Default for TrainConfig {
    fn default() -> TrainConfig {
        TrainConfig {
            tokens: 4_000_000,
            batch: 4096,
            lr: 1e-4,
            lookup_lr: 1e-2,
            lr_end: 3e-5,
            lr_warmup: 0.0,
            sparsity_warmup: 0.05,
            skip_first: None,
            max_norm_multiple: None,
            normalize: false,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8, // PyTorch's
            seed: 0,
            order: RowOrder::Rows,
            log_every: 10,
            evaluations: 30,
            held_out_tokens: 8192,
            dead_window: 1_000_000,
            checkpoint_seconds: 10.0,
            device: Device::Auto,
        }
    }
}

impl TrainConfig {
    /// How many steps that makes.
    pub fn steps(&self) -> u64 {
        self.tokens.div_ceil(self.batch.max(1) as u64)
    }

    /// The part of a held-out text on which runs are measured while they train.
    pub(crate) fn measured(&self, tokens: &Tokens) -> Tokens {
        tokens.rows(0, self.held_out_tokens.div_ceil(tokens.n_ctx()).max(1))
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first that cannot be used.
    pub fn check(&self) -> Result<()> {
        Error::at_least_1("tokens", self.tokens)?;
        Error::at_least_1("batch", self.batch as u64)?;
        Error::at_least_1("log_every", self.log_every)?;
        Error::at_least_1("evaluations", self.evaluations)?;
        Error::at_least_1("held_out_tokens", self.held_out_tokens as u64)?;
        Error::at_least_1("dead_window", self.dead_window)?;
        self.order.check()?;
        check_rate("lr", self.lr)?;
        check_rate("lookup_lr", self.lookup_lr)?;
        check_rate("lr_end", self.lr_end)?;
        check_rate("epsilon", self.epsilon)?;
        for (field, share) in
            [("lr_warmup", self.lr_warmup), ("sparsity_warmup", self.sparsity_warmup)]
        {
            if !(0.0..=1.0).contains(&share) {
                return Err(Error::config(
                    field,
                    format!("{field} = {share}; it is a share of the steps, between 0 and 1"),
                ));
            }
        }
        for (field, beta) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&beta) {
                return Err(Error::config(
                    field,
                    format!("{field} = {beta}; it must be at least 0 and below 1"),
                ));
            }
        }
        if self.checkpoint_seconds.is_nan() || self.checkpoint_seconds < 0.0 {
            let why = format!(
                "checkpoint_seconds = {}; it must be at least 0, or inf for none but the last",
                self.checkpoint_seconds
            );
            return Err(Error::config("checkpoint_seconds", why));
        }
        if self.max_norm_multiple.is_some_and(|multiple| multiple.is_nan() || multiple < 2.0) {
            let why = format!(
                "max_norm_multiple = {}; it must be at least 2, or inf to leave nothing out",
                self.max_norm_multiple.unwrap_or_default()
            );
            return Err(Error::config("max_norm_multiple", why));
        }
        if self.steps() >= 1 << 24 {
            return Err(Error::config(
                "tokens",
                format!(
                    "{} steps; fewer than 2^24 are supported: take a larger batch",
                    self.steps()
                ),
            ));
        }
        Ok(())
    }

    /// The rates of step `step`, counted from 0: a cosine from the starting rates to `lr_end`.
    #[doc(hidden)]
    pub fn rates(&self, step: u64, lr: f64) -> Rates {
        let share = (1.0 + (PI * step as f64 / self.steps() as f64).cos()) / 2.0;
        let warm = self.warm(self.lr_warmup, step + 1);
        let at = |start: f64| warm * (self.lr_end + (start - self.lr_end) * share);
        Rates {
            lr: at(lr),
            bias_lr: at(lr),
            lookup_lr: at(self.lookup_lr),
            beta1: self.beta1,
            beta2: self.beta2,
            epsilon: self.epsilon,
        }
    }

    /// The share of the coefficient of a penalty that step `step`, counted from 0, takes.
    pub(super) fn sparsity_share(&self, step: u64) -> f64 {
        self.warm(self.sparsity_warmup, step)
    }

    /// How far a rise over a share of the steps has come.
    fn warm(&self, share: f64, step: u64) -> f64 {
        let rise = share * self.steps() as f64;
        if (step as f64) < rise { step as f64 / rise } else { 1.0 }
    }

    /// Whether held-out text is measured when `step` steps are done.
    pub(super) fn evaluates_at(&self, step: u64) -> bool {
        let place = |i: u64| {
            (self.steps() as f64 * (i as f64 / self.evaluations as f64).powi(2)).round() as u64
        };
        let guess =
            ((step as f64 / self.steps() as f64).sqrt() * self.evaluations as f64).round() as u64;
        (guess.saturating_sub(1)..=guess + 1).any(|i| i <= self.evaluations && place(i) == step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cosine_goes_from_the_start_to_the_end() {
        let config = TrainConfig { tokens: 4096 * 100, ..Default::default() };
        let first = config.rates(0, 1e-3);
        assert_eq!((first.lr, first.lookup_lr), (1e-3, 1e-2));
        let middle = config.rates(50, 1e-3);
        assert!((middle.lr - (1e-3 + 3e-5) / 2.0).abs() < 1e-12);
        assert!((config.rates(100, 1e-3).lr - 3e-5).abs() < 1e-12);
    }

    #[test]
    fn the_first_and_the_last_step_are_measured() {
        for (tokens, evaluations) in
            [(4096, 30), (4096 * 7, 30), (4096 * 977, 30), (4096 * 50_000, 7)]
        {
            let config = TrainConfig { tokens, evaluations, ..Default::default() };
            let at: Vec<u64> =
                (0..=config.steps()).filter(|&step| config.evaluates_at(step)).collect();
            assert_eq!((at[0], at[at.len() - 1]), (0, config.steps()));
            assert!(at.len() as u64 <= evaluations + 1);
            if config.steps() > 900 {
                assert_eq!(at.len() as u64, evaluations + 1, "{at:?}");
            }
        }
    }

    #[test]
    fn settings_that_cannot_work_are_named() {
        for (config, field) in [
            (TrainConfig { tokens: 0, ..Default::default() }, "tokens"),
            (TrainConfig { batch: 0, ..Default::default() }, "batch"),
            (TrainConfig { lr: f64::NAN, ..Default::default() }, "lr"),
            (TrainConfig { beta2: 1.0, ..Default::default() }, "beta2"),
            (
                TrainConfig { order: RowOrder::Blocks { rows: 0, mixed: 1 }, ..Default::default() },
                "order",
            ),
            (
                TrainConfig { max_norm_multiple: Some(0.0), ..Default::default() },
                "max_norm_multiple",
            ),
        ] {
            assert!(config.check().unwrap_err().to_string().starts_with(field));
        }
    }
}
