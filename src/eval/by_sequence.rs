//! What each sequence of a text adds to the figures, from which it can be told how much of a
//! difference is due to the text.

use serde::{Deserialize, Serialize};

use super::Measure;
use super::language::Mean;
use super::reconstruction::{ce_added, loss_recovered};
use crate::base::number::list;

/// What the sequences of a text add to the figures of one SAE, position 0 left out: one number each.
///
/// Summed over all of them they give the figures of [`Metrics`](super::Metrics); summed over
/// sequences that are drawn again and again, what the figures might have been on another text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BySequence {
    /// Positions that were reconstructed and counted.
    pub tokens: Vec<usize>,
    /// The sum over them of ‖x̂ − x‖² / (‖x‖² + 1e-4).
    #[serde(with = "list")]
    pub nmse: Vec<f64>,
    /// How many of them predict a next token.
    pub predictions: Vec<usize>,
    /// The sum over these of the cross-entropy of the model as it is, in nats.
    #[serde(with = "list")]
    pub ce_clean: Vec<f64>,
    /// The same on the reconstruction.
    #[serde(with = "list")]
    pub ce_patched: Vec<f64>,
    /// The same with 0 in the place of the activation.
    #[serde(with = "list")]
    pub ce_zero: Vec<f64>,
}

impl BySequence {
    /// From the errors and positions of each sequence, and cross-entropies.
    pub(super) fn new(
        nmse: &[f64],
        tokens: &[usize],
        [clean, patched, zero]: [&Mean; 3],
    ) -> BySequence {
        BySequence {
            tokens: tokens.to_vec(),
            nmse: nmse.to_vec(),
            predictions: clean.counts().to_vec(),
            ce_clean: clean.sums().to_vec(),
            ce_patched: patched.sums().to_vec(),
            ce_zero: zero.sums().to_vec(),
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

    /// Whether there is one number of each kind for every sequence.
    pub(crate) fn is_whole(&self) -> bool {
        let BySequence { tokens: _, nmse, predictions, ce_clean, ce_patched, ce_zero } = self;
        let numbers = [nmse, ce_clean, ce_patched, ce_zero];
        predictions.len() == self.len() && numbers.iter().all(|of| of.len() == self.len())
    }

    /// A figure over these sequences, each as often as it is named: of [`Measure::Nmse`],
    /// [`Measure::CeAdded`], [`Measure::CeAddedNats`] and [`Measure::LossRecovered`]; none for
    /// others.
    pub fn measured(&self, measure: Measure, sequences: &[usize]) -> Option<f64> {
        let sum = |of: &[f64]| sequences.iter().map(|&i| of[i]).sum::<f64>();
        let count = |of: &[usize]| sequences.iter().map(|&i| of[i] as f64).sum::<f64>();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_not_finite_survive_json_and_lists_of_different_lengths_are_noticed() {
        let numbers = vec![f64::INFINITY, 1.5];
        let whole = BySequence {
            tokens: vec![3, 4],
            nmse: numbers.clone(),
            predictions: vec![2, 3],
            ce_clean: numbers.clone(),
            ce_patched: numbers.clone(),
            ce_zero: numbers,
        };
        let json = serde_json::to_string(&whole).unwrap();
        let read: BySequence = serde_json::from_str(&json).unwrap();
        assert!(read == whole && read.is_whole());
        assert!(!BySequence { ce_zero: vec![1.0], ..whole }.is_whole());
        assert!(BySequence::default().is_whole());
    }

    #[test]
    fn a_sequence_counts_as_often_as_it_is_named() {
        let ones = vec![1.0, 1.0];
        let it = BySequence {
            tokens: vec![1, 3],
            nmse: vec![0.5, 0.3],
            predictions: vec![1, 3],
            ce_clean: ones,
            ce_patched: vec![2.0, 7.0],
            ce_zero: vec![3.0, 9.0],
        };
        let near = |measure, of: &[usize], want: f64| {
            let got = it.measured(measure, of).unwrap();
            assert!((got - want).abs() < 1e-12, "{measure:?}: {got} for {want}");
        };
        near(Measure::Nmse, &[0, 1], 0.2);
        near(Measure::Nmse, &[0, 0, 1], 1.3 / 5.0);
        near(Measure::CeAddedNats, &[0, 1], 9.0 / 4.0 - 0.5);
        near(Measure::LossRecovered, &[1], 1.0 - (7.0 / 3.0 - 1.0 / 3.0) / (3.0 - 1.0 / 3.0));
        near(Measure::CeAdded, &[0], 1.0 / 1.001);
        assert_eq!(it.measured(Measure::Dead, &[0]), None);
    }
}
