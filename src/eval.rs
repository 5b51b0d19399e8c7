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
mod pass;
mod reconstruction;
mod show;
mod so_far;

pub use by_sequence::BySequence;
pub use held_out::{HeldOut, HeldOutPoint};
pub use measure::Measure;
pub use metrics::{Evaluation, Evaluations, Metrics};
pub(crate) use show::{left_out, metrics_table};
pub(crate) use so_far::Kept;

use candle_core::Tensor;

use crate::base::error::{Error, Result};
use crate::device::Device;
use crate::display::{self, Progress, interrupt};
use crate::model::gpu::{Computes, Wanted, choose};
use crate::model::tokens::Tokens;
use crate::model::{HookPoint, Model};
use crate::sae::Sae;
use pass::Pass;
use so_far::SoFar;

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
    evaluate_kept(model, hook, saes, tokens, None)
}

/// As [`evaluate`], but from where the same call was stopped before, if that is kept.
pub(crate) fn evaluate_kept(
    model: &Model,
    hook: HookPoint,
    saes: &[(&str, &Sae)],
    tokens: &Tokens,
    kept: Option<Kept>,
) -> Result<Evaluations> {
    model.check_hook(hook)?;
    check_text(tokens)?;
    for (name, sae) in saes {
        check_width(model, &format!("the SAE \"{name}\""), sae.d_model())?;
    }
    interrupt::watch();
    let so_far = match kept.as_ref().and_then(Kept::read) {
        Some(all) if all.seen == tokens.n_seq() => all,
        before => to_the_end(&Pass::new(model, hook, saes, tokens)?, before, kept)?,
    };
    if so_far.seen == 0 {
        return Err(interrupted());
    }
    let [without_bos, with_bos] = &so_far.ablations;
    let rows = saes.iter().zip(&so_far.sums).map(|((name, _), sums)| Evaluation {
        name: (*name).to_owned(),
        without_bos: sums[0].metrics(without_bos),
        with_bos: sums[1].metrics(with_bos),
        by_sequence: sums[0].by_sequence(without_bos),
    });
    Ok(Evaluations {
        rows: rows.collect(),
        model: model.name().to_owned(),
        processing: model.processing().to_string(),
        hook,
        tokens: so_far.seen * tokens.n_ctx(),
    })
}

/// Measures what is left of the text, or as much of it as comes before a stop.
fn to_the_end(pass: &Pass, before: Option<SoFar>, mut kept: Option<Kept>) -> Result<SoFar> {
    let (n_seq, n_ctx) = (pass.tokens.n_seq(), pass.tokens.n_ctx());
    let seen = before.as_ref().map_or(0, |before| before.seen * n_ctx);
    let mut progress =
        Progress::new("evaluate", pass.tokens.len() as u64, "tokens").resumed_at(seen as u64);
    let mut so_far = match before {
        Some(before) => before,
        None => pass.begin(&mut progress)?,
    };
    let means = so_far.means();
    while so_far.seen < n_seq && !stopped() {
        pass.advance(&mut so_far, &means)?;
        if let Some(kept) = &mut kept {
            kept.write_if_due(&so_far)?;
        }
        progress.set((so_far.seen * n_ctx) as u64);
    }
    progress.finish();
    if let Some(kept) = &mut kept {
        kept.write(&so_far)?;
    }
    Ok(so_far)
}

/// Whether the stop button was pressed, which is forgotten.
fn stopped() -> bool {
    let stopped = interrupt::requested();
    if stopped {
        interrupt::clear();
    }
    stopped
}

fn interrupted() -> Error {
    Error::Interrupted { what: "the evaluation", remedy: "the same call starts again".to_owned() }
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
