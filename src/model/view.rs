//! Tokens as text, with the borders between them visible.

use std::collections::HashMap;
use std::fmt;

use crate::display::{Show, Shown, escape, shows};
use crate::model::Model;
use crate::model::tokens::Tokens;

/// Two shades in turn, which show on light and on dark pages.
const SHADES: [&str; 2] = ["rgba(66,133,214,.20)", "rgba(214,140,40,.24)"];

/// Some sequences as text, token by token; [`Model::view`] makes it.
#[derive(Clone, PartialEq, Eq)]
pub struct TokensView {
    rows: Vec<Vec<(u32, String)>>,
    n_seq: usize,
}

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
    /// assert!(view.text().contains("⏎") && view.text().contains("│"));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn view(&self, tokens: &Tokens, n: usize) -> TokensView {
        let mut known: HashMap<u32, String> = HashMap::new();
        let mut text = |id: u32| known.entry(id).or_insert_with(|| self.token_str(id)).clone();
        let rows = (0..tokens.n_seq().min(n))
            .map(|i| tokens.row(i).iter().map(|&id| (id, text(id))).collect())
            .collect();
        TokensView { rows, n_seq: tokens.n_seq() }
    }
}

impl TokensView {
    /// The ids and texts, sequence by sequence.
    pub fn rows(&self) -> &[Vec<(u32, String)>] {
        &self.rows
    }

    /// One line a sequence, with a bar between tokens.
    pub fn text(&self) -> String {
        let line = |row: &Vec<(u32, String)>| {
            let tokens = row.iter().map(|(_, text)| {
                text.chars().map(|c| mark(c).filter(|_| c != ' ').unwrap_or(c)).collect::<String>()
            });
            tokens.collect::<Vec<_>>().join("│") + "\n"
        };
        self.rows.iter().map(line).collect::<String>()
            + &self.left_out().map(|line| line + "\n").unwrap_or_default()
    }

    /// The same as HTML.
    pub fn html(&self) -> String {
        let mut out = String::from("<div style=\"color:inherit;line-height:1.75;max-width:70em\">");
        for row in &self.rows {
            out += "<div style=\"margin:.3em 0 .7em\">";
            for (position, (id, text)) in row.iter().enumerate() {
                out += &format!(
                    "<span title=\"id {id}, position {position}\" style=\"background:{};border-radius:2px;padding:.1em 0\">{}</span><wbr>",
                    SHADES[position % 2],
                    visible(text)
                );
                if text.ends_with('\n') {
                    out += "<br>";
                }
            }
            out += "</div>";
        }
        if let Some(line) = self.left_out() {
            out += &format!("<div style=\"opacity:.72;font-size:.88em\">{}</div>", escape(&line));
        }
        out + "</div>"
    }

    fn left_out(&self) -> Option<String> {
        let hidden = self.n_seq - self.rows.len();
        (hidden > 0).then(|| format!("{} of {} sequences", self.rows.len(), self.n_seq))
    }
}

shows!(TokensView);

impl Show for TokensView {
    fn shown(&self) -> Shown {
        Shown { html: self.html(), text: self.text() }
    }
}

impl fmt::Debug for TokensView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
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

    fn view(texts: &[&str]) -> TokensView {
        let row =
            texts.iter().enumerate().map(|(id, text)| (id as u32, (*text).to_owned())).collect();
        TokensView { rows: vec![row], n_seq: 3 }
    }

    #[test]
    fn borders_and_white_space_are_visible_and_markup_is_not() {
        let view = view(&["<script>", " a\tb", "\n", ""]);
        assert_eq!(view.text(), "<script>│ a⇥b│⏎│\n1 of 3 sequences\n");
        let html = view.html();
        assert!(html.contains("&lt;script&gt;") && !html.contains("<script>"));
        assert!(
            html.contains("title=\"id 1, position 1\"")
                && html.contains("<br>")
                && html.contains("∅")
        );
        assert_eq!(html.matches(SHADES[0]).count(), 2);
    }
}
