//! The figures of this field, from runs and SAEs.

use std::path::{Path, PathBuf};

use crate::base::error::{Error, Result};
use crate::base::format;
use crate::display::Figure;
use crate::display::chart::{
    Axis, Mark, Options, PanelSpec, Sample, Scale, Series, Unit, histogram, panels,
};
use crate::eval::HeldOutPoint;
use crate::sae::Sae;
use crate::train::{History, Run, Runs, TrainPoint, reached};

/// Held-out NMSE and CE added against tokens seen, and how much sooner the best run with a table
/// reaches the final value of the best one without.
///
/// NMSE is the mean of ‖x̂ − x‖² / (‖x‖² + 1e-4), CE added is (CE patched − CE clean) / (CE clean +
/// 0.001); position 0 is not counted.
///
/// # Errors
/// [`Error::Figure`] if the runs have no held-out measurements.
pub fn reconstruction(runs: &Runs) -> Result<Figure> {
    let measured: Vec<&Run> =
        runs.runs.iter().filter(|run| !run.history.held_out.is_empty()).collect();
    if measured.is_empty() {
        let why = "these runs have no held-out measurements: give the trainer some text with .held_out(&model, &corpus.valid)";
        return Err(Error::Figure(why.to_owned()));
    }
    let panel = |title: &str, label: &str, value: fn(&HeldOutPoint) -> f64| {
        let curves: Vec<_> = measured.iter().map(|run| run.history.curve(value)).collect();
        // A reconstruction can end with no cross-entropy added, or less than none.
        let ends_above_0 =
            curves.iter().all(|curve| curve.last().is_some_and(|point| point.1 > 0.0));
        let scale = if ends_above_0 { Scale::Log } else { Scale::Linear };
        let shown = |curve: Vec<(f64, f64)>| if ends_above_0 { positive(curve) } else { curve };
        let series =
            measured.iter().zip(curves).map(|(run, curve)| Series::new(&run.name, shown(curve)));
        let y = Axis::of(label, scale, Unit::Number);
        let marks = sooner(runs, value).into_iter().collect();
        PanelSpec { marks, ..PanelSpec::curves(title, tokens_seen(), y, marked(series.collect())) }
    };
    let both = [
        panel("Reconstruction", "NMSE", |point| point.nmse),
        panel("Language model", "CE added", |point| point.ce_added),
    ];
    panels(&titled("Held-out text", runs), &both, 2)
}

impl Runs {
    /// Draws [`reconstruction`], [`training`] and, of each run with a table of its own,
    /// [`lookup_norms`], as far as there is something to draw, and saves them in a folder; gives
    /// the files.
    ///
    /// # Errors
    /// [`Error::Figure`] if there is nothing at all to draw, [`Error::Io`].
    pub fn save_figures(&self, dir: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
        let dir = dir.as_ref();
        let mut figures = vec![
            ("reconstruction".to_owned(), reconstruction(self)),
            ("training".to_owned(), training(self)),
        ];
        let tables = self.runs.iter().filter(|run| run.sae.lookup.is_some());
        figures.extend(
            tables.map(|run| (format!("lookup_norms {}", run.name), lookup_norms(&run.sae))),
        );
        let mut files = Vec::new();
        let mut why = String::new();
        for (name, figure) in figures {
            match figure {
                Ok(figure) => {
                    crate::base::files::create_folder(dir)?;
                    files.push(dir.join(format!("{name}.svg")));
                    figure.save(&files[files.len() - 1])?;
                }
                Err(Error::Figure(nothing)) => why = nothing,
                Err(error) => return Err(error),
            }
        }
        if files.is_empty() { Err(Error::Figure(why)) } else { Ok(files) }
    }
}

/// Loss, NMSE, dead share and, with a table, its similarity to its start, on training batches
/// against tokens seen; and L0, where it is not simply k.
///
/// Of more than a hundred points of loss or NMSE, the bold curve is a moving mean over a fiftieth
/// of the run; the points are pale behind.
///
/// # Errors
/// [`Error::Figure`] if nothing was logged yet.
pub fn training(runs: &Runs) -> Result<Figure> {
    let courses = runs.runs.iter().map(|run| (run.name.as_str(), &run.history)).collect::<Vec<_>>();
    let all = training_panels(&courses)?;
    panels(&titled("Training batches", runs), &all, if all.len() > 4 { 3 } else { 2 })
}

/// What [`training`] shows, and held-out NMSE where it was measured, of named histories: of runs
/// that are still in training, too.
///
/// # Errors
/// [`Error::Figure`] if nothing was logged or measured yet.
pub fn courses(title: &str, courses: &[(&str, &History)]) -> Result<Figure> {
    let held_out = held_out_panel(courses);
    let all: Vec<PanelSpec> = match training_panels(courses) {
        Ok(panels) => held_out.into_iter().chain(panels).collect(),
        Err(error) => vec![held_out.ok_or(error)?],
    };
    panels(title, &all, if all.len() > 4 { 3 } else { 2.min(all.len()) })
}

/// Held-out NMSE, if there is any.
fn held_out_panel(courses: &[(&str, &History)]) -> Option<PanelSpec> {
    let measured = courses.iter().filter(|(_, history)| !history.held_out.is_empty());
    let series: Vec<Series> = measured
        .map(|(name, history)| Series::new(name, positive(history.curve(|point| point.nmse))))
        .collect();
    let y = Axis::of("NMSE", Scale::Log, Unit::Number);
    (!series.is_empty())
        .then(|| PanelSpec::curves("Held-out text", tokens_seen(), y, marked(series)))
}

fn training_panels(courses: &[(&str, &History)]) -> Result<Vec<PanelSpec>> {
    if courses.iter().all(|(_, history)| history.train.is_empty()) {
        return Err(Error::Figure("these runs have logged no training batch yet".to_owned()));
    }
    let panel = |title: &str, y: Axis, value: &dyn Fn(&TrainPoint) -> Option<f64>| {
        let curve = |history: &History| -> Vec<(f64, f64)> {
            history
                .train
                .iter()
                .filter_map(|point| value(point).map(|value| (point.tokens as f64, value)))
                .collect()
        };
        let series = courses
            .iter()
            .map(|(name, history)| Series::new(name, curve(history)))
            .filter(|series| !series.points.is_empty());
        let series = series.map(|s| if y.scale == Scale::Log { calmed(s) } else { s }).collect();
        PanelSpec::curves(title, tokens_seen(), y, series)
    };
    let (log, linear) = (
        |label: &str| Axis::of(label, Scale::Log, Unit::Number),
        |label: &str| Axis::of(label, Scale::Linear, Unit::Number),
    );
    let mut all = vec![
        panel("Loss", log("mean ‖x̂ − x‖²"), &|point| Some(point.loss)),
        panel("NMSE", log("NMSE"), &|point| Some(point.nmse)),
        panel("Dead latents", Axis::of("share of latents", Scale::Linear, Unit::Share), &|point| {
            Some(point.dead)
        }),
    ];
    let points = || courses.iter().flat_map(|(_, history)| &history.train);
    if points().any(|point| point.lookup_sim.is_some()) {
        all.push(panel("Table", linear("⟨W, W₀⟩ / ‖W₀‖²"), &|point| point.lookup_sim));
    }
    let first = points().next().map(|point| point.l0);
    if points().any(|point| Some(point.l0) != first) {
        all.push(panel("L0", linear("latents a token"), &|point| Some(point.l0)));
    }
    Ok(all)
}

/// How long the rows of the table are: `‖W_lookup[t]‖` over tokens, where it started and as it is
/// now.
///
/// # Errors
/// [`Error::Figure`] if the SAE has no table.
pub fn lookup_norms(sae: &Sae) -> Result<Figure> {
    let Some(table) = &sae.lookup else {
        return Err(Error::Figure(
            "this SAE has no lookup table: only a TSAE has norms to show".to_owned(),
        ));
    };
    let norms = |table: &[f32], scale: f64| -> Vec<f64> {
        table
            .chunks_exact(sae.d_model())
            .map(|row| scale * row.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>().sqrt())
            .collect()
    };
    let mut samples = Vec::new();
    if let Some(start) =
        sae.config.lookup.as_ref().filter(|start| start.is_learned() && start.balance() > 0.0)
    {
        samples
            .push(Sample::new("before training", norms(start.table(), f64::from(start.balance()))));
    }
    samples.push(Sample::new("W_lookup", norms(table, 1.0)));
    let options =
        Options { x: Axis { scale: spread(&samples), ..Axis::default() }, ..Options::default() };
    histogram("Rows of the token table", "‖W_lookup[token]‖", "tokens", &samples, 0, &options)
}

fn tokens_seen() -> Axis {
    Axis::of("training tokens", Scale::Linear, Unit::Count)
}

/// A point that a logarithmic axis cannot show breaks the curve there.
fn positive(curve: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    curve
        .into_iter()
        .map(|(tokens, value)| (tokens, if value > 0.0 { value } else { f64::NAN }))
        .collect()
}

/// For a logarithmic axis; and smoothed, if there are so many points that noise hides the course.
fn calmed(series: Series) -> Series {
    let share = if series.points.len() > 100 { 0.02 } else { 0.0 };
    Series { points: positive(series.points), ..series }.smoothed(share)
}

/// Markers at the measurements, while they can be told apart.
fn marked(series: Vec<Series>) -> Vec<Series> {
    let few = series.iter().all(|s| s.points.len() <= 15);
    series.into_iter().map(|s| Series { markers: few, ..s }).collect()
}

/// What is shown, and of which model and hook if all runs agree on it.
fn titled(what: &str, runs: &Runs) -> String {
    let mut origins = runs.runs.iter().map(|run| (&run.sae.origin.model, run.sae.origin.hook));
    match origins.next() {
        Some((Some(model), Some(hook)))
            if origins.all(|other| other == (&Some(model.clone()), Some(hook))) =>
        {
            format!("{what} · {model}, {hook}")
        }
        _ => what.to_owned(),
    }
}

/// Logarithmic if a few values lie far above the others, as the norms of BOS and of rare tokens
/// can.
fn spread(samples: &[Sample]) -> Scale {
    let far = samples.iter().any(|sample| {
        let mut values = sample.values.clone();
        values.sort_unstable_by(f64::total_cmp);
        values
            .last()
            .zip(values.get(values.len() / 2))
            .is_some_and(|(max, median)| *max > 8.0 * median)
    });
    let all_positive = samples.iter().flat_map(|sample| &sample.values).all(|v| *v > 0.0);
    if far && all_positive { Scale::Log } else { Scale::Linear }
}

/// The mark from where the best TSAE reached the final value of the best SAE to where that one did.
fn sooner(runs: &Runs, value: fn(&HeldOutPoint) -> f64) -> Option<Mark> {
    let (slow, fast) = (runs.best_without_lookup()?, runs.best_with_lookup()?);
    let (slow, fast) = (slow.history.curve(value), fast.history.curve(value));
    let y = slow.last().map(|point| point.1).filter(|y| *y > 0.0)?;
    let (from, to) =
        (reached(&fast, y).filter(|&from| from > 0.0)?, reached(&slow, y).filter(|&to| to > 0.0)?);
    let label = if from <= to {
        format!("{} sooner", format::times(to / from))
    } else {
        format!("{} later", format::times(from / to))
    };
    Some(Mark::Sooner { y, from, to, label })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::display::chart::tests::checked;
    use crate::sae::{Lookup, Origin, RowNorm, SaeConfig};

    fn run(name: &str, lookup: bool, nmse: &[f64], ce_added: &[f64]) -> Run {
        let table = vec![0.5; 8 * 4];
        let config = SaeConfig::new(4, 8);
        let config = if lookup {
            config.with_lookup(Lookup::from_table(table.clone(), 4).unwrap())
        } else {
            config
        };
        let origin = Origin {
            model: Some("tiny".into()),
            hook: "blocks.2.hook_resid_pre".parse().ok(),
            ..Origin::default()
        };
        let sae = Sae {
            config,
            w_enc: vec![],
            b_enc: vec![],
            w_dec: vec![],
            b_dec: vec![],
            threshold: vec![],
            r_mag: vec![],
            b_mag: vec![],
            lookup: lookup.then_some(table),
            index: Default::default(),
            subtract: false,
            row_norm: RowNorm::None,
            origin,
        };
        let at = |i: usize| 1_000_000 * i as u64;
        let point = |i: usize| HeldOutPoint {
            tokens: at(i),
            nmse: nmse[i],
            ce_added: ce_added[i],
            loss_recovered: 0.9,
            dead: 0.1,
        };
        let train = |i: usize| TrainPoint {
            tokens: at(i),
            loss: nmse[i] * 90.0,
            nmse: nmse[i],
            l0: 16.0,
            dead: 0.1,
            lookup_sim: lookup.then_some(1.0),
        };
        let history = History {
            train: (0..nmse.len()).map(train).collect(),
            held_out: (0..nmse.len()).map(point).collect(),
        };
        Run {
            name: name.into(),
            sae,
            history,
            tokens: 4_000_000,
            finished: true,
            lr: 1e-3,
            scored_in_full: None,
            made: None,
        }
    }

    fn pair() -> Runs {
        let sae = run("SAE", false, &[2.0, 0.2, 0.1, 0.08], &[3.0, 0.3, 0.2, 0.16]);
        Runs {
            runs: vec![sae, run("TSAE", true, &[1.0, 0.08, 0.04, 0.03], &[1.0, 0.32, 0.16, 0.05])],
        }
    }

    #[test]
    fn reconstruction_marks_the_speed_up_and_names_the_hook() {
        let texts = checked(&reconstruction(&pair()).unwrap());
        for want in [
            "Held-out text · tiny, blocks.2.hook_resid_pre",
            "3.0× sooner",
            "1.5× sooner",
            "NMSE",
            "CE added",
            "SAE",
            "TSAE",
        ] {
            assert!(texts.iter().any(|t| t == want), "{want} in {texts:?}");
        }
    }

    #[test]
    fn reconstruction_of_odd_runs() {
        let mut runs = pair();
        runs.runs[0].history.held_out.clear();
        let texts = checked(&reconstruction(&runs).unwrap());
        assert!(!texts.iter().any(|t| t.contains("sooner")), "nothing to compare with");
        runs.runs[1].history.held_out.clear();
        assert!(reconstruction(&runs).unwrap_err().to_string().contains("held_out"));
        // Less cross-entropy than the model itself; a measurement that failed; one point only; the
        // TSAE later.
        for (nmse, ce) in
            [([0.3, 0.2, 0.1], [0.2, 0.1, -0.01]), ([0.3, f64::NAN, 0.1], [0.0, 0.1, 0.1])]
        {
            checked(
                &reconstruction(&Runs {
                    runs: vec![run("SAE", false, &nmse, &ce), run("TSAE", true, &nmse, &ce)],
                })
                .unwrap(),
            );
        }
        checked(&reconstruction(&Runs { runs: vec![run("SAE", false, &[0.3], &[0.1])] }).unwrap());
        let mut slower = pair();
        slower.runs[0].history.held_out.remove(0);
        slower.runs[0].history.held_out[0] =
            HeldOutPoint { nmse: 0.08, ..slower.runs[0].history.held_out[0] };
        slower.runs[1] = run("TSAE", true, &[1.0, 0.3, 0.2, 0.08], &[1.0, 0.32, 0.16, 0.05]);
        assert!(checked(&reconstruction(&slower).unwrap()).iter().any(|t| t == "3.0× later"));
    }

    #[test]
    fn training_shows_what_was_logged() {
        let mut runs = pair();
        let texts = checked(&training(&runs).unwrap());
        assert!(
            ["Loss", "NMSE", "Dead latents", "Table"]
                .iter()
                .all(|want| texts.iter().any(|t| t == want)),
            "{texts:?}"
        );
        assert!(!texts.iter().any(|t| t == "L0"), "a constant k is not drawn");
        runs.runs[0].history.train[1].l0 = 15.2;
        assert!(checked(&training(&runs).unwrap()).iter().any(|t| t == "L0"));
        runs.runs.iter_mut().for_each(|run| run.history.train.clear());
        assert!(training(&runs).unwrap_err().to_string().contains("no training batch"));
    }

    #[test]
    fn norms_of_the_table_before_and_after() {
        let mut runs = pair();
        assert!(
            lookup_norms(&runs.runs[0].sae).unwrap_err().to_string().contains("no lookup table")
        );
        let texts = checked(&lookup_norms(&runs.runs[1].sae).unwrap());
        assert!(texts.iter().any(|t| t == "before training"), "{texts:?}");
        // One row far longer than the others.
        runs.runs[1].sae.lookup = Some((0..32).map(|i| if i < 4 { 500.0 } else { 0.5 }).collect());
        let texts = checked(&lookup_norms(&runs.runs[1].sae).unwrap());
        assert!(texts.iter().any(|t| t == "100"), "{texts:?}");
    }
}
