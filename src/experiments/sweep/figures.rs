//! Results as figures.

use super::{Setting, Spread, SweepResults, SweepRow};
use crate::base::error::{Error, Result};
use crate::display::Figure;
use crate::display::chart::{self, Axis, Content, Mark, Options, PanelSpec, Scale, Series, Unit};
use crate::eval::Measure;
use crate::experiments::paper;

/// A place along x, and the spread of what is drawn there.
type At = (f64, Spread);

impl SweepResults {
    /// NMSE and CE added against L0, a curve an arm (and expansion, if that is varied), a row of
    /// panels a hook; bars reach from the least to the greatest over the seeds.
    ///
    /// Along a curve lies whatever else is varied; of several learning rates, the one with the
    /// lowest mean NMSE.
    ///
    /// # Errors
    /// [`Error::Figure`] if there is no finished run.
    pub fn pareto(&self) -> Result<Figure> {
        self.pareto_with(&[])
    }

    /// The same with published points beside ours, dashed:
    /// `results.pareto_beside(&paper::pareto())`.
    ///
    /// Where theirs are GPT-2 small's, ours are those of this sweep's model: how the curves of one
    /// model lie to each other is what compares.
    ///
    /// # Errors
    /// As [`pareto`](SweepResults::pareto).
    pub fn pareto_beside(&self, published: &paper::Pareto) -> Result<Figure> {
        self.pareto_with(&published.rows)
    }

    fn pareto_with(&self, published: &[paper::ParetoRow]) -> Result<Figure> {
        let best = self.drawable()?.best_over("lr", Measure::Nmse)?;
        let by_expansion = best.varied().contains(&"expansion".to_owned());
        let named = |setting: &Setting| match by_expansion {
            true => format!("{}, {}×", setting.arm, setting.expansion),
            false => setting.arm.clone(),
        };
        let rows = best.rows();
        let mut hooks: Vec<_> = rows.iter().map(|row| row.setting.hook).collect();
        hooks.dedup();
        let mut panels = Vec::new();
        for hook in hooks {
            for (measure, value) in [
                (Measure::Nmse, (|row| row.nmse) as fn(&paper::ParetoRow) -> f64),
                (Measure::CeAdded, |row| row.ce_added),
            ] {
                let here = rows.iter().filter(|row| row.setting.hook == hook);
                let mut curves = curves(
                    here,
                    |row| named(&row.setting),
                    |row| Some((row.spread(Measure::L0).mean, row.spread(measure))),
                );
                let point = |row: &paper::ParetoRow| (row.l0, value(row));
                curves.extend(dashed(published, |row| &row.method, point));
                let title = if self.has_hooks() { hook.to_string() } else { String::new() };
                let [x, y] = [scale(&curves, |point| point.0), scale(&curves, |point| point.1)];
                panels.push(PanelSpec::curves(
                    &title,
                    Axis::of("L0: latents active per token", x, Unit::Number),
                    Axis::of(&labelled(measure), y, Unit::Number),
                    curves,
                ));
            }
        }
        chart::panels(&format!("Reconstruction against sparsity · {}", self.title()), &panels, 2)
    }

    /// A figure by layer, a curve an arm (and whatever else is varied); bars reach from the least
    /// to the greatest over the seeds.
    ///
    /// # Errors
    /// [`Error::Figure`] if there is no finished run.
    pub fn by_layer(&self, measure: Measure) -> Result<Figure> {
        let rows = self.drawable()?.rows();
        let curves = curves(
            rows.iter(),
            |row| self.named(&row.setting),
            |row| Some((row.setting.hook.layer as f64, row.spread(measure))),
        );
        let title = format!("{} by layer · {}", measure.name(), self.plan.model);
        figure(&title, "layer", layers(), measure, Scale::Linear, &curves)
    }

    /// A figure over the values of an axis, such as "expansion", a curve an arm; bars reach from
    /// the least to the greatest over the seeds.
    ///
    /// # Errors
    /// [`Error::Config`] if no run was varied along the axis, [`Error::Figure`] if there is no
    /// finished run.
    pub fn along(&self, axis: &str, measure: Measure) -> Result<Figure> {
        let rows = self.drawable()?.rows();
        let varied = self.varied();
        if !varied.iter().any(|known| known == axis) {
            return Err(Error::config(
                "axis",
                format!(
                    "nothing was varied along \"{axis}\"; the axes that were varied are {varied:?}"
                ),
            ));
        }
        let curves = curves(
            rows.iter(),
            |row| row.setting.arm.clone(),
            |row| Some((row.setting.get(axis)?, row.spread(measure))),
        );
        let [x, y] = [scale(&curves, |point| point.0), scale(&curves, |point| point.1)];
        let title = format!("{} over {axis} · {}", measure.name(), self.title());
        figure(&title, axis, Axis { scale: x, ..Axis::default() }, measure, y, &curves)
    }

    /// How many times fewer training tokens each arm needs for the final held-out NMSE and CE added
    /// of the baseline, by layer; bars reach from the least to the greatest over the seeds.
    ///
    /// # Errors
    /// [`Error::Config`] without a baseline; [`Error::Figure`] if no run reaches where the baseline
    /// ends at.
    pub fn speedups(&self) -> Result<Figure> {
        self.speedup_panels(layers(), "layer", |layer| layer as f64, &[])
    }

    /// The same with published bars beside ours, dashed:
    /// `results.speedups_beside(&paper::speedups())`. As the models have different numbers of
    /// layers, they stand over their depth, which is the layer ÷ the number of layers.
    ///
    /// # Errors
    /// As [`speedups`](SweepResults::speedups).
    pub fn speedups_beside(&self, published: &paper::Speedups) -> Result<Figure> {
        let axis = Axis { unit: Unit::Share, range: Some((0.0, 1.0)), ..Axis::default() };
        self.speedup_panels(
            axis,
            "depth: layer ÷ number of layers",
            |layer| layer as f64 / self.plan.n_layers as f64,
            &published.rows,
        )
    }

    fn speedup_panels(
        &self,
        x: Axis,
        label: &str,
        place: impl Fn(usize) -> f64,
        published: &[paper::SpeedupRow],
    ) -> Result<Figure> {
        let Some(baseline) = self.baseline() else {
            let why = "there is no baseline to compare with: name one with .with_baseline(\"SAE\"), or .baseline(\"SAE\") on the sweep";
            return Err(Error::config("baseline", why));
        };
        let rows = self.drawable()?.rows();
        let panel = |title: &str,
                     sooner: fn(&SweepRow) -> Option<Spread>,
                     value: fn(&paper::SpeedupRow) -> f64| {
            let mut curves = curves(
                rows.iter(),
                |row| self.named(&row.setting),
                |row| Some((place(row.setting.hook.layer), sooner(row)?)),
            );
            let point =
                |row: &paper::SpeedupRow| (row.layer as f64 / row.n_layers as f64, value(row));
            curves.extend(dashed(published, |row| &row.model, point));
            let y = format!("tokens of {baseline} ÷ tokens needed");
            let y = Axis::of(&y, Scale::Log, Unit::Number);
            let x = Axis { label: label.to_owned(), ..x.clone() };
            let marks = vec![Mark::Level { y: 1.0, label: "no sooner".to_owned() }];
            PanelSpec { marks, ..PanelSpec::curves(title, x, y, curves) }
        };
        let panels = [
            panel("Final NMSE", SweepRow::sooner_by_nmse, |row| row.nmse),
            panel("Final CE added", SweepRow::sooner_by_ce_added, |row| row.ce_added),
        ];
        let reached = panels.into_iter().filter(
            |panel| matches!(&panel.content, Content::Curves(curves) if !curves.is_empty()),
        );
        let reached: Vec<PanelSpec> = reached.collect();
        if reached.is_empty() {
            return Err(Error::Figure(format!("no run reaches the final value of {baseline}")));
        }
        chart::panels(&format!("How many times sooner · {}", self.plan.model), &reached, 2)
    }

    /// The results, if there are any.
    fn drawable(&self) -> Result<SweepResults> {
        match self.runs.is_empty() {
            true => Err(Error::Figure(format!(
                "no run in {} is finished: run the sweep",
                self.dir.display()
            ))),
            false => Ok(self.clone()),
        }
    }

    /// The arm, the values that are varied on it, and the site if there are several: "TSAE, k 30".
    fn named(&self, setting: &Setting) -> String {
        let mut words = vec![setting.arm.clone()];
        let values = self.varied().into_iter().filter_map(|axis| Some((setting.get(&axis)?, axis)));
        words.extend(
            values.map(|(value, axis)| format!("{axis} {}", Setting::written(&axis, value))),
        );
        if self.runs.iter().any(|run| run.setting.hook.site != setting.hook.site) {
            words.push(setting.hook.site.name().to_owned());
        }
        words.join(", ")
    }
}

/// Curves through the means, in the order in which their names first occur, with bars over the
/// seeds where there are several.
fn curves<'a>(
    rows: impl Iterator<Item = &'a SweepRow>,
    name: impl Fn(&SweepRow) -> String,
    at: impl Fn(&SweepRow) -> Option<At>,
) -> Vec<Series> {
    let mut named: Vec<(String, Vec<At>)> = Vec::new();
    for (row, at) in rows.filter_map(|row| Some((row, at(row)?))) {
        let name = name(row);
        match named.iter_mut().find(|(known, _)| *known == name) {
            Some((_, points)) => points.push(at),
            None => named.push((name, vec![at])),
        }
    }
    let drawn = named.into_iter().map(|(name, mut points)| {
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let several = points.iter().any(|(_, spread)| spread.n > 1);
        let spread =
            points.iter().filter(|_| several).map(|(_, spread)| (spread.min, spread.max)).collect();
        let means = points.iter().map(|(x, spread)| (*x, spread.mean)).collect();
        Series::new(&name, means).with_markers().with_spread(spread)
    });
    drawn.collect()
}

/// Published points, a dashed curve a name.
fn dashed<T>(
    published: &[T],
    name: impl Fn(&T) -> &str,
    point: impl Fn(&T) -> (f64, f64),
) -> Vec<Series> {
    let curve = |same: &[T]| {
        let points = same.iter().map(&point).collect();
        let name = format!("{}{}", chart::PUBLISHED, name(&same[0]));
        Series::new(&name, points).with_markers().dashed()
    };
    published.chunk_by(|a, b| name(a) == name(b)).map(curve).collect()
}

/// One panel of a measure.
fn figure(
    title: &str,
    x_label: &str,
    x: Axis,
    measure: Measure,
    scale: Scale,
    curves: &[Series],
) -> Result<Figure> {
    let unit = if measure.is_share() { Unit::Share } else { Unit::Number };
    let options = Options { x, y: Axis::of("", scale, unit), ..Options::default() };
    chart::curves(title, x_label, &labelled(measure), curves, &options)
}

/// Logarithmic, if there is nothing that such an axis cannot show.
fn scale(curves: &[Series], value: fn(&(f64, f64)) -> f64) -> Scale {
    let ends = curves.iter().flat_map(|curve| {
        curve.points.iter().zip(&curve.spread).map(|(point, spread)| (point.0, spread.0))
    });
    let all = curves.iter().flat_map(|curve| curve.points.iter().copied()).chain(ends);
    if all.map(|point| value(&point)).all(|value| value > 0.0) { Scale::Log } else { Scale::Linear }
}

fn layers() -> Axis {
    Axis { unit: Unit::Count, ..Axis::default() }
}

/// A figure and, short enough for an axis, its definition.
fn labelled(measure: Measure) -> String {
    let short = match measure {
        Measure::Nmse => "‖x̂ − x‖² / ‖x‖²",
        Measure::CeAdded => "(CE patched − CE) / CE",
        _ => return measure.name().to_owned(),
    };
    format!("{}: {short}", measure.name())
}
