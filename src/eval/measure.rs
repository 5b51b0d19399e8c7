//! The figures of an evaluation by name, so that a table, a plot or a choice can be asked for one
//! of them.

use serde::{Deserialize, Serialize};

use super::Metrics;
use crate::display::{Best, Show, Shown, shows};

/// One figure of [`Metrics`], to be named where one is wanted: `results.by_layer(Measure::Nmse)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// [`Metrics::nmse`].
    Nmse,
    /// [`Metrics::fvu`].
    Fvu,
    /// [`Metrics::explained_variance`].
    ExplainedVariance,
    /// [`Metrics::fvu_standardised`].
    FvuStandardised,
    /// [`Metrics::cosine`].
    Cosine,
    /// [`Metrics::l0`].
    L0,
    /// [`Metrics::dead`].
    Dead,
    /// [`Metrics::ce_clean`].
    CeClean,
    /// [`Metrics::ce_patched`].
    CePatched,
    /// [`Metrics::ce_zero`].
    CeZero,
    /// [`Metrics::ce_mean`].
    CeMean,
    /// [`Metrics::ce_added`].
    CeAdded,
    /// [`Metrics::ce_added_nats`].
    CeAddedNats,
    /// [`Metrics::loss_recovered`].
    LossRecovered,
    /// [`Metrics::kl`].
    Kl,
}

impl Measure {
    /// All of them, in the order in which a table has them.
    pub const ALL: [Measure; 15] = [
        Measure::Nmse,
        Measure::Fvu,
        Measure::ExplainedVariance,
        Measure::FvuStandardised,
        Measure::Cosine,
        Measure::L0,
        Measure::Dead,
        Measure::CeClean,
        Measure::CePatched,
        Measure::CeZero,
        Measure::CeMean,
        Measure::CeAdded,
        Measure::CeAddedNats,
        Measure::LossRecovered,
        Measure::Kl,
    ];

    /// What it is called: "NMSE".
    pub fn name(self) -> &'static str {
        self.said().0
    }

    /// Its definition.
    pub fn definition(self) -> &'static str {
        self.said().1
    }

    /// Which of two values is the better one.
    pub(crate) fn best(self) -> Best {
        self.said().2
    }

    /// Whether it is a share of one, which is written as a percentage.
    pub fn is_share(self) -> bool {
        self == Measure::Dead
    }

    fn said(self) -> (&'static str, &'static str, Best) {
        use Best::{Highest, Lowest, None};
        match self {
            Measure::Nmse => (
                "NMSE",
                "mean over tokens of ‖x̂ − x‖² / (‖x‖² + 1e-4): the paper's, not centred",
                Lowest,
            ),
            Measure::Fvu => {
                ("FVU", "Σ‖x̂ − x‖² / Σ‖x − x̄‖², x̄ the mean over all tokens counted", Lowest)
            }
            Measure::ExplainedVariance => {
                ("explained variance", "1 − FVU, as SAELens since 6.45.1", Highest)
            }
            Measure::FvuStandardised => (
                "FVU, standardised",
                "FVU with every coordinate scaled to variance 1, so that none outweighs the others",
                Lowest,
            ),
            Measure::Cosine => ("cosine", "mean over tokens of cos(x, x̂)", Highest),
            Measure::L0 => ("L0", "mean number of codes per token that are not 0", None),
            Measure::Dead => ("dead", "share of latents that fire on none of these tokens", None),
            Measure::CeClean => {
                ("CE clean", "mean next-token cross-entropy of the model as it is, nats", None)
            }
            Measure::CePatched => {
                ("CE patched", "the same with the activation replaced by x̂", Lowest)
            }
            Measure::CeZero => ("CE zero", "the same with the activation replaced by 0", None),
            Measure::CeMean => {
                ("CE mean", "the same with the activation replaced by its mean over the text", None)
            }
            Measure::CeAdded => (
                "CE added",
                "(CE patched − CE clean) / (CE clean + 0.001): the paper's, relative",
                Lowest,
            ),
            Measure::CeAddedNats => ("CE added, nats", "CE patched − CE clean", Lowest),
            Measure::LossRecovered => {
                ("loss recovered", "1 − (CE patched − CE clean) / (CE zero − CE clean)", Highest)
            }
            Measure::Kl => ("KL", "mean over positions of KL(clean ‖ patched), nats", Lowest),
        }
    }
}

impl Metrics {
    /// The figure of that name.
    pub fn get(&self, measure: Measure) -> f64 {
        match measure {
            Measure::Nmse => self.nmse,
            Measure::Fvu => self.fvu,
            Measure::ExplainedVariance => self.explained_variance,
            Measure::FvuStandardised => self.fvu_standardised,
            Measure::Cosine => self.cosine,
            Measure::L0 => self.l0,
            Measure::Dead => self.dead,
            Measure::CeClean => self.ce_clean,
            Measure::CePatched => self.ce_patched,
            Measure::CeZero => self.ce_zero,
            Measure::CeMean => self.ce_mean,
            Measure::CeAdded => self.ce_added,
            Measure::CeAddedNats => self.ce_added_nats,
            Measure::LossRecovered => self.loss_recovered,
            Measure::Kl => self.kl,
        }
    }
}

impl Show for Measure {
    fn shown(&self) -> Shown {
        Shown::sentence(self.name(), self.definition())
    }
}

shows!(Measure);
