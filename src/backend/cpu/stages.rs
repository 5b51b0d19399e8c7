//! Where a step's time goes.

use std::time::{Duration, Instant};

/// A part of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The encoder into the numbers of the screen.
    Pack,
    /// Scores, margins, candidates.
    Screen,
    /// Exact scores of the candidates, and the choice.
    Rescore,
    /// Reconstructions, residuals, gradients of the codes.
    Decode,
    /// Codes by latent.
    Transpose,
    /// Gradients of the SAE's weights, and Adam.
    Gradients,
    /// Gradients of the token table, and Adam.
    Table,
}

impl Stage {
    /// All, in order.
    pub const ALL: [Stage; 7] = [
        Stage::Pack,
        Stage::Screen,
        Stage::Rescore,
        Stage::Decode,
        Stage::Transpose,
        Stage::Gradients,
        Stage::Table,
    ];

    /// A word for tables and reports.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Pack => "pack_encoder",
            Stage::Screen => "screen",
            Stage::Rescore => "rescore",
            Stage::Decode => "decode",
            Stage::Transpose => "transpose",
            Stage::Gradients => "gradients_adam",
            Stage::Table => "table_adam",
        }
    }
}

/// Time by stage. What runs on all threads side by side counts as its threads' time over their
/// number.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stages([Duration; Stage::ALL.len()]);

impl Stages {
    /// The time of one stage.
    pub fn get(&self, stage: Stage) -> Duration {
        self.0[stage as usize]
    }

    /// Counts the time since `start`, and restarts.
    pub(super) fn since(&mut self, stage: Stage, start: Instant) -> Instant {
        let now = Instant::now();
        self.0[stage as usize] += now - start;
        now
    }

    /// Adds the times that one of rayon's threads took.
    pub(super) fn add_of_threads(&mut self, other: &Stages) {
        let threads = rayon::current_num_threads() as u32;
        self.0.iter_mut().zip(other.0).for_each(|(time, other)| *time += other / threads);
    }
}
