//! What was published of SynthSAEBench-16k: [arXiv 2602.14687](https://arxiv.org/abs/2602.14687), by
//! the table of SAELens' page on it. 4,096 latents, 200 million rows, means of five seeds.

use serde::Serialize;

/// One SAE of the published table.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Published {
    /// The architecture: "Matryoshka".
    pub name: &'static str,
    /// Mean number of active latents.
    pub l0: f64,
    /// As [`Scores::f1`](crate::synthetic::Scores::f1).
    pub f1: f64,
    /// As [`Scores::mcc`](crate::synthetic::Scores::mcc).
    pub mcc: f64,
    /// As [`Scores::uniqueness`](crate::synthetic::Scores::uniqueness).
    pub uniqueness: f64,
    /// As [`Scores::explained_variance`](crate::synthetic::Scores::explained_variance).
    pub explained_variance: f64,
}

/// The published rows, at L0 25 and 20.
pub fn published() -> Vec<Published> {
    let row = |(name, l0, f1, mcc, uniqueness, explained_variance)| Published {
        name,
        l0,
        f1,
        mcc,
        uniqueness,
        explained_variance,
    };
    ROWS.map(row).to_vec()
}

/// Name, L0, F1, MCC, uniqueness, explained variance.
const ROWS: [(&str, f64, f64, f64, f64, f64); 10] = [
    ("BatchTopK", 25.0, 0.7316, 0.7574, 0.9837, 0.7923),
    ("Matryoshka", 25.0, 0.8793, 0.7927, 0.9987, 0.7792),
    ("Matching Pursuit", 25.0, 0.4464, 0.6930, 0.8281, 0.8351),
    ("L1", 25.0, 0.5562, 0.6039, 0.8976, 0.7654),
    ("JumpReLU", 25.0, 0.7317, 0.7527, 0.9885, 0.7951),
    ("BatchTopK", 20.0, 0.8183, 0.7526, 0.9760, 0.7889),
    ("Matryoshka", 20.0, 0.8601, 0.7455, 0.9874, 0.7699),
    ("Matching Pursuit", 20.0, 0.4439, 0.6748, 0.7552, 0.8267),
    ("L1", 20.0, 0.5777, 0.5834, 0.8528, 0.7501),
    ("JumpReLU", 20.0, 0.8241, 0.7434, 0.9781, 0.7906),
];
