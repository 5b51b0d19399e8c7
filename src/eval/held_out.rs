//! A held-out text kept ready, so that an SAE in training can be measured on it again and again.

use serde::{Deserialize, Serialize};

use super::counted::{Counted, longest};
use super::language::{Ablations, Mean, Predictions, spliced};
use super::reconstruction::{Sums, ce_added, loss_recovered};
use super::{check_text, check_width, computes, sequences_at_once, values};
use crate::base::error::Result;
use crate::base::files;
use crate::base::number;
use crate::model::gpu::Computes;
use crate::model::tokens::Tokens;
use crate::model::{HookPoint, Model, Paused};
use crate::sae::Sae;

/// Held-out text whose activations, clean and zero-ablated cross-entropies are known. Position 0 and
/// [outliers](super::Evaluation::without_bos) are never counted.
pub struct HeldOut {
    model: Model,
    computes: Computes,
    chunks: Vec<Chunk>,
    text: Ablations,
    fingerprint: String,
}

struct Chunk {
    tokens: Tokens,
    paused: Paused,
    x: Vec<f32>,
    counted: Counted,
}

/// A measurement on held-out text; position 0 keeps the model's own activation and is not counted.
/// Definitions as in [`Metrics`](super::Metrics).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HeldOutPoint {
    /// Training tokens seen so far, where training measures; else 0.
    pub tokens: u64,
    /// Mean of ‖x̂ − x‖² / (‖x‖² + 1e-4).
    #[serde(with = "number")]
    pub nmse: f64,
    /// (CE patched − CE clean) / (CE clean + 0.001).
    #[serde(with = "number")]
    pub ce_added: f64,
    /// 1 − (CE patched − CE clean) / (CE zero-ablated − CE clean).
    #[serde(with = "number")]
    pub loss_recovered: f64,
    /// Share of latents that fire on none of the held-out tokens.
    #[serde(with = "number")]
    pub dead: f64,
}

impl HeldOut {
    /// Runs the model on the text as far as the hook, and on to the end clean and zero-ablated, where
    /// [`Device::Auto`](crate::train::Device::Auto) says.
    ///
    /// # Errors
    /// As [`evaluate`](super::evaluate).
    pub fn new(model: &Model, hook: HookPoint, tokens: &Tokens) -> Result<HeldOut> {
        model.check_hook(hook)?;
        check_text(tokens)?;
        let chunk = sequences_at_once(model, tokens.n_ctx());
        let mut held_out = HeldOut {
            model: model.clone(),
            computes: computes(model, hook, tokens, chunk)?,
            chunks: Vec::new(),
            text: Ablations::default(),
            fingerprint: HeldOut::fingerprint_of(tokens),
        };
        let longest = longest(&held_out.computes, model, hook, &tokens.rows(0, chunk))?;
        for from in (0..tokens.n_seq()).step_by(chunk) {
            let tokens = tokens.rows(from, from + chunk);
            let paused = held_out.computes.pause_at(&tokens, hook)?;
            let x = values(&paused.value)?;
            let counted = Counted::most(&tokens, &x, longest);
            let chunk = Chunk { tokens, paused, x, counted };
            let clean = held_out.losses(&chunk, chunk.x.clone())?;
            let zero = held_out.losses(&chunk, vec![0.0; chunk.x.len()])?;
            held_out.text.clean.add(&clean, &chunk.tokens, &chunk.counted);
            held_out.text.zero.add(&zero, &chunk.tokens, &chunk.counted);
            held_out.chunks.push(chunk);
        }
        Ok(held_out)
    }

    /// The fingerprint that a held-out text made of `tokens` has.
    pub(crate) fn fingerprint_of(tokens: &Tokens) -> String {
        files::sha256(bytemuck::cast_slice(tokens.ids()))
    }

    /// A checksum over the text.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// How many tokens the text has, position 0 included.
    pub fn n_tokens(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.tokens.len()).sum()
    }

    /// Measures an SAE.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if it does not fit, and what the model reports.
    pub fn measure(&self, sae: &Sae) -> Result<HeldOutPoint> {
        check_width(&self.model, "the SAE \"in training\"", sae.d_model())?;
        let (mut sums, mut patched) = (Sums::new(sae), Mean::default());
        for chunk in &self.chunks {
            let keys = sae.keys(&self.model, &chunk.tokens)?;
            let codes = sae.encode_on(&chunk.x, &keys)?;
            let x_hat = sae.decode(&codes, &keys)?;
            sums.add([&chunk.x, &x_hat], &codes, &chunk.counted, chunk.tokens.n_ctx());
            patched.add(&self.losses(chunk, x_hat)?, &chunk.tokens, &chunk.counted);
        }
        let (clean, zero) = (self.text.clean.value(), self.text.zero.value());
        Ok(HeldOutPoint {
            tokens: 0,
            nmse: sums.nmse(),
            ce_added: ce_added(clean, patched.value()),
            loss_recovered: loss_recovered(clean, patched.value(), zero),
            dead: sums.dead(),
        })
    }

    /// Cross-entropies with the activation replaced where positions count.
    fn losses(&self, chunk: &Chunk, replacement: Vec<f32>) -> Result<Vec<f32>> {
        let spliced = spliced(&chunk.x, replacement, &chunk.counted);
        let logits = self.computes.resume(&chunk.paused, spliced)?;
        Ok(Predictions::new(logits, &chunk.tokens).cross_entropies(&chunk.tokens))
    }
}
