//! What a harvest will take.

use super::{ActivationStore, HarvestConfig};
use crate::base::error::{Error, Result};
use crate::base::forecast::{self, Forecast};
use crate::cpu::matmul::has_bf16_tiles;
use crate::model::gpu::{Computes, Wanted, choose};
use crate::model::tokens::Tokens;
use crate::model::{Compute, Family, HookPoint, Model};

/// What a harvest takes whatever its shape: what each thread works in, the writer's buffers, what
/// the allocator keeps. As it was measured.
const OTHER: u64 = 4 << 20;

impl ActivationStore {
    /// What [`harvest`](ActivationStore::harvest) will take from its beginning: memory and disk by
    /// calculation, time by a few sequences, on the processor or the card that would run the model: of
    /// the processor, by one block's work on them.
    ///
    /// ```
    /// use tokenized_sae::prelude::*;
    /// let model = Model::load("tiny-gpt2")?;
    /// let tokens = Tokens::new(vec![0; 1_000 * 128], 128)?;
    /// let hook: HookPoint = "blocks.2.hook_resid_pre".parse()?;
    /// let forecast = ActivationStore::forecast(&model, &[hook], &tokens, &HarvestConfig::default())?;
    /// assert_eq!(forecast.disk, 128_000 * (2 * 128 + 8)); // f16 numbers, a token and a position
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::UnknownHook`]; [`Error::Config`] if there is nothing to harvest; [`Error::Memory`]
    /// if it is more than there is; what the card says, if one was asked for by its number.
    pub fn forecast(
        model: &Model,
        hooks: &[HookPoint],
        tokens: &Tokens,
        config: &HarvestConfig,
    ) -> Result<Forecast> {
        check_hooks(model, hooks)?;
        let Some(last) = hooks.iter().max() else { return Err(no_hook()) };
        check_memory(model, hooks, tokens.n_ctx(), config)?;
        let row = 8 + hooks.len() * config.dtype.row_bytes(model.config().d_model);
        let pass = tokens.rows(0, config.batch.max(1));
        let mut forecast = Forecast {
            memory: memory_of(model, hooks, tokens.n_ctx(), config),
            disk: (tokens.len() * row) as u64,
            ..Default::default()
        };
        if pass.is_empty() {
            return Ok(forecast);
        }
        let (model, wanted) = (model.computing(config.compute), Wanted::Harvest(hooks));
        let of_pass = match choose(config.device, &model, wanted, config.batch, &pass)?.0 {
            Computes::Processor(model) => {
                let within = last.site != crate::model::Site::ResidPre;
                model.seconds_a_block(&pass)? * (last.layer + usize::from(within)) as f64
            }
            Computes::Card(card) => {
                forecast.card = wanted.bytes(&model, config.batch, tokens.n_ctx());
                card.seconds_a_pass(&pass, hooks)?
            }
        };
        forecast.seconds = of_pass * tokens.len() as f64 / pass.len() as f64;
        Ok(forecast)
    }
}

/// Bytes that a harvest takes besides the model, with a disk that keeps up: what lies between the
/// products of a block, the residual stream, each hook's values on their way to the disk, and
/// matrices rounded to bf16. Held to what a process was seen to take in docs/performance.md.
fn memory_of(model: &Model, hooks: &[HookPoint], n_ctx: usize, config: &HarvestConfig) -> u64 {
    let shape = model.config();
    let (d, d_mlp) = (shape.d_model as u64, shape.d_mlp as u64);
    let rows = (config.batch * n_ctx) as u64;
    // Bytes of a number that a layer norm or the MLP's hidden layer gives.
    let number = if config.compute == Compute::Bf16 && has_bf16_tiles() { 2 } else { 4 };
    let narrow = number * if shape.parallel { 2 * d } else { d.max(shape.d_attn() as u64) };
    let gate = if shape.gated() { 4 * d_mlp } else { 0 };
    let wide = (4 * shape.d_qkv() as u64).max(number * d_mlp) + gate;
    // The residual stream, beside it where embeddings of tokens and positions are summed, and each
    // hook's values.
    let streams = 1 + u64::from(shape.family == Family::Gpt2) + hooks.len() as u64;
    let of_pass = OTHER + rows * (narrow + wide + 4 * d * streams);
    let layers = hooks.iter().map(|hook| hook.layer + 1).max().unwrap_or(0);
    of_pass + if config.compute == Compute::Bf16 { model.bytes_to_round(layers) } else { 0 }
}

/// Checks that the model has the hooks.
pub(super) fn check_hooks(model: &Model, hooks: &[HookPoint]) -> Result<()> {
    hooks.iter().try_for_each(|&hook| model.check_hook(hook))
}

pub(super) fn no_hook() -> Error {
    Error::config("hooks", "no hook is given; name at least one, such as blocks.2.hook_resid_pre")
}

/// Refuses what does not fit.
pub(super) fn check_memory(
    model: &Model,
    hooks: &[HookPoint],
    n_ctx: usize,
    config: &HarvestConfig,
) -> Result<()> {
    let bytes =
        |batch: usize| memory_of(model, hooks, n_ctx, &HarvestConfig { batch, ..config.clone() });
    forecast::check("harvesting", bytes(config.batch), |free| {
        match forecast::largest(config.batch, free, bytes) {
        Some(batch) => format!("HarvestConfig {{ batch: {batch}, .. }} would fit"),
        None => "not even one sequence at a time would fit: take a shorter context or a smaller model".to_owned(),
    }
    })
}
