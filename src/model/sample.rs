//! Text from the model itself: temperature 1, so that what it writes has the statistics that it has
//! learned.

use std::ops::Range;

use candle_transformers::generation::LogitsProcessor;
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::base::error::{Error, Result};
use crate::model::tokens::Tokens;
use crate::model::transformer::Cache;
use crate::model::{Added, Model};

/// The least and the most sequences that are written at once.
const BATCH: std::ops::RangeInclusive<usize> = 8..=256;

/// How many bytes of keys and values a batch may take at least, however small the model.
const CACHE_BYTES: usize = 256 * 1024 * 1024;

/// How many probabilities there must be to draw from before it is worth waking other threads.
const WORTH_WAKING: usize = 1 << 14;

impl Model {
    /// `n_seq` sequences of `n_ctx` tokens written by the model: BOS, then each token drawn from
    /// its predictions.
    ///
    /// Sequence `i` depends on the seed and on `i` alone: more sequences with the same seed begin
    /// with the same ones.
    ///
    /// ```
    /// use tokenized_sae::prelude::*;
    /// let model = Model::load("tiny-gpt2")?;
    /// let tokens = model.sample(2, 16, 0)?;
    /// assert_eq!((tokens.row(0)[0], tokens.row(1)[0]), (model.bos(), model.bos()));
    /// println!("{}", model.decode(tokens.row(0))?);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] if `n_ctx` is 0 or more than the model can read, or the model's BOS lies
    /// outside its vocabulary.
    pub fn sample(&self, n_seq: usize, n_ctx: usize, seed: u64) -> Result<Tokens> {
        self.sample_range(0, n_seq, n_ctx, seed)
    }

    /// Sequences `from..to` of those that [`Model::sample`] would write, without the ones before:
    /// for writing many in pieces.
    ///
    /// # Errors
    /// Those of [`Model::sample`].
    pub fn sample_range(&self, from: usize, to: usize, n_ctx: usize, seed: u64) -> Result<Tokens> {
        let config = self.config();
        if n_ctx == 0 {
            return Err(Error::config("n_ctx", "sequences of 0 tokens: need at least 1"));
        }
        self.check_length(n_ctx)?;
        if self.bos() as usize >= config.d_vocab {
            let why = format!(
                "is {} or not given, and the vocabulary has {} tokens: set it in config.json",
                self.bos(),
                config.d_vocab
            );
            return Err(Error::config("bos_token_id", why));
        }
        // Each step reads all weights, which the sequences of a batch share, and each sequence's
        // keys and values. Beyond the batch where both are of one size, a larger one takes more
        // memory and saves little.
        let bytes_a_sequence = 2 * size_of::<f32>() * config.n_layers * n_ctx * config.d_model;
        let weight_bytes = size_of::<f32>() * self.n_params();
        let batch =
            (weight_bytes.max(CACHE_BYTES) / bytes_a_sequence).clamp(*BATCH.start(), *BATCH.end());
        let mut ids = Vec::with_capacity(to.saturating_sub(from) * n_ctx);
        for first in (from..to).step_by(batch) {
            let sequences = first..first + batch.min(to - first);
            let texts = self.write(&[self.bos()], sequences, n_ctx - 1, seed, None, &|| false)?;
            texts.iter().for_each(|text| {
                ids.push(self.bos());
                ids.extend(text);
            });
        }
        Tokens::new(ids, n_ctx)
    }

    /// What the model writes after `ids`, `length` tokens or until `stop`, in some of the sequences
    /// that a seed gives.
    pub(super) fn write(
        &self,
        ids: &[u32],
        sequences: Range<usize>,
        length: usize,
        seed: u64,
        added: Option<&Added<'_>>,
        stop: &dyn Fn() -> bool,
    ) -> Result<Vec<Vec<u32>>> {
        // A product of one row is computed by another routine, whose last bits differ; with two, a
        // sequence does not depend on the size of its batch.
        let width = sequences.len().max(2);
        let mut drawers: Vec<LogitsProcessor> = (sequences.start..sequences.start + width)
            .map(|i| LogitsProcessor::new(seed_of(seed, i), Some(1.0), None))
            .collect();
        let mut cache = Cache::new(self.config(), ids.len() + length);
        let mut new = ids.repeat(width); // [width, ids.len()], and from then on [width, 1]
        let mut texts = vec![Vec::with_capacity(length); width];
        for _ in 0..length {
            if stop() {
                break;
            }
            let resid = self.read_on(&new, width, &mut cache, added)?; // [width, n_new, d_model]
            let last = resid.narrow(1, resid.dim(1)? - 1, 1)?.contiguous()?;
            let logits = self.inner.transformer.unembed(&last)?.squeeze(1)?; // [width, d_vocab]
            let draw = |(i, drawer): (usize, &mut LogitsProcessor)| -> Result<u32> {
                Ok(drawer.sample(&logits.get(i)?)?)
            };
            new = if width * self.config().d_vocab < WORTH_WAKING {
                drawers.iter_mut().enumerate().map(draw).collect::<Result<_>>()?
            } else {
                drawers.par_iter_mut().enumerate().map(draw).collect::<Result<_>>()?
            };
            texts.iter_mut().zip(&new).for_each(|(text, id)| text.push(*id));
        }
        texts.truncate(sequences.len());
        Ok(texts)
    }
}

/// The seed of one sequence's draws.
fn seed_of(seed: u64, sequence: usize) -> u64 {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(sequence as u64);
    rng.next_u64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::matmul::Compute;

    #[test]
    fn reading_token_by_token_with_the_cache_gives_the_logits_of_one_pass() {
        for name in ["tests/golden/gpt2", "tests/golden/neox", "tests/golden/llama"] {
            let model = Model::load(name).unwrap();
            let transformer = &model.inner.transformer;
            let tokens = Tokens::new((0..48).map(|i| (i * 17 + 5) % 61).collect(), 16).unwrap();
            let whole = model.logits(&tokens).unwrap();
            // One at a time, and in pieces of several.
            for piece in [1, 4, 8] {
                let mut cache = Cache::new(model.config(), 16);
                for from in (0..16).step_by(piece) {
                    let ids: Vec<u32> = (0..3)
                        .flat_map(|seq| tokens.row(seq)[from..from + piece].to_vec())
                        .collect();
                    let stage = transformer
                        .walk_cached(
                            transformer.start(&ids, 3, from).unwrap(),
                            &mut cache,
                            Compute::F32,
                        )
                        .unwrap();
                    let logits = transformer.unembed(&stage.value).unwrap();
                    let far = (whole.narrow(1, from, piece).unwrap() - logits)
                        .unwrap()
                        .abs()
                        .unwrap()
                        .max_all()
                        .unwrap()
                        .to_scalar::<f32>()
                        .unwrap();
                    assert!(far < 1e-4, "{name} at {from}: {far}");
                }
                assert_eq!(cache.len(), 16);
            }
        }
    }
}
