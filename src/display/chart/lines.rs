//! Curves.

use super::axis::{Frame, Rect};
use super::canvas::Canvas;
use super::palette::Ink;
use super::spec::Series;
use crate::base::error::Result;

/// More points than this to a pixel are not seen.
const PER_PIXEL: f64 = 2.0;
const WIDTH: f64 = 2.0;

/// Draws curves in the colours of their numbers and returns their pixels, so that labels can keep
/// away from them.
pub(super) fn draw(
    canvas: &Canvas,
    frame: &Frame,
    series: &[Series],
    numbers: &[usize],
) -> Result<Vec<Vec<(f64, f64)>>> {
    let mut drawn: Vec<Vec<(f64, f64)>> = Vec::new();
    for (series, &n) in series.iter().zip(numbers) {
        let curve = one(canvas, frame, series, n, &drawn)?;
        drawn.push(curve);
    }
    Ok(drawn)
}

fn one(
    canvas: &Canvas,
    frame: &Frame,
    series: &Series,
    n: usize,
    before: &[Vec<(f64, f64)>],
) -> Result<Vec<(f64, f64)>> {
    let mut seen = bars(canvas, frame, series, n)?;
    for piece in pieces(&series.points) {
        let mut pixels: Vec<(f64, f64)> = piece.iter().map(|&p| frame.point(p)).collect();
        if series.smooth > 0.0 && pixels.len() > 4 {
            for path in clipped(&thinned(&pixels, frame.rect.width()), &frame.rect) {
                canvas.path(&path, Ink::Pale(n, 0.3), 1.0)?;
            }
            // On the axis as it is drawn: on a logarithmic one this is the geometric mean.
            pixels = smoothed(&pixels, series.smooth);
        }
        if series.markers || pixels.len() == 1 {
            pixels
                .iter()
                .filter(|&&p| frame.rect.contains(p))
                .try_for_each(|&p| marker(canvas, p, n, 3.2))?;
        }
        for path in clipped(&thinned(&pixels, frame.rect.width()), &frame.rect) {
            let dashed = series.dashed || before.iter().any(|other| coincide(&path, other));
            canvas.path(
                &path,
                if dashed { Ink::SeriesDashed(n) } else { Ink::Series(n) },
                WIDTH,
            )?;
            seen.extend(path);
        }
        seen.extend(pixels.first().filter(|_| pixels.len() == 1));
    }
    Ok(seen)
}

/// The bars that say from where to where the points go; returns their ends.
fn bars(canvas: &Canvas, frame: &Frame, series: &Series, n: usize) -> Result<Vec<(f64, f64)>> {
    /// Half the width of the strokes across a bar's ends.
    const CAP: f64 = 3.5;
    let rect = &frame.rect;
    let mut ends = Vec::new();
    for (&(x, y), &(from, to)) in series.points.iter().zip(&series.spread) {
        // A bar no longer than its marker is high says nothing.
        if ![x, y, from, to].iter().all(|v| v.is_finite())
            || (frame.py(from) - frame.py(to)).abs() < 1.0
        {
            continue;
        }
        let (x, from, to) = (
            frame.px(x),
            frame.py(from).clamp(rect.top, rect.bottom),
            frame.py(to).clamp(rect.top, rect.bottom),
        );
        if (rect.left..=rect.right).contains(&x) {
            canvas.line((x, from), (x, to), Ink::Pale(n, 0.8), 1.3)?;
            canvas.line((x - CAP, from), (x + CAP, from), Ink::Pale(n, 0.8), 1.3)?;
            canvas.line((x - CAP, to), (x + CAP, to), Ink::Pale(n, 0.8), 1.3)?;
            ends.extend([(x, from), (x, to)]);
        }
    }
    Ok(ends)
}

/// Whether one path would hide the other: as two runs whose L0 is the same constant.
fn coincide(path: &[(f64, f64)], other: &[(f64, f64)]) -> bool {
    path.len() == other.len()
        && path.iter().zip(other).all(|(a, b)| (a.0 - b.0).abs() < 1.0 && (a.1 - b.1).abs() < 1.0)
}

/// Each series has a shape of its own, for readers who do not see its colour.
pub(super) fn marker(canvas: &Canvas, (x, y): (f64, f64), n: usize, r: f64) -> Result<()> {
    let ink = Ink::Pale(n, 1.0);
    match n % 4 {
        0 => canvas.dot((x, y), r, ink),
        1 => canvas.rect((x - 0.9 * r, y - 0.9 * r), (x + 0.9 * r, y + 0.9 * r), ink),
        2 => canvas.area(
            &[(x, y - 1.25 * r), (x + 1.15 * r, y + 0.8 * r), (x - 1.15 * r, y + 0.8 * r)],
            ink,
        ),
        _ => canvas
            .area(&[(x, y - 1.3 * r), (x + 1.3 * r, y), (x, y + 1.3 * r), (x - 1.3 * r, y)], ink),
    }
}

/// The runs of finite points.
fn pieces(points: &[(f64, f64)]) -> impl Iterator<Item = &[(f64, f64)]> {
    points.split(|(x, y)| !(x.is_finite() && y.is_finite())).filter(|piece| !piece.is_empty())
}

/// Where many points share a column of pixels, the first, the least, the greatest and the last of
/// them: the same picture.
fn thinned(pixels: &[(f64, f64)], width: f64) -> Vec<(f64, f64)> {
    if (pixels.len() as f64) < PER_PIXEL * width {
        return pixels.to_vec();
    }
    let mut out: Vec<(f64, f64)> = Vec::new();
    for column in pixels.chunk_by(|a, b| a.0.floor() == b.0.floor()) {
        let by_height = |a: &usize, b: &usize| column[*a].1.total_cmp(&column[*b].1);
        let mut keep = [
            Some(0),
            (0..column.len()).min_by(by_height),
            (0..column.len()).max_by(by_height),
            column.len().checked_sub(1),
        ];
        keep.sort_unstable();
        let mut last = None;
        for i in keep.into_iter().flatten() {
            if last != Some(i) {
                out.push(column[i]);
            }
            last = Some(i);
        }
    }
    out
}

/// A centred moving mean of the heights over `share` of the points, narrower at both ends so that
/// it begins and ends where they do.
fn smoothed(pixels: &[(f64, f64)], share: f64) -> Vec<(f64, f64)> {
    let n = pixels.len();
    let half = ((n as f64 * share.min(1.0) / 2.0).round() as usize).max(1);
    let mut sums = Vec::with_capacity(n + 1);
    sums.push(0.0);
    for &(_, y) in pixels {
        sums.push(sums[sums.len() - 1] + y);
    }
    (0..n)
        .map(|i| {
            let reach = half.min(i).min(n - 1 - i);
            let (from, to) = (i - reach, i + reach + 1);
            (pixels[i].0, (sums[to] - sums[from]) / (to - from) as f64)
        })
        .collect()
}

/// The parts of the path inside the rectangle.
fn clipped(path: &[(f64, f64)], rect: &Rect) -> Vec<Vec<(f64, f64)>> {
    // Half a pixel of grace keeps curves that run along the frame whole.
    let rect = rect.grown(0.5);
    let mut parts: Vec<Vec<(f64, f64)>> = Vec::new();
    for pair in path.windows(2) {
        let Some((from, to)) = clip(pair[0], pair[1], &rect) else { continue };
        match parts.last_mut() {
            Some(part) if part.last() == Some(&from) => part.push(to),
            _ => parts.push(vec![from, to]),
        }
    }
    parts
}

/// Liang and Barsky's: the part of a segment inside a rectangle.
fn clip(a: (f64, f64), b: (f64, f64), rect: &Rect) -> Option<((f64, f64), (f64, f64))> {
    let (dx, dy) = (b.0 - a.0, b.1 - a.1);
    let (mut from, mut to) = (0.0_f64, 1.0_f64);
    for (p, q) in [
        (-dx, a.0 - rect.left),
        (dx, rect.right - a.0),
        (-dy, a.1 - rect.top),
        (dy, rect.bottom - a.1),
    ] {
        if p == 0.0 {
            if q < 0.0 {
                return None;
            }
        } else if p < 0.0 {
            from = from.max(q / p);
        } else {
            to = to.min(q / p);
        }
    }
    let at = |t: f64| {
        if t == 0.0 {
            a
        } else if t == 1.0 {
            b
        } else {
            (a.0 + t * dx, a.1 + t * dy)
        }
    };
    (from < to).then(|| (at(from), at(to)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECT: Rect = Rect { left: 0.0, top: 0.0, right: 100.0, bottom: 50.0 };

    #[test]
    fn broken_where_a_point_is_not_finite() {
        let nan = f64::NAN;
        let points =
            [(nan, 1.0), (0.0, 1.0), (1.0, 2.0), (2.0, f64::INFINITY), (3.0, 1.0), (4.0, nan)];
        let found: Vec<_> = pieces(&points).map(<[_]>::len).collect();
        assert_eq!(found, [2, 1]);
    }

    #[test]
    fn thinning_keeps_extremes_and_order() {
        let pixels: Vec<(f64, f64)> = (0..100_000)
            .map(|i| (f64::from(i) / 1000.0, if i == 55_555 { -9.0 } else { f64::from(i % 7) }))
            .collect();
        let thin = thinned(&pixels, 100.0);
        assert!(thin.len() <= 400, "{}", thin.len());
        assert!(thin.iter().any(|p| p.1 == -9.0));
        assert!(thin.windows(2).all(|w| w[0].0 <= w[1].0));
        assert_eq!((thin[0], thin[thin.len() - 1]), (pixels[0], pixels[pixels.len() - 1]));
        assert_eq!(thinned(&pixels[..50], 100.0), pixels[..50]);
    }

    #[test]
    fn clipping_cuts_at_the_frame() {
        let parts = clipped(
            &[
                (-50.0, 25.0),
                (50.0, 25.0),
                (50.0, 200.0),
                (150.0, 200.0),
                (90.0, 25.0),
                (95.0, 25.0),
            ],
            &RECT,
        );
        assert_eq!(parts.len(), 2);
        assert!(parts.iter().flatten().all(|&p| RECT.grown(0.501).contains(p)), "{parts:?}");
        assert_eq!(parts[0][0], (-0.5, 25.0));
        assert_eq!(parts[1].last(), Some(&(95.0, 25.0)));
        assert!(clipped(&[(200.0, 0.0), (300.0, 50.0)], &RECT).is_empty());
    }

    #[test]
    fn smoothing_keeps_the_ends_and_a_straight_line() {
        let line: Vec<(f64, f64)> = (0..50).map(|i| (f64::from(i), 2.0 * f64::from(i))).collect();
        for (a, b) in smoothed(&line, 0.2).iter().zip(&line) {
            assert!((a.1 - b.1).abs() < 1e-9);
        }
        let noisy: Vec<(f64, f64)> = (0..50).map(|i| (f64::from(i), f64::from(i % 2))).collect();
        assert!(smoothed(&noisy, 0.4)[25].1 > 0.4 && smoothed(&noisy, 0.4)[25].1 < 0.6);
    }
}
