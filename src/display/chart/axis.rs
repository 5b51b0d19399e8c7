//! From numbers to pixels.

use super::spec::{self, Scale, Unit};
use super::ticks::{Ticks, ticks};
use crate::base::error::{Error, Result};

/// An axis whose range is known, but not yet its place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Range {
    pub lo: f64,
    pub hi: f64,
    pub scale: Scale,
    pub unit: Unit,
}

/// How a range is chosen around the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// From zero, if the data are not all far from it.
    Loose,
    /// From zero in any case, as for bars.
    FromZero,
    /// Just the data.
    Tight,
}

impl Range {
    /// A range that shows all of `values`, which are finite, or what the spec demands.
    pub(super) fn around(
        values: impl Iterator<Item = f64> + Clone,
        axis: &spec::Axis,
        name: &str,
        room: Room,
    ) -> Result<Range> {
        let (scale, unit) = (axis.scale, axis.unit);
        let (lo, hi) = match axis.range {
            Some((lo, hi)) => {
                if !(lo.is_finite()
                    && hi.is_finite()
                    && lo < hi
                    && (scale == Scale::Linear || lo > 0.0))
                {
                    return Err(Error::Figure(format!(
                        "the range {lo}..{hi} of the {name} axis cannot be drawn: give finite numbers, the smaller first, above 0 if the axis is logarithmic"
                    )));
                }
                return Ok(Range { lo, hi, scale, unit });
            }
            None => values
                .fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), v| (lo.min(v), hi.max(v))),
        };
        let (lo, hi) = match scale {
            Scale::Log => log_room(lo, hi, room),
            Scale::Linear => linear_room(lo, hi, room),
        };
        if !(hi - lo).is_finite() || lo >= hi {
            return Err(Error::Figure(format!(
                "the numbers along the {name} axis lie too far apart to be drawn: {lo:e} to {hi:e}"
            )));
        }
        Ok(Range { lo, hi, scale, unit })
    }

    /// The place of `v` between 0 and 1.
    pub(super) fn share(&self, v: f64) -> f64 {
        match self.scale {
            Scale::Linear => (v - self.lo) / (self.hi - self.lo),
            Scale::Log => (v / self.lo).ln() / (self.hi / self.lo).ln(),
        }
    }

    pub(super) fn ticks(&self, want: usize) -> Ticks {
        ticks(self.lo, self.hi, self.scale, self.unit, want)
    }
}

fn linear_room(lo: f64, hi: f64, room: Room) -> (f64, f64) {
    if lo == hi && (room == Room::Tight || lo == 0.0) {
        let half = if lo == 0.0 { 0.5 } else { lo.abs() * 0.5 };
        return if room == Room::Tight { (lo - half, hi + half) } else { (0.0, 1.0) };
    }
    let span = hi - lo;
    let from_zero = room == Room::FromZero
        || (room == Room::Loose
            && (lo == hi || lo.abs().min(hi.abs()) < 0.5 * lo.abs().max(hi.abs())));
    let (lo, hi) = if from_zero { (lo.min(0.0), hi.max(0.0)) } else { (lo, hi) };
    if room == Room::Tight {
        return (lo, hi);
    }
    let pad = 0.05 * if from_zero { hi - lo } else { span };
    // Zero itself stands on the frame.
    (
        if lo == 0.0 && from_zero { 0.0 } else { lo - pad },
        if hi == 0.0 && from_zero { 0.0 } else { hi + pad },
    )
}

fn log_room(lo: f64, hi: f64, room: Room) -> (f64, f64) {
    let factor = hi / lo;
    if factor < 1.5 {
        let widen = (1.5 / factor).sqrt() * 1.1;
        return (lo / widen, hi * widen);
    }
    let pad = if room == Room::Tight { 1.0 } else { factor.powf(0.05) };
    (lo / pad, hi * pad)
}

/// A rectangle in pixels; y grows downwards.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rect {
    pub left: f64,
    pub top: f64,
    pub right: f64,
    pub bottom: f64,
}

impl Rect {
    pub(super) fn width(&self) -> f64 {
        self.right - self.left
    }

    pub(super) fn height(&self) -> f64 {
        self.bottom - self.top
    }

    pub(super) fn contains(&self, (x, y): (f64, f64)) -> bool {
        (self.left..=self.right).contains(&x) && (self.top..=self.bottom).contains(&y)
    }

    pub(super) fn overlaps(&self, other: &Rect) -> bool {
        self.left < other.right
            && other.left < self.right
            && self.top < other.bottom
            && other.top < self.bottom
    }

    pub(super) fn inside(&self, outer: &Rect) -> bool {
        self.left >= outer.left
            && self.right <= outer.right
            && self.top >= outer.top
            && self.bottom <= outer.bottom
    }

    pub(super) fn grown(&self, by: f64) -> Rect {
        Rect {
            left: self.left - by,
            top: self.top - by,
            right: self.right + by,
            bottom: self.bottom + by,
        }
    }
}

/// Both axes at their place.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub x: Range,
    pub y: Range,
    pub rect: Rect,
}

impl Frame {
    pub(super) fn px(&self, x: f64) -> f64 {
        self.rect.left + self.x.share(x) * self.rect.width()
    }

    pub(super) fn py(&self, y: f64) -> f64 {
        self.rect.bottom - self.y.share(y) * self.rect.height()
    }

    pub(super) fn point(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (self.px(x), self.py(y))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(values: &[f64], scale: Scale, room: Room) -> Result<Range> {
        Range::around(
            values.iter().copied(),
            &spec::Axis { scale, ..spec::Axis::default() },
            "x",
            room,
        )
    }

    #[test]
    fn ranges_hold_their_data() {
        for values in [
            &[0.0][..],
            &[5.0],
            &[-3.0],
            &[5.0, 5.0],
            &[0.0, 4e6],
            &[-1.0, 2.0],
            &[1e-12, 2e-12],
            &[100.0, 101.0],
        ] {
            for room in [Room::Loose, Room::FromZero, Room::Tight] {
                let r = range(values, Scale::Linear, room).unwrap();
                assert!(
                    r.lo < r.hi && values.iter().all(|&v| r.lo <= v && v <= r.hi),
                    "{values:?} {room:?} {r:?}"
                );
            }
        }
        for values in [&[5.0][..], &[1e-9, 1e9], &[0.1, 0.1001]] {
            let r = range(values, Scale::Log, Room::Loose).unwrap();
            assert!(
                r.lo > 0.0 && r.lo < r.hi && values.iter().all(|&v| r.lo <= v && v <= r.hi),
                "{values:?} {r:?}"
            );
        }
    }

    #[test]
    fn zero_is_the_base_unless_the_data_are_far_away() {
        assert_eq!(range(&[0.1, 1.0], Scale::Linear, Room::Loose).unwrap().lo, 0.0);
        assert!(range(&[0.9, 1.0], Scale::Linear, Room::Loose).unwrap().lo > 0.85);
        assert_eq!(range(&[0.9, 1.0], Scale::Linear, Room::FromZero).unwrap().lo, 0.0);
        assert_eq!(range(&[-0.9, -0.1], Scale::Linear, Room::Loose).unwrap().hi, 0.0);
    }

    #[test]
    fn the_ends_and_the_middle_have_their_places() {
        for (scale, middle) in [(Scale::Linear, 3.505), (Scale::Log, 0.07f64.sqrt())] {
            let r = range(&[0.01, 7.0], scale, Room::Tight).unwrap();
            for (v, share) in [(0.01, 0.0), (middle, 0.5), (7.0, 1.0)] {
                assert!((r.share(v) - share).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn impossible_ranges_are_errors() {
        assert!(range(&[-1e308, 1e308], Scale::Linear, Room::Loose).is_err());
        for bad in [(1.0, 1.0), (2.0, 1.0), (f64::NAN, 1.0), (0.0, f64::INFINITY)] {
            let axis = spec::Axis { range: Some(bad), ..spec::Axis::default() };
            assert!(Range::around([1.0].into_iter(), &axis, "x", Room::Loose).is_err());
        }
        let axis =
            spec::Axis { range: Some((0.0, 1.0)), scale: Scale::Log, ..spec::Axis::default() };
        assert!(
            Range::around([1.0].into_iter(), &axis, "x", Room::Loose)
                .unwrap_err()
                .to_string()
                .contains("logarithmic")
        );
    }
}
