//! A whole block at once, in memory that is used again by the next: what a pass goes through
//! between the hooks that it stops at.
//!
//! Nothing is written that the next product does not read: biases, activations and the addition to
//! the residual stream happen as a product leaves the registers, and in [`Compute::Bf16`] what a
//! product reads is written as bf16 by whatever computes it.

use std::ops::Range;
use std::sync::PoisonError;
use std::time::Instant;

use crate::base::error::{Error, Result};
use crate::cpu::matmul::{
    Activation, Compute, Heads, Lines, Out, Rows, RowsMut, Shape, has_bf16_tiles,
};
use crate::model::attention::attend;
use crate::model::block::{Layout, Part, Times, Workspace};
use crate::model::transformer::Transformer;

impl Transformer {
    /// Takes the residual stream `[rows, d_model]` through some blocks, in place; says how long its
    /// parts took.
    ///
    /// # Errors
    /// [`Error::Interrupted`] if `stop`, which is asked between any two parts, says so.
    pub fn run_blocks(
        &self,
        layers: Range<usize>,
        resid: &mut [f32],
        layout: Layout,
        compute: Compute,
        stop: &dyn Fn() -> bool,
    ) -> Result<Times> {
        let rooms = || self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        let mut room = rooms().pop().unwrap_or_default();
        let mut clock = Clock { times: Times::default(), since: Instant::now(), stop };
        let done = layers.into_iter().try_for_each(|layer| {
            self.run_block(layer, resid, layout, compute, &mut room, &mut clock)
        });
        rooms().push(room);
        done.map(|()| clock.times)
    }

    fn run_block(
        &self,
        layer: usize,
        resid: &mut [f32],
        layout: Layout,
        compute: Compute,
        room: &mut Workspace,
        clock: &mut Clock<'_>,
    ) -> Result<()> {
        let (block, config) = (&self.blocks[layer], &self.config);
        let (n, d, d_mlp) = (layout.rows(), config.d_model, config.d_mlp);
        let (d_attn, d_qkv) = (config.d_attn(), config.d_qkv());
        let pairs = compute == Compute::Bf16 && has_bf16_tiles();
        let Workspace { narrow, second, wide, gate, apart } = room;

        block.ln1.apply(resid, RowsMut::of(narrow, n, d, pairs));
        clock.done(Part::LayerNorm)?;
        block.qkv.apply(
            Rows::of(narrow, n, d, pairs),
            Out::Write(RowsMut::of(wide, n, d_qkv, false)),
            Activation::None,
            compute,
        )?;
        clock.done(Part::Qkv)?;
        let qkv = &mut wide.floats_mut()[..n * d_qkv];
        if let Some(rotary) = &self.rotary {
            let (bos, rest) = qkv.split_at_mut(if layout.one_bos { d_qkv } else { 0 });
            rotary.turn(bos, 1, 0);
            rotary.turn(
                rest,
                layout.n_ctx - usize::from(layout.one_bos),
                usize::from(layout.one_bos),
            );
            clock.done(Part::Rotary)?;
        }
        let scale = config.attn_scale_of(layer) as f32;
        self.attend(qkv, scale, layout, RowsMut::of(narrow, n, d_attn, pairs), apart);
        clock.done(Part::Attention)?;

        // In parallel, the MLP reads what the block was given, which must be read before
        // attention's output is added to it.
        if config.parallel {
            block.ln2.apply(resid, RowsMut::of(second, n, d, pairs));
            clock.done(Part::LayerNorm)?;
        }
        block.out.apply(
            Rows::of(narrow, n, d_attn, pairs),
            Out::Add(resid),
            Activation::None,
            compute,
        )?;
        clock.done(Part::AttnOut)?;
        if !config.parallel {
            block.ln2.apply(resid, RowsMut::of(narrow, n, d, pairs));
            clock.done(Part::LayerNorm)?;
        }
        let normed = if config.parallel { second } else { narrow };
        let normed = Rows::of(normed, n, d, pairs);
        let hidden = RowsMut::of(wide, n, d_mlp, pairs);
        match &block.gate {
            None => block.up.apply(normed, Out::Write(hidden), config.activation, compute)?,
            Some(by) => {
                let out = Out::Write(RowsMut::of(gate, n, d_mlp, false));
                by.apply(normed, out, config.activation, compute)?;
                let gate = &gate.floats()[..n * d_mlp];
                block.up.apply(normed, Out::Gated(gate, hidden), Activation::None, compute)?;
            }
        }
        clock.done(Part::MlpUp)?;
        block.down.apply(
            Rows::of(wide, n, d_mlp, pairs),
            Out::Add(resid),
            Activation::None,
            compute,
        )?;
        clock.done(Part::MlpDown)
    }
}

impl Transformer {
    /// Attention within each sequence, from queries, keys and values `[rows, d_qkv]`.
    fn attend(
        &self,
        qkv: &[f32],
        scale: f32,
        layout: Layout,
        out: RowsMut<'_>,
        [apart, made]: &mut [Lines; 2],
    ) {
        let config = &self.config;
        let (d, d_kv, d_qkv) = (config.d_attn(), config.d_kv(), config.d_qkv());
        let Layout { n_seq, n_ctx, one_bos } = layout;
        let shape = Shape {
            n_seq,
            n_new: n_ctx,
            n_all: n_ctx,
            n_heads: config.n_heads,
            group: config.n_heads / config.n_key_value_heads,
            d_head: config.d_head,
            scale,
        };
        let heads = |qkv, from: usize| -> Heads<'_> {
            let qkv: &[f32] = qkv;
            Heads {
                data: &qkv[from.min(qkv.len())..],
                seq_stride: n_ctx * d_qkv,
                row_stride: d_qkv,
            }
        };
        let of = |qkv| [0, d, d + d_kv].map(|from| heads(qkv, from));
        if !one_bos {
            return attend(of(qkv), shape, out);
        }
        let (bos, rest) = qkv.split_at(d_qkv);
        apart.hold(n_seq * n_ctx * d_qkv);
        let apart = &mut apart.floats_mut()[..n_seq * n_ctx * d_qkv];
        for (whole, rest) in
            apart.chunks_exact_mut(n_ctx * d_qkv).zip(rest.chunks_exact((n_ctx - 1) * d_qkv))
        {
            whole[..d_qkv].copy_from_slice(bos);
            whole[d_qkv..].copy_from_slice(rest);
        }
        let (pairs, width) = match out {
            RowsMut::F32(_) => (false, d),
            RowsMut::Bf16(_) => (true, d.div_ceil(2)),
        };
        attend(of(apart), shape, RowsMut::of(made, n_seq * n_ctx, d, pairs));
        let out: &mut [u32] = match out {
            RowsMut::F32(out) => bytemuck::cast_slice_mut(out),
            RowsMut::Bf16(out) => out,
        };
        let (bos, rest) = out.split_at_mut(width);
        let made = &made.words()[..n_seq * n_ctx * width];
        bos.copy_from_slice(&made[..width]);
        for (rest, whole) in
            rest.chunks_exact_mut((n_ctx - 1) * width).zip(made.chunks_exact(n_ctx * width))
        {
            rest.copy_from_slice(&whole[width..]);
        }
    }
}

/// Notes how long each part takes, and asks between any two whether to go on.
struct Clock<'a> {
    times: Times,
    since: Instant,
    stop: &'a dyn Fn() -> bool,
}

impl Clock<'_> {
    fn done(&mut self, part: Part) -> Result<()> {
        self.times.add(part, &mut self.since);
        if (self.stop)() {
            return Err(Error::Interrupted {
                what: "the pass through the model",
                remedy: "call it again".into(),
            });
        }
        Ok(())
    }
}
