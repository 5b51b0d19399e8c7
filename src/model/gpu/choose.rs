//! What computes the activations of a harvest: the processor, or a card that gives its bits.

use super::{OnDevice, bytes, widths};
use crate::base::error::{Error, Result};
use crate::base::forecast;
use crate::cpu::matmul::has_tiles;
use crate::device::{Device, Driver, Work, open};
use crate::model::tokens::Tokens;
use crate::model::{Compute, HookPoint, Model};

/// Tokens of a sequence that both a card and the processor are given: more than attention takes at
/// a time.
const PROOF: usize = 96;

/// What computes activations.
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
}

/// What computes these hooks in passes of at most `batch` sequences, of which `first` is the first;
/// and what there is to say about how it was chosen.
///
/// # Errors
/// [`Error::Config`] or [`Error::Memory`] if a card was asked for by its number and cannot do it.
pub(crate) fn choose(
    device: Device,
    model: &Model,
    hooks: &[HookPoint],
    batch: usize,
    first: &Tokens,
) -> Result<(Computes, Option<String>)> {
    let on_processor = |remark| (Computes::Processor(model.clone()), remark);
    let on_card = |ordinal| {
        let card = open(ordinal, Work::HARVESTING)?;
        if let Some(what) = lacks(model) {
            let remark = format!("models on {} have {what}: harvested on the CPU", card.name());
            return Ok(on_processor(Some(remark)));
        }
        let Some(&last) = hooks.iter().max() else { return Ok(on_processor(None)) };
        check_size(&*card, model, last, batch, first.n_ctx())?;
        let on_device = OnDevice::new(&card, model, last)?;
        on_device.prove(first, hooks)?;
        Ok((Computes::Card(Box::new(on_device)), None))
    };
    device.choose(Work::HARVESTING, on_card, on_processor)
}

/// What keeps a model from every card, in the middle of a sentence: what a card has or has not.
fn lacks(model: &Model) -> Option<&'static str> {
    match model.compute() {
        Compute::Bf16 => Some("no bf16"),
        Compute::F32 if has_tiles() => None,
        Compute::F32 => Some("the bits of AVX-512, which this processor lacks"),
    }
}

/// Refuses what does not fit on a card, or what its kernels cannot count.
fn check_size(
    card: &dyn Driver,
    model: &Model,
    last: HookPoint,
    batch: usize,
    n_ctx: usize,
) -> Result<()> {
    let widest = widths(model).into_iter().max().unwrap_or(0);
    if batch.saturating_mul(n_ctx).saturating_mul(widest) > u32::MAX as usize {
        let why = format!("{batch} sequences are more than a card can do at once: take fewer");
        return Err(Error::config("batch", why));
    }
    let of = |batch: usize| bytes(model, last, batch * n_ctx, n_ctx);
    let (needs, free) = (of(batch), card.free_bytes()?);
    if needs <= free {
        return Ok(());
    }
    let on_cpu = "harvest on the CPU (device = cpu)";
    let remedy = match forecast::largest(batch, free, of) {
        Some(batch) => format!("HarvestConfig {{ batch: {batch}, .. }} would fit; or {on_cpu}"),
        None => on_cpu.to_owned(),
    };
    Err(Error::Memory { what: format!("harvesting on {}", card.name()), needs, free, remedy })
}

impl OnDevice {
    /// Sends the first tokens of these through the device and through the processor.
    ///
    /// # Errors
    /// [`Error::Config`] if anything that comes out differs by a bit; what the device says.
    pub fn prove(&self, first: &Tokens, hooks: &[HookPoint]) -> Result<()> {
        let ids = &first.ids()[..first.len().min(first.n_ctx()).min(PROOF)];
        let tokens = Tokens::new(ids.to_vec(), ids.len().max(1))?;
        let there = self.run_to_many(&tokens, hooks, &|| false)?;
        let here =
            Computes::Processor(self.model.clone()).run_to_many(&tokens, hooks, &|| false)?;
        for (hook, (there, here)) in hooks.iter().zip(there.iter().zip(&here)) {
            let differ = there.iter().zip(here).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
            if differ > 0 {
                let why = format!(
                    "{} does not give the processor's bits: for the first {} tokens, {hook} differs in {differ} of {} places. Harvest on the CPU (device = cpu), and please report it with the card and its driver",
                    self.device.name(),
                    ids.len(),
                    here.len()
                );
                return Err(Error::config("device", why));
            }
        }
        Ok(())
    }
}
