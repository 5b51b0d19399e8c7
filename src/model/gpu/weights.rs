//! The weights of a model on a device.

use std::sync::Arc;

use candle_core::Tensor;

use crate::base::error::{Error, Result};
use crate::cpu::matmul::{Compute, Packed, bf16, has_tiles};
use crate::cpu::simd::tile::PANEL;
use crate::device::{Buffer, Driver};
use crate::model::block::Block;
use crate::model::norm::Norm;
use crate::model::ops::Dense;
use crate::model::tensor::with_f32;
use crate::model::transformer::Transformer;

/// The most of the depth that the `gemm` crate sums up at a time on a processor with AVX-512 and 32
/// or 48 kB of first-level cache. With another it might be more, which the first tokens would show.
const OF_GEMM: usize = 512;

/// Products of up to so many numbers the `gemm` crate forms in an order of its own.
const FEW: usize = 256;

/// A matrix and its bias.
pub(super) struct Matrix {
    pub numbers: Numbers,
    /// One for each column of each panel.
    pub bias: Buffer<f32>,
    pub depth: usize,
    pub width: usize,
    /// Parts of the depth that are summed up one by one, in f32.
    pub stretches: usize,
    /// Whether what it gives is read by a product in bf16 alone.
    pub to_bf16: bool,
}

/// The numbers of a matrix, as one of two kernels reads them.
pub(super) enum Numbers {
    /// `[panels, depth, 32]`, as [`Packed`](crate::cpu::matmul::Packed) has them, in f32 whatever the
    /// processor keeps.
    F32(Buffer<f32>),
    /// `[width, depth]`, rounded to bf16, with zeros behind each column to a multiple of
    /// [`STEP`].
    Bf16(Buffer<u16>),
}

/// Numbers of a column that the kernel takes at a time.
const STEP: usize = 32;

/// A norm.
pub(super) struct NormOnDevice {
    pub gain: Buffer<f32>,
    pub bias: Buffer<f32>,
    pub centred: bool,
    pub eps: f32,
    /// As of a [`Matrix`].
    pub to_bf16: bool,
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
    /// Those of so many blocks, and of what lies behind the last if the pass goes to the logits. As
    /// on a processor, `compute` is that of the blocks.
    pub fn upload(
        device: &Arc<dyn Driver>,
        transformer: &Transformer,
        n_blocks: usize,
        to_logits: bool,
        compute: Compute,
    ) -> Result<Weights> {
        let of = |x: &Tensor| with_f32(x, |numbers| Buffer::of(device, numbers))?;
        let to_bf16 = compute == Compute::Bf16;
        let matrix = |dense: &Dense| matrix_on(device, dense, compute);
        let norm = |norm: &Norm| norm_on(device, norm);
        let block = |block: &Block| {
            Ok(BlockOnDevice {
                ln1: NormOnDevice { to_bf16, ..norm(&block.ln1)? },
                qkv: matrix(&block.qkv)?,
                out: matrix(&block.out)?,
                ln2: NormOnDevice { to_bf16, ..norm(&block.ln2)? },
                gate: block.gate.as_ref().map(matrix).transpose()?,
                up: Matrix { to_bf16, ..matrix(&block.up)? },
                down: matrix(&block.down)?,
            })
        };
        let end = || {
            let Transformer { ln_final, unembed, .. } = transformer;
            Ok::<_, Error>((norm(ln_final)?, matrix_on(device, unembed, Compute::F32)?))
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

/// How many numbers [`Weights`] are, two of bf16 counted as one.
pub(super) fn numbers(
    transformer: &Transformer,
    n_blocks: usize,
    to_logits: bool,
    compute: Compute,
) -> usize {
    let of_matrix = |dense: &Dense, compute| {
        let ([depth, width], columns) = (dense.dims(), dense.dims()[1].next_multiple_of(PANEL));
        match compute {
            Compute::F32 => (depth + 1) * columns,
            Compute::Bf16 => depth.next_multiple_of(STEP) / 2 * width + columns,
        }
    };
    let of_norm = |norm: &Norm| norm.gain.len() + norm.bias.len();
    let of_block = |block: &Block| {
        let matrices = block.matrices().map(|dense| of_matrix(dense, compute));
        matrices.sum::<usize>() + of_norm(&block.ln1) + of_norm(&block.ln2)
    };
    let embed = &transformer.embed;
    let end = of_norm(&transformer.ln_final) + of_matrix(&transformer.unembed, Compute::F32);
    let ends = usize::from(to_logits) * end
        + embed.tokens().elem_count()
        + embed.positions().map_or(0, |x| x.elem_count());
    ends + transformer.blocks.iter().take(n_blocks).map(of_block).sum::<usize>()
}

/// A matrix with the processor's order of sums: that of its tiles, or of the `gemm` crate for one
/// that lies as it came, which is an unembedding that is the embedding itself.
fn matrix_on(device: &Arc<dyn Driver>, dense: &Dense, compute: Compute) -> Result<Matrix> {
    if !has_tiles() {
        let why = "a card has the order of sums of AVX-512, which this processor lacks: use the CPU (device = cpu)";
        return Err(Error::config("device", why));
    }
    let packed = dense.in_panels()?;
    let (depth, width) = (packed.depth, packed.width);
    let stretches = depth.div_ceil(if dense.is_packed() { packed.stretch } else { OF_GEMM });
    let numbers = match compute {
        Compute::F32 => Numbers::F32(panels(device, &packed)?),
        Compute::Bf16 => Numbers::Bf16(columns(device, &packed)?),
    };
    let bias = Buffer::of(device, packed.bias())?;
    Ok(Matrix { numbers, bias, depth, width, stretches, to_bf16: false })
}

fn panels(device: &Arc<dyn Driver>, packed: &Packed) -> Result<Buffer<f32>> {
    let panels = Buffer::new(device, packed.n_panels() * packed.depth * PANEL)?;
    let mut at = 0;
    packed.each_panel(|panel| -> Result<()> {
        panels.write_at(at, panel)?;
        at += panel.len();
        Ok(())
    })?;
    Ok(panels)
}

fn columns(device: &Arc<dyn Driver>, packed: &Packed) -> Result<Buffer<u16>> {
    let Packed { depth, width, .. } = *packed;
    let column = depth.next_multiple_of(STEP);
    let columns = Buffer::new(device, width * column)?;
    let (mut turned, mut done) = (vec![0; PANEL * column], 0);
    packed.each_panel(|panel| -> Result<()> {
        for (k, numbers) in panel.chunks_exact(PANEL).enumerate() {
            let places = turned.iter_mut().skip(k).step_by(column);
            places.zip(numbers).for_each(|(place, x)| *place = bf16::round(*x));
        }
        let n = PANEL.min(width - done);
        columns.write_at(done * column, &turned[..n * column])?;
        done += n;
        Ok(())
    })?;
    Ok(columns)
}

fn norm_on(device: &Arc<dyn Driver>, norm: &Norm) -> Result<NormOnDevice> {
    let Norm { gain, bias, centred, eps } = norm;
    let [gain, bias] = [Buffer::of(device, gain)?, Buffer::of(device, bias)?];
    Ok(NormOnDevice { gain, bias, centred: *centred, eps: *eps, to_bf16: false })
}
