//! One panel: its axes, and what stands between them.

use super::axis::{Frame, Range, Rect, Room};
use super::canvas::{Canvas, Line, Side, Type};
use super::histogram::Bins;
use super::measure::{fitted, text_width};
use super::palette::Ink;
use super::spec::{Axis, Content, PanelSpec, Scale, Series};
use super::ticks::Ticks;
use super::{bars, histogram, lines, marks};
use crate::base::error::{Error, Result};

const TICK_SIZE: f64 = 12.0;
const LABEL_SIZE: f64 = 13.0;
/// Numbers stand at least so far apart.
const TICK_GAP: f64 = 14.0;

/// A panel whose numbers are checked and whose ranges are known.
pub(super) struct Panel<'a> {
    spec: &'a PanelSpec,
    x: Range,
    y: Range,
    bins: Option<Bins>,
}

/// What stands around the plot itself, in pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Margins {
    pub left: f64,
    pub top: f64,
    pub right: f64,
    pub bottom: f64,
}

impl<'a> Panel<'a> {
    pub(super) fn prepare(spec: &'a PanelSpec) -> Result<Panel<'a>> {
        Panel::prepared(spec).map_err(|e| match e {
            Error::Figure(why) if !spec.title.is_empty() => {
                Error::Figure(format!("panel \"{}\": {why}", spec.title))
            }
            e => e,
        })
    }

    fn prepared(spec: &'a PanelSpec) -> Result<Panel<'a>> {
        let ((xs, ys), bins) = match &spec.content {
            Content::Curves(series) => (shown(series)?, None),
            Content::Histogram { samples, bins } => {
                (Default::default(), Some(histogram::count(samples, *bins, &spec.x)?))
            }
            Content::Bars { groups, .. } => {
                ((vec![], groups.iter().flat_map(|g| g.values.clone()).collect()), None)
            }
        };
        let all_xs: Vec<f64> =
            xs.into_iter().chain(spec.marks.iter().flat_map(|m| m.xs())).collect();
        let all_ys: Vec<f64> =
            ys.into_iter().chain(spec.marks.iter().flat_map(|m| m.ys())).collect();
        check(&all_xs, &spec.x, "x")?;
        check(&all_ys, &spec.y, "y")?;
        if spec.marks.iter().any(|m| m.xs().into_iter().chain(m.ys()).any(|v| !v.is_finite())) {
            return Err(Error::Figure("a mark stands at a number that is not finite".to_owned()));
        }
        let (x, y) = match (&spec.content, &bins) {
            (Content::Bars { categories, groups }, _) => {
                let slots = Range {
                    lo: -0.5,
                    hi: categories.len() as f64 - 0.5,
                    scale: Scale::Linear,
                    unit: spec.x.unit,
                };
                (slots, bars::heights(categories, groups, &spec.y)?)
            }
            (_, Some(bins)) => (bins.x.clone(), histogram::heights(bins, &spec.y)?),
            _ => (
                Range::around(all_xs.iter().copied(), &spec.x, "x", Room::Loose)?,
                Range::around(all_ys.iter().copied(), &spec.y, "y", Room::Loose)?,
            ),
        };
        Ok(Panel { spec, x, y, bins })
    }

    /// The room that axes, labels and title need in a panel of this size.
    pub(super) fn margins(&self, width: f64, height: f64) -> Margins {
        let label = |text: &str| if text.is_empty() { 0.0 } else { LABEL_SIZE + 8.0 };
        // How high the plot will be depends on the margins: a little higher, and its numbers may
        // have a digit more.
        let ticks =
            [0.75, 0.85, 0.95].into_iter().flat_map(|share| self.y_ticks(height * share).major);
        let numbers = ticks.map(|(_, text)| text_width(&text, TICK_SIZE)).fold(0.0, f64::max);
        // The last number along x may reach over the end of the axis.
        let last = self
            .x_ticks(width * 0.8)
            .major
            .last()
            .map_or(0.0, |(_, text)| text_width(text, TICK_SIZE) / 2.0);
        Margins {
            left: 6.0 + label(&self.spec.y.label) + numbers + 8.0,
            top: if self.spec.title.is_empty() { 10.0 } else { 30.0 },
            right: if self.categories().is_some() { 10.0 } else { last.max(10.0) },
            bottom: 8.0 + TICK_SIZE + 6.0 + label(&self.spec.x.label),
        }
    }

    /// Draws the panel with its plot in `rect`. `colour` gives the number of a name.
    pub(super) fn draw(
        &self,
        canvas: &Canvas,
        rect: Rect,
        margins: Margins,
        colour: &dyn Fn(&str) -> usize,
    ) -> Result<()> {
        let frame = Frame { x: self.x.clone(), y: self.y.clone(), rect };
        self.grid(canvas, &frame)?;
        let numbers: Vec<usize> = self.spec.content.names().into_iter().map(colour).collect();
        let drawn = match &self.spec.content {
            Content::Curves(series) => lines::draw(canvas, &frame, series, &numbers)?,
            Content::Histogram { .. } => {
                let counts = self.bins.as_ref().map_or(&[][..], |bins| &bins.counts);
                histogram::draw(canvas, &frame, counts, &numbers)?
            }
            Content::Bars { categories, groups } => {
                bars::draw(canvas, &frame, categories.len(), groups, &numbers)?;
                Vec::new()
            }
        };
        self.axes(canvas, &frame, margins)?;
        marks::draw(canvas, &frame, &self.spec.marks, &drawn)
    }

    fn categories(&self) -> Option<&[String]> {
        match &self.spec.content {
            Content::Bars { categories, .. } => Some(categories),
            _ => None,
        }
    }

    fn y_ticks(&self, height: f64) -> Ticks {
        self.y.ticks(((height / 46.0) as usize).clamp(2, 6))
    }

    /// As many numbers as fit side by side.
    fn x_ticks(&self, width: f64) -> Ticks {
        if let Some(categories) = self.categories() {
            let slot = width / categories.len().max(1) as f64;
            // Too narrow for any word: every second, third, … category is named.
            let every = (26.0 / slot).ceil().max(1.0) as usize;
            let named = categories.iter().enumerate().step_by(every);
            let major = named
                .map(|(i, name)| (i as f64, fitted(name, TICK_SIZE, slot * every as f64 - 4.0)))
                .collect();
            return Ticks { major, minor: vec![] };
        }
        let fits = |ticks: &Ticks| {
            ticks.major.windows(2).all(|pair| {
                let apart = (self.x.share(pair[1].0) - self.x.share(pair[0].0)) * width;
                apart
                    >= (text_width(&pair[0].1, TICK_SIZE) + text_width(&pair[1].1, TICK_SIZE)) / 2.0
                        + TICK_GAP
            })
        };
        let most = ((width / 70.0) as usize).clamp(2, 8);
        (2..=most)
            .rev()
            .map(|want| self.x.ticks(want))
            .find(fits)
            .unwrap_or_else(|| self.x.ticks(2))
    }

    fn grid(&self, canvas: &Canvas, frame: &Frame) -> Result<()> {
        let rect = &frame.rect;
        let across = |y: f64, ink| {
            canvas.line((rect.left, frame.py(y)), (rect.right, frame.py(y)), ink, 1.0)
        };
        let up = |x: f64, ink| {
            canvas.line((frame.px(x), rect.bottom), (frame.px(x), rect.top), ink, 1.0)
        };
        let (xs, ys) = (self.x_ticks(rect.width()), self.y_ticks(rect.height()));
        ys.minor.iter().try_for_each(|&y| across(y, Ink::MINOR))?;
        ys.major.iter().try_for_each(|(y, _)| across(*y, Ink::GRID))?;
        if self.categories().is_none() {
            xs.minor.iter().try_for_each(|&x| up(x, Ink::MINOR))?;
            xs.major.iter().try_for_each(|(x, _)| up(*x, Ink::GRID))?;
        }
        Ok(())
    }

    fn axes(&self, canvas: &Canvas, frame: &Frame, margins: Margins) -> Result<()> {
        let rect = &frame.rect;
        let (corner, ink) = ((rect.left, rect.bottom), Ink::AXIS);
        canvas.path(&[(rect.left, rect.top), corner, (rect.right, rect.bottom)], ink, 1.0)?;
        let number = Type::new(TICK_SIZE, Ink::TICK);
        for (y, text) in self.y_ticks(rect.height()).major {
            canvas.line((rect.left - 4.0, frame.py(y)), (rect.left, frame.py(y)), ink, 1.0)?;
            canvas.text(
                &text,
                (rect.left - 8.0, frame.py(y)),
                number.side(Side::End).line(Line::Centre),
            )?;
        }
        for (x, text) in self.x_ticks(rect.width()).major {
            if self.categories().is_none() {
                canvas.line(
                    (frame.px(x), rect.bottom),
                    (frame.px(x), rect.bottom + 4.0),
                    ink,
                    1.0,
                )?;
            }
            canvas.text(
                &text,
                (frame.px(x), rect.bottom + 8.0),
                number.side(Side::Middle).line(Line::Top),
            )?;
        }
        let label = Type::new(LABEL_SIZE, Ink::TEXT).side(Side::Middle);
        let (middle_x, middle_y) = ((rect.left + rect.right) / 2.0, (rect.top + rect.bottom) / 2.0);
        if !self.spec.x.label.is_empty() {
            canvas.text(
                &self.spec.x.label,
                (middle_x, rect.bottom + margins.bottom - 8.0),
                label,
            )?;
        }
        if !self.spec.y.label.is_empty() {
            canvas.text(
                &self.spec.y.label,
                (rect.left - margins.left + 6.0 + LABEL_SIZE, middle_y),
                label.upright(),
            )?;
        }
        if !self.spec.title.is_empty() {
            let title = fitted(&self.spec.title, LABEL_SIZE * 1.08, rect.width() + margins.right);
            canvas.text(
                &title,
                (rect.left, rect.top - 11.0),
                Type::new(LABEL_SIZE, Ink::TEXT).bold(),
            )?;
        }
        Ok(())
    }
}

/// The finite points of all series, as their xs and ys.
fn shown(series: &[Series]) -> Result<(Vec<f64>, Vec<f64>)> {
    if series.is_empty() {
        return Err(Error::Figure("there is no curve to draw".to_owned()));
    }
    let finite = |s: &Series| {
        s.points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect::<Vec<_>>()
    };
    if let Some(empty) = series.iter().find(|s| finite(s).is_empty()) {
        return Err(Error::Figure(format!(
            "\"{}\" has no point that could be drawn, of {}",
            empty.name,
            empty.points.len()
        )));
    }
    if let Some(s) =
        series.iter().find(|s| !s.spread.is_empty() && s.spread.len() != s.points.len())
    {
        return Err(Error::Figure(format!(
            "\"{}\" has a spread at {} of its {} points",
            s.name,
            s.spread.len(),
            s.points.len()
        )));
    }
    let (xs, mut ys): (Vec<f64>, Vec<f64>) = series.iter().flat_map(finite).unzip();
    ys.extend(
        series
            .iter()
            .flat_map(|s| &s.spread)
            .flat_map(|&(from, to)| [from, to])
            .filter(|y| y.is_finite()),
    );
    Ok((xs, ys))
}

fn check(values: &[f64], axis: &Axis, name: &str) -> Result<()> {
    match values.iter().find(|v| axis.scale == Scale::Log && **v <= 0.0) {
        Some(v) => Err(Error::Figure(format!(
            "{v} cannot be drawn on a logarithmic {name} axis: leave it out, or take a linear axis"
        ))),
        None => Ok(()),
    }
}
