//! Positions as GPT-NeoX and the Llama family have them: queries and keys turned by angles that grow with the position.

use std::sync::{Arc, PoisonError, RwLock};

use crate::cpu::matmul::in_pieces;
use crate::model::config::ModelConfig;
use crate::model::elementwise;

/// What queries and keys are turned by.
pub(super) struct Rotary {
    /// How far a pair of dimensions is turned from one position to the next: `[rotary_dim / 2]`.
    frequencies: Vec<f32>,
    /// As many positions as have been asked for: how many there may be says a configuration alone,
    /// and no weights bear it out.
    table: RwLock<Arc<Table>>,
    /// The width of queries and keys together, and of these and the values.
    widths: [usize; 2],
    d_head: usize,
}

/// Cosines and sines, each `[n, rotary_dim / 2]`.
#[derive(Default)]
struct Table {
    n: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Rotary {
    pub fn new(config: &ModelConfig) -> Rotary {
        let frequency = |i: usize| {
            let plain = 1.0 / config.rotary_base.powf(2.0 * i as f64 / config.rotary_dim as f64);
            config.rotary_scaling.map_or(plain, |scaling| scaling.apply(plain)) as f32
        };
        let frequencies = (0..config.rotary_dim / 2).map(frequency).collect();
        Rotary {
            frequencies,
            table: RwLock::default(),
            widths: [config.d_attn() + config.d_kv(), config.d_qkv()],
            d_head: config.d_head,
        }
    }

    /// The table for at least `n` positions.
    fn table(&self, n: usize) -> Arc<Table> {
        let known = self.table.read().unwrap_or_else(PoisonError::into_inner).clone();
        if known.n >= n {
            return known;
        }
        let n = n.next_power_of_two();
        let angles: Vec<f32> =
            (0..n).flat_map(|at| self.frequencies.iter().map(move |f| at as f32 * f)).collect();
        let of = |f: fn(f32) -> f32| angles.iter().map(|&angle| f(angle)).collect();
        let table = Arc::new(Table { n, cos: of(f32::cos), sin: of(f32::sin) });
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = table.clone();
        table
    }

    /// Cosines and sines of `n` positions, each `[n, rotary_dim / 2]`.
    pub fn turns(&self, n: usize) -> [Vec<f32>; 2] {
        let (table, size) = (self.table(n), n * self.frequencies.len());
        [&table.cos, &table.sin].map(|all| all[..size].to_vec())
    }

    /// Turns the queries and keys of `qkv` `[n_seq, n_new, d_qkv]`, whose first position is `from`,
    /// in place.
    pub fn turn(&self, qkv: &mut [f32], n_new: usize, from: usize) {
        /// Rows that a thread takes at a time.
        const ROWS: usize = 32;
        let [turned, width] = self.widths;
        let work = 4 * qkv.len();
        let (table, half) = (self.table(from + n_new), self.frequencies.len());
        in_pieces(qkv, ROWS * width, work, |piece, rows| {
            for (i, row) in rows.chunks_exact_mut(width).enumerate() {
                let at = (from + (piece * ROWS + i) % n_new) * half;
                let (cos, sin) = (&table.cos[at..at + half], &table.sin[at..at + half]);
                elementwise::turn(&mut row[..turned], self.d_head, cos, sin);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_context_that_no_memory_holds_takes_none_until_it_is_read() {
        let config = r#"{"model_type": "gpt_neox", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8,
            "max_position_embeddings": 1000000000, "vocab_size": 2, "rotary_pct": 1.0}"#;
        let config = ModelConfig::parse(config.as_bytes(), Path::new("config.json")).unwrap();
        let rotary = Rotary::new(&config);
        assert_eq!(rotary.table(0).n, 0);
        // However it has grown, a position is turned by the same bits.
        let turned = |rotary: &Rotary| {
            let mut row = vec![1.0f32; 24];
            rotary.turn(&mut row, 1, 5);
            row
        };
        let first = turned(&rotary);
        assert_eq!(rotary.table(100).n, 128);
        assert_eq!((turned(&rotary), rotary.table(3).n), (first, 128));
    }
}
