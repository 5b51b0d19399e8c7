//! Held-out evaluation: how well an SAE reconstructs, and what the model loses when it runs on the
//! reconstruction.
//!
//! Every figure is computed twice. *Without BOS*, position 0 keeps the model's own activation and
//! is not counted; *with BOS* every position is reconstructed and counted, as in the paper. The
//! activation on BOS is the same in every sequence and, in real models, dozens of times larger than
//! any other, so it would drown all the others. In the Llama family other activations are like it,
//! and are treated alike: those ten times as long as the median
//! ([`TrainConfig::max_norm_multiple`](crate::train::TrainConfig::max_norm_multiple)).

mod by_sequence;
mod counted;
mod held_out;
mod language;
mod measure;
mod metrics;
mod reconstruction;
mod show;

pub use by_sequence::BySequence;
pub use held_out::{HeldOut, HeldOutPoint};
pub use measure::Measure;
pub use metrics::{Evaluation, Evaluations, Metrics};
pub(crate) use show::{left_out, metrics_table};

use candle_core::Tensor;

use crate::base::error::{Error, Result};
use crate::device::Device;
use crate::display::{self, Progress, interrupt};
use crate::model::gpu::{Computes, Wanted, choose};
use crate::model::tokens::Tokens;
use crate::model::{HookPoint, Model};
use crate::sae::Sae;
use counted::{Counted, longest};
use language::{Ablations, Predictions};
use reconstruction::Sums;

/// Evaluates SAEs on held-out text: one pass of the model up to the hook, and from there one clean
/// and two ablated passes, and two patched passes for every SAE. The model runs where
/// [`Device::Auto`] says, to the same bits.
///
/// # Errors
/// [`Error::EmptyCorpus`] without a sequence of three tokens, [`Error::Interrupted`] if it was
/// stopped before anything was measured (and [`Evaluations::tokens`] are fewer if it was stopped
/// later), [`Error::Shape`] if an SAE does not fit the hook, and what the model reports.
pub fn evaluate(
    model: &Model,
    hook: HookPoint,
    saes: &[(&str, &Sae)],
    tokens: &Tokens,
) -> Result<Evaluations> {
    model.check_hook(hook)?;
    check_text(tokens)?;
    for (name, sae) in saes {
        check_width(model, &format!("the SAE \"{name}\""), sae.d_model())?;
    }
    interrupt::watch();
    let chunk = sequences_at_once(model, tokens.n_ctx());
    let mut progress = Progress::new("evaluate", tokens.len() as u64, "tokens");
    let computes = computes(model, hook, tokens, chunk)?;
    let longest = longest(&computes, model, hook, &tokens.rows(0, chunk))?;
    let mean = mean_activations(&computes, hook, tokens, chunk, longest)?;
    let mut ablations = [Ablations::default(), Ablations::default()];
    let mut sums: Vec<[Sums; 2]> =
        saes.iter().map(|(_, sae)| [Sums::new(sae), Sums::new(sae)]).collect();
    let mut seen = 0;
    for from in (0..tokens.n_seq()).step_by(chunk) {
        if interrupt::requested() {
            interrupt::clear();
            break;
        }
        let rows = tokens.rows(from, from + chunk);
        let paused = computes.pause_at(&rows, hook)?;
        let x = values(&paused.value)?;
        let resume = |value: Vec<f32>| {
            Ok::<_, Error>(Predictions::new(computes.resume(&paused, value)?, &rows))
        };
        let clean = resume(x.clone())?;
        let losses = clean.cross_entropies(&rows);
        let counted = [Counted::most(&rows, &x, longest), Counted::all(&rows)];
        let splice = |replacement: Vec<f32>, counted: &Counted| {
            resume(language::spliced(&x, replacement, counted))
        };
        for ((counted, ablations), mean) in counted.iter().zip(&mut ablations).zip(&mean) {
            let zero = splice(vec![0.0; x.len()], counted)?;
            let at_mean = splice(mean.repeat(rows.len()), counted)?;
            ablations.clean.add(&losses, &rows, counted);
            ablations.zero.add(&zero.cross_entropies(&rows), &rows, counted);
            ablations.mean.add(&at_mean.cross_entropies(&rows), &rows, counted);
        }
        for ((_, sae), sums) in saes.iter().zip(&mut sums) {
            let keys = sae.keys(model, &rows)?;
            let codes = sae.encode_on(&x, &keys)?;
            let x_hat = sae.decode(&codes, &keys)?;
            for (counted, sums) in counted.iter().zip(sums) {
                sums.add([&x, &x_hat], &codes, counted, rows.n_ctx());
                sums.add_patched(&clean, &splice(x_hat.clone(), counted)?, &rows, counted);
            }
        }
        seen += rows.len();
        progress.set(seen as u64);
    }
    progress.finish();
    if seen == 0 {
        return Err(Error::Interrupted {
            what: "the evaluation",
            remedy: "the same call starts again".to_owned(),
        });
    }
    let rows = saes.iter().zip(&sums).map(|((name, _), sums)| Evaluation {
        name: (*name).to_owned(),
        without_bos: sums[0].metrics(&ablations[0]),
        with_bos: sums[1].metrics(&ablations[1]),
        by_sequence: sums[0].by_sequence(&ablations[0]),
    });
    Ok(Evaluations {
        rows: rows.collect(),
        model: model.name().to_owned(),
        processing: model.processing().to_string(),
        hook,
        tokens: seen,
    })
}

/// Mean activation over the text: of the positions that count without BOS, and of all.
fn mean_activations(
    computes: &Computes,
    hook: HookPoint,
    tokens: &Tokens,
    chunk: usize,
    longest: f32,
) -> Result<[Vec<f32>; 2]> {
    let (mut left_out, mut counted) = (Vec::new(), Vec::new());
    let mut n = 0;
    for from in (0..tokens.n_seq()).step_by(chunk) {
        let rows = tokens.rows(from, from + chunk);
        let x = computes.run_to(&rows, hook)?;
        let d = x.len() / rows.len();
        left_out.resize(d, 0.0f64);
        counted.resize(d, 0.0f64);
        let counts = Counted::most(&rows, &x, longest);
        for (row, counts) in x.chunks_exact(d).zip(counts.of_all()) {
            let sum = if *counts { &mut counted } else { &mut left_out };
            sum.iter_mut().zip(row).for_each(|(sum, v)| *sum += f64::from(*v));
            n += usize::from(*counts);
        }
    }
    let all = tokens.len() as f64;
    let without = counted.iter().map(|sum| (sum / n as f64) as f32).collect();
    let with = left_out.iter().zip(&counted).map(|(a, b)| ((a + b) / all) as f32).collect();
    Ok([without, with])
}

/// What runs the model to the hook and from there to the logits, so many sequences at a time.
fn computes(model: &Model, hook: HookPoint, tokens: &Tokens, chunk: usize) -> Result<Computes> {
    let first = tokens.rows(0, chunk);
    let (computes, remark) =
        choose(Device::Auto, model, Wanted::Logits(hook), chunk.min(tokens.n_seq()), &first)?;
    remark.iter().for_each(|remark| display::remark(remark));
    Ok(computes)
}

/// As many sequences as have logits of at most a quarter of a gigabyte.
fn sequences_at_once(model: &Model, n_ctx: usize) -> usize {
    const BYTES: usize = 1 << 28;
    (BYTES / (4 * model.config().d_vocab * n_ctx)).clamp(1, 32)
}

fn check_text(tokens: &Tokens) -> Result<()> {
    if tokens.is_empty() || tokens.n_ctx() < 3 {
        let why = format!(
            "held-out text of {} sequences of {} tokens; at least one of three tokens is needed",
            tokens.n_seq(),
            tokens.n_ctx()
        );
        return Err(Error::EmptyCorpus { why });
    }
    Ok(())
}

/// Checks that something with rows of `got` numbers, named by `what`, is as wide as the model.
pub(crate) fn check_width(model: &Model, what: &str, got: usize) -> Result<()> {
    let want = model.config().d_model;
    match want == got {
        true => Ok(()),
        false => {
            let what = format!("{what} (d_model)");
            Err(Error::Shape { what, want: vec![want], got: vec![got] })
        }
    }
}

fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.flatten_all()?.to_vec1::<f32>()?)
}
