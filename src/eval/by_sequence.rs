//! What each sequence of a text adds to the figures, from which it can be told how much of a
//! difference is due to the text.

use serde::{Deserialize, Serialize};

use super::Measure;
use super::language::Mean;
use super::reconstruction::{ce_added, loss_recovered};

/// What the sequences of a text add to the figures of one SAE, position 0 left out: one number each.
///
/// Summed over all of them they give the figures of [`Metrics`](super::Metrics); summed over
/// sequences that are drawn again and again, what the figures might have been on another text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BySequence {
    /// Positions that were reconstructed and counted.
    pub tokens: Vec<usize>,
    /// The sum over them of ‖x̂ − x‖² / (‖x‖² + 1e-4).
    pub nmse: Vec<f64>,
    /// How many of them predict a next token.
    pub predictions: Vec<usize>,
    /// The sum over these of the cross-entropy of the model as it is, in nats.
    pub ce_clean: Vec<f64>,
    /// The same on the reconstruction.
    pub ce_patched: Vec<f64>,
    /// The same with 0 in the place of the activation.
    pub ce_zero: Vec<f64>,
}

impl BySequence {
    /// From what was counted: positions and errors a sequence, and cross-entropies.
    pub(super) fn new(errors: &[(f64, usize)], [clean, patched, zero]: [&Mean; 3]) -> BySequence {
        let sums = |mean: &Mean| mean.sequences().iter().map(|(sum, _)| *sum).collect();
        BySequence {
            tokens: errors.iter().map(|(_, n)| *n).collect(),
            nmse: errors.iter().map(|(sum, _)| *sum).collect(),
            predictions: clean.sequences().iter().map(|(_, n)| *n).collect(),
            ce_clean: sums(clean),
            ce_patched: sums(patched),
            ce_zero: sums(zero),
        }
    }

    /// How many sequences there are.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A figure over these sequences, each as often as it is named: of [`Measure::Nmse`],
    /// [`Measure::CeAdded`], [`Measure::CeAddedNats`] and [`Measure::LossRecovered`]; none for
    /// others.
    pub fn measured(&self, measure: Measure, sequences: &[usize]) -> Option<f64> {
        let sum = |of: &[f64]| sequences.iter().map(|&i| of[i]).sum::<f64>();
        let count = |of: &[usize]| sequences.iter().map(|&i| of[i]).sum::<usize>() as f64;
        let ce = |of: &[f64]| sum(of) / count(&self.predictions);
        Some(match measure {
            Measure::Nmse => sum(&self.nmse) / count(&self.tokens),
            Measure::CeAdded => ce_added(ce(&self.ce_clean), ce(&self.ce_patched)),
            Measure::CeAddedNats => ce(&self.ce_patched) - ce(&self.ce_clean),
            Measure::LossRecovered => {
                loss_recovered(ce(&self.ce_clean), ce(&self.ce_patched), ce(&self.ce_zero))
            }
            _ => return None,
        })
    }
}
