//! What runs a model in a harvest or an evaluation: the processor, or a card that gives its bits.

use candle_core::{Device as Of, Tensor};

use super::{OnDevice, bytes, widths};
use crate::base::error::{Error, Result};
use crate::base::forecast;
use crate::cpu::matmul::has_tiles;
use crate::device::{Device, Driver, Work, open};
use crate::model::run::Paused;
use crate::model::tensor::with_f32;
use crate::model::tokens::Tokens;
use crate::model::{Compute, HookPoint, Model, Site};

/// Tokens of a sequence that both a card and the processor are given: more than attention takes at
/// a time.
const PROOF: usize = 96;

/// What a model is run for.
#[derive(Clone, Copy)]
pub(crate) enum Wanted<'a> {
    /// The values of hooks.
    Hooks(&'a [HookPoint]),
    /// The logits with another value at a hook.
    Logits(HookPoint),
}

impl Wanted<'_> {
    fn work(self) -> Work {
        match self {
            Wanted::Hooks(_) => Work::HARVESTING,
            Wanted::Logits(_) => Work::EVALUATING,
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
        let value = Tensor::from_vec(value, paused.value.shape(), &Of::Cpu)?;
        match self {
            Computes::Processor(model) => {
                Ok(model.resume(paused, &value)?.flatten_all()?.to_vec1()?)
            }
            Computes::Card(card) => card.resume(paused, &value),
        }
    }
}

/// What runs a model in passes of at most `batch` sequences, of which `first` is the first; and what
/// there is to say about how it was chosen.
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
        let on_device = match wanted {
            Wanted::Hooks(hooks) => {
                let Some(&last) = hooks.iter().max() else { return Ok(on_processor(None)) };
                let on_device = OnDevice::new(&card, model, last)?;
                on_device.prove(first, hooks)?;
                on_device
            }
            Wanted::Logits(hook) => {
                let on_device = OnDevice::whole(&card, model)?;
                on_device.prove_logits(first, hook)?;
                on_device
            }
        };
        Ok((Computes::Card(Box::new(on_device)), None))
    };
    device.choose(work, on_card, on_processor)
}

/// What keeps a model from every card, in the middle of a sentence: what a card has or has not.
fn lacks(model: &Model, wanted: Wanted<'_>) -> Option<&'static str> {
    let unpacked = || model.inner.transformer.unembed.as_packed().is_none();
    match (model.compute(), wanted) {
        (Compute::Bf16, _) => Some("no bf16"),
        (Compute::F32, _) if !has_tiles() => {
            Some("the bits of AVX-512, which this processor lacks")
        }
        (Compute::F32, Wanted::Logits(_)) if unpacked() => {
            Some("no unembedding that is the embedding as it lies in the file")
        }
        (Compute::F32, _) => None,
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
    let work = wanted.work();
    let last = match wanted {
        Wanted::Hooks(hooks) => hooks.iter().max().copied(),
        Wanted::Logits(_) => None,
    };
    let widest = widths(model, last.is_none()).into_iter().max().unwrap_or(0);
    if batch.saturating_mul(n_ctx).saturating_mul(widest) > u32::MAX as usize {
        let why = format!("{batch} sequences are more than a card can do at once: take fewer");
        return Err(Error::config("batch", why));
    }
    let of = |batch: usize| bytes(model, last, batch * n_ctx, n_ctx);
    let (needs, free) = (of(batch), card.free_bytes()?);
    if needs <= free {
        return Ok(());
    }
    let on_cpu = format!("{} on the CPU (device = cpu)", work.to);
    let remedy = match (wanted, forecast::largest(batch, free, of)) {
        (Wanted::Hooks(_), Some(batch)) => {
            format!("HarvestConfig {{ batch: {batch}, .. }} would fit; or {on_cpu}")
        }
        _ => on_cpu,
    };
    Err(Error::Memory { what: format!("{} on {}", work.doing, card.name()), needs, free, remedy })
}

impl OnDevice {
    /// See [`Computes::pause_at`].
    fn pause_at(&self, tokens: &Tokens, hook: HookPoint) -> Result<Paused> {
        let at = |site| HookPoint { site, ..hook };
        let parallel = self.model.config().parallel;
        // The hooks whose sum is what else the rest of the block needs.
        let base: &[HookPoint] = match hook.site {
            Site::AttnOut => &[at(Site::ResidPre)],
            Site::MlpOut if parallel => &[at(Site::ResidPre), at(Site::AttnOut)],
            Site::MlpOut => &[at(Site::ResidMid)],
            Site::ResidPre | Site::ResidMid | Site::ResidPost => &[],
        };
        let mut values = self.run_to_many(tokens, &[&[hook], base].concat(), &|| false)?;
        let value = values.remove(0);
        let base = values.into_iter().reduce(|mut sum, more| {
            sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
            sum
        });
        let shape = (tokens.n_seq(), tokens.n_ctx(), self.model.config().d_model);
        let tensor = |numbers| Tensor::from_vec(numbers, shape, &Of::Cpu);
        Ok(Paused { value: tensor(value)?, hook, base: base.map(tensor).transpose()? })
    }

    /// See [`Computes::resume`].
    fn resume(&self, paused: &Paused, value: &Tensor) -> Result<Vec<f32>> {
        let (n_seq, n_ctx, _) = value.dims3()?;
        with_f32(value, |value| match &paused.base {
            None => self.logits_from(paused.hook, value, None, [n_seq, n_ctx]),
            Some(base) => with_f32(base, |base| {
                self.logits_from(paused.hook, value, Some(base), [n_seq, n_ctx])
            })?,
        })?
    }

    /// As [`Model::run_with`], on a device that has [all](OnDevice::whole) weights:
    /// `[n_seq · n_ctx · d_vocab]`.
    ///
    /// # Errors
    /// Those of [`Model::run_with`]; what the device says.
    pub fn run_with(
        &self,
        tokens: &Tokens,
        hook: HookPoint,
        change: impl FnOnce(&Tensor) -> Result<Tensor>,
    ) -> Result<Vec<f32>> {
        let paused = self.pause_at(tokens, hook)?;
        self.resume(&paused, &change(&paused.value)?)
    }

    /// Sends the first tokens of these through the device and through the processor, to some hooks.
    ///
    /// # Errors
    /// [`Error::Config`] if anything that comes out differs by a bit; what the device says.
    pub fn prove(&self, first: &Tokens, hooks: &[HookPoint]) -> Result<()> {
        let tokens = start_of(first)?;
        let here =
            Computes::Processor(self.model.clone()).run_to_many(&tokens, hooks, &|| false)?;
        let there = self.run_to_many(&tokens, hooks, &|| false)?;
        let all = hooks.iter().zip(there.iter().zip(&here));
        all.into_iter().try_for_each(|(hook, (there, here))| {
            self.compare(&hook.to_string(), [there, here], tokens.len())
        })
    }

    /// As [`prove`](OnDevice::prove), by way of a hook to the logits.
    ///
    /// # Errors
    /// The same.
    pub fn prove_logits(&self, first: &Tokens, hook: HookPoint) -> Result<()> {
        let tokens = start_of(first)?;
        let here = self.model.run_with(&tokens, hook, |value| Ok(value.clone()))?;
        let there = self.run_with(&tokens, hook, |value| Ok(value.clone()))?;
        with_f32(&here, |here| self.compare("a logit", [&there, here], tokens.len()))?
    }

    fn compare(&self, what: &str, [there, here]: [&[f32]; 2], n: usize) -> Result<()> {
        let differ = there.iter().zip(here).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
        if differ == 0 {
            return Ok(());
        }
        let why = format!(
            "{} does not give the processor's bits: for the first {n} tokens, {what} differs in {differ} of {} places. Use the CPU (device = cpu), and please report it with the card and its driver",
            self.device.name(),
            here.len()
        );
        Err(Error::config("device", why))
    }
}

/// The beginning of the first sequence.
fn start_of(tokens: &Tokens) -> Result<Tokens> {
    let n = tokens.len().min(tokens.n_ctx()).min(PROOF);
    Tokens::new(tokens.ids()[..n].to_vec(), n.max(1))
}
