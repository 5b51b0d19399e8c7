//! What a latent does: the model's next token without the latent, or with more of it.
//!
//! Both leave everything else at the hook as it is, the part of the activation that the SAE does
//! not reconstruct included: ablating latent `i` takes `codes[i] · W_dec[i]` away from the
//! activation, which is the same as decoding with that code at 0 and adding the SAE's error back;
//! steering adds `scale · W_dec[i]`. Where an SAE [scales rows](Sae::row_norm), both are scaled
//! back as its reconstruction is. Position 0 stays as it is, as in [`eval`](crate::eval).

use candle_core::{Device, Tensor};

use super::FeatureDashboard;
use super::feature::check_latent;
use crate::base::error::{Error, Result};
use crate::cpu::simd::{add_scaled, divergence, log_sum_exp};
use crate::model::tensor::with_f32;
use crate::model::tokens::Tokens;
use crate::model::{Added, HookPoint, Model};
use crate::sae::Sae;

/// Tokens that are listed as gaining, and as losing.
const LISTED: usize = 10;

/// What is done to a latent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Intervention {
    /// Its code is set to 0.
    Ablate,
    /// Its row of `W_dec` is added at every position but 0.
    Steer {
        /// How many times: in the units of the latent's activations.
        scale: f32,
    },
    /// The same at the last position only.
    SteerLast {
        /// How many times.
        scale: f32,
    },
}

/// What an intervention changes in what the model expects after a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Effect {
    /// The latent.
    pub latent: usize,
    /// What was done to it.
    pub(super) intervention: Intervention,
    /// The text, BOS first.
    pub tokens: Vec<EffectToken>,
    /// The tokens that gain most probability as the next after the text, the greatest gain first.
    pub gained: Vec<Shift>,
    /// The tokens that lose most.
    pub lost: Vec<Shift>,
}

/// A token of the text, with what happens at it.
#[derive(Clone, Debug, PartialEq)]
pub struct EffectToken {
    /// Its id.
    pub id: u32,
    /// Its text.
    pub token: String,
    /// The latent's code on it, before anything is done; 0 where it has none.
    pub activation: f32,
    /// KL(before ‖ after) of what the model expects next, in nats.
    pub kl: f64,
}

/// A token's probability as the next, before and after.
#[derive(Clone, Debug, PartialEq)]
pub struct Shift {
    /// Its id.
    pub id: u32,
    /// Its text.
    pub token: String,
    /// Before.
    pub before: f64,
    /// After.
    pub after: f64,
}

impl Effect {
    /// KL(before ‖ after) of the token after the text, in nats.
    pub fn kl(&self) -> f64 {
        self.tokens.last().map_or(0.0, |token| token.kl)
    }

    /// Runs the model on `ids`, which are taken as they are, as it is and with the intervention.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no such latent or no position but 0, or the scale is not
    /// finite; what the model reports.
    pub(super) fn of(
        model: &Model,
        hook: HookPoint,
        sae: &Sae,
        latent: usize,
        intervention: Intervention,
        ids: &[u32],
    ) -> Result<Effect> {
        let scale = match intervention {
            Intervention::Ablate => 0.0,
            Intervention::Steer { scale } | Intervention::SteerLast { scale } => scale,
        };
        check(sae, latent, scale)?;
        if ids.len() < 2 {
            return Err(Error::config(
                "text",
                "there is nothing after BOS, which stays as it is: at least one token is needed",
            ));
        }
        let d = sae.d_model();
        let text = Tokens::new(ids.to_vec(), ids.len())?;
        let paused = model.pause_at(&text, hook)?;
        let mut x = with_f32(&paused.value, <[f32]>::to_vec)?; // [n_ctx, d_model]
        let codes = sae.encode_text(model, &x, &text)?;
        let activations: Vec<f32> =
            (0..ids.len()).map(|i| value_of(codes.row(i), latent)).collect();
        let direction = &sae.w_dec[latent * d..][..d];
        for (position, row) in x.chunks_exact_mut(d).enumerate().skip(1) {
            let by = match intervention {
                Intervention::Ablate => -activations[position],
                Intervention::SteerLast { .. } if position + 1 < ids.len() => 0.0,
                Intervention::Steer { .. } | Intervention::SteerLast { .. } => scale,
            };
            add_scaled(row, by * codes.scale(position), direction);
        }
        let before = with_f32(&model.resume(&paused, &paused.value)?, <[f32]>::to_vec)?; // [n_ctx, d_vocab]
        let changed = Tensor::from_vec(x, paused.value.shape(), &Device::Cpu)?;
        let after = with_f32(&model.resume(&paused, &changed)?, <[f32]>::to_vec)?;
        let d_vocab = model.config().d_vocab;
        let rows = before.chunks_exact(d_vocab).zip(after.chunks_exact(d_vocab));
        let kls: Vec<f64> = rows
            .map(|(a, b)| f64::from(divergence(a, log_sum_exp(a), b, log_sum_exp(b))).max(0.0))
            .collect();
        let tokens = ids.iter().zip(activations).zip(kls);
        let last = (ids.len() - 1) * d_vocab;
        let [gained, lost] = shifts(model, &before[last..], &after[last..]);
        Ok(Effect {
            latent,
            intervention,
            tokens: tokens
                .map(|((&id, activation), kl)| EffectToken {
                    id,
                    token: model.token_str(id),
                    activation,
                    kl,
                })
                .collect(),
            gained,
            lost,
        })
    }
}

/// The latent's value in a row of codes.
fn value_of((latents, values): (&[u32], &[f32]), latent: usize) -> f32 {
    latents
        .iter()
        .zip(values)
        .find(|(one, _)| **one as usize == latent)
        .map_or(0.0, |(_, value)| *value)
}

fn check(sae: &Sae, latent: usize, scale: f32) -> Result<()> {
    check_latent(latent, sae.d_sae())?;
    match scale.is_finite() {
        true => Ok(()),
        false => Err(Error::config("scale", format!("scale = {scale}; a number is needed"))),
    }
}

/// The tokens that gain most from one row of logits to another, and those that lose most.
fn shifts(model: &Model, before: &[f32], after: &[f32]) -> [Vec<Shift>; 2] {
    let [total_before, total_after] = [before, after].map(|logits| f64::from(log_sum_exp(logits)));
    let probability = |logit: f32, total: f64| (f64::from(logit) - total).exp();
    let mut all: Vec<(u32, f64, f64)> = before
        .iter()
        .zip(after)
        .zip(0..)
        .map(|((&a, &b), id)| (id, probability(a, total_before), probability(b, total_after)))
        .collect();
    all.sort_by(|a, b| (b.2 - b.1).total_cmp(&(a.2 - a.1)).then(a.0.cmp(&b.0)));
    let shift = |&(id, before, after): &(u32, f64, f64)| Shift {
        id,
        token: model.token_str(id),
        before,
        after,
    };
    let gained = all
        .iter()
        .take_while(|(_, before, after)| after > before)
        .take(LISTED)
        .map(shift)
        .collect();
    let lost = all
        .iter()
        .rev()
        .take_while(|(_, before, after)| after < before)
        .take(LISTED)
        .map(shift)
        .collect();
    [gained, lost]
}

/// Texts that the model continues with, as it is and steered.
#[derive(Clone, Debug, PartialEq)]
pub struct Continuations {
    /// The latent.
    pub latent: usize,
    /// How many times its row of `W_dec` was added, at every position but 0.
    pub scale: f32,
    /// The text that was given, BOS left out.
    pub prompt: String,
    /// How the model continues as it is and with the latent added; the two of a pair are drawn with
    /// the same random numbers.
    pub pairs: Vec<(String, String)>,
}

impl FeatureDashboard {
    /// `n` pairs of texts of `length` tokens with which the model continues, as it is and with
    /// `scale` times the latent's row of `W_dec` added at every position but 0.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no such latent, or the scale is not finite;
    /// [`Error::NoTokenizer`] or [`Error::Tokenizer`] if the text cannot be read; what
    /// [`Model::generate`] reports.
    pub fn continuations(
        &self,
        latent: usize,
        scale: f32,
        text: &str,
        n: usize,
        length: usize,
        seed: u64,
    ) -> Result<Continuations> {
        let (model, sae, hook, ids) =
            (&self.model, &*self.sae, self.features.hook, self.ids(text)?);
        check(sae, latent, scale)?;
        model.check_hook(hook)?;
        let d = sae.d_model();
        let direction: Vec<f32> = sae.w_dec[latent * d..][..d].iter().map(|w| scale * w).collect();
        let added =
            Added { hook, direction: &direction, amount: &|row| sae.row_norm.of(row).scale };
        let plain = model.generate(&ids, n, length, seed)?;
        let steered = model.generate_with(&ids, n, length, seed, Some(&added))?;
        let pairs = (0..n)
            .map(|i| Ok((model.decode(plain.row(i))?, model.decode(steered.row(i))?)))
            .collect::<Result<_>>()?;
        Ok(Continuations { latent, scale, prompt: model.decode(&ids[1..])?, pairs })
    }
}
