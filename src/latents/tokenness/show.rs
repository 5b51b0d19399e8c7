//! How latents, shares of them, and settings show themselves.

use super::TokennessConfig;
use super::latent::{LatentTokenness, NgramProfile, SaeTokenness, TableMatch};
use super::pass::Coverage;
use super::summary::{TokenOrContext, TokenTest, Weighting};
use crate::base::format;
use crate::display::{Column, Row, Show, Shown, Table, settings, shows};
use crate::latents::tokenness::figures;

/// Latents that a table lists by default.
const LISTED: usize = 12;

impl TokenTest {
    /// Its name and its definition.
    pub(crate) fn words(self) -> (&'static str, &'static str) {
        match self {
            TokenTest::TopToken => (
                "half of the mass on one token",
                "at least half of the latent's activation mass stands on one token",
            ),
            TokenTest::FewTokens => (
                "less than 1 bit of tokens",
                "the entropy of the latent's tokens, weighted by activation mass, is less than 1 bit: less than two tokens with even shares have",
            ),
            TokenTest::Trivial => (
                "trivial",
                "(MI − chance) / (H − chance) > 0.9: MI the mutual information of firing and token, H the entropy of firing, chance the mean MI of as many firings dealt out at random",
            ),
            TokenTest::TrivialUncorrected => (
                "trivial, not corrected",
                "MI / H > 0.9, as sparsify counts trivial latents; rare latents pass it by chance",
            ),
            TokenTest::LikeTable => (
                "like a row of the table",
                "the decoder row has a cosine of at least 0.4 (the authors' threshold) with a row, less the mean row, of the table named below",
            ),
            TokenTest::LikeOwnTable => (
                "like a row of its own table",
                "the same with the SAE's own W_lookup as it is after training",
            ),
            TokenTest::TopBigram => (
                "half of the mass on one bigram",
                "at least half of the latent's activation mass stands on one pair of the token before and the token",
            ),
            TokenTest::TrivialBigram => {
                ("trivial by bigram", "as trivial, with the bigram in the place of the token")
            }
        }
    }
}

impl Weighting {
    /// What the share is a share of, and how that is meant.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Weighting::Latents => ("of latents", "every latent counts once"),
            Weighting::Firings => ("of firings", "a latent counts as often as it fires"),
            Weighting::Mass => (
                "of activation mass",
                "a latent counts by the length of what it adds to reconstructions, Σ value · ‖W_dec‖",
            ),
            Weighting::Matched => (
                "of latents, at equal firing frequencies",
                "latents are weighted so that all SAEs have one distribution over bins of firing frequency, half a decade wide: the mean of theirs",
            ),
        }
    }
}

impl TokenOrContext {
    fn columns(&self, first: &str) -> Vec<Column> {
        std::iter::once(Column::text(first))
            .chain(self.saes.iter().map(|sae| Column::number(&sae.name)))
            .collect()
    }

    /// The share of token latents by every test, one column for each SAE.
    pub fn table(&self, weighting: Weighting) -> Table {
        let (of_what, meaning) = weighting.words();
        let mut table = Table::new(&format!("Token latents: share {of_what}"), &self.columns(""));
        if weighting == Weighting::Latents {
            self.numbers_of_latents(&mut table);
        }
        // A mean over latents: its name, its definition, what it is of, and how it is set.
        let mut push = |name: &str,
                        definition: &str,
                        value: &dyn Fn(&LatentTokenness) -> Option<f64>,
                        cell: fn(Row, Option<f64>) -> Row| {
            let means: Vec<Option<f64>> =
                (0..self.saes.len()).map(|at| self.mean(at, weighting, value)).collect();
            if means.iter().any(Option::is_some) {
                table.push(means.into_iter().fold(Row::new(name).defined(definition), cell));
            }
        };
        for test in TokenTest::ALL {
            let (name, definition) = test.words();
            push(name, definition, &|latent| test.share(latent), Row::percent);
        }
        let of_mass = "of a latent's activation mass";
        let share = |l: &LatentTokenness, n: usize| l.ngrams.get(n).map(|it| it.mass_share);
        push("mean share of the top token", of_mass, &|l| share(l, 0), Row::percent);
        push("mean share of the top bigram", of_mass, &|l| share(l, 1), Row::percent);
        push(
            "mean entropy of tokens",
            "in bits, weighted by activation mass within the latent",
            &|l| l.ngrams.first().map(|it| it.mass_entropy),
            Row::number,
        );
        push(
            "mean share of firing told by the token",
            "(MI − chance) / (H − chance), as for trivial latents",
            &|l| l.ngrams.first().map(|it| it.mi_share_corrected),
            Row::percent,
        );
        let matched = match weighting {
            Weighting::Matched => {
                format!(" The bins in which they are matched hold {}.", self.matched())
            }
            _ => String::new(),
        };
        table.caption(&format!(
            "{}; {meaning}. {}{matched}",
            self.what_was_counted(),
            self.what_is_left_out()
        ))
    }

    fn numbers_of_latents(&self, table: &mut Table) {
        let least = self.min_firings.max(1);
        let rare = format!("latents that fired, but fewer than {least} times");
        let mut push = |name: &str, definition: &str, keep: &dyn Fn(u64) -> bool| {
            let count = |sae: &SaeTokenness| {
                sae.latents.iter().filter(|latent| keep(latent.firings)).count()
            };
            let row = Row::new(name).defined(definition);
            table.push(self.saes.iter().fold(row, |row, sae| row.count(count(sae) as u64)));
        };
        let counted = "latents that are neither dead nor rare: the shares are of these";
        push("latents counted", counted, &|firings| firings >= least);
        push("dead", "latents that fired on none of the tokens", &|firings| firings == 0);
        push("rare", &rare, &|firings| firings > 0 && firings < least);
    }

    /// "98.1 % of the latents of SAE, 97.0 % of TSAE".
    fn matched(&self) -> String {
        let share = |(at, sae): (usize, &SaeTokenness)| {
            format!("{} of the latents of {}", format::percent(self.matched_share(at)), sae.name)
        };
        self.saes.iter().enumerate().map(share).collect::<Vec<_>>().join(", ")
    }

    fn what_was_counted(&self) -> String {
        let (tokens, all) =
            (format::count(self.tokens as u64), format::count(self.available as u64));
        let part = match self.coverage {
            Coverage::Everything => format!("{tokens} tokens"),
            Coverage::Tokens => format!("{tokens} of {all} tokens, in sequences chosen at random"),
            Coverage::Memory => format!(
                "{tokens} of {all} tokens, in sequences chosen at random, for which the memory sufficed"
            ),
            Coverage::Stopped => format!(
                "{tokens} of {all} tokens, in sequences chosen at random, until it was stopped by hand"
            ),
        };
        format!(
            "{} ({} weights), {}, {part}, position 0 left out",
            self.model, self.processing, self.hook
        )
    }

    fn what_is_left_out(&self) -> String {
        format!(
            "Dead latents and those with fewer than {} firings are left out. The table compared with: {}.",
            self.min_firings.max(1),
            self.table
        )
    }

    /// The share of token latents by one test within bins of firing frequency.
    pub fn by_frequency(&self, test: TokenTest) -> Table {
        let (name, definition) = test.words();
        let columns = self.saes.iter().flat_map(|sae| {
            let latents = Column::number(&format!("{}: latents", sae.name))
                .defined("how many of its latents have that density");
            [
                latents,
                Column::number(&sae.name)
                    .defined(&format!("the share of them for which {definition}")),
            ]
        });
        let first = Column::text("fires on")
            .defined("the share of tokens on which a latent fires: its density");
        let columns: Vec<Column> = std::iter::once(first).chain(columns).collect();
        let rows = self.bins(test).into_iter().map(|bin| {
            let (from, to) = (format::percent(bin.from), format::percent(bin.to.min(1.0)));
            let row = Row::new(&format!("{from} to {to}"));
            bin.latents.iter().zip(&bin.shares).fold(row, |row, (latents, share)| {
                row.count(*latents as u64).percent(Some(*share).filter(|share| !share.is_nan()))
            })
        });
        Table::filled(&format!("Token latents by firing frequency: {name}"), &columns, rows)
            .caption(&format!("{}. {}", self.what_was_counted(), self.what_is_left_out()))
    }
}

/// Token latents as a share of latents, of activation mass, and of latents at equal firing
/// frequencies; and how the top token's share is spread.
impl Show for TokenOrContext {
    fn shown(&self) -> Shown {
        let weightings =
            [Weighting::Mass, Weighting::Matched].map(|weighting| self.table(weighting));
        let shown =
            weightings.into_iter().fold(Shown::from(self.table(Weighting::Latents)), Shown::and);
        shown
            .and(self.by_frequency(TokenTest::TopToken))
            .and_figure(figures::top_token_shares(self))
    }
}

impl SaeTokenness {
    /// The `n` latents with most activation mass.
    pub fn heaviest_latents(&self, n: usize) -> Table {
        self.listed("most activation mass first", n, |latent| latent.mass)
    }

    /// The `n` latents that the token tells most of, corrected for chance; of equals those with
    /// most activation mass.
    pub fn token_latents(&self, n: usize) -> Table {
        self.listed("most told by the token first", n, |latent| latent.ngrams[0].mi_share_corrected)
    }

    /// The `n` latents that the token tells least of, corrected for chance; of equals those with
    /// most activation mass.
    pub fn context_latents(&self, n: usize) -> Table {
        self.listed("least told by the token first", n, |latent| {
            -latent.ngrams[0].mi_share_corrected
        })
    }

    fn listed(&self, order: &str, n: usize, key: impl Fn(&LatentTokenness) -> f64) -> Table {
        let mut latents = self.counted();
        latents.sort_by(|a, b| key(b).total_cmp(&key(a)).then(b.mass.total_cmp(&a.mass)));
        let of = format!(
            "{} of the {} latents with {} firings or more.",
            n.min(latents.len()),
            latents.len(),
            self.min_firings.max(1)
        );
        let rows = latents.into_iter().take(n).map(latent_row);
        Table::filled(&format!("{}: latents, {order}", self.name), &latent_columns(), rows)
            .caption(&of)
    }
}

fn latent_columns() -> Vec<Column> {
    vec![
        Column::text("latent"),
        Column::number("fires on")
            .defined("the share of the tokens counted on which its value is greater than 0"),
        Column::text("top token").defined("the token with most of its activation mass"),
        Column::number("mass")
            .defined("the share of its activation mass that stands on that token"),
        Column::number("entropy")
            .defined("entropy of its tokens in bits, weighted by activation mass"),
        Column::number("told")
            .defined("(MI − chance) / (H − chance): how much of its firing the token tells"),
        Column::text("top bigram")
            .defined("the pair of token before and token with most of its activation mass"),
        Column::number("mass")
            .defined("the share of its activation mass that stands on that bigram"),
        Column::text("nearest row")
            .defined("the row of the table that its decoder row resembles most"),
        Column::number("cosine").defined("with that row"),
    ]
}

fn latent_row(latent: &LatentTokenness) -> Row {
    let quoted = |text: &str| format!("{text:?}");
    let (token, bigram) = (latent.ngrams.first(), latent.ngrams.get(1));
    let named = |row: Row, profile: Option<&NgramProfile>| match profile {
        Some(profile) => row.text(&quoted(&profile.text)),
        None => row.missing(),
    };
    let row = Row::new(&latent.latent.to_string()).percent(latent.density);
    let row = named(row, token)
        .percent(token.map(|it| it.mass_share))
        .number(token.map(|it| it.mass_entropy))
        .percent(token.map(|it| it.mi_share_corrected));
    let row = named(row, bigram).percent(bigram.map(|it| it.mass_share));
    row.text(&quoted(&latent.table.text)).number(latent.table.cosine)
}

/// Its latents with most activation mass.
impl Show for SaeTokenness {
    fn shown(&self) -> Shown {
        self.heaviest_latents(LISTED).into()
    }
}

impl Show for LatentTokenness {
    fn shown(&self) -> Shown {
        let mut rows = vec![
            (
                "firings",
                format!(
                    "{}, on {} of tokens",
                    format::count(self.firings),
                    format::percent(self.density)
                ),
                "tokens on which its value is greater than 0",
            ),
            (
                "mass",
                format::significant(self.mass, 3),
                "Σ value · ‖W_dec[latent]‖ over its firings",
            ),
            (
                "H(fires)",
                format!("{} bits", format::significant(self.fires_entropy, 3)),
                "entropy of whether it fires",
            ),
            (
                "nearest row",
                matched(&self.table),
                "the row of the table compared with that its decoder row resembles most, and their cosine",
            ),
        ];
        if let Some(own) = &self.own_table {
            rows.push(("of its own table", matched(own), "the same in the SAE's own W_lookup"));
        }
        let table = settings(&format!("Latent {}", self.latent), rows);
        self.ngrams.iter().fold(Shown::from(table), |shown, profile| shown.and(profile.table()))
    }
}

impl NgramProfile {
    /// What it holds, as a table.
    pub fn table(&self) -> Table {
        let bits = |x: f64| format!("{} bits", format::significant(x, 3));
        let name = match self.top.len() {
            0 | 1 => "token",
            2 => "bigram",
            _ => "trigram",
        };
        let rows = vec![
            (
                "top",
                format!("{:?}", self.text),
                "the one with most of the latent's activation mass",
            ),
            ("its mass", format::percent(self.mass_share), "share of the latent's activation mass"),
            ("its firings", format::percent(self.firing_share), "share of the latent's firings"),
            (
                "distinct",
                format::count(self.distinct as u64),
                "on how many different ones the latent fires",
            ),
            ("entropy by mass", bits(self.mass_entropy), "0 if there is only one"),
            ("entropy by firings", bits(self.firing_entropy), "every firing counts once"),
            (
                "normalized",
                format::significant(self.normalized_entropy, 3),
                "entropy by mass as a share of log₂ of how many different ones the text has",
            ),
            ("MI", bits(self.mi), "mutual information of firing and this, as counted"),
            (
                "by chance",
                bits(self.mi_by_chance),
                "its mean if as many firings were dealt out at random over the text",
            ),
            (
                "MI / H",
                format::percent(self.mi_share),
                "as a share of the entropy of firing, not corrected",
            ),
            ("told", format::percent(self.mi_share_corrected), "(MI − chance) / (H − chance)"),
        ];
        settings(&format!("By {name}"), rows)
    }
}

impl Show for NgramProfile {
    fn shown(&self) -> Shown {
        self.table().into()
    }
}

fn matched(found: &TableMatch) -> String {
    format!("{:?}, cosine {}", found.text, format::significant(found.cosine, 3))
}

impl Show for TokenTest {
    fn shown(&self) -> Shown {
        let (name, definition) = self.words();
        Shown::sentence(name, definition)
    }
}

impl Show for Weighting {
    fn shown(&self) -> Shown {
        let (name, meaning) = self.words();
        Shown::sentence(name, meaning)
    }
}

impl Show for TokennessConfig {
    fn shown(&self) -> Shown {
        let table = self
            .table
            .as_ref()
            .map_or("Lookup::unigram of the model and hook".to_owned(), |table| {
                format!("{table:?}")
            });
        let rows = vec![
            ("tokens", format::count(self.tokens as u64), "tokens to count, at most"),
            ("order", self.order.to_string(), "the longest n-gram that is counted"),
            ("memory", format::bytes(self.memory), "what the counts may take, about"),
            ("table", table, "the table that decoder rows are compared with"),
            (
                "min_firings",
                self.min_firings.to_string(),
                "latents that fire less often are counted apart as rare",
            ),
            ("seed", self.seed.to_string(), "decides the order in which sequences are read"),
        ];
        settings("TokennessConfig", rows).into()
    }
}

shows!(
    TokenOrContext,
    SaeTokenness,
    LatentTokenness,
    NgramProfile,
    TokenTest,
    Weighting,
    TokennessConfig
);
