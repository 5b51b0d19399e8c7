//! The parts of a block, and what a pass through it needs and measures.

use std::time::Instant;

use crate::base::error::Result;
use crate::cpu::matmul::Lines;
use crate::model::config::ModelConfig;
use crate::model::norm::Norm;
use crate::model::ops::Dense;
use crate::model::weights::BlockWeights;

/// The weights of a block, laid out for products.
pub(super) struct Block {
    pub ln1: Norm,
    pub qkv: Dense,
    pub out: Dense,
    pub ln2: Norm,
    /// What the MLP's hidden layer is multiplied with, if it is gated.
    pub gate: Option<Dense>,
    pub up: Dense,
    pub down: Dense,
}

impl Block {
    pub fn new(weights: BlockWeights, config: &ModelConfig) -> Result<Block> {
        let eps = config.layer_norm_eps;
        let laid_out = |linear| Dense::laid_out(linear, config.family.stretch());
        Ok(Block {
            ln1: Norm::new(&weights.ln1, eps)?,
            qkv: laid_out(weights.qkv)?,
            out: laid_out(weights.out)?,
            ln2: Norm::new(&weights.ln2, eps)?,
            gate: weights.gate.map(laid_out).transpose()?,
            up: laid_out(weights.up)?,
            down: laid_out(weights.down)?,
        })
    }

    /// Its matrices.
    pub fn matrices(&self) -> impl Iterator<Item = &Dense> {
        [&self.qkv, &self.out, &self.up, &self.down].into_iter().chain(&self.gate)
    }
}

/// The parts of a pass, in the order of [`Times::named`].
#[derive(Clone, Copy)]
pub(crate) enum Part {
    Embed,
    LayerNorm,
    Qkv,
    Rotary,
    Attention,
    AttnOut,
    MlpUp,
    MlpDown,
}

/// The seconds that the parts of a pass took.
#[derive(Clone, Debug, Default)]
pub struct Times([f64; 8]);

impl Times {
    /// Adds to a part what has passed since `since`, and sets that to now.
    pub(crate) fn add(&mut self, part: Part, since: &mut Instant) {
        let now = Instant::now();
        self.0[part as usize] += (now - *since).as_secs_f64();
        *since = now;
    }

    /// Adds another pass.
    pub fn add_all(&mut self, other: &Times) {
        self.0.iter_mut().zip(other.0).for_each(|(a, b)| *a += b);
    }

    /// Each part's name and seconds.
    pub fn named(&self) -> Vec<(&'static str, f64)> {
        let names =
            ["embed", "layer_norm", "qkv", "rotary", "attention", "attn_out", "mlp_up", "mlp_down"];
        names.into_iter().zip(self.0).collect()
    }
}

/// What lies between the products of a block. Kept with the model from pass to pass: fresh memory
/// of this size takes longer to come by than the layer norms.
#[derive(Default)]
pub(super) struct Workspace {
    /// A layer norm's output, and then attention's: `[n, d_model]` and `[n, d_attn]`.
    pub narrow: Lines,
    /// Where attention and MLP run in parallel, the MLP's layer norm.
    pub second: Lines,
    /// Queries, keys and values, and then the MLP's hidden layer: `[n, d_qkv]` and `[n, d_mlp]`.
    pub wide: Lines,
    /// What a gated MLP's hidden layer is multiplied with: `[n, d_mlp]`.
    pub gate: Lines,
    /// Where sequences share their first row: queries, keys and values with a first row for each,
    /// and what attention makes of them.
    pub apart: [Lines; 2],
}

/// How the rows of some sequences lie.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    pub n_seq: usize,
    pub n_ctx: usize,
    /// Whether there is one first row for all sequences, BOS, before all others: what it becomes
    /// depends on nothing behind it, so it is computed once. The numbers are the same bits.
    pub one_bos: bool,
}

impl Layout {
    /// All rows of all sequences, one sequence after the other.
    pub fn whole([n_seq, n_ctx]: [usize; 2]) -> Layout {
        Layout { n_seq, n_ctx, one_bos: false }
    }

    /// The number of rows.
    pub fn rows(self) -> usize {
        if self.one_bos { 1 + self.n_seq * (self.n_ctx - 1) } else { self.n_seq * self.n_ctx }
    }
}
