//! Text from the model itself: temperature 1, so that what it writes has the statistics that it has
//! learned.

use std::ops::Range;

use candle_core::Tensor;

use super::draw;
use crate::base::error::{Error, Result};
use crate::device::Device;
use crate::display;
use crate::model::gpu::{Computes, LEAST_ON_CARD, Wanted, choose};
use crate::model::tokens::Tokens;
use crate::model::transformer::Cache;
use crate::model::{Added, Model};

/// The least and the most sequences that a processor writes at once.
const BATCH: std::ops::RangeInclusive<usize> = 8..=256;

/// How many bytes of keys and values a batch may take at least, however small the model.
const CACHE_BYTES: usize = 256 * 1024 * 1024;

/// How many sequences a processor writes between two looks at the stop button.
const BETWEEN_STOPS: usize = 64;

/// How many tokens are worth a card where none was asked for: it has to be given the weights, and to
/// show that it gives the processor's bits.
const WORTH_A_CARD: usize = 1 << 14;

impl Model {
    /// `n_seq` sequences of `n_ctx` tokens written by the model: BOS, then each token drawn from
    /// its predictions.
    ///
    /// Sequence `i` depends on the seed and on `i` alone: more sequences with the same seed begin
    /// with the same ones. Many tokens are written on a card, if [`Device::Auto`] means one: they are
    /// the same.
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
        Author::new(self, to.saturating_sub(from), n_ctx, seed)?.write(from..to)
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
        let width = draw::width(&sequences);
        let mut cache = Cache::new(self.config(), ids.len() + length);
        let read = |new: &[u32]| self.read_next(new, width, &mut cache, added);
        draw::tokens(read, ids, sequences, length, seed, stop)
    }

    /// Reads `ids` `[n_seq, n_new]` behind those in the cache: the logits `[n_seq, d_vocab]` of what
    /// comes next.
    pub(super) fn read_next(
        &self,
        ids: &[u32],
        n_seq: usize,
        cache: &mut Cache,
        added: Option<&Added<'_>>,
    ) -> Result<Tensor> {
        let resid = self.read_on(ids, n_seq, cache, added)?; // [n_seq, n_new, d_model]
        let last = resid.narrow(1, resid.dim(1)? - 1, 1)?.contiguous()?;
        Ok(self.inner.transformer.unembed(&last)?.squeeze(1)?)
    }
}

/// Who writes the sequences of a model's own text: the processor, or a card that gives its bits and
/// so the same tokens.
pub(crate) struct Author {
    computes: Computes,
    bos: u32,
    n_ctx: usize,
    seed: u64,
    /// Sequences that are written at once.
    batch: usize,
}

impl Author {
    /// Who writes about so many sequences of a seed.
    ///
    /// # Errors
    /// Those of [`Model::sample`].
    pub fn new(model: &Model, n_seq: usize, n_ctx: usize, seed: u64) -> Result<Author> {
        let (config, bos) = (model.config(), model.bos());
        if n_ctx == 0 {
            return Err(Error::config("n_ctx", "sequences of 0 tokens: need at least 1"));
        }
        model.check_length(n_ctx)?;
        if bos as usize >= config.d_vocab {
            let why = format!(
                "is {bos} or not given, and the vocabulary has {} tokens: set it in config.json",
                config.d_vocab
            );
            return Err(Error::config("bos_token_id", why));
        }
        let short =
            n_seq.saturating_mul(n_ctx) < WORTH_A_CARD && Device::Auto.meant()? == Device::Auto;
        let device = if short { Device::Cpu } else { Device::Auto };
        let first = Tokens::new(vec![bos; n_ctx], n_ctx)?;
        let (computes, remark) = choose(device, model, Wanted::Text, LEAST_ON_CARD, &first)?;
        remark.iter().for_each(|remark| display::remark(remark));
        // Each step reads all weights, which the sequences of a batch share, and each sequence's
        // keys and values. Beyond the batch where both are of one size, a larger one takes more
        // memory and saves little.
        let bytes_a_sequence = 2 * size_of::<f32>() * config.n_layers * n_ctx * config.d_model;
        let weight_bytes = size_of::<f32>() * model.n_params();
        let batch = match &computes {
            Computes::Processor(_) => (weight_bytes.max(CACHE_BYTES) / bytes_a_sequence)
                .clamp(*BATCH.start(), *BATCH.end()),
            Computes::Card(card) => card.texts_at_once(n_ctx)?,
        };
        Ok(Author { computes, bos, n_ctx, seed, batch })
    }

    /// How many sequences are written between two looks at the stop button.
    pub fn at_once(&self) -> usize {
        match &self.computes {
            Computes::Processor(_) => BETWEEN_STOPS,
            Computes::Card(_) => self.batch,
        }
    }

    /// Some of the sequences.
    ///
    /// # Errors
    /// What the card says.
    pub fn write(&self, sequences: Range<usize>) -> Result<Tokens> {
        let (length, seed) = (self.n_ctx - 1, self.seed);
        let mut ids = Vec::with_capacity(sequences.len() * self.n_ctx);
        for first in sequences.clone().step_by(self.batch) {
            let batch = first..sequences.end.min(first + self.batch);
            let texts = match &self.computes {
                Computes::Processor(model) => {
                    model.write(&[self.bos], batch, length, seed, None, &|| false)?
                }
                Computes::Card(card) => card.write(batch, length, seed)?,
            };
            texts.iter().for_each(|text| {
                ids.push(self.bos);
                ids.extend(text);
            });
        }
        Tokens::new(ids, self.n_ctx)
    }
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
