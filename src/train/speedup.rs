//! How many times fewer tokens the TSAE needed.

use serde::{Serialize, Serializer};

use super::{History, Runs};
use crate::base::error::{Error, Result};
use crate::base::format;
use crate::eval::HeldOutPoint;

/// Tokens the SAE needed for its final held-out value, over the tokens the TSAE needed to reach the
/// same value.
///
/// In JSON a factor is a number, `"from the start"` or `"never"`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Speedup {
    /// By NMSE; none if the TSAE never reached the SAE's final value, infinite if it had it from
    /// the start.
    #[serde(serialize_with = "write")]
    pub nmse: Option<f64>,
    /// By the relative CE added; likewise.
    #[serde(serialize_with = "write")]
    pub ce_added: Option<f64>,
    /// The SAE it is taken against: the one with the lowest final NMSE.
    pub baseline: String,
    /// The TSAE; likewise.
    pub tokenized: String,
}

/// A factor as a number, or the words for one that is none.
pub(crate) fn in_words(factor: Option<f64>) -> Result<f64, &'static str> {
    match factor {
        Some(factor) if factor.is_finite() => Ok(factor),
        Some(_) => Err("from the start"),
        None => Err("never"),
    }
}

fn write<S: Serializer>(factor: &Option<f64>, to: S) -> Result<S::Ok, S::Error> {
    match in_words(*factor) {
        Ok(factor) => to.serialize_f64(factor),
        Err(words) => to.serialize_str(words),
    }
}

/// Compares the best run without a table and the best run with one, by their held-out curves.
///
/// Between two measurements a value is taken to fall geometrically.
///
/// # Errors
/// [`Error::UnknownRun`] if there is no run of one of the two kinds, [`Error::Config`] if there was
/// no held-out text.
pub fn speedup(runs: &Runs) -> Result<Speedup> {
    let lacks = |what: &str| Error::UnknownRun {
        name: what.to_owned(),
        there: runs.runs.iter().map(|run| run.name.clone()).collect(),
    };
    let baseline = runs.best_without_lookup().ok_or_else(|| lacks("without a lookup table"))?;
    let tokenized = runs.best_with_lookup().ok_or_else(|| lacks("with a lookup table"))?;
    for run in [baseline, tokenized] {
        if run.history.held_out.is_empty() {
            let why = format!(
                "run \"{}\" has no held-out measurements: give the trainer some text with .held_out(&model, &corpus.valid)",
                run.name
            );
            return Err(Error::config("held_out", why));
        }
    }
    Ok(Speedup::between((&baseline.name, &baseline.history), (&tokenized.name, &tokenized.history)))
}

fn factor(
    baseline: &History,
    tokenized: &History,
    value: impl Fn(&HeldOutPoint) -> f64,
) -> Option<f64> {
    let (slow, fast) = (baseline.curve(&value), tokenized.curve(&value));
    let target = slow.last()?.1;
    let fast = reached(&fast, target)?;
    Some(if fast > 0.0 { reached(&slow, target)? / fast } else { f64::INFINITY })
}

/// The tokens at which a curve first comes down to `target`.
pub(crate) fn reached(curve: &[(f64, f64)], target: f64) -> Option<f64> {
    let i = curve.iter().position(|&(_, value)| value <= target)?;
    let (tokens, value) = curve[i];
    let Some(&(before, above)) = i.checked_sub(1).and_then(|i| curve.get(i)) else {
        return Some(tokens);
    };
    if value <= 0.0 || target <= 0.0 {
        return Some(tokens); // no geometric fall to a value that is not positive
    }
    let share = (above / target).ln() / (above / value).ln();
    Some(before + share * (tokens - before))
}

impl Speedup {
    /// Compares two runs by their held-out curves.
    pub(crate) fn between(baseline: (&str, &History), tokenized: (&str, &History)) -> Speedup {
        Speedup {
            nmse: factor(baseline.1, tokenized.1, |point| point.nmse),
            ce_added: factor(baseline.1, tokenized.1, |point| point.ce_added),
            baseline: baseline.0.to_owned(),
            tokenized: tokenized.0.to_owned(),
        }
    }

    /// One sentence.
    pub fn text(&self) -> String {
        let times = |factor| match in_words(factor) {
            Ok(factor) => format!("{} sooner", format::times(factor)),
            Err(words) => words.to_owned(),
        };
        let (nmse, ce_added) = (times(self.nmse), times(self.ce_added));
        format!(
            "{} reaches the final NMSE of {} {nmse}, and its final CE added {ce_added}.",
            self.tokenized, self.baseline
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_from_the_start_and_what_never_comes_are_told_apart() {
        let history = |values: [f64; 3]| {
            let point = |(i, nmse)| HeldOutPoint {
                tokens: 100 * i,
                nmse,
                ce_added: nmse,
                loss_recovered: 0.5,
                dead: 0.0,
            };
            History { held_out: (0u64..).zip(values).map(point).collect(), ..History::default() }
        };
        let slow = history([1.0, 0.5, 0.25]);
        let found = |fast: [f64; 3]| Speedup::between(("SAE", &slow), ("TSAE", &history(fast)));
        assert_eq!(found([1.0, 0.25, 0.1]).nmse, Some(2.0));
        assert_eq!(found([0.2, 0.1, 0.1]).nmse, Some(f64::INFINITY));
        assert!(found([0.2, 0.1, 0.1]).text().contains("the final NMSE of SAE from the start"));
        assert_eq!(found([1.0, 0.5, 0.3]).nmse, None);
        let json = |fast| serde_json::to_value(found(fast)).unwrap()["nmse"].clone();
        assert_eq!(json([1.0, 0.25, 0.1]), 2.0);
        assert_eq!(json([0.2, 0.1, 0.1]), "from the start");
        assert_eq!(json([1.0, 0.5, 0.3]), "never");
    }

    #[test]
    fn crossings_are_interpolated_geometrically() {
        let curve = [(0.0, 1.0), (100.0, 0.25), (200.0, 0.125)];
        assert_eq!(reached(&curve, 0.25), Some(100.0));
        assert!((reached(&curve, 0.5).unwrap() - 50.0).abs() < 1e-9);
        assert_eq!(reached(&curve, 2.0), Some(0.0));
        assert_eq!(reached(&curve, 0.1), None);
    }
}
