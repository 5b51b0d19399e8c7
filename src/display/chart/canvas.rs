//! The drawing surface: plotters' SVG backend, in fractions of a pixel, with inks for colours.

use plotters::coord::Shift;
use plotters::prelude::{
    Circle, DrawingArea, IntoDrawingArea, PathElement, Polygon, Rectangle, SVGBackend, Text,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, FontTransform, IntoFont, ShapeStyle, TextStyle};

use super::palette::{self, Ink};
use crate::base::error::{Error, Result};

/// plotters counts whole units; ten of them are a pixel, so that curves are smooth.
const FINE: f64 = 10.0;
/// plotters divides font sizes by this when it writes them.
const FONT_FACTOR: f64 = 1.24;

/// Which point of a text stands at its position, horizontally.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Side {
    Start,
    Middle,
    End,
}

/// Which point of a text stands at its position, vertically.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Line {
    Top,
    Centre,
    Base,
}

/// How a text is set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Type {
    pub size: f64,
    pub ink: Ink,
    pub side: Side,
    pub line: Line,
    pub bold: bool,
    /// Read from below.
    pub upright: bool,
}

impl Type {
    pub(super) fn new(size: f64, ink: Ink) -> Type {
        Type { size, ink, side: Side::Start, line: Line::Base, bold: false, upright: false }
    }

    pub(super) fn side(self, side: Side) -> Type {
        Type { side, ..self }
    }

    pub(super) fn line(self, line: Line) -> Type {
        Type { line, ..self }
    }

    pub(super) fn bold(self) -> Type {
        Type { bold: true, ..self }
    }

    pub(super) fn upright(self) -> Type {
        Type { upright: true, ..self }
    }
}

/// A surface in pixels, origin at the top left.
pub(super) struct Canvas<'a> {
    root: DrawingArea<SVGBackend<'a>, Shift>,
}

/// Runs `draw` on a surface of `width` × `height` pixels and returns its SVG elements.
pub(super) fn elements(
    width: u32,
    height: u32,
    draw: impl FnOnce(&Canvas) -> Result<()>,
) -> Result<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (width * FINE as u32, height * FINE as u32))
            .into_drawing_area();
        let canvas = Canvas { root };
        draw(&canvas)?;
        canvas.root.present().map_err(figure)?;
    }
    // plotters' own <svg> element goes: the figure has one with the page's style.
    let inner = svg.split_once(">\n").map_or("", |(_, rest)| rest);
    let inner = inner.trim_end().strip_suffix("</svg>").unwrap_or(inner);
    let inner = inner
        .replace(" font-family=\"sans-serif\"", "")
        .replace(" opacity=\"1\"", "")
        .replace(" dy=\"0.5ex\"", " dy=\"0.35em\"")
        .replace(" dy=\"-0.5ex\"", "")
        .replace("\n</text>", "</text>")
        .replace(" \"", "\"");
    Ok(format!("<g transform=\"scale({})\">\n{}</g>\n", 1.0 / FINE, palette::resolve(&inner)))
}

impl Canvas<'_> {
    pub(super) fn path(&self, points: &[(f64, f64)], ink: Ink, width: f64) -> Result<()> {
        if points.len() < 2 {
            return Ok(());
        }
        let points: Vec<(i32, i32)> = points.iter().map(|&p| fine(p)).collect();
        self.root.draw(&PathElement::new(points, stroke(ink, width))).map_err(figure)
    }

    pub(super) fn line(
        &self,
        from: (f64, f64),
        to: (f64, f64),
        ink: Ink,
        width: f64,
    ) -> Result<()> {
        self.path(&[from, to], ink, width)
    }

    pub(super) fn area(&self, points: &[(f64, f64)], ink: Ink) -> Result<()> {
        let points: Vec<(i32, i32)> = points.iter().map(|&p| fine(p)).collect();
        self.root.draw(&Polygon::new(points, filled(ink))).map_err(figure)
    }

    pub(super) fn rect(&self, from: (f64, f64), to: (f64, f64), ink: Ink) -> Result<()> {
        self.root.draw(&Rectangle::new([fine(from), fine(to)], filled(ink))).map_err(figure)
    }

    pub(super) fn dot(&self, at: (f64, f64), radius: f64, ink: Ink) -> Result<()> {
        self.root.draw(&Circle::new(fine(at), (radius * FINE) as i32, filled(ink))).map_err(figure)
    }

    pub(super) fn text(&self, text: &str, at: (f64, f64), style: Type) -> Result<()> {
        let font = ("sans-serif", style.size * FINE * FONT_FACTOR).into_font();
        let font = font.style(if style.bold { FontStyle::Bold } else { FontStyle::Normal });
        let font = if style.upright { font.transform(FontTransform::Rotate270) } else { font };
        let h = match style.side {
            Side::Start => HPos::Left,
            Side::Middle => HPos::Center,
            Side::End => HPos::Right,
        };
        let v = match style.line {
            Line::Top => VPos::Top,
            Line::Centre => VPos::Center,
            Line::Base => VPos::Bottom,
        };
        let colour = style.ink.stand_in();
        let style = TextStyle::from(font).color(&colour).pos(Pos::new(h, v));
        // Control characters are not allowed in SVG at all.
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        self.root.draw(&Text::new(text, fine(at), style)).map_err(figure)
    }
}

fn fine((x, y): (f64, f64)) -> (i32, i32) {
    // A cast saturates: nothing that is far outside can wrap around.
    ((x * FINE).round() as i32, (y * FINE).round() as i32)
}

fn stroke(ink: Ink, width: f64) -> ShapeStyle {
    ShapeStyle { color: ink.stand_in(), filled: false, stroke_width: (width * FINE).round() as u32 }
}

fn filled(ink: Ink) -> ShapeStyle {
    ShapeStyle { color: ink.stand_in(), filled: true, stroke_width: 0 }
}

fn figure(e: impl std::fmt::Display) -> Error {
    Error::Figure(e.to_string())
}
