//! What a run saw on its way.

use serde::{Deserialize, Serialize};

use crate::eval::HeldOutPoint;

/// The course of a run: means over training batches, and measurements on held-out text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct History {
    /// One point every [`log_every`](super::TrainConfig::log_every) steps.
    pub train: Vec<TrainPoint>,
    /// One point an evaluation; empty if no held-out text was given.
    pub held_out: Vec<HeldOutPoint>,
}

impl History {
    /// A figure of the held-out points against training tokens.
    pub(crate) fn curve(&self, value: impl Fn(&HeldOutPoint) -> f64) -> Vec<(f64, f64)> {
        self.held_out.iter().map(|point| (point.tokens as f64, value(point))).collect()
    }
}

/// Means over the training batches since the point before.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TrainPoint {
    /// Tokens seen at the end of those batches.
    pub tokens: u64,
    /// Mean of ‖x̂ − x‖².
    pub loss: f64,
    /// Mean of ‖x̂ − x‖² / (‖x‖² + 1e-4), BOS positions included.
    pub nmse: f64,
    /// Mean number of codes per token that are not 0.
    pub l0: f64,
    /// Share of latents that have not fired for [`dead_window`](super::TrainConfig::dead_window)
    /// tokens.
    pub dead: f64,
    /// ⟨W, W₀⟩ / ‖W₀‖² of the table, if there is one.
    pub lookup_sim: Option<f64>,
}

/// Rounds to nine significant digits, and what is below 1e-12 to 0, so that what is read back from
/// a JSON file is what was recorded.
///
/// A JSON reader that is fast divides a whole number by a power of ten, which is exact up to 10²².
pub(super) fn recorded(x: f64) -> f64 {
    if x.abs() < 1e-12 { 0.0 } else { format!("{x:.8e}").parse().unwrap_or(x) }
}

impl TrainPoint {
    pub(super) fn recorded(self) -> TrainPoint {
        TrainPoint {
            loss: recorded(self.loss),
            nmse: recorded(self.nmse),
            l0: recorded(self.l0),
            dead: recorded(self.dead),
            lookup_sim: self.lookup_sim.map(recorded),
            ..self
        }
    }
}

pub(super) fn recorded_held_out(point: HeldOutPoint) -> HeldOutPoint {
    let HeldOutPoint { nmse, ce_added, loss_recovered, dead, .. } = point;
    let [nmse, ce_added, loss_recovered, dead] =
        [nmse, ce_added, loss_recovered, dead].map(recorded);
    HeldOutPoint { nmse, ce_added, loss_recovered, dead, ..point }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_recorded_number_survives_json(sign in prop_oneof![Just(1.0), Just(-1.0)], size in -40f64..20.0) {
            let x = recorded(sign * 10f64.powf(size));
            let text = serde_json::to_string(&x).unwrap();
            prop_assert_eq!(serde_json::from_str::<f64>(&text).unwrap(), x);
        }
    }
}
