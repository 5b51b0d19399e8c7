//! Measurements of this crate on the machine at hand, each beside the machine's own limit measured
//! in the same run.

mod experiment;
mod harvest;
mod machine;
mod notebook;
mod ranks;
mod sample;
mod small_step;
mod step;
mod synthetic;

pub use experiment::{ExperimentBench, ExperimentReport, Part, experiment};
pub use harvest::{HarvestBench, HarvestReport, ModelShape, Weights, harvest};
pub use machine::{Machine, Numbers, machine, peak, peak_rss_bytes};
pub use notebook::{NotebookBench, NotebookReport, notebook};
pub use ranks::{Forecast, RanksBench, RanksReport, ranks};
pub use sample::{SampleBench, SampleReport, sample};
pub use step::{StepBench, StepLookup, StepReport, StepShape, step};

/// The middle of some figures; of an even number, the upper one. 0 of none.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(0.0)
}
