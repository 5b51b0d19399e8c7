//! How a model shows itself as the last value of a notebook's cell.

use crate::model::{Model, ModelConfig};

impl Model {
    /// Shows the model as a table; a notebook calls this for the last value of a cell.
    pub fn evcxr_display(&self) {
        let mut rows = vec![("parameters", grouped(self.n_params())), ("processing", self.processing().to_string())];
        rows.extend(rows_of(self.config()));
        let bos = self.bos();
        if let Some(row) = rows.iter_mut().find(|(what, _)| *what == "BOS") {
            row.1 = format!("{bos}, {:?}", self.token_str(bos));
        }
        rows.push(("tokenizer", if self.inner.tokenizer.is_some() { "yes".to_owned() } else { "none: token ids only".to_owned() }));
        let hooks = self.hooks();
        if let (Some(first), Some(last)) = (hooks.first(), hooks.last()) {
            rows.push(("hooks", format!("{}, {first} to {last}", hooks.len())));
        }
        show(&format!("{} · {}", self.name(), self.config().family), &rows);
    }
}

impl ModelConfig {
    /// Shows the configuration as a table; a notebook calls this for the last value of a cell.
    pub fn evcxr_display(&self) {
        show(&self.family.to_string(), &rows_of(self));
    }
}

fn rows_of(config: &ModelConfig) -> Vec<(&'static str, String)> {
    vec![
        ("blocks", config.n_layers.to_string()),
        ("d_model", config.d_model.to_string()),
        ("heads", format!("{} of {}", config.n_heads, config.d_head)),
        ("d_mlp", config.d_mlp.to_string()),
        ("n_ctx", grouped(config.n_ctx)),
        ("d_vocab", grouped(config.d_vocab)),
        ("BOS", config.bos.to_string()),
    ]
}

/// 124439808 as "124,439,808".
fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let from_end = digits.len() % 3;
    digits.char_indices().fold(String::new(), |mut text, (i, digit)| {
        if i > 0 && i % 3 == from_end {
            text.push(',');
        }
        text.push(digit);
        text
    })
}

fn show(title: &str, rows: &[(&'static str, String)]) {
    let (html, text) = render(title, rows);
    println!("EVCXR_BEGIN_CONTENT text/html\n{html}\nEVCXR_END_CONTENT");
    println!("EVCXR_BEGIN_CONTENT text/plain\n{text}\nEVCXR_END_CONTENT");
}

fn render(title: &str, rows: &[(&'static str, String)]) -> (String, String) {
    let escape = |s: &str| s.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let wide = rows.iter().map(|(what, _)| what.len()).max().unwrap_or(0);
    let mut html = format!("<table><caption>{}</caption>", escape(title));
    let mut text = title.to_owned();
    for (what, value) in rows {
        html.push_str(&format!(
            "<tr><th style=\"text-align:left\">{}</th><td style=\"text-align:left\">{}</td></tr>",
            escape(what),
            escape(value)
        ));
        text.push_str(&format!("\n  {what:wide$}  {value}"));
    }
    html.push_str("</table>");
    (html, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0, 12, 999, 1000, 50257, 124439808].map(grouped), ["0", "12", "999", "1,000", "50,257", "124,439,808"]);
    }

    #[test]
    fn a_table_is_escaped_in_html_and_aligned_in_text() {
        let (html, text) = render("a<b", &[("n", "1".into()), ("BOS", "0, \"<|endoftext|>\"".into())]);
        assert!(html.contains("a&lt;b") && html.contains("&lt;|endoftext|&gt;"), "{html}");
        assert_eq!(text, "a<b\n  n    1\n  BOS  0, \"<|endoftext|>\"");
    }
}
