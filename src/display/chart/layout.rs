//! A whole figure: title, legend, and panels in rows and columns.

use super::axis::Rect;
use super::canvas::{self, Canvas, Line, Type};
use super::lines;
use super::measure::{fitted, text_width};
use super::palette::Ink;
use super::panel::{Margins, Panel};
use super::spec::{Content, PanelSpec};
use crate::base::error::{Error, Result};
use crate::display::Figure;

const TITLE_SIZE: f64 = 15.0;
const LEGEND_SIZE: f64 = 13.0;
const LEGEND_ROW: f64 = 21.0;
const EDGE: f64 = 8.0;

/// What stands before the name of a series that was published; it has the colour of the one of that
/// name.
pub(crate) const PUBLISHED: &str = "paper: ";

/// How an entry of the legend is shown.
#[derive(Clone, Copy, PartialEq)]
enum Swatch {
    Line,
    Marked,
    Dashed,
    Box,
}

impl Swatch {
    fn width(self) -> f64 {
        if self == Swatch::Box { 12.0 } else { 22.0 }
    }
}

/// Draws the figure.
pub(super) fn draw(
    title: &str,
    specs: &[PanelSpec],
    columns: usize,
    size: Option<(u32, u32)>,
) -> Result<Figure> {
    if specs.is_empty() {
        return Err(Error::Figure("there is no panel to draw".to_owned()));
    }
    let panels = specs.iter().map(Panel::prepare).collect::<Result<Vec<_>>>()?;
    let columns = columns.clamp(1, specs.len());
    let rows = specs.len().div_ceil(columns);
    let names = names(specs);
    let legend = if names.len() > 1 { &names[..] } else { &[] };

    let (full_width, panel_height) = match columns {
        1 => (720.0, 340.0),
        2 => (920.0, 320.0),
        _ => (1040.0, 270.0),
    };
    let width = size.map_or(full_width, |(w, _)| f64::from(w.clamp(200, 4000)));
    let places = legend_places(legend, width);
    let head = head_height(title, &places);
    let height = size.map_or(head + panel_height * rows as f64, |(_, h)| {
        f64::from(h.clamp(150, 4000)).max(head + 120.0)
    });
    let cell = (width / columns as f64, (height - head) / rows as f64);

    let elements = canvas::elements(width as u32, height.round() as u32, |canvas| {
        if !title.is_empty() {
            let text = fitted(title, TITLE_SIZE * 1.06, width - 2.0 * EDGE);
            canvas.text(
                &text,
                (EDGE, 10.0),
                Type::new(TITLE_SIZE, Ink::TEXT).bold().line(Line::Top),
            )?;
        }
        for ((name, swatch), &(x, row)) in legend.iter().zip(&places) {
            let top = head - LEGEND_ROW * (rows_of(&places) - row) as f64;
            entry(
                canvas,
                name,
                *swatch,
                number(&names, name),
                (x, top + LEGEND_ROW / 2.0 - 2.0),
                width,
            )?;
        }
        for (i, panel) in panels.iter().enumerate() {
            let (column, row) = (i % columns, i / columns);
            let margins = aligned(panels.iter().skip(column).step_by(columns), cell, panel);
            let (left, top) = (cell.0 * column as f64, head + cell.1 * row as f64);
            let rect = Rect {
                left: left + margins.left,
                top: top + margins.top,
                right: (left + cell.0 - margins.right).max(left + margins.left + 20.0),
                bottom: (top + cell.1 - margins.bottom).max(top + margins.top + 20.0),
            };
            panel.draw(canvas, rect, margins, &|name| number(&names, name))?;
        }
        Ok(())
    })?;
    Ok(Figure::from_elements(
        &elements,
        width as u32,
        height.round() as u32,
        &summary(title, specs, &names),
    ))
}

/// Panels above each other have their axes above each other.
fn aligned<'a>(
    column: impl Iterator<Item = &'a Panel<'a>>,
    cell: (f64, f64),
    panel: &Panel,
) -> Margins {
    let own = panel.margins(cell.0, cell.1);
    column.map(|p| p.margins(cell.0, cell.1)).fold(own, |m, other| Margins {
        left: m.left.max(other.left),
        right: m.right.max(other.right),
        ..m
    })
}

/// All names in order of their first appearance.
fn names(specs: &[PanelSpec]) -> Vec<(String, Swatch)> {
    let mut names: Vec<(String, Swatch)> = Vec::new();
    let mut add = |name: &str, swatch| {
        if !names.iter().any(|(known, _)| known == name) {
            names.push((name.to_owned(), swatch));
        }
    };
    for spec in specs {
        let swatch = |i: usize| match &spec.content {
            Content::Curves(series) if series[i].dashed => Swatch::Dashed,
            Content::Curves(series) if series[i].markers => Swatch::Marked,
            Content::Curves(_) => Swatch::Line,
            Content::Histogram { .. } | Content::Bars { .. } => Swatch::Box,
        };
        spec.content.names().into_iter().enumerate().for_each(|(i, name)| add(name, swatch(i)));
    }
    names
}

/// The colour of a name: they are given in the order of names, and what was published of a series
/// has the series' own.
fn number(names: &[(String, Swatch)], name: &str) -> usize {
    let own = |name| ours(names, name).unwrap_or(name);
    let coloured = names.iter().filter(|(name, _)| ours(names, name).is_none());
    coloured.map(|(name, _)| name).position(|known| known == own(name)).unwrap_or(0)
}

/// The series of which this one was published, if both are drawn.
fn ours<'a>(names: &[(String, Swatch)], name: &'a str) -> Option<&'a str> {
    let ours = name.strip_prefix(PUBLISHED)?;
    names.iter().any(|(known, _)| known == ours).then_some(ours)
}

/// The left end and the row of each entry.
fn legend_places(legend: &[(String, Swatch)], width: f64) -> Vec<(f64, usize)> {
    let (mut x, mut row) = (EDGE, 0);
    legend
        .iter()
        .map(|(name, swatch)| {
            let wide = swatch.width() + 6.0 + text_width(name, LEGEND_SIZE) + 16.0;
            if x > EDGE && x + wide > width {
                (x, row) = (EDGE, row + 1);
            }
            let place = (x, row);
            x += wide;
            place
        })
        .collect()
}

fn rows_of(places: &[(f64, usize)]) -> usize {
    places.last().map_or(0, |&(_, row)| row + 1)
}

fn head_height(title: &str, places: &[(f64, usize)]) -> f64 {
    let title = if title.is_empty() { 4.0 } else { 10.0 + TITLE_SIZE + 9.0 };
    title + LEGEND_ROW * rows_of(places) as f64
}

fn entry(
    canvas: &Canvas,
    name: &str,
    swatch: Swatch,
    n: usize,
    (x, y): (f64, f64),
    width: f64,
) -> Result<()> {
    match swatch {
        Swatch::Box => canvas.rect((x, y - 5.5), (x + 11.0, y + 5.5), Ink::Pale(n, 0.92))?,
        Swatch::Dashed => {
            canvas.line((x + 1.0, y), (x + swatch.width() - 1.0, y), Ink::SeriesDashed(n), 2.4)?
        }
        Swatch::Line | Swatch::Marked => {
            canvas.line((x + 1.0, y), (x + swatch.width() - 1.0, y), Ink::Series(n), 2.4)?
        }
    }
    if swatch == Swatch::Marked {
        lines::marker(canvas, (x + swatch.width() / 2.0, y), n, 3.6)?;
    }
    let left = x + swatch.width() + 6.0;
    canvas.text(
        &fitted(name, LEGEND_SIZE, width - left - EDGE),
        (left, y),
        Type::new(LEGEND_SIZE, Ink::TEXT).line(Line::Centre),
    )
}

/// "Figure: Reconstruction: NMSE against tokens seen, CE added against tokens seen; SAE, TSAE".
fn summary(title: &str, specs: &[PanelSpec], names: &[(String, Swatch)]) -> String {
    let panel = |spec: &PanelSpec| match (spec.y.label.as_str(), spec.x.label.as_str()) {
        ("", "") => spec.title.clone(),
        (y, "") => y.to_owned(),
        ("", x) => format!("distribution of {x}"),
        (y, x) => format!("{y} against {x}"),
    };
    let mut out = String::from("Figure");
    let panels: Vec<String> = specs.iter().map(panel).filter(|p| !p.is_empty()).collect();
    let names: Vec<&str> =
        names.iter().map(|(name, _)| name.as_str()).filter(|n| !n.is_empty()).collect();
    if !title.is_empty() {
        out += &format!(": {title}");
    }
    if !panels.is_empty() {
        out += &format!(": {}", panels.join(", "));
    }
    if !names.is_empty() {
        out += &format!("; {}", names.join(", "));
    }
    out.replace('\n', " ")
}
