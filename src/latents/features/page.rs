//! All latents in one HTML file.
//!
//! The page holds its data as one block of bytes (base64, which any browser since 2011 reads
//! without a server), laid out by [`pack`]: columns by which the latents are sorted, the text of
//! all contexts in one pool (windows overlap, so most tokens are stored once and used by many
//! latents), and a short record a latent, which the page reads when it is looked at. Only the rows
//! of the list that are seen are in the document.

mod pack;

use std::path::Path;

use serde_json::json;

use super::FeatureDashboard;
use super::histogram::{LOW, PER_OCTAVE};
use crate::base::error::{Error, Result};
use crate::base::files;
use crate::base::format;
use crate::display::{base64, escape};

const HTML: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// What the numbers beside the tokens that a latent raises and lowers mean.
pub(super) const EFFECT: &str = "what an activation of 1 adds to the token's logit by the direct path: (d − mean(d)) ∘ gain · W_U, less its mean over all tokens, the \
                      final layer norm's division left out";

/// Writes the page.
pub(super) fn save(dashboard: &FeatureDashboard, path: &Path) -> Result<()> {
    let page = html(dashboard)?;
    files::write_atomic(path, |out| out.write_all(page.as_bytes()))
}

/// The page.
pub(super) fn html(dashboard: &FeatureDashboard) -> Result<String> {
    let features = &dashboard.features;
    let packed = pack::pack(dashboard)?;
    let has_table = dashboard.sae.lookup.is_some();
    let mut columns =
        vec![("density", "density"), ("max", "max activation"), ("mean", "mean activation")];
    if has_table {
        columns.push(("table", "cosine with the nearest table row"));
    }
    columns.push(("embedding", "cosine with the nearest embedding"));
    let columns: Vec<_> =
        columns.into_iter().map(|(key, name)| json!({ "key": key, "name": name })).collect();
    let n = features.config.bands;
    let edge = |i: usize| (100.0 * i as f64 / n as f64).round();
    let bands: Vec<String> = (0..n)
        .map(|i| format!("between the quantiles of {} and {} %", edge(i), edge(i + 1)))
        .collect();
    let about = format!(
        "{} latents, {} tokens{}",
        features.d_sae(),
        format::count(features.tokens),
        if features.finished { "" } else { ", stopped before all were read" }
    );
    let meta = json!({
        "d_sae": features.d_sae(), "tokens": features.tokens, "cofiring_tokens": features.cofiring_tokens, "about": about, "effect": EFFECT,
        "columns": columns, "likeness": if has_table { "table" } else { "embedding" }, "bands": bands,
        "per_octave": PER_OCTAVE, "low": LOW, "sections": packed.sections, "vocabulary": packed.vocabulary,
    });
    // No token can end the script that holds it: in JSON a < may be written as its number.
    let meta =
        serde_json::to_string(&meta).map_err(Error::json("features"))?.replace('<', "\\u003c");
    let parts = [
        ("@TITLE@", escape(&dashboard.title())),
        ("@STYLE@", STYLE.to_owned()),
        ("@SCRIPT@", SCRIPT.to_owned()),
        ("@META@", meta),
        ("@DATA@", base64(&packed.bytes)),
    ];
    Ok(filled(HTML, &parts))
}

/// The template with each part in its place; what a part holds is not looked at again.
fn filled(template: &str, parts: &[(&str, String)]) -> String {
    let mut page = String::with_capacity(
        template.len() + parts.iter().map(|(_, text)| text.len()).sum::<usize>(),
    );
    let mut rest = template;
    while let Some((at, (mark, text))) =
        parts.iter().filter_map(|part| Some((rest.find(part.0)?, part))).min_by_key(|(at, _)| *at)
    {
        page += &rest[..at];
        page += text;
        rest = &rest[at + mark.len()..];
    }
    page + rest
}
