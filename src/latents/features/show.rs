//! How features show themselves.

mod contexts;
mod effects;

use super::page::EFFECT;
use super::{
    Band, Cofiring, Directions, Feature, FeatureDashboard, FeatureView, Features, TokenScore,
};
use crate::base::error::Result;
use crate::base::format;
use crate::display::chart::{self, Axis, Options, Sample, Scale, Series, Unit};
use crate::display::{Column, Figure, Row, Show, Shown, Table, debug, escape, settings, shows};

shows!(Features, Feature, FeatureDashboard, FeatureView, Directions);

/// Latents in a table of the most frequent.
const FREQUENT: usize = 10;

/// Width and height of the small figures.
const SMALL: (u32, u32) = (440, 210);

impl Features {
    /// How much was read, and how many latents fire, as a table.
    pub fn table(&self) -> Table {
        let densities = self.densities();
        let share = |fires: &dyn Fn(f64) -> bool| {
            densities.iter().filter(|density| fires(**density)).count() as f64 / self.d_sae() as f64
        };
        let read = format!(
            "{}{}",
            format::count(self.tokens),
            if self.finished { "" } else { ", and then it was stopped" }
        );
        let rows = vec![
            ("model", self.model.clone(), "the model whose activations were read"),
            ("hook", self.hook.to_string(), "the place in the model that they are of"),
            (
                "tokens",
                read,
                "tokens that were read and counted; position 0 of each sequence is not",
            ),
            ("latents", self.d_sae().to_string(), "how many there are"),
            (
                "dead",
                format::percent(share(&|density| density == 0.0)),
                "share of latents that fire on none of these tokens",
            ),
            (
                "dense",
                format::percent(share(&|density| density > 0.1)),
                "share of latents that fire on more than a tenth of them",
            ),
        ];
        settings("Features", rows)
    }

    /// How frequent the latents are: the share of tokens on which each fires, on a logarithmic
    /// axis, without those that never fire.
    ///
    /// # Errors
    /// [`Error::Figure`](crate::Error::Figure) if none fires.
    pub fn density_figure(&self) -> Result<Figure> {
        let fires = self.densities().into_iter().filter(|density| *density > 0.0).collect();
        let x = Axis { scale: Scale::Log, ..Axis::default() };
        let options = Options { size: Some(SMALL), x, ..Options::default() };
        chart::histogram(
            "How often latents fire",
            "share of tokens on which a latent fires",
            "latents",
            &[Sample::new("", fires)],
            0,
            &options,
        )
    }
}

impl Feature {
    /// Its activations as an outline of a histogram.
    ///
    /// # Errors
    /// [`Error::Figure`](crate::Error::Figure) if it never fires.
    pub fn figure(&self) -> Result<Figure> {
        let ends = (self.histogram.first(), self.histogram.last());
        let (first, last) = (ends.0.map_or(1.0, |bin| bin.from), ends.1.map_or(1.0, |bin| bin.to));
        let steps = self
            .histogram
            .iter()
            .flat_map(|bin| [(bin.from, bin.count as f64), (bin.to, bin.count as f64)]);
        let outline = [(first, 0.0)].into_iter().chain(steps).chain([(last, 0.0)]);
        let most = self.histogram.iter().map(|bin| bin.count).max().unwrap_or(0) as f64;
        let options = Options {
            size: Some(SMALL),
            x: Axis { scale: Scale::Log, range: Some((first, last)), ..Axis::default() },
            y: Axis { unit: Unit::Count, range: Some((0.0, 1.08 * most)), ..Axis::default() },
            ..Options::default()
        };
        let outline = if self.firings == 0 { Vec::new() } else { outline.collect() };
        chart::curves(
            "",
            "activation where it fires",
            "tokens",
            &[Series::new("", outline)],
            &options,
        )
    }

    /// How often and how strongly it fires, as a table.
    pub fn table(&self) -> Table {
        let number =
            |x: f64| if self.firings == 0 { "–".to_owned() } else { format::significant(x, 3) };
        let rows = vec![
            (
                "density",
                format::percent(self.density),
                "share of tokens on which its code is above 0; position 0 is not counted",
            ),
            ("firings", format::count(self.firings), "tokens on which its code is above 0"),
            ("mean", number(self.mean), "mean activation over those tokens"),
            ("max", number(f64::from(self.max)), "greatest activation"),
        ];
        settings(&format!("Latent {}", self.latent), rows)
    }
}

/// A line that is wider than any table below it.
fn heading(title: &str) -> String {
    format!("<div style=\"font-weight:600;margin:.3em 0\">{}</div>", escape(title))
}

impl Show for Features {
    fn shown(&self) -> Shown {
        Shown::from(self.table()).and_figure(self.density_figure())
    }
}

impl Show for Feature {
    fn shown(&self) -> Shown {
        Shown::from(self.table()).and_figure(self.figure())
    }
}

impl Show for FeatureDashboard {
    fn shown(&self) -> Shown {
        let columns = [
            Column::number("latent"),
            Column::number("density").defined("share of tokens on which it fires"),
            Column::number("max").defined("greatest activation"),
            Column::text("fires most on")
                .defined("the tokens of its strongest contexts, each once"),
        ];
        let mut table = Table::new("The most frequent latents", &columns);
        for latent in self.features.most_frequent(FREQUENT) {
            let Ok(feature) = self.features.latent(latent) else { continue };
            let mut tokens: Vec<String> = Vec::new();
            for context in &feature.top {
                let token = format!("{:?}", self.model.token_str(context.ids[context.at]));
                if !tokens.contains(&token) {
                    tokens.push(token);
                }
            }
            tokens.truncate(6);
            let row = Row::new(&latent.to_string())
                .percent(feature.density)
                .number(f64::from(feature.max));
            table.push(row.text(&tokens.join(" ")));
        }
        let table = table.caption("dashboard.latent(i)? shows one of them, dashboard.save(\"features.html\")? writes them all.");
        let title = Shown { html: heading(&self.title()), text: self.title() };
        title
            .and(self.features.table().titled(""))
            .and_figure(self.features.density_figure())
            .and(table)
    }
}

impl Show for FeatureView {
    fn shown(&self) -> Shown {
        let feature = &self.feature;
        let facts = feature.table().titled("");
        let figure = feature.figure().map_or(String::new(), |figure| figure.html());
        let lists = self.lists();
        let block = |html: &str| format!("<div style=\"flex:none;max-width:100%\">{html}</div>");
        let row = |blocks: String| {
            format!(
                "<div style=\"display:flex;flex-wrap:wrap;gap:.2em 2.2em;align-items:flex-start\">{blocks}</div>"
            )
        };
        let contexts = contexts::shown(self);
        let html = format!(
            "<div style=\"color:inherit\">{}{}{}{}</div>",
            heading(&self.title),
            row(block(&facts.html()) + &block(&figure)),
            row(lists.iter().map(|table| block(&table.html())).collect()),
            contexts.html
        );
        let mut text = format!("{}\n\n{}\n", self.title, facts.text());
        lists.iter().for_each(|table| text += &format!("{}\n", table.text()));
        Shown { html, text: text + &contexts.text }
    }
}

impl FeatureView {
    /// The tokens it points at and the latents that fire with it.
    fn lists(&self) -> Vec<Table> {
        let mut lists = self.directions.tables();
        if !self.feature.cofiring.is_empty() {
            let tokens = format::count(self.cofiring_tokens);
            let columns = [
                Column::text("latent"),
                Column::number("Jaccard").defined(
                    "tokens on which both fire, as a share of those on which at least one does",
                ),
                Column::number("tokens")
                    .defined(&format!("tokens on which both fire, of {tokens} counted")),
            ];
            let row = |one: &Cofiring| {
                let row = Row::new(&one.latent.to_string()).percent(f64::from(one.jaccard));
                row.count(u64::from(one.tokens))
            };
            let rows = self.feature.cofiring.iter().map(row);
            lists.push(Table::filled("Fires together with", &columns, rows));
        }
        lists
    }
}

impl Directions {
    /// The lists of tokens, as tables; an empty one is left out.
    pub fn tables(&self) -> Vec<Table> {
        let lists = [
            ("Raises", &self.raised, "logit", EFFECT),
            ("Lowers", &self.lowered, "logit", EFFECT),
            (
                "Nearest in W_E",
                &self.embedding,
                "cosine",
                "cosine of the latent's row of W_dec and the token's of W_E",
            ),
            (
                "Nearest in W_lookup",
                &self.table,
                "cosine",
                "cosine of the latent's row of W_dec and the token's of W_lookup",
            ),
        ];
        let filled = lists.into_iter().filter(|(_, scores, _, _)| !scores.is_empty());
        let table = |(title, scores, unit, meaning): (&str, &Vec<TokenScore>, &str, &str)| {
            let columns = [Column::text("token"), Column::number(unit).defined(meaning)];
            let row = |one: &TokenScore| {
                Row::new(&format!("{:?}", one.token)).number(f64::from(one.score))
            };
            Table::filled(title, &columns, scores.iter().map(row))
        };
        filled.map(table).collect()
    }
}

impl Show for Directions {
    fn shown(&self) -> Shown {
        let first =
            Shown::line(&format!("‖W_dec[latent]‖ {}", format::significant(self.length, 3)));
        self.tables().into_iter().fold(first, Shown::and)
    }
}

impl Band {
    /// Which firings it holds, in words.
    pub(super) fn title(&self) -> String {
        let value = |x| format::significant(x, 3);
        let quantile = |x: f64| format!("{:.0}", 100.0 * x);
        format!(
            "between the quantiles of {} and {} %, activation {} to {}",
            quantile(self.from),
            quantile(self.to),
            value(self.least),
            value(self.most)
        )
    }
}

debug!(Features: it => "Features ({} latents at {}, {} tokens)", it.d_sae(), it.hook, it.tokens);

debug!(FeatureDashboard: it =>
    "FeatureDashboard ({}, {} latents)", it.title(), it.features.d_sae()
);
