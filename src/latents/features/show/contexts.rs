//! Texts with the tokens shaded by how strongly a latent fires on them.

use crate::base::format;
use crate::display::{Shown, escape};
use crate::latents::features::{Context, FeatureView};
use crate::model::{mark, visible};

/// Contexts that are seen at once; the others of a list open when they are asked for.
const OPEN: usize = 10;

/// How much of the shade the weakest and the strongest token have: seen on light and dark pages,
/// with the text legible on it.
const SHADE: [f64; 2] = [0.14, 0.66];

/// A token, ready to show.
pub(super) struct Token<'a> {
    pub text: &'a str,
    /// How strongly it is shaded, from 0 (not at all) to 1.
    pub share: f64,
    /// What it says when the pointer rests on it.
    pub tip: String,
    /// Whether it is what the text is about.
    pub is_marked: bool,
}

/// Tokens in a row, with the borders between them and white space visible.
pub(super) fn html<'a>(tokens: impl Iterator<Item = Token<'a>>) -> String {
    let one = |token: Token<'_>| {
        let shade = match token.share > 0.0 {
            true => format!(
                ";background:rgba(214,120,30,{:.2})",
                SHADE[0] + (SHADE[1] - SHADE[0]) * token.share.min(1.0)
            ),
            false => String::new(),
        };
        let weight = if token.is_marked { ";font-weight:700" } else { "" };
        let tip = if token.tip.is_empty() {
            String::new()
        } else {
            format!("title=\"{}\" ", escape(&token.tip))
        };
        format!(
            "<span {tip}style=\"border-left:1px solid rgba(128,128,128,.4){shade}{weight}\">{}</span><wbr>",
            visible(token.text)
        )
    };
    tokens.map(one).collect()
}

/// The same on one line, what it is about between guillemets.
pub(super) fn line<'a>(tokens: impl Iterator<Item = Token<'a>>) -> String {
    let plain = |text: &str| {
        text.chars().map(|c| mark(c).filter(|_| c != ' ').unwrap_or(c)).collect::<String>()
    };
    tokens
        .map(
            |token| {
                if token.is_marked {
                    format!("«{}»", plain(token.text))
                } else {
                    plain(token.text)
                }
            },
        )
        .collect()
}

/// All contexts of a latent: the strongest, and those of each band.
pub(super) fn shown(view: &FeatureView) -> Shown {
    let feature = &view.feature;
    if feature.firings == 0 {
        let tokens = format::count(view.tokens);
        return Shown::line(&format!("It fires on none of {tokens} tokens."));
    }
    let mut texts = view.texts.iter();
    let mut listed = |title: &str, contexts: &[Context]| {
        let lines: Vec<(&Context, &Vec<String>)> = contexts.iter().zip(&mut texts).collect();
        list(title, &lines, feature.max)
    };
    let strongest = listed("Strongest contexts, at most one a sequence", &feature.top);
    feature.bands.iter().fold(strongest, |shown, band| {
        shown.and(listed(&format!("Drawn at random {}", band.title()), &band.contexts))
    })
}

/// Contexts with the texts of their tokens, under a title; `max` is what the darkest shade stands
/// for.
fn list(title: &str, contexts: &[(&Context, &Vec<String>)], max: f32) -> Shown {
    let rows: Vec<String> =
        contexts.iter().map(|(context, texts)| row(context, texts, max)).collect();
    let (open, closed) = rows.split_at(rows.len().min(OPEN));
    let more = match closed.len() {
        0 => String::new(),
        n => format!(
            "<details><summary style=\"opacity:.72;cursor:pointer\">{n} more</summary>{}</details>",
            closed.concat()
        ),
    };
    let heading =
        format!("<div style=\"font-weight:600;margin:.5em 0 .1em\">{}</div>", escape(title));
    let lines: String = contexts
        .iter()
        .map(|(context, texts)| {
            format!("{:>9}  {}\n", number(context.activation()), line(tokens(context, texts, max)))
        })
        .collect();
    Shown {
        html: format!(
            "<div style=\"color:inherit;line-height:1.6;max-width:76em\">{heading}{}{more}</div>",
            open.concat()
        ),
        text: format!("{title}\n{lines}"),
    }
}

fn row(context: &Context, texts: &[String], max: f32) -> String {
    format!(
        "<div style=\"display:flex;margin:.15em 0\"><span title=\"sequence {}, position {}\" style=\"flex:none;width:4.5em;margin-right:.9em;\
         text-align:right;opacity:.72;font-variant-numeric:tabular-nums\">{}</span><span>{}</span></div>",
        context.sequence,
        context.position,
        number(context.activation()),
        html(tokens(context, texts, max))
    )
}

fn tokens<'a>(
    context: &'a Context,
    texts: &'a [String],
    max: f32,
) -> impl Iterator<Item = Token<'a>> {
    context.activations.iter().zip(texts).enumerate().map(move |(i, (&activation, text))| Token {
        text,
        share: f64::from(activation / max.max(f32::MIN_POSITIVE)),
        tip: if activation > 0.0 {
            format!("activation {}", number(activation))
        } else {
            String::new()
        },
        is_marked: i == context.at,
    })
}

fn number(x: f32) -> String {
    format::significant(f64::from(x), 3)
}
