//! The figures of this field, from runs and SAEs.

use super::{Axis, Content, Mark, PanelSpec, Sample, Scale, Series, Unit, panels};
use crate::display::{Figure, format};
use crate::error::{Error, Result};
use crate::sae::Sae;
use crate::train::{HeldOutPoint, Run, Runs, TrainPoint, reached};

/// Held-out NMSE and CE added against tokens seen, and how much sooner the best run with a table reaches what the best one without ends at.
///
/// NMSE is the mean of ‖x̂ − x‖² / (‖x‖² + 1e-4), CE added is (CE patched − CE clean) / (CE clean + 0.001); position 0 is not counted.
///
/// # Errors
/// [`Error::Figure`] if the runs have no held-out measurements.
pub fn reconstruction(runs: &Runs) -> Result<Figure> {
    if runs.runs.iter().all(|run| run.history.held_out.is_empty()) {
        let why = "these runs have no held-out measurements: give the trainer some text with .held_out(&model, &corpus.valid)";
        return Err(Error::Figure(why.to_owned()));
    }
    let panel = |title: &str, label: &str, value: fn(&HeldOutPoint) -> f64| {
        let curve = |run: &Run| held_out_curve(run, value);
        PanelSpec {
            title: title.to_owned(),
            x: tokens_seen(),
            y: Axis { label: label.to_owned(), scale: Scale::Log, ..Axis::default() },
            // Before training the curves are far above everything else, and a logarithm needs what is positive.
            content: Content::Curves(runs.runs.iter().map(|run| Series::new(&run.name, positive(curve(run)))).collect()),
            marks: sooner(runs, value).into_iter().collect(),
        }
    };
    let both = [panel("Reconstruction", "NMSE", |point| point.nmse), panel("Language model", "CE added", |point| point.ce_added)];
    panels("Held-out text", &both, 2)
}

/// Loss, NMSE, dead share and, with a table, its similarity to its start, on training batches against tokens seen.
///
/// # Errors
/// [`Error::Figure`] if nothing was logged yet.
pub fn training(runs: &Runs) -> Result<Figure> {
    let panel = |title: &str, y: Axis, value: &dyn Fn(&TrainPoint) -> Option<f64>| {
        let curve = |run: &Run| -> Vec<(f64, f64)> {
            run.history.train.iter().filter_map(|point| value(point).map(|value| (point.tokens as f64, value))).collect()
        };
        let series = runs.runs.iter().map(|run| Series::new(&run.name, curve(run))).filter(|series| !series.points.is_empty());
        PanelSpec { title: title.to_owned(), x: tokens_seen(), y, content: Content::Curves(series.collect()), marks: Vec::new() }
    };
    let axis = |label: &str, scale, unit| Axis { label: label.to_owned(), scale, unit, ..Axis::default() };
    let mut all = vec![
        panel("Loss", axis("mean ‖x̂ − x‖²", Scale::Log, Unit::Number), &|point| Some(point.loss)),
        panel("NMSE", axis("NMSE", Scale::Log, Unit::Number), &|point| Some(point.nmse)),
        panel("Dead latents", axis("share of latents", Scale::Linear, Unit::Share), &|point| Some(point.dead)),
    ];
    if runs.runs.iter().any(|run| run.sae.lookup.is_some()) {
        all.push(panel("Table", axis("⟨W, W₀⟩ / ‖W₀‖²", Scale::Linear, Unit::Number), &|point| point.lookup_sim));
    }
    panels("Training batches", &all, 2)
}

/// How long the rows of the table are: ‖W_lookup[t]‖ over tokens, where it started and as it is now.
///
/// # Errors
/// [`Error::Figure`] if the SAE has no table.
pub fn lookup_norms(sae: &Sae) -> Result<Figure> {
    let Some(table) = &sae.lookup else {
        return Err(Error::Figure("this SAE has no lookup table: only a TSAE has norms to show".to_owned()));
    };
    let norms = |table: &[f32], scale: f64| -> Vec<f64> {
        table.chunks_exact(sae.d_model()).map(|row| scale * row.iter().map(|w| f64::from(w * w)).sum::<f64>().sqrt()).collect()
    };
    let mut samples = Vec::new();
    if let Some(start) = sae.config.lookup.as_ref().filter(|start| start.is_learned() && start.balance() > 0.0) {
        samples.push(Sample::new("before training", norms(start.table(), f64::from(start.balance()))));
    }
    samples.push(Sample::new("W_lookup", norms(table, 1.0)));
    let options = super::Options::default();
    super::histogram("Rows of the token table", "‖W_lookup[token]‖", "tokens", &samples, 0, &options)
}

fn tokens_seen() -> Axis {
    Axis { label: "training tokens".to_owned(), unit: Unit::Count, ..Axis::default() }
}

fn held_out_curve(run: &Run, value: fn(&HeldOutPoint) -> f64) -> Vec<(f64, f64)> {
    run.history.held_out.iter().map(|point| (point.tokens as f64, value(point))).collect()
}

fn positive(curve: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    curve.into_iter().filter(|&(_, value)| value > 0.0).collect()
}

/// The mark from where the best TSAE reached the final value of the best SAE to where that one did.
fn sooner(runs: &Runs, value: fn(&HeldOutPoint) -> f64) -> Option<Mark> {
    let (slow, fast) = (runs.best_without_lookup()?, runs.best_with_lookup()?);
    let (slow, fast) = (held_out_curve(slow, value), held_out_curve(fast, value));
    let y = slow.last().map(|point| point.1).filter(|y| *y > 0.0)?;
    let (from, to) = (reached(&fast, y).filter(|&from| from > 0.0)?, reached(&slow, y)?);
    Some(Mark::Sooner { y, from, to, label: format!("{} sooner", format::times(to / from)) })
}
