//! Models of any shape with numbers that mean nothing, to measure how fast the real ones run.

use std::path::Path;
use std::time::Instant;

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use crate::base::error::Result;
use crate::cpu::matmul::Precision;
use crate::model::block::{Layout, Part, Times};
use crate::model::config::ModelConfig;
use crate::model::tokens::Tokens;
use crate::model::weights::{BlockWeights, Embeddings, LayerNormWeights, Linear, ModelWeights};
use crate::model::{Model, Processing};

/// Weights of about the size that they have when training begins, their matrices as if they had
/// come so.
struct Synthetic(ModelConfig, Precision);

impl ModelWeights for Synthetic {
    fn ends(&self) -> Result<Embeddings> {
        let (d, d_vocab) = (self.0.d_model, self.0.d_vocab);
        let embed = noise([d_vocab, d], 1)?;
        let head = if self.0.tied { embed.clone() } else { noise([d_vocab, d], 2)? };
        let positions =
            if self.0.rotary_dim == 0 { Some(noise([self.0.n_ctx, d], 3)?) } else { None };
        Ok(Embeddings {
            embed,
            positions,
            ln_final: LayerNormWeights::none(d, self.0.family.centres())?,
            unembed: Linear::new((head.t()?, self.1), None),
        })
    }

    fn block(&self, layer: usize) -> Result<BlockWeights> {
        let (config, d, d_mlp) = (&self.0, self.0.d_model, self.0.d_mlp);
        let norm = || LayerNormWeights::none(d, config.family.centres());
        let affine = |d_in: usize, d_out: usize, seed| -> Result<Linear> {
            Ok(Linear::new((noise([d_in, d_out], seed)?, self.1), Some(noise([d_out], seed + 1)?)))
        };
        let seed = 100 * (layer as u64 + 1);
        Ok(BlockWeights {
            ln1: norm()?,
            qkv: affine(d, config.d_qkv(), seed)?,
            out: affine(config.d_attn(), d, seed + 10)?,
            ln2: norm()?,
            gate: if config.gated() { Some(affine(d, d_mlp, seed + 40)?) } else { None },
            up: affine(d, d_mlp, seed + 20)?,
            down: affine(d_mlp, d, seed + 30)?,
        })
    }

    fn finish(&self) -> Result<()> {
        Ok(())
    }
}

impl Model {
    /// A model of the shape that a `config.json` describes.
    #[doc(hidden)]
    pub fn synthetic(name: &str, config: &str, precision: Precision) -> Result<Model> {
        let config = ModelConfig::parse(config.as_bytes(), Path::new(name))?;
        Model::assemble(
            (name.to_owned(), None),
            config.clone(),
            &Synthetic(config, precision),
            Processing::Raw,
            None,
        )
    }

    /// Runs the first `n` blocks, and says how long the parts of it took.
    #[doc(hidden)]
    pub fn time_blocks(&self, tokens: &Tokens, n: usize) -> Result<Times> {
        self.check_tokens(tokens)?;
        let mut since = Instant::now();
        let transformer = &self.inner.transformer;
        let start = transformer.start(tokens.ids(), tokens.n_seq(), 0)?.value;
        let mut resid = start.flatten_all()?.to_vec1::<f32>()?;
        let mut times = Times::default();
        times.add(Part::Embed, &mut since);
        times.add_all(&transformer.run_blocks(
            0..n,
            &mut resid,
            Layout::whole([tokens.n_seq(), tokens.n_ctx()]),
            self.compute,
            &|| false,
        )?);
        std::hint::black_box(&resid);
        Ok(times)
    }
}

/// Numbers between −0.035 and 0.035: of standard deviation 0.02.
fn noise<const N: usize>(shape: [usize; N], seed: u64) -> Result<Tensor> {
    const PIECE: usize = 1 << 16;
    let mut numbers = vec![0f32; shape.iter().product()];
    numbers.par_chunks_mut(PIECE).enumerate().for_each(|(piece, numbers)| {
        let mut state = (seed << 32) + piece as u64;
        for x in numbers {
            // SplitMix64.
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            *x = ((z >> 40) as f32 / (1 << 23) as f32 - 1.0) * 0.035;
        }
    });
    Ok(Tensor::from_vec(numbers, shape.to_vec(), &Device::Cpu)?)
}
