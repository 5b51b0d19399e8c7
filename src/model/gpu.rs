//! A model on a card: the pass to the hooks, and from a hook to the logits, with the bits of the
//! processor.
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
//! | `attention.cu` | causal attention, of which no scores are stored |
//! | `stream.cu` | embeddings, norms, turns by position, additions |
//!
//! # Where things are
//!
//! The weights of the blocks up to the last hook stay on the card, in f32, their matrices in the
//! panels that the processor packed (`weights`). What lies between the products stays there too,
//! from pass to pass (`Room`). Token ids come over, and the values of the hooks go back, or a value
//! comes over and logits go back; nothing else does, and no kernel waits for the host.
//!
//! A card is not taken at its word: the first tokens of a harvest or an evaluation go through the
//! processor as well, and have to come out with the same bits (`choose`).

mod choose;
mod weights;

use std::sync::{Arc, Mutex, PoisonError};

pub(crate) use choose::{Computes, Wanted, choose};
use weights::{Matrix, NormOnDevice, Weights};

use crate::base::error::{Error, Result};
use crate::cpu::matmul::Activation;
use crate::device::{Buffer, Driver, Shape, launch};
use crate::model::tokens::Tokens;
use crate::model::{HookPoint, Model, Site};

/// Rows and columns of a tile of a product; queries of a tile of attention, and dimensions of its
/// values. The kernels'.
const TILE: usize = 128;
const QUERIES: usize = 64;

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
        OnDevice::upload(device, model, last, false)
    }

    /// Takes all weights of a model to a device.
    ///
    /// # Errors
    /// As [`OnDevice::new`].
    pub fn whole(device: &Arc<dyn Driver>, model: &Model) -> Result<OnDevice> {
        OnDevice::upload(device, model, model.inner.transformer.last_hook(), true)
    }

    fn upload(
        device: &Arc<dyn Driver>,
        model: &Model,
        last: HookPoint,
        to_logits: bool,
    ) -> Result<OnDevice> {
        model.check_hook(last)?;
        let transformer = &model.inner.transformer;
        let weights = Weights::upload(device, transformer, blocks(last), to_logits)?;
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
            pass.embed(tokens)?;
            pass.blocks(0, stop)
        })?;
        Ok(values)
    }

    /// The logits `[n_seq, n_ctx, d_vocab]` with `value` `[n_seq, n_ctx, d_model]` in place of what a
    /// hook holds. `base` is what else the rest of the block needs: at `hook_attn_out` the block's
    /// input, at `hook_mlp_out` what that is added to.
    ///
    /// # Errors
    /// [`Error::Config`] if the weights are not [all](OnDevice::whole) there; what the device says.
    pub(crate) fn logits_from(
        &self,
        HookPoint { layer, site }: HookPoint,
        value: &[f32],
        base: Option<&[f32]>,
        shape: [usize; 2],
    ) -> Result<Vec<f32>> {
        let Some((ln_final, unembed)) = &self.weights.end else {
            let why = format!("the weights on {} end at {}", self.device.name(), self.last);
            return Err(Error::config("device", why));
        };
        let mut logits = vec![0.0; shape[0] * shape[1] * unembed.width];
        self.in_room(shape, |room| {
            let mut pass = self.pass(room, shape);
            match base {
                None => room.resid.write(value)?,
                Some(base) => {
                    room.resid.write(base)?;
                    if site == Site::AttnOut && self.model.config().parallel {
                        pass.normalise(&self.weights.blocks[layer].ln2, &room.resid, &room.second)?;
                    }
                    room.apart.write(value)?;
                    pass.add_apart()?;
                }
            }
            if matches!(site, Site::AttnOut | Site::ResidMid) {
                pass.mlp(layer)?;
            }
            pass.blocks(layer + usize::from(site > Site::ResidPre), &|| false)?;
            pass.normalise(ln_final, &room.resid, &room.narrow)?;
            pass.product(unembed, &room.narrow, &room.logits, Activation::None, None, false)?;
            room.logits.read(&mut logits)
        })?;
        Ok(logits)
    }

    /// Works in room for so many sequences of so many tokens.
    fn in_room(&self, shape: [usize; 2], work: impl FnOnce(&Room) -> Result<()>) -> Result<()> {
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        let room = match room.take().filter(|room| room.holds(shape)) {
            Some(fits) => room.insert(fits),
            None => room.insert(Room::new(self, shape)?),
        };
        work(room)
    }

    /// A pass to the end of what is there.
    fn pass<'a>(&'a self, room: &'a Room, [n_seq, n_ctx]: [usize; 2]) -> Pass<'a> {
        let rows = n_seq * n_ctx;
        Pass { on: self, room, rows, n_seq, n_ctx, hooks: &[], last: self.last, values: &mut [] }
    }
}

/// How many blocks a pass to a hook goes into.
fn blocks(last: HookPoint) -> usize {
    last.layer + usize::from(last.site > Site::ResidPre)
}

/// What lies between the products of a block, for so many rows.
struct Room {
    rows: usize,
    n_ctx: usize,
    ids: Buffer<u32>,
    /// The residual stream `[rows, d_model]`.
    resid: Buffer<f32>,
    /// A norm's output, and then attention's: `[rows, d_model]` and `[rows, d_attn]`.
    narrow: Buffer<f32>,
    /// Where attention and MLP run in parallel, the MLP's norm.
    second: Buffer<f32>,
    /// Queries, keys and values, and then the MLP's hidden layer: `[rows, d_qkv]` and `[rows,
    /// d_mlp]`.
    wide: Buffer<f32>,
    /// What a gated MLP's hidden layer is multiplied with.
    gate: Buffer<f32>,
    /// What attention or the MLP adds to the stream, where that is asked for.
    apart: Buffer<f32>,
    /// `[rows, d_vocab]`, of a pass that goes so far.
    logits: Buffer<f32>,
    /// Cosines and sines `[n_ctx, rotary_dim / 2]`.
    turns: Option<[Buffer<f32>; 2]>,
}

impl Room {
    fn new(on: &OnDevice, [n_seq, n_ctx]: [usize; 2]) -> Result<Room> {
        let (device, rows) = (&on.device, n_seq * n_ctx);
        let [stream, narrow, second, wide, gate, logits] =
            widths(&on.model, on.weights.end.is_some());
        let room = |width: usize| Buffer::new(device, rows * width);
        let turns = on.model.inner.transformer.rotary.as_ref().map(|rotary| {
            let [cos, sin] = rotary.turns(n_ctx);
            Ok::<_, Error>([Buffer::of(device, &cos)?, Buffer::of(device, &sin)?])
        });
        Ok(Room {
            rows,
            n_ctx,
            ids: Buffer::new(device, rows)?,
            resid: room(stream)?,
            narrow: room(narrow)?,
            second: room(second)?,
            wide: room(wide)?,
            gate: room(gate)?,
            apart: room(stream)?,
            logits: room(logits)?,
            turns: turns.transpose()?,
        })
    }

    fn holds(&self, [n_seq, n_ctx]: [usize; 2]) -> bool {
        n_seq * n_ctx <= self.rows && n_ctx <= self.n_ctx
    }
}

/// Numbers of a row of a [`Room`]: of the stream, of `narrow`, `second`, `wide`, `gate` and logits.
fn widths(model: &Model, to_logits: bool) -> [usize; 6] {
    let config = model.config();
    let d = config.d_model;
    [
        d,
        d.max(config.d_attn()),
        if config.parallel { d } else { 0 },
        config.d_qkv().max(config.d_mlp),
        if config.gated() { config.d_mlp } else { 0 },
        if to_logits { config.d_vocab } else { 0 },
    ]
}

/// Bytes on a device of a model's weights as far as a hook, or to its logits, and of what a pass of
/// so many rows takes, and a tenth more, for what the driver keeps to itself.
fn bytes(model: &Model, last: Option<HookPoint>, rows: usize, n_ctx: usize) -> u64 {
    let transformer = &model.inner.transformer;
    let [stream, narrow, second, wide, gate, logits] = widths(model, last.is_none());
    let row = 1 + 2 * stream + narrow + second + wide + gate + logits;
    let turns = n_ctx * model.config().rotary_dim;
    let n_blocks = last.map_or(transformer.blocks.len(), blocks);
    let numbers = weights::numbers(transformer, n_blocks, last.is_none()) + rows * row + turns;
    4 * numbers as u64 / 10 * 11
}

/// A pass under way.
struct Pass<'a> {
    on: &'a OnDevice,
    room: &'a Room,
    rows: usize,
    n_seq: usize,
    n_ctx: usize,
    /// What is asked for.
    hooks: &'a [HookPoint],
    /// Where the pass ends.
    last: HookPoint,
    values: &'a mut [Vec<f32>],
}

impl Pass<'_> {
    /// The first residual stream.
    fn embed(&mut self, tokens: &Tokens) -> Result<()> {
        let (weights, room) = (&self.on.weights, self.room);
        room.ids.write(tokens.ids())?;
        launch!(
            self.on.device,
            "embed",
            Shape::blocks(self.rows, 128),
            [
                &room.ids,
                &weights.embedding,
                weights.positions.as_ref(),
                self.n_ctx,
                self.on.model.config().d_model,
                &room.resid
            ]
        )?;
        self.see(HookPoint::resid_pre(0), &room.resid)
    }

    /// The blocks from one on, as far as the pass goes.
    fn blocks(&mut self, from: usize, stop: &dyn Fn() -> bool) -> Result<()> {
        for layer in from..blocks(self.last) {
            if stop() {
                return Err(Error::Interrupted {
                    what: "the pass through the model",
                    remedy: "call it again".into(),
                });
            }
            self.attention(layer)?;
            if self.last > (HookPoint { layer, site: Site::ResidMid }) {
                self.mlp(layer)?;
            }
        }
        Ok(())
    }

    /// A block as far as `hook_resid_mid`.
    fn attention(&mut self, layer: usize) -> Result<()> {
        let (block, config) = (&self.on.weights.blocks[layer], self.on.model.config());
        let Room { resid, narrow, second, wide, .. } = self.room;
        let at = |site| HookPoint { layer, site };

        self.normalise(&block.ln1, resid, narrow)?;
        self.product(&block.qkv, narrow, wide, Activation::None, None, false)?;
        self.turn()?;
        self.attend(config.attn_scale_of(layer) as f32)?;
        // In parallel, the MLP reads what the block was given.
        if config.parallel {
            self.normalise(&block.ln2, resid, second)?;
        }
        self.add_product(&block.out, narrow, at(Site::AttnOut))?;
        self.see(at(Site::ResidMid), resid)
    }

    /// The rest of a block.
    fn mlp(&mut self, layer: usize) -> Result<()> {
        let (block, config) = (&self.on.weights.blocks[layer], self.on.model.config());
        let Room { resid, narrow, second, wide, gate, .. } = self.room;
        let at = |site| HookPoint { layer, site };
        if !config.parallel {
            self.normalise(&block.ln2, resid, narrow)?;
        }
        let normed = if config.parallel { second } else { narrow };
        match &block.gate {
            None => self.product(&block.up, normed, wide, config.activation, None, false)?,
            Some(by) => {
                self.product(by, normed, gate, config.activation, None, false)?;
                self.product(&block.up, normed, wide, Activation::None, Some(gate), false)?;
            }
        }
        self.add_product(&block.down, wide, at(Site::MlpOut))?;
        self.see(at(Site::ResidPost), resid)?;
        self.see(HookPoint::resid_pre(layer + 1), resid)
    }

    /// Copies the value of a hook for whoever asked for it.
    fn see(&mut self, hook: HookPoint, value: &Buffer<f32>) -> Result<()> {
        for (asked, to) in self.hooks.iter().zip(self.values.iter_mut()) {
            if *asked == hook {
                to.resize(self.rows * self.on.model.config().d_model, 0.0);
                value.read(to)?;
            }
        }
        Ok(())
    }

    fn normalise(&self, norm: &NormOnDevice, from: &Buffer<f32>, to: &Buffer<f32>) -> Result<()> {
        let NormOnDevice { gain, bias, centred, eps } = norm;
        launch!(
            self.on.device,
            "normalise",
            Shape::blocks(self.rows.div_ceil(16), 256),
            [from, gain, bias, self.rows, gain.len(), *centred, *eps, to]
        )
    }

    /// `activation(from · matrix + bias)`, multiplied with `gate`, written or added.
    fn product(
        &self,
        matrix: &Matrix,
        from: &Buffer<f32>,
        to: &Buffer<f32>,
        activation: Activation,
        gate: Option<&Buffer<f32>>,
        add: bool,
    ) -> Result<()> {
        let Matrix { panels, bias, depth, width } = matrix;
        let grid = [self.rows, *width].map(|n| n.div_ceil(TILE) as u32);
        let activation = activation as u32;
        launch!(
            self.on.device,
            "product",
            Shape { grid, block: 256, shared: 0 },
            [from, panels, bias, gate, self.rows, *depth, *width, activation, add, to]
        )
    }

    /// Adds a product to the residual stream; by way of `apart` if it is a hook's value that
    /// somebody asked for.
    fn add_product(&mut self, matrix: &Matrix, from: &Buffer<f32>, hook: HookPoint) -> Result<()> {
        let Room { resid, apart, .. } = self.room;
        if !self.hooks.contains(&hook) {
            return self.product(matrix, from, resid, Activation::None, None, true);
        }
        self.product(matrix, from, apart, Activation::None, None, false)?;
        self.see(hook, apart)?;
        self.add_apart()
    }

    /// Adds what lies apart to the residual stream.
    fn add_apart(&self) -> Result<()> {
        let Room { resid, apart, .. } = self.room;
        let n = self.rows * self.on.model.config().d_model;
        launch!(self.on.device, "add_to", Shape::blocks(n.div_ceil(256), 256), [resid, apart, n])
    }

    /// Turns queries and keys by their positions, if the model does.
    fn turn(&self) -> Result<()> {
        let config = self.on.model.config();
        let Some([cos, sin]) = &self.room.turns else { return Ok(()) };
        let heads = config.n_heads + config.n_key_value_heads;
        launch!(
            self.on.device,
            "turn",
            Shape::blocks(self.rows, 128),
            [
                &self.room.wide,
                cos,
                sin,
                self.n_ctx,
                config.d_qkv(),
                heads,
                config.d_head,
                config.rotary_dim / 2
            ]
        )
    }

    /// Attention, from queries, keys and values in `wide` to `narrow`.
    fn attend(&self, scale: f32) -> Result<()> {
        let config = self.on.model.config();
        let n_ctx = self.n_ctx;
        let tiles = n_ctx.div_ceil(QUERIES) * config.d_head.div_ceil(QUERIES);
        let grid = [(self.n_seq * config.n_heads) as u32, tiles as u32];
        let group = config.n_heads / config.n_key_value_heads;
        launch!(
            self.on.device,
            "attend",
            Shape { grid, block: 256, shared: 0 },
            [
                &self.room.wide,
                n_ctx,
                config.n_heads,
                group,
                config.d_head,
                scale,
                &self.room.narrow
            ]
        )
    }
}
