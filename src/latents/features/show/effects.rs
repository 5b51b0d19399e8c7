//! How what a latent does shows itself.

use super::contexts::{Token, html, line};
use super::heading;
use crate::base::format;
use crate::display::{Column, Row, Show, Shown, Table, escape, shows};
use crate::latents::features::{Continuations, Effect, Intervention, Shift};

shows!(Effect, Continuations);

impl Effect {
    /// What was done, in words.
    pub fn title(&self) -> String {
        let latent = self.latent;
        match self.intervention {
            Intervention::Ablate => format!("Without latent {latent}"),
            Intervention::Steer { scale } => {
                format!("With latent {latent} added {scale} times, at every position but 0")
            }
            Intervention::SteerLast { scale } => {
                format!("With latent {latent} added {scale} times, at the last position")
            }
        }
    }

    /// The tokens that gain most, and those that lose most, as tables.
    pub fn tables(&self) -> [Table; 2] {
        [shifts("Gain as the next token", &self.gained), shifts("Lose", &self.lost)]
    }

    /// The text, each token with the divergence at it as its shade.
    fn tokens(&self) -> impl Iterator<Item = Token<'_>> {
        let most = self.tokens.iter().map(|token| token.kl).fold(0.0, f64::max);
        let last = self.tokens.len() - 1;
        self.tokens.iter().enumerate().map(move |(i, token)| Token {
            text: &token.token,
            share: if most > 0.0 && token.kl > 1e-3 * most { token.kl / most } else { 0.0 },
            tip: format!(
                "KL {} nats, activation {}",
                number(token.kl),
                number(f64::from(token.activation))
            ),
            is_marked: i == last,
        })
    }

    fn meaning(&self) -> String {
        let fires = self.tokens.iter().skip(1).filter(|token| token.activation > 0.0).count();
        format!(
            "KL(before ‖ after) {} nats after the text. Shades are the divergence at each token; the latent fires on {fires} of {} tokens.",
            number(self.kl()),
            self.tokens.len() - 1
        )
    }
}

fn shifts(title: &str, shifts: &[Shift]) -> Table {
    let columns = [
        Column::text("token"),
        Column::number("before").defined("probability as the next token, the model as it is"),
        Column::number("after").defined("the same after the intervention"),
    ];
    let row = |shift: &Shift| {
        Row::new(&format!("{:?}", shift.token)).percent(shift.before).percent(shift.after)
    };
    Table::filled(title, &columns, shifts.iter().map(row))
}

/// How often and where something is added, in words.
fn number(x: f64) -> String {
    format::significant(x, 3)
}

impl Show for Effect {
    fn shown(&self) -> Shown {
        let [gained, lost] = self.tables();
        let block = |table: &Table| {
            format!("<div style=\"flex:none;max-width:100%\">{}</div>", table.html())
        };
        let html = format!(
            "<div style=\"color:inherit\">{}\
             <div style=\"line-height:1.7;max-width:76em\">{}</div>\
             <div style=\"opacity:.72;font-size:.88em;margin:.3em 0\">{}</div>\
             <div style=\"display:flex;flex-wrap:wrap;gap:.2em 2.2em;align-items:flex-start\">{}{}</div></div>",
            heading(&self.title()),
            html(self.tokens()),
            escape(&self.meaning()),
            block(&gained),
            block(&lost)
        );
        let text = format!(
            "{}\n\n{}\n{}\n\n{}\n{}",
            self.title(),
            line(self.tokens()),
            self.meaning(),
            gained.text(),
            lost.text()
        );
        Shown { html, text }
    }
}

impl Show for Continuations {
    fn shown(&self) -> Shown {
        let columns = [Column::text("text"), Column::text("as it is"), Column::text("steered")];
        let title = format!(
            "{:?}, with latent {} added {} times, at every position but 0",
            self.prompt,
            self.latent,
            number(f64::from(self.scale))
        );
        let rows = self
            .pairs
            .iter()
            .zip(1..)
            .map(|((plain, steered), i)| Row::new(&i.to_string()).text(plain).text(steered));
        let table = Table::filled(&title, &columns, rows);
        table.caption("The two texts of a row are drawn with the same random numbers.").into()
    }
}
