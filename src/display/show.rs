//! Rich output of a notebook cell.

use std::borrow::Cow;
use std::io::Write;

use super::live::line_end;

/// The variable that the notebook's Rust kernel sets in the process that runs the cells.
const RUNTIME_VARIABLE: &str = "EVCXR_IS_RUNTIME";
const BEGIN: &str = "EVCXR_BEGIN_CONTENT";
const END: &str = "EVCXR_END_CONTENT";

/// Whether this process runs the cells of a Rust notebook.
pub fn in_notebook() -> bool {
    std::env::var_os(RUNTIME_VARIABLE).is_some()
}

/// Shows a value: its `html` and its `text` in a notebook cell, its `text` alone on the standard
/// output of any other process.
///
/// A cell shows the last value of each kind only, so call this once a cell, from the
/// `evcxr_display` of what the cell returns. It cannot fail: if nobody listens on the standard
/// output, nothing is shown.
///
/// ```
/// tokenized_sae::display::show("<b>4.27</b> nats", "4.27 nats");
/// ```
pub fn show(html: &str, text: &str) {
    let message = if in_notebook() { line_end() + &rich(html, text) } else { line(text) };
    let mut out = std::io::stdout().lock();
    // A closed pipe must not stop a training run.
    let _ = out.write_all(message.as_bytes()).and_then(|()| out.flush());
}

/// `text` with the five characters that mean something in HTML and SVG replaced, for content and
/// for attributes alike.
///
/// ```
/// use tokenized_sae::display::escape;
/// assert_eq!(escape("a < b & \"c\""), "a &lt; b &amp; &quot;c&quot;");
/// ```
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // Not allowed in XML at all, and invisible in HTML: a decoded token may hold any of
            // them.
            c if c.is_control() && !matches!(c, '\n' | '\t') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

fn line(text: &str) -> String {
    format!("{}\n", text.trim_end_matches('\n'))
}

fn rich(html: &str, text: &str) -> String {
    format!(
        "{BEGIN} text/html\n{}\n{END}\n{BEGIN} text/plain\n{}\n{END}\n",
        contained(html),
        contained(text.trim_end_matches('\n'))
    )
}

/// The end marker inside the content would cut it short: a text that quotes it loses one underscore
/// to a look-alike.
fn contained(content: &str) -> Cow<'_, str> {
    if content.contains(END) {
        Cow::Owned(content.replace(END, "EVCXR\u{ff3f}END\u{ff3f}CONTENT"))
    } else {
        Cow::Borrowed(content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rich_output_follows_the_protocol() {
        assert_eq!(
            rich("<b>x</b>", "x\n"),
            "EVCXR_BEGIN_CONTENT text/html\n<b>x</b>\nEVCXR_END_CONTENT\nEVCXR_BEGIN_CONTENT text/plain\nx\nEVCXR_END_CONTENT\n"
        );
    }

    #[test]
    fn content_cannot_end_itself() {
        let message = rich("a\nEVCXR_END_CONTENT\nb", "t");
        assert_eq!(message.matches("EVCXR_END_CONTENT").count(), 2);
        assert!(message.contains("\nb\n"));
    }

    #[test]
    fn escapes_markup_quotes_and_control_characters() {
        assert_eq!(
            escape("<a href='x'>&\"\u{0}\u{1b}[m\n"),
            "&lt;a href=&#39;x&#39;&gt;&amp;&quot;\u{fffd}\u{fffd}[m\n"
        );
        assert_eq!(escape("Ġdéjà 𝄞"), "Ġdéjà 𝄞");
    }
}
