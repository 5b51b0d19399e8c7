//! What training one SAE remembers from step to step.

use super::adam::Moments;
use super::deferred::DeferredAdam;
use crate::sae::Sae;

/// What a step aims at besides the reconstruction, in the units of the activations; the trainer
/// sets it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Objective {
    /// The coefficient of the penalty of the SAE's [`Architecture`](crate::sae::Architecture).
    pub sparsity: f64,
    /// The width of the rectangle through which gradients reach the thresholds of a JumpReLU SAE.
    pub bandwidth: f64,
    /// The dead latents that [`AuxK`](crate::sae::AuxK) asks to help, ascending.
    pub dead: Vec<u32>,
}

/// The optimiser's memory for one SAE, and how many steps it has made.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct AdamState {
    /// For `W_enc`.
    pub w_enc: Moments,
    /// For `b_enc`.
    pub b_enc: Moments,
    /// For `W_dec`.
    pub w_dec: Moments,
    /// For `b_dec`.
    pub b_dec: Moments,
    /// For the thresholds of a JumpReLU SAE.
    pub threshold: Moments,
    /// For `r_mag` of a Gated SAE.
    pub r_mag: Moments,
    /// For `b_mag` of a Gated SAE.
    pub b_mag: Moments,
    /// For `W_lookup`, if it learns.
    pub lookup: Option<Moments>,
    /// Steps made.
    pub steps: u64,
    /// What the next step aims at.
    pub objective: Objective,
    /// Steps that rows of the table have not made yet; `None` if every step moves them all.
    pub(in crate::backend) deferred: Option<DeferredAdam>,
}

impl AdamState {
    /// A fresh state for an SAE.
    pub fn new(sae: &Sae) -> AdamState {
        let learned = sae.config.lookup.as_ref().is_some_and(|lookup| lookup.is_learned());
        AdamState {
            w_enc: Moments::zeros(sae.w_enc.len()),
            b_enc: Moments::zeros(sae.b_enc.len()),
            w_dec: Moments::zeros(sae.w_dec.len()),
            b_dec: Moments::zeros(sae.b_dec.len()),
            threshold: Moments::zeros(if sae.threshold.len() == sae.b_enc.len() {
                sae.threshold.len()
            } else {
                0
            }),
            r_mag: Moments::zeros(sae.r_mag.len()),
            b_mag: Moments::zeros(sae.b_mag.len()),
            lookup: sae
                .lookup
                .as_ref()
                .filter(|_| learned)
                .map(|table| Moments::zeros(table.len())),
            steps: 0,
            objective: Objective::default(),
            deferred: None,
        }
    }

    /// The same, but a step moves only the rows of the table whose tokens occur; the others make up
    /// for it before they are next looked at, to the same bits. Its cost then follows the tokens of
    /// the batch, not the vocabulary.
    ///
    /// Between steps the table and its moments are not what they will be:
    /// [`flush`](AdamState::flush) before you read them.
    pub fn lazy(mut self) -> AdamState {
        self.deferred = self
            .lookup
            .as_ref()
            .map(|moments| DeferredAdam::up_to_date(moments.m.len() / self.b_dec.m.len().max(1)));
        self
    }

    /// Brings every row of the table up to date. Does nothing unless the state is
    /// [`lazy`](AdamState::lazy).
    pub fn flush(&mut self, sae: &mut Sae) {
        if let (Some(deferred), Some(moments), Some(table)) =
            (&mut self.deferred, &mut self.lookup, &mut sae.lookup)
        {
            deferred.flush(table, moments);
        }
    }
}
