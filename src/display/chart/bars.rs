//! Bars in groups.

use super::axis::{Frame, Range, Room};
use super::canvas::{Canvas, Line, Side, Type};
use super::measure::text_width;
use super::palette::Ink;
use super::spec::{self, Sample, Scale, Unit};
use crate::base::error::{Error, Result};
use crate::base::format;

const VALUE_SIZE: f64 = 10.5;

/// Checks that every group has one value a category, and finds the y axis.
pub(super) fn heights(categories: &[String], groups: &[Sample], y: &spec::Axis) -> Result<Range> {
    if let Some(group) = groups.iter().find(|g| g.values.len() != categories.len()) {
        return Err(Error::Figure(format!(
            "\"{}\" has {} values for {} categories",
            group.name,
            group.values.len(),
            categories.len()
        )));
    }
    let finite = || groups.iter().flat_map(|g| g.values.iter().copied()).filter(|v| v.is_finite());
    if finite().next().is_none() {
        return Err(Error::Figure("bars without any finite value".to_owned()));
    }
    let range = Range::around(finite(), y, "y", Room::FromZero)?;
    // A bar needs some height, also the least one on an axis without a zero.
    Ok(if y.scale == Scale::Log && y.range.is_none() {
        Range { lo: range.lo / 1.6, ..range }
    } else {
        range
    })
}

/// Draws all bars, and their values above them if there is room. `colours` are those of the groups.
pub(super) fn draw(
    canvas: &Canvas,
    frame: &Frame,
    categories: usize,
    groups: &[Sample],
    colours: &[usize],
) -> Result<()> {
    let rect = &frame.rect;
    let slot = rect.width() / categories.max(1) as f64;
    let width = (slot * 0.78 / groups.len().max(1) as f64).min(64.0);
    let base = if frame.y.scale == Scale::Linear {
        frame.py(0.0).clamp(rect.top, rect.bottom)
    } else {
        rect.bottom
    };
    let texts = [3, 2].into_iter().map(|digits| written(groups, frame.y.unit, digits));
    let texts = texts
        .into_iter()
        .find(|t| t.iter().flatten().all(|text| text_width(text, VALUE_SIZE) <= width + 2.0));
    for (g, group) in groups.iter().enumerate() {
        for (c, &value) in group.values.iter().enumerate().filter(|(_, v)| v.is_finite()) {
            let centre = rect.left
                + slot * (c as f64 + 0.5)
                + width * (g as f64 + 0.5 - groups.len() as f64 / 2.0);
            let top = frame.py(value).clamp(rect.top, rect.bottom);
            let half = (width * 0.46).max(0.5);
            canvas.rect(
                (centre - half, top.min(base)),
                (centre + half, top.max(base)),
                Ink::Pale(colours[g], 0.92),
            )?;
            if let Some(texts) = &texts {
                let (y, line) =
                    if value >= 0.0 { (top - 3.0, Line::Base) } else { (top + 3.0, Line::Top) };
                canvas.text(
                    &texts[g][c],
                    (centre, y),
                    Type::new(VALUE_SIZE, Ink::TICK).side(Side::Middle).line(line),
                )?;
            }
        }
    }
    if frame.y.scale == Scale::Linear && base > rect.top && base < rect.bottom {
        canvas.line((rect.left, base), (rect.right, base), Ink::AXIS, 1.0)?;
    }
    Ok(())
}

fn written(groups: &[Sample], unit: Unit, digits: usize) -> Vec<Vec<String>> {
    let one = |value: f64| match unit {
        Unit::Share => format::percent(value),
        Unit::Count if value >= 0.0 => format::count(value.round() as u64),
        _ => format::significant(value, digits),
    };
    groups.iter().map(|g| g.values.iter().map(|&v| one(v).replace('-', "−")).collect()).collect()
}
