//! Tokens as text, with the borders between them visible.

use std::collections::HashMap;

use crate::display::{Shown, escape};
use crate::model::Model;
use crate::model::tokens::Tokens;

/// Two shades in turn, which show on light and on dark pages.
const SHADES: [&str; 2] = ["rgba(66,133,214,.20)", "rgba(214,140,40,.24)"];

impl Model {
    /// The first `n` sequences as text: in a notebook each token is shaded and says its id when the
    /// pointer rests on it, and white space is visible. Without a tokenizer the tokens are `#123`.
    /// Cannot fail.
    ///
    /// ```
    /// use tokenized_sae::prelude::*;
    /// let model = Model::load("tiny-gpt2")?;
    /// let ids = model.encode("A line.\nAnother")?;
    /// let view = model.view(&Tokens::new(ids.clone(), ids.len())?, 1);
    /// assert!(view.text.contains("⏎") && view.text.contains("│"));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn view(&self, tokens: &Tokens, n: usize) -> Shown {
        let mut known: HashMap<u32, String> = HashMap::new();
        let mut text = |id: u32| known.entry(id).or_insert_with(|| self.token_str(id)).clone();
        let rows: Vec<Row> = (0..tokens.n_seq().min(n))
            .map(|i| tokens.row(i).iter().map(|&id| (id, text(id))).collect())
            .collect();
        view(&rows, tokens.n_seq())
    }
}

/// The ids and texts of a sequence.
type Row = Vec<(u32, String)>;

/// Some of `n_seq` sequences.
fn view(rows: &[Row], n_seq: usize) -> Shown {
    let mut shown =
        Shown { html: rows.iter().map(html).collect(), text: rows.iter().map(line).collect() };
    if rows.len() < n_seq {
        let left_out = format!("{} of {n_seq} sequences", rows.len());
        shown.html +=
            &format!("<div style=\"opacity:.72;font-size:.88em\">{}</div>", escape(&left_out));
        shown.text += &(left_out + "\n");
    }
    shown.html = format!(
        "<div style=\"color:inherit;line-height:1.75;max-width:70em\">{}</div>",
        shown.html
    );
    shown
}

/// A line with a bar between tokens.
fn line(row: &Row) -> String {
    let tokens = row.iter().map(|(_, text)| {
        text.chars().map(|c| mark(c).filter(|_| c != ' ').unwrap_or(c)).collect::<String>()
    });
    tokens.collect::<Vec<_>>().join("│") + "\n"
}

fn html(row: &Row) -> String {
    let token = |(position, (id, text)): (usize, &(u32, String))| {
        format!(
            "<span title=\"id {id}, position {position}\" style=\"background:{};border-radius:2px;padding:.1em 0\">{}</span><wbr>{}",
            SHADES[position % 2],
            visible(text),
            if text.ends_with('\n') { "<br>" } else { "" }
        )
    };
    let tokens: String = row.iter().enumerate().map(token).collect();
    format!("<div style=\"margin:.3em 0 .7em\">{tokens}</div>")
}

/// What stands for white space.
pub(crate) fn mark(c: char) -> Option<char> {
    match c {
        ' ' => Some('·'),
        '\n' => Some('⏎'),
        '\t' => Some('⇥'),
        '\r' => Some('␍'),
        c if c.is_whitespace() => Some('␣'),
        _ => None,
    }
}

/// A token's text with its white space as pale marks. A token without text is shown as an empty
/// set, so that it is seen at all.
pub(crate) fn visible(text: &str) -> String {
    let one = |c: char| match mark(c) {
        Some(mark) => format!("<span style=\"opacity:.4\">{mark}</span>"),
        None => escape(c.encode_utf8(&mut [0; 4])),
    };
    if text.is_empty() {
        "<span style=\"opacity:.4\">∅</span>".to_owned()
    } else {
        text.chars().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(texts: &[&str]) -> Shown {
        let row =
            texts.iter().enumerate().map(|(id, text)| (id as u32, (*text).to_owned())).collect();
        view(&[row], 3)
    }

    #[test]
    fn borders_and_white_space_are_visible_and_markup_is_not() {
        let view = of(&["<script>", " a\tb", "\n", ""]);
        assert_eq!(view.text, "<script>│ a⇥b│⏎│\n1 of 3 sequences\n");
        let html = view.html;
        assert!(html.contains("&lt;script&gt;") && !html.contains("<script>"));
        assert!(
            html.contains("title=\"id 1, position 1\"")
                && html.contains("<br>")
                && html.contains("∅")
        );
        assert_eq!(html.matches(SHADES[0]).count(), 2);
    }
}
