//! How wide text will be. Nobody knows before a browser has chosen a font, so this errs on the wide
//! side.

/// The width in pixels of `text` at `size` pixels, in the widest of the usual sans-serif fonts.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    text.chars().map(em).sum::<f64>() * size
}

fn em(c: char) -> f64 {
    match c {
        'i' | 'j' | 'l' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' => 0.33,
        ' ' | 'f' | 't' | 'r' | 'I' | '(' | ')' | '[' | ']' | '/' | '-' | '·' => 0.41,
        'm' | 'w' | 'M' | 'W' | '%' | '@' => 0.97,
        'A'..='Z' => 0.71,
        '⁰'..='⁹' | '¹' | '²' | '³' | '⁻' => 0.42,
        '\u{300}'..='\u{36f}' => 0.0,
        '\u{1100}'.. if crate::base::format::width(c.encode_utf8(&mut [0; 4])) == 2 => 1.05,
        '0'..='9' | '+' | '−' | '×' | '=' | '<' | '>' => 0.65,
        _ => 0.62,
    }
}

/// `text`, cut with an ellipsis to fit `width` pixels.
pub(super) fn fitted(text: &str, size: f64, width: f64) -> String {
    if text_width(text, size) <= width {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = em('…') * size;
    for c in text.chars() {
        used += em(c) * size;
        if used > width {
            break;
        }
        out.push(c);
    }
    out.trim_end().to_owned() + "…"
}
