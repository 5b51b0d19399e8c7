//! A pass through a model on a device, kernel by kernel.

use super::room::Room;
use super::weights::{Matrix, NormOnDevice, Numbers};
use super::{OnDevice, blocks};
use crate::base::error::{Error, Result};
use crate::cpu::matmul::{Activation, Compute};
use crate::device::{Buffer, Shape, launch};
use crate::model::{HookPoint, Site};

/// Rows and columns of a tile of a product; queries of a tile of attention, and dimensions of its
/// values. The kernels'.
const TILE: usize = 128;
const QUERIES: usize = 64;

/// What `product16` is told to write in bf16; 0 and 1 are to write and to add in f32.
const IN_BF16: u32 = 2;

/// A pass under way.
pub(super) struct Pass<'a> {
    pub on: &'a OnDevice,
    pub room: &'a Room,
    pub rows: usize,
    pub n_seq: usize,
    /// Tokens of each sequence that this pass reads.
    pub n_ctx: usize,
    /// What was read before them.
    pub past: Option<&'a Past>,
    /// What is asked for.
    pub hooks: &'a [HookPoint],
    /// Where the pass ends.
    pub last: HookPoint,
    pub values: &'a mut [Vec<f32>],
}

/// What some sequences have been read to.
pub(super) struct Past {
    /// Keys and values of each block, `[n_seq, n_ctx, 2 · d_kv]`.
    pub cache: Vec<Buffer<f32>>,
    /// Room for what a position gives to those before, `[n_seq, n_heads, n_ctx]`.
    pub scores: Buffer<f32>,
    /// Positions that there is room for.
    pub n_ctx: usize,
    /// Positions that have been read.
    pub len: usize,
}

impl Pass<'_> {
    /// The first residual stream.
    pub fn embed(&mut self, ids: &[u32]) -> Result<()> {
        let (weights, room) = (&self.on.weights, self.room);
        room.ids.write(ids)?;
        launch!(
            self.on.device,
            "embed",
            Shape::blocks(self.rows, 128),
            [
                &room.ids,
                &weights.embedding,
                weights.positions.as_ref(),
                self.first(),
                self.n_ctx,
                self.on.model.config().d_model,
                &room.resid
            ]
        )?;
        self.see(HookPoint::resid_pre(0), &room.resid)
    }

    /// The blocks from one on, as far as the pass goes.
    pub fn blocks(&mut self, from: usize, stop: &dyn Fn() -> bool) -> Result<()> {
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
        self.attend(layer)?;
        // In parallel, the MLP reads what the block was given.
        if config.parallel {
            self.normalise(&block.ln2, resid, second)?;
        }
        self.add_product(&block.out, narrow, at(Site::AttnOut))?;
        self.see(at(Site::ResidMid), resid)
    }

    /// The rest of a block.
    pub fn mlp(&mut self, layer: usize) -> Result<()> {
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

    pub fn normalise(
        &self,
        norm: &NormOnDevice,
        from: &Buffer<f32>,
        to: &Buffer<f32>,
    ) -> Result<()> {
        let NormOnDevice { gain, bias, centred, eps, to_bf16 } = norm;
        launch!(
            self.on.device,
            "normalise",
            Shape::blocks(self.rows.div_ceil(16), 256),
            [from, gain, bias, self.rows, gain.len(), *centred, *eps, *to_bf16, to]
        )
    }

    /// `activation(from · matrix + bias)`, multiplied with `gate`, written or added. Where the matrix is
    /// in bf16, so is `from`.
    pub fn product(
        &self,
        matrix: &Matrix,
        from: &Buffer<f32>,
        to: &Buffer<f32>,
        activation: Activation,
        gate: Option<&Buffer<f32>>,
        add: bool,
    ) -> Result<()> {
        let Matrix { numbers, bias, depth, width, stretches, to_bf16 } = matrix;
        let (device, n, activation) = (&self.on.device, self.rows, activation as u32);
        let grid = [n, *width].map(|n| n.div_ceil(TILE) as u32);
        let shape = Shape { grid, block: 256, shared: 0 };
        match numbers {
            Numbers::F32(panels) => launch!(
                device,
                "product",
                shape,
                [from, panels, bias, gate, n, *depth, *width, *stretches, activation, add, to]
            ),
            Numbers::Bf16(columns) => {
                let into = if *to_bf16 { IN_BF16 } else { u32::from(add) };
                launch!(
                    device,
                    "product16",
                    shape,
                    [from, columns, bias, gate, n, *depth, *width, activation, into, to]
                )
            }
        }
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

    /// The logits `[rows, d_vocab]` of what has come to the end of the blocks.
    ///
    /// # Errors
    /// [`Error::Config`] if the weights end before.
    pub fn logits(&self) -> Result<Vec<f32>> {
        let OnDevice { device, weights, last, .. } = self.on;
        let Some((ln_final, unembed)) = &weights.end else {
            let why = format!("the weights on {} end at {last}", device.name());
            return Err(Error::config("device", why));
        };
        let Room { resid, narrow, logits, .. } = self.room;
        self.normalise(ln_final, resid, narrow)?;
        self.product(unembed, narrow, logits, Activation::None, None, false)?;
        let mut values = vec![0.0; self.rows * unembed.width];
        logits.read(&mut values)?;
        Ok(values)
    }

    /// Adds what lies apart to the residual stream.
    pub fn add_apart(&self) -> Result<()> {
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
                self.first(),
                self.n_ctx,
                config.d_qkv(),
                heads,
                config.d_head,
                config.rotary_dim / 2
            ]
        )
    }

    /// The position of the first tokens that this pass reads.
    fn first(&self) -> usize {
        self.past.map_or(0, |past| past.len)
    }

    /// Attention, from queries, keys and values in `wide` to `narrow`.
    fn attend(&self, layer: usize) -> Result<()> {
        let config = self.on.model.config();
        let scale = config.attn_scale_of(layer) as f32;
        let group = config.n_heads / config.n_key_value_heads;
        if let Some(past) = self.past {
            return launch!(
                self.on.device,
                "attend_next",
                Shape::blocks(self.n_seq * config.n_heads, 128),
                [
                    &self.room.wide,
                    &past.cache[layer],
                    &past.scores,
                    past.len,
                    past.n_ctx,
                    config.n_heads,
                    group,
                    config.d_head,
                    scale,
                    &self.room.narrow
                ]
            );
        }
        let n_ctx = self.n_ctx;
        let tiles = n_ctx.div_ceil(QUERIES) * config.d_head.div_ceil(QUERIES);
        let grid = [(self.n_seq * config.n_heads) as u32, tiles as u32];
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
                self.on.model.compute() == Compute::Bf16,
                &self.room.narrow
            ]
        )
    }
}
