//! Training: several SAEs on one stream of batches, each with its own folder, history, checkpoint
//! and exact resume.
//!
//! [`Trainer::fit`] trains while its cell waits, [`Trainer::fit_in_background`] while other cells
//! run.

mod ahead;
mod background;
mod board;
mod checkpoint;
mod compare;
mod config;
pub(crate) mod figures;
mod folder;
mod forecast;
mod history;
mod job;
mod live;
mod material;
mod open;
mod penalty;
mod resample;
mod runs;
mod session;
mod settings;
mod shared;
mod show;
mod speedup;
mod start;
mod status;
mod trainer;
mod watch;

pub use crate::backend::Device;
pub use background::Training;
pub use compare::evaluate;
pub(crate) use compare::evaluate_kept;
pub use config::TrainConfig;
pub(crate) use folder::{finished, weights};
pub(crate) use forecast::{memory_of, work_of};
pub use history::{History, TrainPoint};
pub use runs::{Run, Runs};
pub(crate) use shared::{key, lock};
pub use speedup::{Speedup, speedup};
pub(crate) use speedup::{in_words, reached};
pub use status::{RunStatus, TrainingState, TrainingStatus};
pub use trainer::Trainer;
pub(crate) use trainer::check_name;
