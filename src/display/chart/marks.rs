//! What is pointed out over the data, with labels that keep away from it.

use super::axis::{Frame, Rect};
use super::canvas::{Canvas, Line, Side, Type};
use super::measure::text_width;
use super::palette::Ink;
use super::spec::Mark;
use crate::base::error::Result;

const SIZE: f64 = 12.5;
/// Bold letters are wider.
const BOLD: f64 = 1.08;
/// Between a label and the line it belongs to.
const GAP: f64 = 6.0;
/// Curves are tested for touching a label at points so far apart.
const STEP: f64 = 2.5;

impl Mark {
    /// The numbers along the x axis that the mark needs to be seen.
    pub(super) fn xs(&self) -> Vec<f64> {
        match self {
            Mark::Level { .. } => vec![],
            Mark::At { x, .. } => vec![*x],
            Mark::Sooner { from, to, .. } => vec![*from, *to],
        }
    }

    /// The numbers along the y axis that the mark needs to be seen.
    pub(super) fn ys(&self) -> Vec<f64> {
        match self {
            Mark::Level { y, .. } | Mark::Sooner { y, .. } => vec![*y],
            Mark::At { .. } => vec![],
        }
    }
}

/// Draws the marks over `curves`, given in pixels.
pub(super) fn draw(
    canvas: &Canvas,
    frame: &Frame,
    marks: &[Mark],
    curves: &[Vec<(f64, f64)>],
) -> Result<()> {
    let rect = &frame.rect;
    let mut taken = Taken {
        points: curves.iter().flat_map(|curve| walked(curve)).collect(),
        labels: Vec::new(),
    };
    for mark in marks {
        taken.points.extend(strokes(frame, mark).iter().flat_map(|line| walked(line)));
    }
    for mark in marks {
        for line in strokes(frame, mark) {
            canvas.path(&line, Ink::MARK, 1.2)?;
        }
        let (label, spots) = match mark {
            Mark::Level { y, label } => {
                (label, beside(label, |share| rect.left + share * rect.width(), frame.py(*y)))
            }
            Mark::At { x, label } => (label, up_the_line(label, frame.px(*x), rect)),
            Mark::Sooner { y, from, to, label } => {
                let (from, to, height) = (frame.px(*from), frame.px(*to), frame.py(*y));
                arrow(canvas, (from, height), to)?;
                (label, beside(label, |share| from + share * (to - from), height))
            }
        };
        if let Some(spot) = taken.best(&spots, rect).filter(|_| !label.is_empty()) {
            let style = Type::new(SIZE, Ink::TEXT).line(Line::Centre).side(Side::Middle).bold();
            canvas.text(
                label,
                ((spot.left + spot.right) / 2.0, (spot.top + spot.bottom) / 2.0),
                style,
            )?;
            taken.labels.push(spot);
        }
    }
    Ok(())
}

/// The lines of a mark, in pixels.
fn strokes(frame: &Frame, mark: &Mark) -> Vec<Vec<(f64, f64)>> {
    let rect = &frame.rect;
    match mark {
        Mark::Level { y, .. } => vec![vec![(rect.left, frame.py(*y)), (rect.right, frame.py(*y))]],
        Mark::At { x, .. } => vec![vec![(frame.px(*x), rect.bottom), (frame.px(*x), rect.top)]],
        Mark::Sooner { y, from, to, .. } => {
            let (from, to, y) = (frame.px(*from), frame.px(*to), frame.py(*y));
            vec![vec![(to, y), (from, y)], vec![(from, y), (from, rect.bottom)]]
        }
    }
}

/// A head at `tip` of a line that comes from `tail`, a ring around the point reached, and a bar
/// where the other one got there.
fn arrow(canvas: &Canvas, (x, y): (f64, f64), tail: f64) -> Result<()> {
    let way = if tail >= x { 1.0 } else { -1.0 };
    let ink = Ink::Page(0.85);
    if (tail - x).abs() > 14.0 {
        canvas.area(
            &[(x + way * 3.0, y), (x + way * 12.0, y - 4.2), (x + way * 12.0, y + 4.2)],
            ink,
        )?;
    }
    canvas.line((tail, y - 5.0), (tail, y + 5.0), ink, 1.6)
}

/// Places for a label above and below a horizontal line, from its middle outwards.
fn beside(label: &str, x: impl Fn(f64) -> f64, y: f64) -> Vec<Rect> {
    let shares = [0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8, 0.1, 0.9];
    let offsets = [0.0, 14.0, 28.0];
    let mut spots = Vec::new();
    for away in offsets {
        for share in shares {
            for below in [false, true] {
                let half = SIZE * 0.62;
                let centre = y + if below { 1.0 } else { -1.0 } * (GAP + half + away);
                spots.push(boxed(label, x(share), centre));
            }
        }
    }
    spots
}

/// Places for a label at either side of an upright line, from the top down.
fn up_the_line(label: &str, x: f64, rect: &Rect) -> Vec<Rect> {
    let half = text_width(label, SIZE * BOLD) / 2.0 + GAP;
    let heights = (0..8).map(|i| rect.top + SIZE + f64::from(i) * rect.height() / 8.0);
    heights.flat_map(|y| [boxed(label, x + half, y), boxed(label, x - half, y)]).collect()
}

fn boxed(label: &str, x: f64, y: f64) -> Rect {
    let (half_width, half_height) = (text_width(label, SIZE * BOLD) / 2.0, SIZE * 0.62);
    Rect {
        left: x - half_width,
        right: x + half_width,
        top: y - half_height,
        bottom: y + half_height,
    }
}

/// What a label must not cover.
struct Taken {
    points: Vec<(f64, f64)>,
    labels: Vec<Rect>,
}

impl Taken {
    /// The first spot that covers nothing, or the one that covers least; none if there is none.
    fn best(&self, spots: &[Rect], within: &Rect) -> Option<Rect> {
        let moved = spots.iter().map(|spot| shifted(spot, within));
        let cost = |spot: &Rect| {
            // A curve is a few pixels thick, and its markers more.
            let wide = spot.grown(4.0);
            let labels =
                self.labels.iter().filter(|label| label.grown(6.0).overlaps(&wide)).count();
            let outside = usize::from(!spot.inside(&within.grown(1.0)));
            self.points.iter().filter(|&&p| wide.contains(p)).count()
                + 1000 * labels
                + 10_000 * outside
        };
        // min_by_key takes the first of equals.
        moved.min_by_key(cost)
    }
}

/// The spot pushed back between the sides of the panel.
fn shifted(spot: &Rect, within: &Rect) -> Rect {
    let by = (within.left + 2.0 - spot.left).max(0.0) - (spot.right - within.right + 2.0).max(0.0);
    Rect { left: spot.left + by, right: spot.right + by, ..*spot }
}

/// Points along a path, close enough together that none of its strokes slips through a label.
fn walked(path: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut out: Vec<(f64, f64)> = path.first().copied().into_iter().collect();
    for pair in path.windows(2) {
        let ((ax, ay), (bx, by)) = (pair[0], pair[1]);
        let steps = ((bx - ax).hypot(by - ay) / STEP).ceil().max(1.0);
        out.extend(
            (1..=steps as usize)
                .map(|i| i as f64 / steps)
                .map(|t| (ax + t * (bx - ax), ay + t * (by - ay))),
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Rect = Rect { left: 0.0, top: 0.0, right: 400.0, bottom: 300.0 };

    #[test]
    fn a_label_takes_the_first_free_spot() {
        let spots = beside("9.8× sooner", |share| share * 400.0, 150.0);
        let free = Taken { points: vec![], labels: vec![] }.best(&spots, &WITHIN).unwrap();
        assert_eq!(free, spots[0]);
        // A curve through everything above the line: the label goes below.
        let points = walked(&[(0.0, 100.0), (400.0, 149.0)])
            .into_iter()
            .flat_map(|(x, y)| (0..40).map(move |i| (x, y - f64::from(i) * 2.0)))
            .collect();
        let below = Taken { points, labels: vec![] }.best(&spots, &WITHIN).unwrap();
        assert!(below.top > 150.0);
        // And a label there already: beside it.
        let second = Taken { points: vec![], labels: vec![free] }.best(&spots, &WITHIN).unwrap();
        assert!(!second.overlaps(&free));
    }

    #[test]
    fn labels_stay_inside() {
        for x in [-50.0, 0.0, 399.0, 1000.0] {
            let spots = beside("a rather long label", |_| x, 150.0);
            assert!(
                Taken { points: vec![], labels: vec![] }
                    .best(&spots, &WITHIN)
                    .unwrap()
                    .inside(&WITHIN)
            );
        }
    }

    #[test]
    fn walking_leaves_no_gap() {
        let steps = walked(&[(0.0, 0.0), (100.0, 0.0), (100.0, 1.0)]);
        assert!(steps.windows(2).all(|w| (w[1].0 - w[0].0).hypot(w[1].1 - w[0].1) <= STEP + 1e-9));
        assert_eq!(steps.last(), Some(&(100.0, 1.0)));
        assert!(walked(&[]).is_empty());
    }
}
