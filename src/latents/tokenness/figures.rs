//! Figures of how closely latents are tied to tokens.

use crate::base::error::Result;
use crate::display::Figure;
use crate::display::chart::{Axis, Options, Sample, Scale, Series, Unit, bars, curves, histogram};
use crate::latents::tokenness::{NgramR2s, SaeTokenness, TokenOrContext, TokenTest};
use crate::model::HookPoint;

/// Bins of the histogram: 5 % of the mass each.
const BINS: usize = 20;

/// How large the share of the top token is: the share of each latent's activation mass on the token
/// that has most of it, over the latents that are neither dead nor rare, as counts.
///
/// # Errors
/// [`Error::Figure`](crate::Error::Figure) if no latent was counted.
pub fn top_token_shares(found: &TokenOrContext) -> Result<Figure> {
    let shares = |sae: &SaeTokenness| {
        sae.counted()
            .iter()
            .filter_map(|latent| latent.ngrams.first().map(|token| token.mass_share))
            .collect()
    };
    let samples: Vec<Sample> =
        found.saes.iter().map(|sae| Sample::new(&sae.name, shares(sae))).collect();
    let x = Axis { unit: Unit::Share, range: Some((0.0, 1.0)), ..Axis::default() };
    histogram(
        &titled("Mass on the top token", found),
        "share of the latent's activation mass",
        "latents",
        &samples,
        BINS,
        &Options { x, ..Options::default() },
    )
}

/// The share of token latents, by a test, among latents of about the same firing frequency: bins
/// half a decade wide, at their middles.
///
/// # Errors
/// [`Error::Figure`](crate::Error::Figure) if no latent was counted, or the test cannot be made of
/// an SAE.
pub fn token_latents_by_frequency(found: &TokenOrContext, test: TokenTest) -> Result<Figure> {
    let bins = found.bins(test);
    let series = found.saes.iter().enumerate().map(|(at, sae)| {
        let points = bins.iter().map(|bin| ((bin.from * bin.to).sqrt(), bin.shares[at])).collect();
        Series::new(&sae.name, points).with_markers()
    });
    let options = Options {
        x: Axis { scale: Scale::Log, unit: Unit::Share, ..Axis::default() },
        y: Axis { unit: Unit::Share, ..Axis::default() },
        ..Options::default()
    };
    let y_label = format!("latents: {}", test.words().0);
    curves(
        &titled("Token latents", found),
        "share of tokens on which the latent fires",
        &y_label,
        &series.collect::<Vec<_>>(),
        &options,
    )
}

/// How much of each hook's activations their token, bigram and trigram tell: R² of mean activations
/// on held-out sequences.
///
/// # Errors
/// [`Error::Figure`](crate::Error::Figure) if there is no hook.
pub fn ngram_r2(found: &NgramR2s) -> Result<Figure> {
    let hooks: Vec<HookPoint> = found.hooks.iter().map(|hook| hook.hook).collect();
    let one_site = hooks.windows(2).all(|pair| pair[0].site == pair[1].site);
    let (label, names) = match hooks.first() {
        Some(first) if one_site => (
            format!("layer, {}", first.site.name()),
            hooks.iter().map(|hook| hook.layer.to_string()).collect(),
        ),
        _ => (
            "hook".to_owned(),
            hooks
                .iter()
                .map(|hook| format!("{} {}", hook.layer, hook.site.name()))
                .collect::<Vec<_>>(),
        ),
    };
    let longest = found.hooks.iter().map(|hook| hook.scores.len()).max().unwrap_or(0);
    let group = |n: usize| {
        let name = ["token", "at most 2 tokens", "at most 3 tokens"][n - 1];
        Sample::new(name, found.hooks.iter().map(|hook| hook.r2(n).unwrap_or(f64::NAN)).collect())
    };
    let groups: Vec<Sample> = (1..=longest).map(group).collect();
    let title = found.hooks.first().map_or("What the last tokens tell".to_owned(), |hook| {
        format!("What the last tokens tell · {}", hook.model)
    });
    bars(&title, &label, "R², held-out", &names, &groups, &Options::default())
}

fn titled(what: &str, found: &TokenOrContext) -> String {
    format!("{what} · {}, {}", found.model, found.hook)
}
