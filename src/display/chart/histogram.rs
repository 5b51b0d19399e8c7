//! Distributions.

use super::axis::{Frame, Range, Room};
use super::canvas::Canvas;
use super::palette::Ink;
use super::spec::{self, Sample, Scale, Unit};
use crate::base::error::{Error, Result};

/// Counts in common bins.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bins {
    pub x: Range,
    /// One list of counts a sample, all equally long.
    pub counts: Vec<Vec<u64>>,
}

/// More bins are thinner than the eye can tell.
const MOST: usize = 400;

/// Counts the finite values of each sample.
pub(super) fn count(samples: &[Sample], bins: usize, x: &spec::Axis) -> Result<Bins> {
    for sample in samples {
        if x.scale == Scale::Log
            && let Some(v) = sample.values.iter().find(|v| **v <= 0.0)
        {
            return Err(Error::Figure(format!(
                "\"{}\" holds {v}, which a logarithmic x axis cannot show: leave it out, or take a linear axis",
                sample.name
            )));
        }
    }
    let finite = || samples.iter().flat_map(|s| s.values.iter().copied()).filter(|v| v.is_finite());
    let largest = samples
        .iter()
        .map(|s| s.values.iter().filter(|v| v.is_finite()).count())
        .max()
        .unwrap_or(0);
    if largest == 0 {
        return Err(Error::Figure("a histogram without any finite value".to_owned()));
    }
    let range = Range::around(finite(), x, "x", Room::Tight)?;
    let bins =
        if bins == 0 { ((largest as f64).sqrt() as usize).clamp(8, 60) } else { bins.min(MOST) };
    let counts = samples.iter().map(|sample| counted(&sample.values, &range, bins)).collect();
    Ok(Bins { x: range, counts })
}

fn counted(values: &[f64], range: &Range, bins: usize) -> Vec<u64> {
    let mut counts = vec![0; bins];
    for share in values.iter().filter(|v| v.is_finite()).map(|&v| range.share(v)) {
        // The greatest value belongs to the last bin; rounding may put the ends a hair outside.
        if (-1e-9..=1.0 + 1e-9).contains(&share) {
            counts[((share * bins as f64) as usize).min(bins - 1)] += 1;
        }
    }
    counts
}

/// The y axis of the counts: from nothing, or from just below one.
pub(super) fn heights(bins: &Bins, y: &spec::Axis) -> Result<Range> {
    let most = bins.counts.iter().flatten().copied().max().unwrap_or(0).max(1) as f64;
    let y =
        spec::Axis { unit: if y.unit == Unit::Number { Unit::Count } else { y.unit }, ..y.clone() };
    match (y.scale, y.range) {
        (Scale::Log, None) => {
            Ok(Range { lo: 0.7, hi: most.max(2.0) * 1.4, scale: y.scale, unit: y.unit })
        }
        _ => Range::around([most].into_iter(), &y, "y", Room::FromZero),
    }
}

/// Draws the samples over each other: pale areas first, then all outlines, so that none is covered.
/// Returns the outlines.
pub(super) fn draw(
    canvas: &Canvas,
    frame: &Frame,
    counts: &[Vec<u64>],
    colours: &[usize],
) -> Result<Vec<Vec<(f64, f64)>>> {
    let mut outlines = Vec::new();
    for (counts, &n) in counts.iter().zip(colours) {
        for outline in staircases(frame, counts) {
            canvas.area(&outline, Ink::Pale(n, 0.25))?;
            outlines.push((outline, n));
        }
    }
    outlines.iter().try_for_each(|(outline, n)| canvas.path(outline, Ink::Series(*n), 1.6))?;
    Ok(outlines.into_iter().map(|(outline, _)| outline).collect())
}

/// One outline for each run of bins that hold anything.
fn staircases(frame: &Frame, counts: &[u64]) -> Vec<Vec<(f64, f64)>> {
    let rect = &frame.rect;
    let edge = |i: usize| rect.left + rect.width() * i as f64 / counts.len() as f64;
    let indexed: Vec<(usize, u64)> = counts.iter().copied().enumerate().collect();
    indexed
        .split(|(_, count)| *count == 0)
        .filter_map(|run| {
            let (first, last) = (run.first()?.0, run.last()?.0);
            let steps = run.iter().flat_map(|&(i, count)| {
                let y = frame.py(count as f64).clamp(rect.top, rect.bottom);
                [(edge(i), y), (edge(i + 1), y)]
            });
            Some(
                [(edge(first), rect.bottom)]
                    .into_iter()
                    .chain(steps)
                    .chain([(edge(last + 1), rect.bottom)])
                    .collect(),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finite_value_is_counted_once() {
        let values: Vec<f64> =
            (0..1000).map(|i| f64::from(i) * 0.1).chain([f64::NAN, f64::INFINITY]).collect();
        for scale in [Scale::Linear, Scale::Log] {
            let values: Vec<f64> =
                values.iter().copied().filter(|v| scale == Scale::Linear || *v > 0.0).collect();
            let want = values.iter().filter(|v| v.is_finite()).count() as u64;
            let axis = spec::Axis { scale, ..spec::Axis::default() };
            for bins in [0, 1, 7, 10_000] {
                let found = count(&[Sample::new("a", values.clone())], bins, &axis).unwrap();
                assert_eq!(found.counts[0].iter().sum::<u64>(), want, "{scale:?} {bins}");
            }
        }
    }

    #[test]
    fn a_range_leaves_out_what_lies_beyond() {
        let axis = spec::Axis { range: Some((0.0, 10.0)), ..spec::Axis::default() };
        let found = count(&[Sample::new("a", vec![-1.0, 0.0, 5.0, 10.0, 11.0])], 2, &axis).unwrap();
        assert_eq!(found.counts[0], [1, 2]);
    }

    #[test]
    fn equal_values_and_nothing_at_all() {
        let found = count(&[Sample::new("a", vec![3.0; 50])], 0, &spec::Axis::default()).unwrap();
        assert_eq!(found.counts[0].iter().sum::<u64>(), 50);
        assert!(count(&[], 0, &spec::Axis::default()).is_err());
        assert!(count(&[Sample::new("a", vec![f64::NAN])], 0, &spec::Axis::default()).is_err());
    }
}
