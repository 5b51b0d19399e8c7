//! One training step, from a batch to moved parameters.

use std::any::Any;
use std::time::Instant;

use rayon::prelude::*;

use super::activate::{self, Chosen, Extra};
use super::chain::{self, Chain};
use super::csr::Csr;
use super::encode::fill_centred;
use super::encoder::BLOCK;
use super::fused::Fused;
use super::latents::{CodeGrads, Stream};
use super::reconstruct::{Decoding, Reconstruction};
use super::revive::revive;
use super::rows::{add_codes, without_table};
use super::screen::PackedRows;
use super::stages::{Stage, Stages};
use super::tiled::{Tiled, write_row};
use super::{latents, table};
use crate::backend::adam::Rates;
use crate::backend::adam::{AdamStep, Moments, adam_row};
use crate::backend::ranks::Ranks;
use crate::backend::state::AdamState;
use crate::base::error::{Error, Result};
use crate::cpu::simd::add_scaled;
use crate::sae::{Architecture, Sae};
use crate::sae::{Codes, Keys};

/// How much of a BatchTopK SAE's threshold a batch decides. SAELens takes 0.01, which in a run of
/// some hundred steps remembers its first; the least of `n·k` codes is a quantile that hardly
/// varies from batch to batch, so that ten of them are enough.
const THRESHOLD_RATE: f32 = 0.1;

/// Buffers that one step leaves for the next; they hold no state.
#[derive(Default)]
pub struct Scratch {
    pub(in crate::backend) codes: Codes,
    scores: Vec<f32>,
    fused: Fused,
    chain: Chain,
    centred: Tiled, // x − b_dec
    recon: Reconstruction,
    through: Reconstruction,
    aux_recon: Reconstruction,
    /// What the table's gradients are made of, where it is subtracted before the encoder.
    of_table: Tiled,
    code_grads: CodeGrads,
    aux_grads: CodeGrads,
    by_token: Csr,
    /// The threshold above which the codes of the last batch lay; a guess for the next.
    threshold: Option<f32>,
    through_encoder: Vec<f32>, // [d_model]
    stages: Stages,
    /// What a backend that computes elsewhere holds of the SAE and its optimiser.
    pub(in crate::backend) elsewhere: Option<Box<dyn Any + Send + Sync>>,
}

impl Scratch {
    /// The codes of the last step.
    pub fn codes(&self) -> &Codes {
        &self.codes
    }

    /// By how much the pre-activations of the codes lie above the point from which a latent of the
    /// SAE is active, on average over those that are; `None` if none is.
    pub(crate) fn mean_excess(&self, sae: &Sae) -> Option<f64> {
        let scores = if self.scores.is_empty() { self.codes.values() } else { &self.scores };
        let is_jump = matches!(sae.config.architecture, Architecture::JumpRelu { .. });
        let from = |latent: u32| if is_jump { sae.threshold[latent as usize] } else { 0.0 };
        let (mut count, mut sum) = (0.0, 0.0);
        for ((&latent, &value), &score) in
            self.codes.latents().iter().zip(self.codes.values()).zip(scores)
        {
            if value != 0.0 {
                count += 1.0;
                sum += f64::from(score - from(latent));
            }
        }
        (count > 0.0).then(|| sum / count)
    }

    /// Where the time of the steps so far went.
    pub fn stages(&self) -> &Stages {
        &self.stages
    }
}

/// What a step saw before it moved the parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Mean over rows of ‖x̂ − x‖².
    pub loss: f64,
    /// What the step goes down: the mean over rows and prefixes of ‖x̂ − x‖², penalties and help
    /// for dead latents included.
    pub objective: f64,
    /// Mean over rows of ‖x̂ − x‖² / (‖x‖² + 1e-4), the authors' NMSE.
    pub nmse: f64,
    /// Mean number of codes per row that are not 0.
    pub l0: f64,
    /// Rows that no screen could decide and that were scored in full.
    pub fallback_rows: usize,
}

/// One step on a CPU; see [`Backend::train_step`](super::Backend::train_step).
#[allow(clippy::too_many_arguments)]
pub(super) fn train_step(
    sae: &mut Sae,
    state: &mut AdamState,
    x: &[f32],
    rows: &PackedRows,
    keys: &Keys<'_>,
    rates: &Rates,
    ranks: &Ranks,
    scratch: &mut Scratch,
) -> Result<StepReport> {
    let d = sae.d_model();
    let owners = &chain::owners(&sae.config, ranks);
    scratch.chain.begin(state, d, owners);
    let start = Instant::now();
    if let (Some(table), Some(moments)) = (&mut sae.lookup, &mut state.lookup) {
        scratch.by_token.fill(keys.all(), table.len() / d);
        if let Some(deferred) = &mut state.deferred {
            deferred.restrict(owners.share(table.len() / d, table::CHUNK));
            deferred.replay(&scratch.by_token, table, moments);
        }
        chain::gather_rows(table, &scratch.by_token, d, owners)?;
    }
    scratch.stages.since(Stage::Table, start);
    let forward = forward(sae, state, x, rows, keys, [ranks, owners], scratch)?;

    let t = state.steps + 1;
    let adam = AdamStep::new(rates, rates.lr, t);
    let of_biases = AdamStep::new(rates, rates.bias_lr, t);
    let start = Instant::now();
    let Scratch {
        codes,
        recon,
        aux_recon,
        code_grads,
        aux_grads,
        centred,
        through_encoder,
        stages,
        ..
    } = scratch;
    code_grads.fill(codes, &recon.gradients, sae.d_sae());
    if let Some(codes) = &forward.aux_codes {
        aux_grads.fill(codes, &aux_recon.gradients, sae.d_sae());
    }
    let start = stages.since(Stage::Transpose, start);
    let streams = [
        Stream { code_grads, residuals: &recon.residuals },
        Stream { code_grads: aux_grads, residuals: &aux_recon.residuals },
    ];
    let streams = if forward.aux_codes.is_some() { &streams[..] } else { &streams[..1] };
    latents::update(
        sae,
        state,
        streams,
        centred,
        forward.extra.b_enc.as_deref(),
        through_encoder,
        [adam, of_biases],
        owners,
    )?;
    update_extra(sae, state, &forward.extra, [adam, of_biases]);
    if let (Architecture::BatchTopK, Some(least)) =
        (sae.config.architecture, activate::least(codes))
    {
        let rate = if state.steps == 0 { 1.0 } else { THRESHOLD_RATE };
        sae.threshold[0] += rate * (least - sae.threshold[0]);
    }
    let start = stages.since(Stage::Gradients, start);

    if let (Some(table), Some(moments)) = (&mut sae.lookup, &mut state.lookup) {
        let adam = AdamStep::new(rates, rates.lookup_lr, t);
        let rows = if state.deferred.is_some() { table::Rows::Occurring } else { table::Rows::All };
        let residuals = if sae.subtract { &scratch.of_table } else { &recon.residuals[0] };
        let own = owners.share(table.len() / d, table::CHUNK);
        table::update(
            table,
            moments,
            &scratch.by_token,
            keys.places().as_deref(),
            residuals,
            d,
            adam,
            rows,
            own,
        );
        if let Some(deferred) = &mut state.deferred {
            deferred.record(adam, &scratch.by_token, table, moments);
        }
    }
    stages.since(Stage::Table, start);

    add_scaled(&mut recon.residual, -1.0, through_encoder);
    adam_row(of_biases, &mut sae.b_dec, &mut state.b_dec.m, &mut state.b_dec.v, &recon.residual);
    state.steps = t;
    Ok(forward.report)
}

/// The error for a loss that is no number.
pub(in crate::backend) fn overflowed(loss: f64) -> Error {
    let at = "this step: the learning rate may be too high".to_owned();
    Error::NotFinite { what: "the loss".to_owned(), value: loss as f32, at }
}

/// What the forward pass leaves besides the buffers.
struct Forward {
    report: StepReport,
    extra: Extra,
    /// The codes of dead latents that were asked to help.
    aux_codes: Option<Codes>,
}

/// Encodes, decodes, and leaves codes, the gradients of their pre-activations, centred rows and
/// scaled residuals of all rows, this rank's and the others', in `scratch`; of several owners, the
/// gradients of this one's latents. Moves nothing.
fn forward(
    sae: &Sae,
    state: &AdamState,
    x: &[f32],
    rows: &PackedRows,
    keys: &Keys<'_>,
    [ranks, owners]: [&Ranks; 2],
    scratch: &mut Scratch,
) -> Result<Forward> {
    let d = sae.d_model();
    let n = x.len() / d;
    let Scratch {
        codes,
        scores,
        fused,
        chain,
        centred,
        recon,
        through,
        aux_recon,
        of_table,
        threshold,
        stages,
        ..
    } = scratch;
    // What the encoder reads, which is the target but for a table that is subtracted.
    let start = Instant::now();
    let x_minus_table = sae.subtract.then(|| {
        let x_minus_table = without_table(sae, x, keys);
        let packed = PackedRows::new(&x_minus_table, d, rows.screen, rows.exactness);
        (x_minus_table, packed)
    });
    let (input, rows) = x_minus_table
        .as_ref()
        .map_or((x, rows), |(x_minus_table, packed)| (&x_minus_table[..], packed));
    stages.since(Stage::Pack, start);
    let (mut penalty, mut extra) = (0.0, Extra::default());
    let mut fallback_rows;
    if owners.size() > 1 {
        fallback_rows = chain.forward(sae, x, rows, keys, owners, codes, centred, recon, stages)?;
    } else if sae.config.architecture == Architecture::TopK
        && sae.config.prefixes.is_empty()
        && !sae.subtract
    {
        fallback_rows = fused.forward(sae, x, rows, keys, ranks, codes, centred, recon, stages)?;
    } else {
        let start = Instant::now();
        let mut chosen = activate::choose(sae, &state.objective, input, rows, threshold, ranks)?;
        let start = stages.since(Stage::Screen, start);
        centred.resize(n, d);
        fill_centred(centred, 0..n, input, &sae.b_dec);
        let base = Some((sae, keys));
        let decoding = Decoding {
            w_dec: &sae.w_dec,
            prefixes: &sae.config.prefixes,
            base,
            target: x,
            d,
            scale: 2.0 / n as f32,
            ranks,
        };
        recon.fill(decoding, &chosen.codes)?;
        (penalty, extra) = activate::backward(
            sae,
            &state.objective,
            &chosen,
            decoding,
            &mut recon.gradients,
            through,
        )?;
        activate::without_silent(sae, &mut chosen, &mut recon.gradients);
        fallback_rows = chosen.fallback_rows;
        (*codes, *scores) = (chosen.codes, chosen.scores);
        stages.since(Stage::Decode, start);
    }

    let loss = recon.sums.squared_error / n as f64;
    if !loss.is_finite() {
        return Err(overflowed(loss));
    }
    let mut aux_codes = None;
    if let Some(aux) = sae.config.aux.filter(|_| !state.objective.dead.is_empty()) {
        let start = Instant::now();
        let residuals = last_residuals(recon, n, d);
        let (chosen, gain) =
            revive(sae, aux, &state.objective.dead, input, &residuals, rows, ranks, aux_recon)?;
        let Chosen { codes, fallback_rows: more, .. } = chosen;
        (aux_codes, penalty, fallback_rows) = (Some(codes), penalty + gain, fallback_rows + more);
        stages.since(Stage::Decode, start);
    }
    if sae.subtract && state.lookup.is_some() {
        let aux_codes = aux_codes.as_ref().map(|codes| (codes, &aux_recon.gradients[..]));
        fill_of_table(
            of_table,
            &recon.residuals[0],
            &sae.w_enc,
            n,
            d,
            [Some((&*codes, &recon.gradients[..])), aux_codes],
        );
    }
    let objective = recon.squared_errors / n as f64 + penalty;
    let report = StepReport {
        loss,
        objective,
        nmse: recon.sums.nmse / n as f64,
        l0: codes.l0(),
        fallback_rows,
    };
    Ok(Forward { report, extra, aux_codes })
}

/// What a table that is both subtracted and added receives: the residuals, less what comes back
/// through the encoder, `Σ (gradient of a pre-activation)·W_enc[latent]`.
fn fill_of_table(
    of_table: &mut Tiled,
    residuals: &Tiled,
    w_enc: &[f32],
    n: usize,
    d: usize,
    streams: [Option<(&Codes, &[f32])>; 2],
) {
    of_table.resize(n, d);
    of_table.parts_mut(0..n, BLOCK).enumerate().for_each_init(
        || (vec![0.0; d], vec![0.0; d]),
        |(row, back), (block, part)| {
            for i in 0..BLOCK.min(n - block * BLOCK) {
                let at = block * BLOCK + i;
                residuals.read_row(at, 1.0, row);
                back.fill(0.0);
                for (codes, gradients) in streams.into_iter().flatten() {
                    add_codes(back, w_enc, codes.row(at).0, &gradients[codes.range(at..at + 1)]);
                }
                add_scaled(row, -1.0, back);
                write_row(part, i, row);
            }
        },
    );
}

/// `x̂ − x` `[n, d]`, by all latents.
fn last_residuals(recon: &Reconstruction, n: usize, d: usize) -> Vec<f32> {
    let mut out = vec![0.0; n * d];
    let scale = n as f32 / 2.0 * recon.residuals.len() as f32;
    if let Some(residuals) = recon.residuals.last() {
        out.par_chunks_mut(d)
            .enumerate()
            .for_each(|(row, out)| residuals.read_row(row, scale, out));
    }
    out
}

/// Moves what only some architectures have.
fn update_extra(
    sae: &mut Sae,
    state: &mut AdamState,
    extra: &Extra,
    [of_weights, of_biases]: [AdamStep; 2],
) {
    let step = |adam, w: &mut [f32], Moments { m, v }: &mut Moments, gradient: &[f32]| {
        if !gradient.is_empty() {
            adam_row(adam, w, m, v, gradient);
        }
    };
    if !extra.threshold.is_empty() {
        step(of_biases, &mut sae.threshold, &mut state.threshold, &extra.threshold);
        // A code is never negative.
        sae.threshold.iter_mut().for_each(|threshold| *threshold = threshold.max(0.0));
    }
    step(of_weights, &mut sae.r_mag, &mut state.r_mag, &extra.r_mag);
    step(of_biases, &mut sae.b_mag, &mut state.b_mag, &extra.b_mag);
}
