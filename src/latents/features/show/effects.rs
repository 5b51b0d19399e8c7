//! How what a latent does shows itself.

use super::contexts::{Token, html, line};
use super::heading;
use crate::base::format;
use crate::display::{Column, Row, Show, Shown, Table, escape, shows};
use crate::latents::features::{
    Continuations, Effect, EffectToken, Intervention, Positions, Shift,
};

shows!(Effect, EffectToken, Shift, Intervention, Positions, Continuations);

impl Effect {
    /// What was done, in words.
    pub fn title(&self) -> String {
        let latent = self.latent;
        match self.intervention {
            Intervention::Ablate => format!("Without latent {latent}"),
            Intervention::Steer { scale, at: Positions::All } => {
                format!("With latent {latent} added {scale} times, at every position but 0")
            }
            Intervention::Steer { scale, at: Positions::Last } => {
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
    shifts.iter().fold(Table::new(title, &columns), |table, shift| table.with(row(shift)))
}

/// How often and where something is added, in words.
fn added(scale: f32, at: Positions) -> String {
    let at = if at == Positions::All { "every position but 0" } else { "the last position" };
    format!("added {} times, at {at}", number(f64::from(scale)))
}

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

impl Show for EffectToken {
    fn shown(&self) -> Shown {
        Shown::line(&format!(
            "{:?}: activation {}, KL {} nats",
            self.token,
            number(f64::from(self.activation)),
            number(self.kl)
        ))
    }
}

impl Show for Shift {
    fn shown(&self) -> Shown {
        Shown::line(&format!(
            "{:?}: {} before, {} after",
            self.token,
            format::percent(self.before),
            format::percent(self.after)
        ))
    }
}

impl Show for Intervention {
    fn shown(&self) -> Shown {
        match self {
            Intervention::Ablate => {
                Shown::sentence("Ablate", "the latent's code is set to 0, and the SAE's error kept")
            }
            Intervention::Steer { scale, at } => Shown::sentence(
                "Steer",
                &format!("the latent's row of W_dec is {}", added(*scale, *at)),
            ),
        }
    }
}

impl Show for Positions {
    fn shown(&self) -> Shown {
        match self {
            Positions::All => Shown::sentence("All", "every position but 0"),
            Positions::Last => Shown::sentence("Last", "the last position"),
        }
    }
}

impl Show for Continuations {
    fn shown(&self) -> Shown {
        let columns = [Column::text("text"), Column::text("as it is"), Column::text("steered")];
        let title = format!(
            "{:?}, with latent {} {}",
            self.prompt,
            self.latent,
            added(self.scale, Positions::All)
        );
        let mut table = Table::new(&title, &columns);
        for (i, (plain, steered)) in self.pairs.iter().enumerate() {
            table.push(Row::new(&(i + 1).to_string()).text(plain).text(steered));
        }
        table.caption("The two texts of a row are drawn with the same random numbers.").into()
    }
}
