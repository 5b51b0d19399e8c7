//! Which token comes next: drawn from a model's predictions, whoever computes them.

use std::ops::Range;

use candle_core::Tensor;
use candle_transformers::generation::LogitsProcessor;
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::base::error::Result;

/// How many probabilities there must be to draw from before it is worth waking other threads.
const WORTH_WAKING: usize = 1 << 14;

/// Rows of a batch of sequences.
pub(super) fn width(sequences: &Range<usize>) -> usize {
    // A product of one row is computed by another routine, whose last bits differ; with two, a
    // sequence does not depend on the size of its batch.
    sequences.len().max(2)
}

/// What is drawn after `ids` from the logits `[width, d_vocab]` that `read` gives for them, and then
/// for the token of each sequence that was drawn last.
pub(super) fn tokens(
    mut read: impl FnMut(&[u32]) -> Result<Tensor>,
    ids: &[u32],
    sequences: Range<usize>,
    length: usize,
    seed: u64,
    stop: &dyn Fn() -> bool,
) -> Result<Vec<Vec<u32>>> {
    let width = width(&sequences);
    let mut drawers: Vec<LogitsProcessor> = (sequences.start..sequences.start + width)
        .map(|i| LogitsProcessor::new(seed_of(seed, i), Some(1.0), None))
        .collect();
    let mut new = ids.repeat(width); // [width, ids.len()], and from then on [width, 1]
    let mut texts = vec![Vec::with_capacity(length); width];
    for _ in 0..length {
        if stop() {
            break;
        }
        let logits = read(&new)?; // [width, d_vocab]
        let draw = |(i, drawer): (usize, &mut LogitsProcessor)| -> Result<u32> {
            Ok(drawer.sample(&logits.get(i)?)?)
        };
        new = if logits.elem_count() < WORTH_WAKING {
            drawers.iter_mut().enumerate().map(draw).collect::<Result<_>>()?
        } else {
            drawers.par_iter_mut().enumerate().map(draw).collect::<Result<_>>()?
        };
        texts.iter_mut().zip(&new).for_each(|(text, id)| text.push(*id));
    }
    texts.truncate(sequences.len());
    Ok(texts)
}

/// The seed of one sequence's draws.
fn seed_of(seed: u64, sequence: usize) -> u64 {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(sequence as u64);
    rng.next_u64()
}
