//! Positions as GPT-NeoX has them: queries and keys turned by angles that grow with the position.

use crate::matmul::in_pieces;
use crate::model::config::ModelConfig;
use crate::model::lanes;

/// The cosines and sines by which queries and keys are turned: `[n_ctx, rotary_dim / 2]`.
pub(super) struct Rotary {
    cos: Vec<f32>,
    sin: Vec<f32>,
    half: usize,
    d_model: usize,
    d_head: usize,
}

impl Rotary {
    pub fn new(config: &ModelConfig) -> Rotary {
        let half = config.rotary_dim / 2;
        let frequencies: Vec<f32> =
            (0..half).map(|i| (1.0 / config.rotary_base.powf(2.0 * i as f64 / config.rotary_dim as f64)) as f32).collect();
        let angles: Vec<f32> = (0..config.n_ctx).flat_map(|at| frequencies.iter().map(move |f| at as f32 * f)).collect();
        let table = |f: fn(f32) -> f32| angles.iter().map(|&a| f(a)).collect();
        Rotary { cos: table(f32::cos), sin: table(f32::sin), half, d_model: config.d_model, d_head: config.d_head }
    }

    /// Turns the queries and keys of `qkv` `[n_seq, n_new, 3 d_model]`, whose first position is `from`, in place.
    pub fn turn(&self, qkv: &mut [f32], n_new: usize, from: usize) {
        /// Rows that a thread takes at a time.
        const ROWS: usize = 32;
        let width = 3 * self.d_model;
        let work = 4 * qkv.len();
        in_pieces(qkv, ROWS * width, work, |piece, rows| {
            for (i, row) in rows.chunks_exact_mut(width).enumerate() {
                let at = (from + (piece * ROWS + i) % n_new) * self.half;
                let (cos, sin) = (&self.cos[at..at + self.half], &self.sin[at..at + self.half]);
                lanes::turn(&mut row[..2 * self.d_model], self.d_head, cos, sin);
            }
        });
    }
}
