//! An SVG, read strictly.

/// Reads the SVG as XML does: tags balance, attributes are quoted and occur once, no stray `<` or
/// `&`; returns all text.
pub fn well_formed(svg: &str) -> Vec<String> {
    let mut open: Vec<String> = Vec::new();
    let mut texts = Vec::new();
    let mut rest = svg;
    while let Some(at) = rest.find('<') {
        let text = &rest[..at];
        check_text(text);
        if !text.trim().is_empty() {
            texts.push(text.trim().to_owned());
        }
        let end = rest.find('>').expect("an open tag");
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name));
            continue;
        }
        let (body, closed) = tag.strip_suffix('/').map_or((tag, false), |body| (body, true));
        let (name, attributes) = body.split_once(' ').unwrap_or((body, ""));
        check_attributes(attributes);
        if !closed {
            open.push(name.to_owned());
        }
    }
    assert!(open.is_empty(), "{open:?} left open");
    assert!(rest.trim().is_empty());
    texts
}

fn check_attributes(mut attributes: &str) {
    let mut seen = Vec::new();
    while let Some((name, rest)) = attributes.split_once("=\"") {
        let (value, rest) = rest.split_once('"').expect("a closing quote");
        let name = name.trim();
        assert!(
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'),
            "{name}"
        );
        assert!(!seen.contains(&name), "{name} twice");
        assert!(
            !["NaN", "inf", "-inf"]
                .iter()
                .any(|bad| value.split([' ', ',', '(']).any(|v| v == *bad)),
            "{name}={value}"
        );
        check_text(value);
        seen.push(name);
        attributes = rest;
    }
    assert!(attributes.trim().is_empty(), "{attributes}");
}

fn check_text(text: &str) {
    for (i, _) in text.match_indices('&') {
        assert!(
            ["&amp;", "&lt;", "&gt;", "&quot;", "&#39;", "&apos;"]
                .iter()
                .any(|e| text[i..].starts_with(e)),
            "{text}"
        );
    }
    assert!(!text.contains('<') && !text.chars().any(|c| c.is_control() && c != '\n'));
}
