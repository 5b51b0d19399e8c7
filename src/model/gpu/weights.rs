//! The weights of a model on a device.

use std::sync::Arc;

use candle_core::Tensor;

use crate::base::error::{Error, Result};
use crate::cpu::matmul::has_tiles;
use crate::cpu::simd::tile::PANEL;
use crate::device::{Buffer, Driver};
use crate::model::block::Block;
use crate::model::norm::Norm;
use crate::model::ops::Dense;
use crate::model::tensor::with_f32;
use crate::model::transformer::Transformer;

/// The most of the depth that is summed up at a time: by the tiles, and by the `gemm` crate on a
/// processor with AVX-512 and 32 or 48 kB of first-level cache. With another it might be more, which
/// the first tokens would show.
const OF_TILES: usize = 768;
const OF_GEMM: usize = 512;

/// Products of up to so many numbers the `gemm` crate forms in an order of its own.
const FEW: usize = 256;

/// A matrix and its bias, as [`Packed`](crate::cpu::matmul::Packed) has them.
pub(super) struct Matrix {
    /// `[panels, depth, 32]`, in f32 whatever the processor keeps.
    pub panels: Buffer<f32>,
    /// One for each column of each panel.
    pub bias: Buffer<f32>,
    pub depth: usize,
    pub width: usize,
    /// Parts of the depth that are summed up one by one.
    pub stretches: usize,
}

/// A norm.
pub(super) struct NormOnDevice {
    pub gain: Buffer<f32>,
    pub bias: Buffer<f32>,
    pub centred: bool,
    pub eps: f32,
}

/// The weights of a block.
pub(super) struct BlockOnDevice {
    pub ln1: NormOnDevice,
    pub qkv: Matrix,
    pub out: Matrix,
    pub ln2: NormOnDevice,
    pub gate: Option<Matrix>,
    pub up: Matrix,
    pub down: Matrix,
}

/// The weights of a model's first blocks, and of what lies before them.
pub(super) struct Weights {
    /// `[d_vocab, d_model]`
    pub embedding: Buffer<f32>,
    /// `[n_ctx, d_model]`
    pub positions: Option<Buffer<f32>>,
    pub blocks: Vec<BlockOnDevice>,
    /// The last norm and the unembedding, of a model that goes on to its logits.
    pub end: Option<(NormOnDevice, Matrix)>,
}

impl Weights {
    /// Those of so many blocks, and of what lies behind the last if the pass goes to the logits.
    pub fn upload(
        device: &Arc<dyn Driver>,
        transformer: &Transformer,
        n_blocks: usize,
        to_logits: bool,
    ) -> Result<Weights> {
        let of = |x: &Tensor| with_f32(x, |numbers| Buffer::of(device, numbers))?;
        let block = |block: &Block| {
            Ok(BlockOnDevice {
                ln1: norm(device, &block.ln1)?,
                qkv: matrix(device, &block.qkv)?,
                out: matrix(device, &block.out)?,
                ln2: norm(device, &block.ln2)?,
                gate: block.gate.as_ref().map(|gate| matrix(device, gate)).transpose()?,
                up: matrix(device, &block.up)?,
                down: matrix(device, &block.down)?,
            })
        };
        let end = || {
            let Transformer { ln_final, unembed, .. } = transformer;
            Ok::<_, Error>((norm(device, ln_final)?, matrix(device, unembed)?))
        };
        let embed = &transformer.embed;
        Ok(Weights {
            embedding: of(embed.tokens())?,
            positions: embed.positions().map(of).transpose()?,
            blocks: transformer.blocks.iter().take(n_blocks).map(block).collect::<Result<_>>()?,
            end: if to_logits { Some(end()?) } else { None },
        })
    }
}

/// Whether a product of two rows or more has an order of sums that a card has: an uneven depth the
/// `gemm` crate cuts elsewhere.
pub(super) fn has_order(dense: &Dense) -> bool {
    let [depth, width] = dense.dims();
    let even = depth.is_multiple_of(depth.div_ceil(OF_GEMM).max(1));
    dense.is_packed() || (even && width >= FEW)
}

/// How many numbers [`Weights`] are.
pub(super) fn numbers(transformer: &Transformer, n_blocks: usize, to_logits: bool) -> usize {
    let of_matrix = |dense: &Dense| {
        let [depth, width] = dense.dims();
        (depth + 1) * width.next_multiple_of(PANEL)
    };
    let of_norm = |norm: &Norm| norm.gain.len() + norm.bias.len();
    let of_block = |block: &Block| {
        block.matrices().map(of_matrix).sum::<usize>() + of_norm(&block.ln1) + of_norm(&block.ln2)
    };
    let embed = &transformer.embed;
    let end = of_norm(&transformer.ln_final) + of_matrix(&transformer.unembed);
    let ends = usize::from(to_logits) * end
        + embed.tokens().elem_count()
        + embed.positions().map_or(0, |x| x.elem_count());
    ends + transformer.blocks.iter().take(n_blocks).map(of_block).sum::<usize>()
}

/// A matrix with the processor's order of sums: that of its tiles, or of the `gemm` crate for one
/// that lies as it came, which is an unembedding that is the embedding itself.
fn matrix(device: &Arc<dyn Driver>, dense: &Dense) -> Result<Matrix> {
    if !has_tiles() {
        let why = "a card has the order of sums of AVX-512, which this processor lacks: use the CPU (device = cpu)";
        return Err(Error::config("device", why));
    }
    let packed = dense.in_panels()?;
    let (depth, width) = (packed.depth, packed.width);
    let stretches = depth.div_ceil(if dense.is_packed() { OF_TILES } else { OF_GEMM });
    let panels = Buffer::new(device, packed.n_panels() * depth * PANEL)?;
    let mut at = 0;
    packed.each_panel(|panel| -> Result<()> {
        panels.write_at(at, panel)?;
        at += panel.len();
        Ok(())
    })?;
    Ok(Matrix { panels, bias: Buffer::of(device, packed.bias())?, depth, width, stretches })
}

fn norm(device: &Arc<dyn Driver>, norm: &Norm) -> Result<NormOnDevice> {
    let Norm { gain, bias, centred, eps } = norm;
    let [gain, bias] = [Buffer::of(device, gain)?, Buffer::of(device, bias)?];
    Ok(NormOnDevice { gain, bias, centred: *centred, eps: *eps })
}
