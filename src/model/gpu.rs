//! A model on a card: the pass to the hooks, from a hook to the logits, and token by token where it
//! writes text, in f32 with the bits of the processor, in bf16 on the card's matrix units.
//!
//! The pass is that of [`Transformer`](super::transformer::Transformer), product by product, and so
//! is the order of every sum: a product's over the depth, in stretches and fused, as the
//! [tiles](crate::cpu::matmul) of a processor with AVX-512 form it; a norm's and a softmax's in
//! sixteen lanes; exponentials by the same polynomial. So a store may be begun on a processor and
//! continued on a card, and nothing in it says where it was made. A processor without those tiles
//! has an order of its own, and is not joined by a card.
//!
//! # The kernels
//!
//! | file | what it does |
//! | --- | --- |
//! | `product.cu` | rows times a matrix, with bias, activation, gate and residual stream |
//! | `product16.cu` | the same in bf16 |
//! | `attention.cu` | causal attention, of which no scores are stored; that of one more position |
//! | `stream.cu` | embeddings, norms, turns by position, additions |
//!
//! # Where things are
//!
//! The weights of the blocks up to the last hook stay on the card: in f32 their matrices lie in the
//! panels that the processor packed, in bf16 column by column, in half the memory (`weights`). What
//! lies between the products stays there too, from pass to pass (`room`). Token ids come over, and the
//! values of the hooks go back, or a value comes over and logits go back; nothing else does, and no
//! kernel waits for the host. Of text that is being written, in f32 alone, the keys and values stay
//! (`text`), and the logits of each step go back to where they are drawn from.
//!
//! A card is not taken at its word: the first tokens of whatever is to be done go through the
//! processor as well, and have to come out with the same bits, or as close (`proof`).

mod bits;
mod choose;
mod logits;
mod pass;
mod proof;
mod room;
mod text;
mod weights;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

pub(crate) use bits::Bits;
pub(crate) use choose::{Computes, Wanted, choose};
use pass::Pass;
use room::Room;
pub(crate) use text::LEAST as LEAST_ON_CARD;
use weights::Weights;

use crate::base::error::{Error, Result};
use crate::device::Driver;
use crate::model::tokens::Tokens;
use crate::model::{HookPoint, Model, Site};

/// A model with its weights on a device, as far as a hook or to its logits.
pub struct OnDevice {
    device: Arc<dyn Driver>,
    model: Model,
    last: HookPoint,
    weights: Weights,
    room: Mutex<Option<Room>>,
}

impl OnDevice {
    /// Takes the weights of a model to a device, those of the blocks that lie before `last` or hold
    /// it.
    ///
    /// # Errors
    /// [`Error::UnknownHook`] if the model lacks the hook; [`Error::Config`] if this processor forms
    /// products in another order than a card; what the device says, such as [`Error::Memory`].
    pub fn new(device: &Arc<dyn Driver>, model: &Model, last: HookPoint) -> Result<OnDevice> {
        OnDevice::upload(device, model, Some(last))
    }

    /// Takes all weights of a model to a device.
    ///
    /// # Errors
    /// As [`OnDevice::new`].
    pub fn whole(device: &Arc<dyn Driver>, model: &Model) -> Result<OnDevice> {
        OnDevice::upload(device, model, None)
    }

    /// As far as a hook, or to the logits.
    fn upload(
        device: &Arc<dyn Driver>,
        model: &Model,
        last: Option<HookPoint>,
    ) -> Result<OnDevice> {
        let transformer = &model.inner.transformer;
        let (to_logits, last) = (last.is_none(), last.unwrap_or(transformer.last_hook()));
        model.check_hook(last)?;
        let weights =
            Weights::upload(device, transformer, blocks(last), to_logits, model.compute())?;
        let (device, model, room) = (device.clone(), model.clone(), Mutex::default());
        Ok(OnDevice { device, model, last, weights, room })
    }

    /// The values of hooks up to the last, in the order asked for, each `[n_seq · n_ctx · d_model]`;
    /// `stop` is asked before each block whether to give up with [`Error::Interrupted`].
    ///
    /// # Errors
    /// As [`Model::run_to_many`]; [`Error::UnknownHook`] for one behind the last; what the device
    /// says.
    pub fn run_to_many(
        &self,
        tokens: &Tokens,
        hooks: &[HookPoint],
        stop: &dyn Fn() -> bool,
    ) -> Result<Vec<Vec<f32>>> {
        for hook in hooks {
            self.model.check_hook(*hook)?;
            if *hook > self.last {
                let why = format!("the weights on {} end at {}", self.device.name(), self.last);
                return Err(Error::UnknownHook { hook: hook.to_string(), why });
            }
        }
        self.model.check_tokens(tokens)?;
        let mut values = vec![Vec::new(); hooks.len()];
        let Some(&last) = hooks.iter().max().filter(|_| !tokens.is_empty()) else {
            return Ok(values);
        };
        let shape = [tokens.n_seq(), tokens.n_ctx()];
        self.in_room(shape, |room| {
            let values = &mut values[..];
            let mut pass = Pass { hooks, last, values, ..self.pass(room, shape) };
            pass.embed(tokens.ids())?;
            pass.blocks(0, stop)
        })?;
        Ok(values)
    }

    /// The seconds that a pass to some hooks takes, with its copies, once there is room for it.
    ///
    /// # Errors
    /// Those of [`run_to_many`](OnDevice::run_to_many).
    pub(crate) fn seconds_a_pass(&self, tokens: &Tokens, hooks: &[HookPoint]) -> Result<f64> {
        let run = || {
            let start = Instant::now();
            self.run_to_many(tokens, hooks, &|| false).map(|_| start.elapsed().as_secs_f64())
        };
        run()?;
        run()
    }

    /// Works in room for so many sequences of so many tokens.
    fn in_room<T>(
        &self,
        [n_seq, n_ctx]: [usize; 2],
        work: impl FnOnce(&Room) -> Result<T>,
    ) -> Result<T> {
        self.in_room_of(n_seq * n_ctx, n_ctx, work)
    }

    /// Works in room for so many rows, at positions before `n_ctx`.
    fn in_room_of<T>(
        &self,
        rows: usize,
        n_ctx: usize,
        work: impl FnOnce(&Room) -> Result<T>,
    ) -> Result<T> {
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        let room = match room.take().filter(|room| room.holds(rows, n_ctx)) {
            Some(fits) => room.insert(fits),
            None => room.insert(Room::new(self, rows, n_ctx)?),
        };
        work(room)
    }

    /// A pass to the end of what is there.
    fn pass<'a>(&'a self, room: &'a Room, [n_seq, n_ctx]: [usize; 2]) -> Pass<'a> {
        let (rows, last) = (n_seq * n_ctx, self.last);
        Pass { on: self, room, rows, n_seq, n_ctx, past: None, hooks: &[], last, values: &mut [] }
    }
}

/// How many blocks a pass to a hook goes into.
fn blocks(last: HookPoint) -> usize {
    last.layer + usize::from(last.site > Site::ResidPre)
}
