//! Text that is being written on a device: one more token of each sequence at a time, behind the keys
//! and values of those before.

use std::ops::Range;

use candle_core::{Device, Tensor};

use super::pass::{Pass, Past};
use super::{OnDevice, room};
use crate::base::error::Result;
use crate::base::forecast;
use crate::device::Buffer;
use crate::model::{Model, draw};

/// The fewest sequences that are written at once.
pub(crate) const LEAST: usize = 8;

/// And the most: the rows of a tile of a product, each of whose columns is read once for all.
const MOST: usize = 128;

/// Sequences under way.
pub(super) struct Texts<'a> {
    on: &'a OnDevice,
    n_seq: usize,
    past: Past,
}

impl OnDevice {
    /// What the model writes after BOS, `length` tokens in each of some of the sequences that a seed
    /// gives, on a device that has [all](OnDevice::whole) weights: the tokens that
    /// [`Model::sample_range`] writes.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) if the weights are not all there; what the device says.
    pub fn write(
        &self,
        sequences: Range<usize>,
        length: usize,
        seed: u64,
    ) -> Result<Vec<Vec<u32>>> {
        let width = draw::width(&sequences);
        let mut texts = self.texts(width, length)?;
        let read = |ids: &[u32]| {
            let logits = texts.read(ids)?;
            let shape = (width, logits.len() / width);
            Ok(Tensor::from_vec(logits, shape, &Device::Cpu)?)
        };
        draw::tokens(read, &[self.model.bos()], sequences, length, seed, &|| false)
    }

    /// So many sequences, of up to `n_ctx` tokens, of which none has been read.
    pub(super) fn texts(&self, n_seq: usize, n_ctx: usize) -> Result<Texts<'_>> {
        let room = |width: usize| Buffer::new(&self.device, n_seq * n_ctx * width);
        let config = self.model.config();
        let cache = (0..config.n_layers).map(|_| room(2 * config.d_kv())).collect::<Result<_>>()?;
        let past = Past { cache, scores: room(config.n_heads)?, n_ctx, len: 0 };
        Ok(Texts { on: self, n_seq, past })
    }

    /// How many sequences of `n_ctx` tokens are written at once: as many as there is memory for.
    ///
    /// # Errors
    /// What the device says.
    pub(crate) fn texts_at_once(&self, n_ctx: usize) -> Result<usize> {
        let (free, of) = (self.device.free_bytes()?, |n_seq| bytes(&self.model, n_seq, n_ctx));
        // The weights are there.
        let fit = forecast::largest(MOST, free, |n_seq| of(n_seq) - of(0));
        Ok(fit.unwrap_or(0).max(LEAST))
    }
}

impl Texts<'_> {
    /// Reads one more token of each sequence: the logits `[n_seq, d_vocab]` of what comes next.
    pub fn read(&mut self, ids: &[u32]) -> Result<Vec<f32>> {
        let (on, past) = (self.on, &self.past);
        let logits = on.in_room_of(self.n_seq, past.n_ctx, |room| {
            let mut pass = Pass { past: Some(past), ..on.pass(room, [self.n_seq, 1]) };
            pass.embed(ids)?;
            pass.blocks(0, &|| false)?;
            pass.logits()
        })?;
        self.past.len += 1;
        Ok(logits)
    }
}

/// Bytes on a device of all weights of a model, and of writing so many sequences.
pub(super) fn bytes(model: &Model, n_seq: usize, n_ctx: usize) -> u64 {
    let config = model.config();
    let position = 2 * config.n_layers * config.d_kv() + config.n_heads;
    room::bytes(model, None, n_seq, n_ctx) + 4 * (n_seq * n_ctx * position) as u64 / 10 * 11
}
