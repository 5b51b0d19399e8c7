//! Training: several SAEs on one stream of batches, each with its own folder, history, checkpoint and exact resume.

mod checkpoint;
mod compare;
mod config;
mod folder;
mod history;
mod job;
mod live;
mod runs;
mod speedup;
mod trainer;

pub use compare::evaluate;
pub use config::TrainConfig;
pub(crate) use config::check_rate;
pub use history::{HeldOutPoint, History, TrainPoint};
pub use runs::{Run, Runs};
pub(crate) use speedup::reached;
pub use speedup::{Speedup, speedup};
pub use trainer::Trainer;
