//! Whether a piece of HTML is well formed and escaped.

/// The elements that have no end.
const VOID: [&str; 5] = ["br", "hr", "img", "wbr", "input"];

/// Says what is wrong with a piece of HTML: tags that do not match, or a `<`, `>` or `&` that
/// should have been escaped.
pub fn malformed(html: &str) -> Option<String> {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = html;
    while let Some(at) = rest.find(['<', '>', '&']) {
        let from = &rest[at..];
        if let Some(entity) = from.strip_prefix('&') {
            let name = entity.split(';').next().unwrap_or("");
            if name.is_empty()
                || name.len() > 6
                || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '#')
            {
                return Some(format!(
                    "a bare & in {:?}",
                    from.chars().take(20).collect::<String>()
                ));
            }
            rest = entity;
            continue;
        }
        // A `>` is allowed within the quotes of an attribute, but this crate escapes it there too.
        let Some(end) = from.find('>').filter(|&end| end > 0) else {
            return Some(format!("a bare {}", &from[..1]));
        };
        let tag = &from[1..end];
        if tag.contains('<') {
            return Some(format!("a < within <{tag}>"));
        }
        if !tag.matches('"').count().is_multiple_of(2) {
            return Some(format!("a quote is left open in <{tag}>"));
        }
        rest = &from[end + 1..];
        match tag.strip_prefix('/') {
            Some(name) if open.last() == Some(&name) => {
                open.pop();
            }
            Some(name) => return Some(format!("</{name}> while {open:?} are open")),
            None => {
                let name = tag.split([' ', '\n']).next().unwrap_or("");
                if !name.chars().all(|c| c.is_ascii_alphanumeric()) || name.is_empty() {
                    return Some(format!("<{tag}> is not a tag"));
                }
                if !VOID.contains(&name) {
                    open.push(name);
                }
                if name == "style" {
                    // What a style sheet holds is not markup.
                    rest = &rest[rest.find("</style>").unwrap_or(0)..];
                }
            }
        }
    }
    (!open.is_empty()).then(|| format!("{open:?} are left open"))
}

#[test]
fn the_checker_tells_good_from_bad() {
    for good in [
        "",
        "a",
        "<p>a &lt; b<br>c</p>",
        "<style>p > a{}</style><img alt=\"x\">",
        "<p title=\"&quot;\">&#39;</p>",
    ] {
        assert_eq!(malformed(good), None, "{good}");
    }
    for bad in [
        "<p>",
        "</p>",
        "<p><b></p></b>",
        "a & b",
        "a < b",
        "a > b",
        "<p title=\"x>y</p>",
        "<p title=\"a<b\"></p>",
    ] {
        assert!(malformed(bad).is_some(), "{bad}");
    }
}
