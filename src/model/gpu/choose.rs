//! What runs a model for a harvest, a token table, an evaluation or a text: the processor, or a card
//! that gives its bits, or in bf16 comes close.

use candle_core::Tensor;

use super::room::{bytes, widths};
use super::{OnDevice, text, weights};
use crate::base::error::{Error, Result};
use crate::base::forecast;
use crate::cpu::matmul::has_tiles;
use crate::device::{Device, Driver, Work, open};
use crate::model::run::Paused;
use crate::model::tokens::Tokens;
use crate::model::{Compute, HookPoint, Model};

/// What a model is run for.
#[derive(Clone, Copy)]
pub(crate) enum Wanted<'a> {
    /// The values of hooks.
    Harvest(&'a [HookPoint]),
    /// What a hook holds after BOS and some tokens.
    Table(HookPoint),
    /// The logits with another value at a hook.
    Logits(HookPoint),
    /// Text that it writes.
    Text,
}

impl Wanted<'_> {
    fn work(self) -> Work {
        match self {
            Wanted::Harvest(_) => Work::HARVESTING,
            Wanted::Table(_) => Work::TABULATING,
            Wanted::Logits(_) => Work::EVALUATING,
            Wanted::Text => Work::SAMPLING,
        }
    }

    /// The last hook, unless it goes to the logits.
    fn last(self) -> Option<HookPoint> {
        match self {
            Wanted::Harvest(hooks) => {
                Some(hooks.iter().copied().max().unwrap_or(HookPoint::resid_pre(0)))
            }
            Wanted::Table(hook) => Some(hook),
            Wanted::Logits(_) | Wanted::Text => None,
        }
    }

    /// Rows of a pass of so many sequences of so many tokens.
    fn rows(self, n_seq: usize, n_ctx: usize) -> usize {
        if matches!(self, Wanted::Text) { n_seq } else { n_seq.saturating_mul(n_ctx) }
    }

    /// Bytes on a card of the weights and of such a pass.
    pub fn bytes(self, model: &Model, n_seq: usize, n_ctx: usize) -> u64 {
        match self {
            Wanted::Text => text::bytes(model, n_seq, n_ctx),
            _ => bytes(model, self.last(), n_seq * n_ctx, n_ctx),
        }
    }
}

/// What runs a model.
pub(crate) enum Computes {
    /// The processor.
    Processor(Model),
    /// A card.
    Card(Box<OnDevice>),
}

impl Computes {
    /// The values of hooks, in the order asked for, each `[n_seq · n_ctx · d_model]`.
    ///
    /// # Errors
    /// Those of [`Model::run_to_many`]; [`Error::Interrupted`] if `stop` says so; what the card
    /// says.
    pub fn run_to_many(
        &self,
        tokens: &Tokens,
        hooks: &[HookPoint],
        stop: &dyn Fn() -> bool,
    ) -> Result<Vec<Vec<f32>>> {
        match self {
            Computes::Processor(model) => {
                let values = model.run_to_many_unless(tokens, hooks, stop)?;
                values.into_iter().map(|value| Ok(value.flatten_all()?.to_vec1()?)).collect()
            }
            Computes::Card(card) => card.run_to_many(tokens, hooks, stop),
        }
    }

    /// The value of a hook, `[n_seq · n_ctx · d_model]`.
    ///
    /// # Errors
    /// Those of [`Model::run_to`]; what the card says.
    pub fn run_to(&self, tokens: &Tokens, hook: HookPoint) -> Result<Vec<f32>> {
        Ok(self.run_to_many(tokens, &[hook], &|| false)?.swap_remove(0))
    }

    /// As [`Model::after_bos`], of which a card takes nothing that was computed `before`.
    ///
    /// # Errors
    /// Those of [`Model::run_to`]; [`Error::Interrupted`] if `stop` says so; what the card says.
    pub fn after_bos(
        &self,
        hook: HookPoint,
        grams: &[Vec<u32>],
        before: Option<(usize, &[f32])>,
        stop: &dyn Fn() -> bool,
    ) -> Result<Vec<f32>> {
        match self {
            Computes::Processor(model) => model.after_bos(hook, grams, before, stop),
            Computes::Card(card) => {
                let tokens = card.model.with_bos(grams)?;
                let values = card.run_to_many(&tokens, &[hook], stop)?.swap_remove(0);
                let d = card.model.config().d_model;
                let sequences = values.chunks_exact(tokens.n_ctx() * d);
                Ok(sequences.flat_map(|values| &values[values.len() - d..]).copied().collect())
            }
        }
    }

    /// Runs as far as a hook, any hook, and stops there, to be taken up by [`Computes::resume`].
    ///
    /// # Errors
    /// Those of [`Model::run_to`]; what the card says.
    pub fn pause_at(&self, tokens: &Tokens, hook: HookPoint) -> Result<Paused> {
        match self {
            Computes::Processor(model) => model.pause_at(tokens, hook),
            Computes::Card(card) => card.pause_at(tokens, hook),
        }
    }

    /// The logits `[n_seq · n_ctx · d_vocab]` with `value` in place of the hook's own.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is not as large; what the card says.
    pub fn resume(&self, paused: &Paused, value: Vec<f32>) -> Result<Vec<f32>> {
        let value = Tensor::from_vec(value, paused.value.shape(), &candle_core::Device::Cpu)?;
        match self {
            Computes::Processor(model) => {
                Ok(model.resume(paused, &value)?.flatten_all()?.to_vec1()?)
            }
            Computes::Card(card) => card.resume(paused, &value),
        }
    }
}

/// What runs a model in passes of at most `batch` sequences, of which `first` is the first, or is as
/// long as those that are to be written; and what there is to say about how it was chosen.
///
/// # Errors
/// [`Error::Config`] or [`Error::Memory`] if a card was asked for by its number and cannot do it.
pub(crate) fn choose(
    device: Device,
    model: &Model,
    wanted: Wanted<'_>,
    batch: usize,
    first: &Tokens,
) -> Result<(Computes, Option<String>)> {
    let work = wanted.work();
    let on_processor = |remark| (Computes::Processor(model.clone()), remark);
    let on_card = |ordinal| {
        let card = open(ordinal, work)?;
        if let Some(what) = lacks(model, wanted) {
            let remark = format!("models on {} have {what}: {} on the CPU", card.name(), work.done);
            return Ok(on_processor(Some(remark)));
        }
        match check_size(&*card, model, wanted, batch, first.n_ctx()) {
            // It is meant for all that this process does, of which this is a part.
            Err(error @ Error::Memory { .. }) if device == Device::Auto => {
                return Ok(on_processor(Some(format!("{error}; {} on the CPU", work.done))));
            }
            checked => checked?,
        }
        let on_device = OnDevice::upload(&card, model, wanted.last())?;
        match wanted {
            Wanted::Harvest(hooks) => on_device.prove(first, hooks)?,
            Wanted::Table(hook) => on_device.prove(first, &[hook])?,
            Wanted::Logits(hook) => on_device.prove_logits(first, hook)?,
            Wanted::Text => on_device.prove_text(first.n_ctx())?,
        }
        Ok((Computes::Card(Box::new(on_device)), None))
    };
    device.choose(work, on_card, on_processor)
}

/// What keeps a model from every card, in the middle of a sentence: what a card has or has not.
fn lacks(model: &Model, wanted: Wanted<'_>) -> Option<&'static str> {
    let unembed = &model.inner.transformer.unembed;
    let unembeds = wanted.last().is_none();
    match model.compute() {
        _ if !has_tiles() => Some("the bits of AVX-512, which this processor lacks"),
        Compute::Bf16 if matches!(wanted, Wanted::Text) => {
            Some("no text in bf16, in which it would be another")
        }
        Compute::Bf16 if unembeds && !unembed.is_packed() => {
            Some("no unembedding in bf16 that is the embedding itself")
        }
        Compute::F32 if unembeds && !weights::has_order(unembed) => {
            Some("no unembedding of this shape that is the embedding itself")
        }
        _ => None,
    }
}

/// Refuses what does not fit on a card, or what its kernels cannot count.
fn check_size(
    card: &dyn Driver,
    model: &Model,
    wanted: Wanted<'_>,
    batch: usize,
    n_ctx: usize,
) -> Result<()> {
    let (work, last) = (wanted.work(), wanted.last());
    let widest = widths(model, last.is_none()).into_iter().max().unwrap_or(0);
    if wanted.rows(batch, n_ctx).saturating_mul(widest) > u32::MAX as usize {
        let why = format!("{batch} sequences are more than a card can do at once: take fewer");
        return Err(Error::config("batch", why));
    }
    let of = |batch: usize| wanted.bytes(model, batch, n_ctx);
    let (needs, free) = (of(batch), card.free_bytes()?);
    if needs <= free {
        return Ok(());
    }
    let on_cpu = format!("{} on the CPU (device = cpu)", work.to);
    let remedy = match (wanted, forecast::largest(batch, free, of)) {
        (Wanted::Harvest(_), Some(batch)) => {
            format!("HarvestConfig {{ batch: {batch}, .. }} would fit; or {on_cpu}")
        }
        _ => on_cpu,
    };
    Err(Error::Memory { what: format!("{} on {}", work.doing, card.name()), needs, free, remedy })
}
