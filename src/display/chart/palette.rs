//! Inks: what a stroke is for, and the colour it gets.
//!
//! plotters writes fixed colours. Each ink is drawn in a colour of its own that no reader ever
//! sees, and [`resolve`] puts the real one, a page colour perhaps, in its place.

use plotters::style::RGBAColor;

/// Told apart with red-green and blue-yellow blindness; each has a contrast of at least 3.5 on
/// white and on `#111`.
pub(super) const SERIES: [&str; 8] =
    ["#2A7FC6", "#D95F02", "#0B9A7E", "#9B62D0", "#A87B00", "#D6457F", "#808080", "#A5694F"];

/// The first byte of every stand-in colour.
const STAND_IN: u8 = 0xFA;

/// What a stroke is for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Ink {
    /// Text, axes and grid: the colour of the page's text, more or less of it.
    Page(f64),
    /// The same, dashed.
    PageDashed(f64),
    /// The `n`th series.
    Series(usize),
    /// The same, dashed: over a curve that it would hide.
    SeriesDashed(usize),
    /// The same, paler.
    Pale(usize, f64),
}

impl Ink {
    /// Titles and labels.
    pub(super) const TEXT: Ink = Ink::Page(0.92);
    /// Tick labels.
    pub(super) const TICK: Ink = Ink::Page(0.74);
    /// The two axes.
    pub(super) const AXIS: Ink = Ink::Page(0.5);
    /// Lines behind the data at numbered ticks.
    pub(super) const GRID: Ink = Ink::Page(0.14);
    /// Lines behind the data between them.
    pub(super) const MINOR: Ink = Ink::Page(0.06);
    /// Marks.
    pub(super) const MARK: Ink = Ink::PageDashed(0.7);

    pub(super) fn stand_in(self) -> RGBAColor {
        match self {
            Ink::Page(alpha) => RGBAColor(STAND_IN, 0, 0, alpha),
            Ink::PageDashed(alpha) => RGBAColor(STAND_IN, 1, 0, alpha),
            Ink::Series(n) => RGBAColor(
                STAND_IN,
                if n < SERIES.len() { 2 } else { 3 },
                (n % SERIES.len()) as u8,
                1.0,
            ),
            Ink::SeriesDashed(n) => RGBAColor(STAND_IN, 4, (n % SERIES.len()) as u8, 1.0),
            Ink::Pale(n, alpha) => RGBAColor(STAND_IN, 2, (n % SERIES.len()) as u8, alpha),
        }
    }
}

/// The SVG with every stand-in replaced. Text cannot be hit: plotters escapes its quotes, and
/// stand-ins are quoted.
pub(super) fn resolve(svg: &str) -> String {
    let prefix = format!("\"#{STAND_IN:02X}");
    let mut out = String::with_capacity(svg.len());
    let mut rest = svg;
    while let Some(at) = rest.find(&prefix) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        match from.get(prefix.len()..prefix.len() + 5).and_then(attribute) {
            Some(colour) => {
                out.push_str(&colour);
                rest = &from[prefix.len() + 5..];
            }
            None => {
                out.push_str(&prefix);
                rest = &from[prefix.len()..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// `0102"` → the quoted colour, and the dashes if the ink has any. Lengths are tenths of a pixel.
fn attribute(code: &str) -> Option<String> {
    let hex = code.strip_suffix('"')?;
    let kind = u8::from_str_radix(hex.get(..2)?, 16).ok()?;
    let n = usize::from(u8::from_str_radix(hex.get(2..)?, 16).ok()?);
    match kind {
        0 => Some("\"currentColor\"".to_owned()),
        1 => Some("\"currentColor\" stroke-dasharray=\"45 45\"".to_owned()),
        2 => Some(format!("\"{}\"", SERIES.get(n)?)),
        3 => Some(format!("\"{}\" stroke-dasharray=\"60 35\"", SERIES.get(n)?)),
        4 => Some(format!("\"{}\" stroke-dasharray=\"80 80\"", SERIES.get(n)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// WCAG's relative luminance.
    fn luminance(hex: &str) -> f64 {
        let channel = |i: usize| {
            let c = f64::from(u8::from_str_radix(&hex[i..i + 2], 16).unwrap()) / 255.0;
            if c <= 0.039_28 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
    }

    #[test]
    fn every_series_shows_on_white_and_on_black() {
        for colour in SERIES {
            let l = luminance(colour) + 0.05;
            let (white, dark) = (1.05 / l, l / (luminance("#111111") + 0.05));
            assert!(white > 3.5 && dark > 3.5, "{colour}: {white:.2} on white, {dark:.2} on dark");
        }
    }

    #[test]
    fn stand_ins_are_replaced_and_nothing_else() {
        let svg = "<a fill=\"#FA0000\" stroke=\"#FA0100\"/><b fill=\"#FA0201\"/><c stroke=\"#FA0300\"/>\"#FA\" #FA0000 \"#FAé000";
        let want = "<a fill=\"currentColor\" stroke=\"currentColor\" stroke-dasharray=\"45 45\"/><b fill=\"#D95F02\"/>\
                    <c stroke=\"#2A7FC6\" stroke-dasharray=\"60 35\"/>\"#FA\" #FA0000 \"#FAé000";
        assert_eq!(resolve(svg), want);
    }
}
