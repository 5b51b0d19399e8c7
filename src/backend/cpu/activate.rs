//! Which latents are active, by architecture; and the way back from the gradients of codes to those
//! of pre-activations and of what else there is to learn.
//!
//! TopK selects within a row. All others take what lies above a threshold, for which the same
//! screens rule out the rest: a threshold for all latents (ReLU and Gated: 0; BatchTopK in use: its
//! threshold), or for each its own (JumpReLU). In training BatchTopK has no threshold but a number,
//! `n·k` codes a batch: it guesses a threshold from the last batch's, takes all above it, and cuts.
//! If there are too few it lowers the guess, so that the guess decides how long it takes and never
//! what comes out.

use super::encode::{above, largest};
use super::encoder::Encoder;
use super::reconstruct::{Decoding, Reconstruction};
use super::screen::PackedRows;
use crate::backend::ranks::Ranks;
use crate::backend::state::Objective;
use crate::base::error::Result;
use crate::sae::Codes;
use crate::sae::{Architecture, Sae};

/// By how much a guessed threshold lies under the one that was right for the batch before.
const CAUTION: f32 = 0.8;

/// Rows from which the first threshold of all is guessed.
const SAMPLED_ROWS: usize = 128;

/// The codes of a batch.
#[derive(Default)]
pub(super) struct Chosen {
    pub codes: Codes,
    /// Their pre-activations, where they are not the values.
    pub scores: Vec<f32>,
    pub fallback_rows: usize,
}

/// The codes of rows, as they are outside of training.
pub(super) fn encode(sae: &Sae, x: &[f32], rows: &PackedRows) -> Result<Codes> {
    let (encoder, ranks) = (Encoder::of(sae), &Ranks::alone());
    match sae.config.architecture {
        Architecture::TopK => {
            let (mut codes, _) = largest(encoder, x, rows, ranks)?;
            clamp(sae, codes.arrays_mut().1);
            Ok(codes)
        }
        Architecture::Relu { .. } => Ok(above(encoder, x, rows, ranks)?.0),
        Architecture::BatchTopK | Architecture::JumpRelu { .. } => {
            Ok(above(Encoder { thresholds: &sae.threshold, ..encoder }, x, rows, ranks)?.0)
        }
        Architecture::Gated { .. } => {
            let (mut codes, _) = above(encoder, x, rows, ranks)?;
            open_gates(sae, &mut codes);
            Ok(codes)
        }
    }
}

/// Sets to 0 what a ReLU does, if the SAE has one.
pub(super) fn clamp(sae: &Sae, values: &mut [f32]) {
    if sae.config.relu {
        values.iter_mut().for_each(|v| *v = v.max(0.0));
    }
}

/// Chooses the codes of a training batch. `threshold` is what was learned from the batch before.
pub(super) fn choose(
    sae: &Sae,
    objective: &Objective,
    x: &[f32],
    rows: &PackedRows,
    threshold: &mut Option<f32>,
    ranks: &Ranks,
) -> Result<Chosen> {
    let encoder = Encoder::of(sae);
    let all = |(codes, fallback_rows)| Chosen { codes, scores: Vec::new(), fallback_rows };
    match sae.config.architecture {
        Architecture::TopK => {
            let mut chosen = all(largest(encoder, x, rows, ranks)?);
            clamp(sae, chosen.codes.arrays_mut().1);
            Ok(chosen)
        }
        Architecture::Relu { .. } => Ok(all(above(encoder, x, rows, ranks)?)),
        Architecture::BatchTopK => Ok(all(largest_of_batch(encoder, x, rows, threshold, ranks)?)),
        Architecture::JumpRelu { .. } => {
            // Below its threshold a pre-activation is not a code, but may still say something about
            // the threshold.
            let half = objective.bandwidth as f32 / 2.0;
            let thresholds: Vec<f32> =
                sae.threshold.iter().map(|threshold| threshold - half).collect();
            let mut chosen =
                all(above(Encoder { thresholds: &thresholds, ..encoder }, x, rows, ranks)?);
            chosen.scores = chosen.codes.values().to_vec();
            let (latents, values) = chosen.codes.arrays_mut();
            for (&latent, value) in latents.iter().zip(values) {
                *value = if *value > sae.threshold[latent as usize] { *value } else { 0.0 };
            }
            Ok(chosen)
        }
        Architecture::Gated { .. } => {
            let mut chosen = all(above(encoder, x, rows, ranks)?);
            chosen.scores = chosen.codes.values().to_vec();
            open_gates(sae, &mut chosen.codes);
            Ok(chosen)
        }
    }
}

/// Gates' pre-activations to magnitudes.
fn open_gates(sae: &Sae, codes: &mut Codes) {
    let (latents, values) = codes.arrays_mut();
    for (&latent, value) in latents.iter().zip(values) {
        let latent = latent as usize;
        *value =
            (sae.r_mag[latent].exp() * (*value - sae.b_enc[latent]) + sae.b_mag[latent]).max(0.0);
    }
}

/// The `n·k` largest positive scores of a batch; of equal ones the first.
fn largest_of_batch(
    encoder: Encoder<'_>,
    x: &[f32],
    rows: &PackedRows,
    threshold: &mut Option<f32>,
    ranks: &Ranks,
) -> Result<(Codes, usize)> {
    let wanted = x.len() / encoder.d() * encoder.k;
    let mut guess = match *threshold {
        Some(threshold) => threshold,
        None => first_guess(encoder, x, rows, ranks)?,
    };
    let (mut codes, mut fallback_rows) =
        above(Encoder { thresholds: &[guess], ..encoder }, x, rows, ranks)?;
    while codes.values().len() < wanted && guess > 0.0 {
        guess = if guess > 1e-3 { guess / 2.0 } else { 0.0 };
        (codes, fallback_rows) =
            above(Encoder { thresholds: &[guess], ..encoder }, x, rows, ranks)?;
    }
    if codes.values().len() > wanted {
        let mut sorted = codes.values().to_vec();
        let (larger, &mut last, _) =
            sorted.select_nth_unstable_by(wanted - 1, |a, b| b.total_cmp(a));
        let mut equals = wanted - larger.iter().filter(|&&score| score > last).count();
        let values = codes.values().to_vec();
        codes.retain(|code| {
            let is_equal = values[code] == last && equals > 0;
            equals -= usize::from(is_equal);
            values[code] > last || is_equal
        });
        *threshold = Some(last * CAUTION);
    } else {
        *threshold = Some(0.0);
    }
    Ok((codes, fallback_rows))
}

/// A threshold that somewhat more than k scores of a row exceed, judging by the first rows.
fn first_guess(encoder: Encoder<'_>, x: &[f32], rows: &PackedRows, ranks: &Ranks) -> Result<f32> {
    let sampled = SAMPLED_ROWS.min(x.len() / encoder.d());
    let (codes, _) = above(encoder, &x[..sampled * encoder.d()], rows, ranks)?;
    let mut scores = codes.values().to_vec();
    let at = 3 * sampled * encoder.k / 2;
    if scores.len() <= at {
        return Ok(0.0);
    }
    Ok(*scores.select_nth_unstable_by(at, |a, b| b.total_cmp(a)).1)
}

/// Without the codes that JumpReLU has just below its thresholds, once those have learned from them:
/// nothing else does, and with a wide window they are most of all codes.
pub(super) fn without_silent(sae: &Sae, chosen: &mut Chosen, gradients: &mut Vec<f32>) {
    if !matches!(sae.config.architecture, Architecture::JumpRelu { .. }) {
        return;
    }
    let values = chosen.codes.values().to_vec();
    for numbers in [gradients, &mut chosen.scores] {
        let mut values = values.iter();
        numbers.retain(|_| values.next().is_some_and(|&value| value != 0.0));
    }
    chosen.codes.retain(|code| values[code] != 0.0);
}

/// The least positive value of a batch's codes.
pub(super) fn least(codes: &Codes) -> Option<f32> {
    codes.values().iter().copied().filter(|&value| value > 0.0).min_by(f32::total_cmp)
}

/// Gradients of what only some architectures have, by latent; empty where there is none.
#[derive(Default)]
pub(super) struct Extra {
    pub threshold: Vec<f32>,
    /// Of `b_enc`, where it is not that of the pre-activations.
    pub b_enc: Option<Vec<f32>>,
    pub r_mag: Vec<f32>,
    pub b_mag: Vec<f32>,
}

/// Turns the gradients of codes into those of pre-activations `W_enc (x − b_dec)`, penalties
/// included. Returns the penalty, and what else there is to learn.
pub(super) fn backward(
    sae: &Sae,
    objective: &Objective,
    chosen: &Chosen,
    decoding: Decoding<'_>,
    gradients: &mut [f32],
    through: &mut Reconstruction,
) -> Result<(f64, Extra)> {
    let (codes, n) = (&chosen.codes, chosen.codes.n().max(1) as f64);
    let share = (objective.sparsity / n) as f32;
    let mut extra = Extra::default();
    let penalty = match sae.config.architecture {
        Architecture::TopK => {
            if sae.config.relu {
                super::rows::stop_at_zeros(codes.values(), gradients);
            }
            0.0
        }
        Architecture::BatchTopK => 0.0,
        Architecture::Relu { .. } => {
            gradients.iter_mut().for_each(|gradient| *gradient += share);
            objective.sparsity / n * sum(codes.values())
        }
        Architecture::JumpRelu { .. } => {
            let bandwidth = objective.bandwidth as f32;
            extra.threshold = vec![0.0; sae.d_sae()];
            let all = codes.latents().iter().zip(codes.values()).zip(&chosen.scores).zip(gradients);
            for (((&latent, &value), &score), gradient) in all {
                let (latent, threshold) = (latent as usize, sae.threshold[latent as usize]);
                if (score - threshold).abs() < bandwidth / 2.0 {
                    extra.threshold[latent] -= (*gradient * threshold + share) / bandwidth;
                }
                *gradient = if value == 0.0 { 0.0 } else { *gradient };
            }
            objective.sparsity / n
                * codes.values().iter().filter(|value| **value != 0.0).count() as f64
        }
        Architecture::Gated { .. } => {
            // What the gates alone would reconstruct: its error moves the gates, not the decoder.
            let mut gates = codes.clone();
            gates.arrays_mut().1.copy_from_slice(&chosen.scores);
            through.fill(decoding, &gates)?;
            let mut b_enc = vec![0.0; sae.d_sae()];
            (extra.r_mag, extra.b_mag) = (vec![0.0; sae.d_sae()], vec![0.0; sae.d_sae()]);
            for (code, gradient) in gradients.iter_mut().enumerate() {
                let latent = codes.latents()[code] as usize;
                let of_gate = through.gradients[code] + share;
                let of_magnitude = if codes.values()[code] > 0.0 { *gradient } else { 0.0 };
                let scaled = of_magnitude * sae.r_mag[latent].exp();
                b_enc[latent] += of_gate;
                extra.b_mag[latent] += of_magnitude;
                extra.r_mag[latent] += scaled * (chosen.scores[code] - sae.b_enc[latent]);
                *gradient = of_gate + scaled;
            }
            extra.b_enc = Some(b_enc);
            objective.sparsity / n * sum(&chosen.scores) + through.squared_errors / n
        }
    };
    Ok((penalty, extra))
}

fn sum(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value)).sum()
}
