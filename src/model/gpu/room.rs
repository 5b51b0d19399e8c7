//! What a pass takes on a device.

use super::{OnDevice, blocks, weights};
use crate::base::error::{Error, Result};
use crate::device::Buffer;
use crate::model::{HookPoint, Model};

/// What lies between the products of a block, for so many rows.
pub(super) struct Room {
    rows: usize,
    n_ctx: usize,
    pub ids: Buffer<u32>,
    /// The residual stream `[rows, d_model]`.
    pub resid: Buffer<f32>,
    /// A norm's output, and then attention's: `[rows, d_model]` and `[rows, d_attn]`. In
    /// [`Compute::Bf16`](crate::model::Compute) what products read of this and the next two is bf16.
    pub narrow: Buffer<f32>,
    /// Where attention and MLP run in parallel, the MLP's norm.
    pub second: Buffer<f32>,
    /// Queries, keys and values, and then the MLP's hidden layer: `[rows, d_qkv]` and `[rows,
    /// d_mlp]`.
    pub wide: Buffer<f32>,
    /// What a gated MLP's hidden layer is multiplied with.
    pub gate: Buffer<f32>,
    /// What attention or the MLP adds to the stream, where that is asked for.
    pub apart: Buffer<f32>,
    /// `[rows, d_vocab]`, of a pass that goes so far.
    pub logits: Buffer<f32>,
    /// Cosines and sines `[n_ctx, rotary_dim / 2]`.
    pub turns: Option<[Buffer<f32>; 2]>,
}

impl Room {
    pub fn new(on: &OnDevice, rows: usize, n_ctx: usize) -> Result<Room> {
        let device = &on.device;
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

    pub fn holds(&self, rows: usize, n_ctx: usize) -> bool {
        rows <= self.rows && n_ctx <= self.n_ctx
    }
}

/// Numbers of a row of a [`Room`]: of the stream, of `narrow`, `second`, `wide`, `gate` and logits.
pub(super) fn widths(model: &Model, to_logits: bool) -> [usize; 6] {
    let config = model.config();
    let d = config.d_model;
    // Rows of bf16, which begin at multiples of 16 bytes, lie where such of f32 do: of four at least.
    let either = |width: usize| width.next_multiple_of(4);
    [
        d,
        either(d.max(config.d_attn())),
        if config.parallel { either(d) } else { 0 },
        either(config.d_qkv().max(config.d_mlp)),
        if config.gated() { config.d_mlp } else { 0 },
        if to_logits { config.d_vocab } else { 0 },
    ]
}

/// Bytes on a device of a model's weights as far as a hook, or to its logits, and of what a pass of
/// so many rows takes, and a tenth more, for what the driver keeps to itself.
pub(super) fn bytes(model: &Model, last: Option<HookPoint>, rows: usize, n_ctx: usize) -> u64 {
    let transformer = &model.inner.transformer;
    let [stream, narrow, second, wide, gate, logits] = widths(model, last.is_none());
    let row = 1 + 2 * stream + narrow + second + wide + gate + logits;
    let turns = n_ctx * model.config().rotary_dim;
    let n_blocks = last.map_or(transformer.blocks.len(), blocks);
    let numbers = weights::numbers(transformer, n_blocks, last.is_none(), model.compute())
        + rows * row
        + turns;
    4 * numbers as u64 / 10 * 11
}
