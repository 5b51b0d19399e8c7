//! Models of any shape with numbers that mean nothing, to measure how fast the real ones run.

use std::path::Path;
use std::time::Instant;

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use crate::error::Result;
use crate::model::block::{Part, Times};
use crate::model::config::ModelConfig;
use crate::model::transformer::Transformer;
use crate::model::weights::{Affine, BlockWeights, Gain, ModelWeights};
use crate::model::{Inner, Model, Processing};
use crate::tokens::Tokens;

impl Model {
    /// A model of the shape that a `config.json` describes, its weights of about the size that they have when training begins.
    pub(crate) fn made_up(name: &str, config: &str) -> Result<Model> {
        let config = ModelConfig::parse(config.as_bytes(), Path::new(name))?;
        let (d, d_mlp, d_vocab) = (config.d_model, config.d_mlp, config.d_vocab);
        let affine = |d_in: usize, d_out: usize, seed| -> Result<Affine> {
            Ok(Affine { weight: noise([d_in, d_out], seed)?, bias: Some(noise([d_out], seed + 1)?) })
        };
        let mut blocks = Vec::new();
        for layer in 0..config.n_layers as u64 {
            let seed = 100 * (layer + 1);
            blocks.push(BlockWeights {
                ln1: Gain::none(d)?,
                qkv: affine(d, 3 * d, seed)?,
                out: affine(d, d, seed + 10)?,
                ln2: Gain::none(d)?,
                up: affine(d, d_mlp, seed + 20)?,
                down: affine(d_mlp, d, seed + 30)?,
            });
        }
        let embed = noise([d_vocab, d], 1)?;
        let head = if config.tied { embed.clone() } else { noise([d_vocab, d], 2)? };
        let positions = if config.rotary_dim == 0 { Some(noise([config.n_ctx, d], 3)?) } else { None };
        let weights =
            ModelWeights { embed, positions, blocks, ln_final: Gain::none(d)?, unembed: Affine { weight: head.t()?, bias: None } };
        let (n_params, processing) = (weights.n_params(&config), Processing::Raw);
        let transformer = Transformer::new(config.clone(), weights)?;
        let inner = Inner {
            name: name.to_owned(),
            revision: None,
            config,
            processing,
            fingerprint: String::new(),
            n_params,
            tokenizer: None,
            transformer,
        };
        Ok(Model { inner: inner.into(), compute: Default::default() })
    }

    /// Runs the first `n` blocks, and says how long the parts of it took.
    pub(crate) fn time_blocks(&self, tokens: &Tokens, n: usize) -> Result<Times> {
        self.check_tokens(tokens)?;
        let mut since = Instant::now();
        let transformer = &self.inner.transformer;
        let start = transformer.start(tokens.ids(), tokens.n_seq(), 0)?.value;
        let mut resid = start.flatten_all()?.to_vec1::<f32>()?;
        let mut times = Times::default();
        times.add(Part::Embed, &mut since);
        times.add_all(&transformer.run_blocks(0..n, &mut resid, [tokens.n_seq(), tokens.n_ctx()], self.compute, &|| false)?);
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
