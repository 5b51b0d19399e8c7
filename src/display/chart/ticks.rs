//! Where an axis has numbers, and how they are written.
//!
//! plotters' own logarithmic labels repeat and round badly, so these are ours: a logarithmic axis
//! has its powers of ten, or 1 and 3, or 1, 2 and 5 of each, or equal steps, whichever is the first
//! to give three numbers.

use super::spec::{Scale, Unit};

/// The places of an axis.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Ticks {
    /// The numbered ones.
    pub major: Vec<(f64, String)>,
    /// Those between, of a logarithmic axis.
    pub minor: Vec<f64>,
}

/// About `want` numbers between `lo` and `hi`, which are finite, differ, and are positive on a
/// logarithmic scale.
pub(super) fn ticks(lo: f64, hi: f64, scale: Scale, unit: Unit, want: usize) -> Ticks {
    match scale {
        Scale::Linear => Ticks { major: linear(lo, hi, unit, want), minor: Vec::new() },
        Scale::Log => logarithmic(lo, hi, unit, want),
    }
}

/// A step of 1, 2 or 5 times a power of ten, with at most `want` of them in `span`.
pub(super) fn nice_step(span: f64, want: usize) -> f64 {
    let raw = span / want.max(1) as f64;
    let power = 10_f64.powi(raw.log10().floor() as i32);
    let step =
        [1.0, 2.0, 5.0, 10.0].into_iter().find(|m| m * power >= raw * (1.0 - 1e-9)).unwrap_or(10.0);
    step * power
}

fn linear(lo: f64, hi: f64, unit: Unit, want: usize) -> Vec<(f64, String)> {
    let mut step = nice_step(hi - lo, want);
    // No number stands at half a latent or half a token.
    if unit == Unit::Count {
        step = step.max(1.0);
    }
    let places = multiples(lo, hi, step);
    let max = places.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
    places.into_iter().map(|v| (v, label(v, max, step, unit))).collect()
}

fn multiples(lo: f64, hi: f64, step: f64) -> Vec<f64> {
    let slack = (hi - lo) * 1e-9;
    let first = ((lo - slack) / step).ceil();
    (0..1000)
        .map(|i| (first + f64::from(i)) * step)
        .take_while(|v| *v <= hi + slack)
        .map(|v| if v.abs() < step * 1e-9 { 0.0 } else { v })
        .collect()
}

fn logarithmic(lo: f64, hi: f64, unit: Unit, want: usize) -> Ticks {
    let (first, last) = (lo.log10().floor() as i32, hi.log10().ceil() as i32);
    let within = |v: &f64| *v >= lo * (1.0 - 1e-9) && *v <= hi * (1.0 + 1e-9);
    let all = |mantissas: &[f64], stride: usize| -> Vec<f64> {
        (first..=last)
            .filter(|e| e.rem_euclid(stride as i32) == 0)
            .flat_map(|e| mantissas.iter().map(move |m| m * 10_f64.powi(e)))
            .filter(within)
            .collect()
    };
    let powers = all(&[1.0], 1).len();
    let stride = powers.div_ceil(want.max(2) + 1);
    let sets = [all(&[1.0], stride.max(1)), all(&[1.0, 3.0], 1), all(&[1.0, 2.0, 5.0], 1)];
    let enough = want.clamp(2, 3);
    let most = want.max(3) + 1;
    let major: Vec<(f64, String)> =
        match sets.into_iter().find(|set| set.len() >= enough && set.len() <= most) {
            Some(set) => {
                let max = set.iter().fold(0.0_f64, |m, v| m.max(*v));
                let plain = unit != Unit::Number || (max < 99_999.0 && set[0] > 0.000_09);
                set.iter().map(|&v| (v, if plain { single(v, unit) } else { power(v) })).collect()
            }
            None => linear(lo, hi, unit, want).into_iter().filter(|(v, _)| *v > 0.0).collect(),
        };
    let minor = if last - first <= 7 {
        all(&[2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0], 1)
    } else {
        all(&[1.0], 1)
    };
    let minor = minor
        .into_iter()
        .filter(|v| !major.iter().any(|(m, _)| (m / v - 1.0).abs() < 1e-9))
        .collect();
    Ticks { major, minor }
}

/// The number of a linear axis whose largest is `max`: all have the same suffix and the same
/// digits.
fn label(v: f64, max: f64, step: f64, unit: Unit) -> String {
    if v == 0.0 {
        return if unit == Unit::Share { "0 %".to_owned() } else { "0".to_owned() };
    }
    match unit {
        Unit::Share => format!("{} %", fixed(v * 100.0, step * 100.0)),
        Unit::Count => suffixed(v, max, step),
        Unit::Number if max >= 1e5 => suffixed(v, max, step),
        Unit::Number if max < 1e-3 => {
            let e = max.log10().floor() as i32;
            let scale = 10_f64.powi(e);
            format!("{}×10{}", fixed(v / scale, step / scale), superscript(e))
        }
        Unit::Number => fixed(v, step),
    }
}

fn suffixed(v: f64, max: f64, step: f64) -> String {
    let (scale, suffix) = match max {
        m if m >= 1e15 => {
            let e = max.log10().floor() as i32;
            return format!(
                "{}×10{}",
                fixed(v / 10_f64.powi(e), step / 10_f64.powi(e)),
                superscript(e)
            );
        }
        m if m >= 1e12 => (1e12, " T"),
        m if m >= 1e9 => (1e9, " G"),
        m if m >= 1e6 => (1e6, " M"),
        m if m >= 1e4 => (1e3, " k"),
        _ => (1.0, ""),
    };
    format!("{}{suffix}", fixed(v / scale, step / scale))
}

/// As many decimals as the step has.
fn fixed(v: f64, step: f64) -> String {
    let decimals = (-(step.log10() + 1e-9).floor()).max(0.0) as usize;
    format!("{v:.decimals$}").replace('-', "−")
}

/// One number by itself, as on a logarithmic axis.
fn single(v: f64, unit: Unit) -> String {
    match unit {
        Unit::Number => fixed(v, mantissa_step(v)),
        Unit::Share => format!("{} %", fixed(v * 100.0, mantissa_step(v * 100.0))),
        Unit::Count if v >= 1e15 => power(v),
        Unit::Count => {
            let scale = 1000_f64.powi((v.max(1.0).log10() / 3.0 + 1e-9).floor() as i32);
            suffixed(v, if v >= 1000.0 { v.max(1e4) } else { v }, mantissa_step(v / scale) * scale)
        }
    }
}

/// The power of ten at or below `v`.
fn mantissa_step(v: f64) -> f64 {
    10_f64.powi((v.abs().log10() + 1e-9).floor() as i32)
}

/// `10⁻⁵`, or `2×10⁻⁵`.
fn power(v: f64) -> String {
    let e = (v.log10() + 1e-9).floor() as i32;
    let mantissa = (v / 10_f64.powi(e)).round();
    if mantissa <= 1.0 {
        format!("10{}", superscript(e))
    } else {
        format!("{mantissa}×10{}", superscript(e))
    }
}

/// A whole number, raised.
pub(in crate::display) fn superscript(e: i32) -> String {
    let digit = |c: char| "⁰¹²³⁴⁵⁶⁷⁸⁹".chars().nth(c.to_digit(10)? as usize);
    e.to_string().chars().map(|c| digit(c).unwrap_or('⁻')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(lo: f64, hi: f64, scale: Scale, unit: Unit) -> Vec<String> {
        ticks(lo, hi, scale, unit, 5).major.into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn linear_numbers_share_their_digits() {
        use Scale::Linear;
        assert_eq!(labels(0.0, 4e6, Linear, Unit::Count), ["0", "1 M", "2 M", "3 M", "4 M"]);
        assert_eq!(labels(0.0, 1.6e6, Linear, Unit::Count), ["0", "0.5 M", "1.0 M", "1.5 M"]);
        assert_eq!(labels(0.0, 9e4, Linear, Unit::Count), ["0", "20 k", "40 k", "60 k", "80 k"]);
        assert_eq!(labels(0.0, 3.0, Linear, Unit::Count), ["0", "1", "2", "3"]);
        assert_eq!(labels(0.0, 0.17, Linear, Unit::Number), ["0", "0.05", "0.10", "0.15"]);
        assert_eq!(labels(0.0, 0.42, Linear, Unit::Share), ["0 %", "10 %", "20 %", "30 %", "40 %"]);
        assert_eq!(labels(-1.0, 1.0, Linear, Unit::Number), ["−1.0", "−0.5", "0", "0.5", "1.0"]);
        assert_eq!(
            labels(0.0, 2e-5, Linear, Unit::Number),
            ["0", "0.5×10⁻⁵", "1.0×10⁻⁵", "1.5×10⁻⁵", "2.0×10⁻⁵"]
        );
        assert_eq!(labels(0.0, 2e7, Linear, Unit::Number), ["0", "5 M", "10 M", "15 M", "20 M"]);
    }

    #[test]
    fn logarithmic_numbers_are_round_and_differ() {
        use Scale::Log;
        assert_eq!(labels(0.009, 1.1, Log, Unit::Number), ["0.01", "0.1", "1"]);
        assert_eq!(labels(0.011, 0.19, Log, Unit::Number), ["0.02", "0.05", "0.1"]);
        assert_eq!(labels(0.012, 0.4, Log, Unit::Number), ["0.03", "0.1", "0.3"]);
        assert_eq!(labels(0.041, 0.055, Log, Unit::Number), ["0.045", "0.050", "0.055"]);
        assert_eq!(
            labels(1e3, 4e8, Log, Unit::Count),
            ["1 k", "10 k", "100 k", "1 M", "10 M", "100 M"]
        );
        assert_eq!(labels(2e5, 4e6, Log, Unit::Count), ["300 k", "1 M", "3 M"]);
        assert_eq!(labels(1e-7, 1e-3, Log, Unit::Number), ["10⁻⁷", "10⁻⁶", "10⁻⁵", "10⁻⁴", "10⁻³"]);
        assert_eq!(
            labels(1.0, 1e9, Log, Unit::Number),
            ["1", "10²", "10⁴", "10⁶", "10⁸"].map(|s| if s == "1" { "10⁰" } else { s })
        );
        assert_eq!(labels(0.001, 0.5, Log, Unit::Share), ["0.1 %", "1 %", "10 %"]);
    }

    #[test]
    fn every_axis_has_between_two_and_eight_distinct_numbers() {
        for scale in [Scale::Linear, Scale::Log] {
            for unit in [Unit::Number, Unit::Count, Unit::Share] {
                for start in [1e-9, 3.3e-4, 0.07, 1.0, 37.0, 5e3, 1.2e6, 8e11] {
                    for factor in [1.9, 3.0, 7.0, 12.0, 250.0, 1e4, 3e7, 1e12] {
                        let (lo, hi) = (start, start * factor);
                        let found = ticks(lo, hi, scale, unit, 5);
                        let texts: std::collections::BTreeSet<_> =
                            found.major.iter().map(|(_, l)| l.clone()).collect();
                        // Counts below one have no numbers between.
                        let fraction = unit == Unit::Count && hi < 6.0;
                        assert!(
                            fraction || (2..=8).contains(&found.major.len()),
                            "{lo}..{hi} {scale:?} {unit:?}: {found:?}"
                        );
                        assert!(
                            fraction || texts.len() == found.major.len(),
                            "{lo}..{hi} {scale:?} {unit:?}: {found:?}"
                        );
                        let slack = if scale == Scale::Log { lo * 1e-6 } else { (hi - lo) * 1e-6 };
                        assert!(
                            found.major.iter().all(|(v, _)| (lo - slack..=hi * 1.001).contains(v))
                        );
                        assert!(found.minor.len() <= 64);
                    }
                }
            }
        }
    }
}
