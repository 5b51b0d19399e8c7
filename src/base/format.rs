//! Numbers as people read them: counts, sizes, durations, shares.

/// A count with a suffix from ten thousand on: `4096`, `41 k`, `1.2 M`, `3.0 G`.
///
/// ```
/// use tokenized_sae::format::count;
/// assert_eq!(count(4_096), "4096");
/// assert_eq!(count(1_234_567), "1.2 M");
/// ```
pub fn count(n: u64) -> String {
    if n < 10_000 {
        n.to_string()
    } else {
        scaled(n as f64, 1000.0, &[" k", " M", " G", " T", " P", " E"])
    }
}

/// A rate or another count that may have a fraction: `0.84`, `7.2`, `312`, `41 k`.
pub fn rate(per_second: f64) -> String {
    if !per_second.is_finite() || per_second < 0.0 {
        return "–".to_owned();
    }
    match per_second {
        x if x >= 10_000.0 => count(x as u64),
        x if x >= 99.5 => format!("{x:.0}"),
        x => significant(x, 2),
    }
}

/// A size in decimal units: `512 B`, `812 kB`, `5.0 MB`, `1.5 GB`.
///
/// ```
/// assert_eq!(tokenized_sae::format::bytes(5_000_000), "5.0 MB");
/// ```
pub fn bytes(n: u64) -> String {
    if n < 1000 {
        format!("{n} B")
    } else {
        scaled(n as f64, 1000.0, &[" kB", " MB", " GB", " TB", " PB", " EB"])
    }
}

/// A time span: `0.42 s`, `4.2 s`, `42 s`, `1 min 20 s`, `2 h 5 min`, `3 d 4 h`.
///
/// ```
/// assert_eq!(tokenized_sae::format::duration(80.0), "1 min 20 s");
/// ```
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "–".to_owned();
    }
    if seconds < 9.95 {
        let digits = if seconds < 0.995 { 2 } else { 1 };
        return format!("{seconds:.digits$} s");
    }
    let s = seconds.round() as u64;
    match s {
        0..60 => format!("{s} s"),
        60..3600 => two(s / 60, "min", s % 60, "s"),
        3600..86_400 => two(s / 3600, "h", (s % 3600) / 60, "min"),
        _ => two(s / 86_400, "d", (s % 86_400) / 3600, "h"),
    }
}

/// A time span as one says it of the future: `42 s`, `2 min`, `2 h 5 min`; minutes are rounded up.
pub fn coarse_duration(seconds: f64) -> String {
    match seconds {
        s if (59.5..3540.5).contains(&s) => format!("{} min", (s / 60.0).ceil()),
        s if s < 59.5 => format!("{} s", s.max(1.0).round()),
        s => duration(s),
    }
}

/// `x` with `digits` significant digits, trailing zeros kept: `0.0412`, `4.270`, `312.4`; powers of
/// ten where that would be long.
///
/// ```
/// use tokenized_sae::format::significant;
/// assert_eq!(significant(0.04123, 3), "0.0412");
/// assert_eq!(significant(1.5e-7, 3), "1.50e-7");
/// ```
pub fn significant(x: f64, digits: usize) -> String {
    let digits = digits.max(1);
    if x == 0.0 {
        return "0".to_owned();
    }
    if !x.is_finite() {
        return if x.is_nan() {
            "NaN".to_owned()
        } else {
            if x > 0.0 { "∞" } else { "-∞" }.to_owned()
        };
    }
    // Rounding first, so that 0.09996 becomes 0.100 and not 0.1000.
    let rounded = format!("{:.*e}", digits - 1, x);
    let exponent: i32 = rounded.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
    match exponent {
        ..-4 | 7.. => rounded,
        e => format!("{:.*}", usize::try_from(digits as i32 - 1 - e).unwrap_or(0), x),
    }
}

/// A share of one as a percentage: `0` is `0 %`, `0.4153` is `41.5 %`, `0.00061` is `0.061 %`.
pub fn percent(share: f64) -> String {
    let p = share * 100.0;
    if !p.is_finite() {
        "–".to_owned()
    } else if p == 0.0 {
        "0 %".to_owned()
    } else if p.abs() < 0.995 {
        format!("{} %", significant(p, 2))
    } else {
        format!("{p:.1} %")
    }
}

/// A factor: `9.8×`, `13×`, `0.84×`.
pub fn times(factor: f64) -> String {
    if !factor.is_finite() {
        "–".to_owned()
    } else if factor.abs() >= 99.5 {
        format!("{factor:.0}×")
    } else {
        format!("{}×", significant(factor, 2))
    }
}

/// How many columns of a terminal the text takes: combining marks none, East Asian wide characters
/// and emoji two.
pub fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

fn char_width(c: char) -> usize {
    match c as u32 {
        0..=0x1f | 0x7f..=0x9f => 0,
        0x300..=0x36f
        | 0x200b..=0x200f
        | 0x20d0..=0x20ff
        | 0xfe00..=0xfe0f
        | 0xfe20..=0xfe2f
        | 0xfeff => 0,
        0x1100..=0x115f | 0x2e80..=0x303e | 0x3041..=0xa4cf | 0xa960..=0xa97c | 0xac00..=0xd7a3 => {
            2
        }
        0xf900..=0xfaff | 0xfe30..=0xfe6f | 0xff00..=0xff60 | 0xffe0..=0xffe6 => 2,
        0x1f300..=0x1f64f
        | 0x1f680..=0x1f6ff
        | 0x1f900..=0x1f9ff
        | 0x1fa70..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

fn two(large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    if small == 0 {
        format!("{large} {large_unit}")
    } else {
        format!("{large} {large_unit} {small} {small_unit}")
    }
}

/// Two digits below ten, whole numbers above: `1.2 M`, `41 k`. `n` is at least `step`.
fn scaled(n: f64, step: f64, suffixes: &[&str]) -> String {
    let (mut value, mut i) = (n / step, 0);
    // 999.5 k would print as "1000 k".
    while value >= step - 0.5 && i + 1 < suffixes.len() {
        value /= step;
        i += 1;
    }
    let digits = if value < 9.95 { 1 } else { 0 };
    format!("{value:.digits$}{}", suffixes[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts() {
        let cases = [
            (0, "0"),
            (999, "999"),
            (9_999, "9999"),
            (10_000, "10 k"),
            (41_499, "41 k"),
            (999_499, "999 k"),
            (999_500, "1.0 M"),
        ];
        for (n, want) in cases {
            assert_eq!(count(n), want);
        }
        assert_eq!(count(9_949_999), "9.9 M");
        assert_eq!(count(9_950_000), "10 M");
        assert_eq!(count(4_000_000), "4.0 M");
        assert_eq!(count(u64::MAX), "18 E");
    }

    #[test]
    fn rates() {
        assert_eq!(rate(0.837), "0.84");
        assert_eq!(rate(7.24), "7.2");
        assert_eq!(rate(312.4), "312");
        assert_eq!(rate(41_234.0), "41 k");
        assert_eq!(rate(f64::NAN), "–");
        assert_eq!(rate(f64::INFINITY), "–");
    }

    #[test]
    fn sizes() {
        for (n, want) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (4_987_654, "5.0 MB"),
            (812_345, "812 kB"),
            (1_500_000_000, "1.5 GB"),
        ] {
            assert_eq!(bytes(n), want);
        }
    }

    #[test]
    fn durations() {
        let cases = [
            (0.0, "0.00 s"),
            (0.42, "0.42 s"),
            (4.2, "4.2 s"),
            (9.96, "10 s"),
            (59.4, "59 s"),
            (59.6, "1 min"),
            (80.0, "1 min 20 s"),
            (3599.6, "1 h"),
            (7500.0, "2 h 5 min"),
            (273_600.0, "3 d 4 h"),
        ];
        for (s, want) in cases {
            assert_eq!(duration(s), want, "{s}");
        }
        assert_eq!(duration(f64::NAN), "–");
        assert_eq!(duration(-1.0), "–");
        for (s, want) in [
            (0.2, "1 s"),
            (42.3, "42 s"),
            (61.0, "2 min"),
            (3500.0, "59 min"),
            (7500.0, "2 h 5 min"),
        ] {
            assert_eq!(coarse_duration(s), want, "{s}");
        }
    }

    #[test]
    fn significant_digits() {
        let cases = [
            (0.041_23, 3, "0.0412"),
            (0.099_96, 3, "0.100"),
            (4.27, 4, "4.270"),
            (312.44, 4, "312.4"),
            (123_456.0, 3, "123456"),
            (-0.5, 2, "-0.50"),
            (0.0, 3, "0"),
            (1.5e-7, 3, "1.50e-7"),
            (2.5e9, 2, "2.5e9"),
        ];
        for (x, digits, want) in cases {
            assert_eq!(significant(x, digits), want);
        }
        assert_eq!(significant(f64::NAN, 3), "NaN");
        assert_eq!(significant(f64::NEG_INFINITY, 3), "-∞");
    }

    #[test]
    fn shares_and_factors() {
        assert_eq!(percent(0.415_3), "41.5 %");
        assert_eq!(percent(0.000_61), "0.061 %");
        assert_eq!(percent(0.0), "0 %");
        assert_eq!(percent(1.0), "100.0 %");
        assert_eq!(times(9.83), "9.8×");
        assert_eq!(times(13.2), "13×");
        assert_eq!(times(0.836), "0.84×");
        assert_eq!(times(f64::INFINITY), "–");
    }

    #[test]
    fn widths() {
        assert_eq!(width("NMSE"), 4);
        assert_eq!(width("e\u{301}"), 1);
        assert_eq!(width("日本"), 4);
        assert_eq!(width("‖W‖ ×"), 5);
    }
}
