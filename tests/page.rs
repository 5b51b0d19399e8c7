//! The promise: the page of all latents is one file that asks the network for nothing, and a
//! browser shows and finds in it what the library knows.
//!
//! The second half wants a Chromium or Chrome on the `PATH` (or its path in `CHROME`); without one
//! it says so and passes.

#[path = "shared/browser.rs"]
mod browser;

use std::path::Path;
use std::process::Command;

use browser::browser;
use tokenized_sae::latents::features::FeatureView;
use tokenized_sae::prelude::*;

/// A small SAE on text that would like to be markup.
fn dashboard() -> FeatureDashboard {
    let model = Model::load("tiny-gpt2").unwrap();
    let hook = HookPoint::resid_pre(2);
    let mut ids = model.sample(40, 32, 1).unwrap().ids().to_vec();
    let evil = model.encode("</script><b>bold</b> \"&amp;\" <!-- Über\n\tTHE end").unwrap();
    for sequence in 0..10 {
        let start = sequence * 32 + 1 + sequence;
        let n = evil.len().min(32 - 1 - sequence);
        ids[start..start + n].copy_from_slice(&evil[..n]);
    }
    let sae = SaeConfig { expansion: 2, k: 6, ..SaeConfig::for_model(&model) };
    let sae = Sae::new(sae.with_lookup(Lookup::unigram(&model, hook).unwrap())).unwrap();
    let config =
        FeaturesConfig { top: 4, bands: 2, per_band: 2, before: 6, after: 4, ..Default::default() };
    FeatureDashboard::with(&model, hook, &sae, &Tokens::new(ids, 32).unwrap(), config)
        .unwrap()
        .named("<i>&")
}

#[test]
fn the_page_is_one_file_without_a_link() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("features.html");
    dashboard().save(&path).unwrap();
    let page = std::fs::read_to_string(&path).unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    // The name of SVG's namespace is never requested.
    let page = page.replace("http://www.w3.org/2000/svg", "");
    for link in
        ["http:", "https:", "src=", "<link", "@import", "url(", "fetch(", "@DATA@", "@META@", "<i>"]
    {
        assert!(!page.contains(link), "{link}");
    }
    assert_eq!((page.matches("<script").count(), page.matches("</script").count()), (3, 3));
    assert!(page.contains("<title>&lt;i&gt;&amp; · blocks.2.hook_resid_pre · tiny-gpt2</title>"));
    assert!(
        dashboard()
            .save(dir.path().join("no/features.html"))
            .unwrap_err()
            .to_string()
            .contains("no/features.html")
    );
}

/// The document as the browser has made it of the page at this address.
fn document(browser: &Path, page: &Path, address: &str, profile: &Path) -> String {
    let url = format!("file://{}#{address}", page.display());
    let arguments =
        ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000", "--dump-dom"];
    let profile = format!("--user-data-dir={}", profile.display());
    let output = Command::new(browser).args(arguments).args([&profile, &url]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// What stands between two marks.
fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    text.split_once(from)
        .and_then(|(_, rest)| rest.split_once(to))
        .map_or_else(|| panic!("no {from} … {to}"), |(found, _)| found)
}

/// The text of some HTML.
fn text_of(html: &str) -> String {
    let mut text = String::new();
    for piece in html.split('<') {
        text += piece.split_once('>').map_or("", |(_, rest)| rest);
    }
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&nbsp;", "\u{a0}").replace("&amp;", "&")
}

#[test]
fn a_browser_shows_and_finds_what_the_library_knows() {
    let Some(browser) = browser() else {
        eprintln!("skipped: there is no Chromium or Chrome on this machine");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let (page, dashboard) = (dir.path().join("features.html"), dashboard());
    dashboard.save(&page).unwrap();
    let document = |address: &str| document(&browser, &page, address, &dir.path().join("profile"));
    let d_sae = dashboard.features.d_sae();
    let model = Model::load("tiny-gpt2").unwrap();
    let views: Vec<FeatureView> =
        (0..d_sae).map(|latent| dashboard.latent(latent).unwrap()).collect();
    let text =
        |ids: &[u32]| ids.iter().map(|&id| model.token_str(id).to_lowercase()).collect::<String>();
    let contexts = |view: &FeatureView| -> Vec<String> {
        let bands = view.feature.bands.iter().flat_map(|band| &band.contexts);
        view.feature.top.iter().chain(bands).map(|context| text(&context.ids)).collect()
    };

    // A latent, whole.
    let latent = (0..d_sae).max_by_key(|&latent| views[latent].feature.firings).unwrap();
    let shown = document(&format!("latent={latent}"));
    let one = between(&shown, "<section id=\"one\"", "</section>");
    assert!(one.contains(&format!("<h2>Latent {latent}</h2>")), "{one}");
    let got: Vec<String> = one
        .split("<div class=\"context\">")
        .skip(1)
        .map(|context| text_of(&format!("<{context}")))
        .collect();
    let marked = |text: String| {
        text.replace([' ', '\u{a0}'], "·").replace('\n', "⏎").replace('\t', "⇥").replace('\r', "␍")
    };
    let feature = &views[latent].feature;
    let want = feature.top.iter().chain(feature.bands.iter().flat_map(|band| &band.contexts));
    let want: Vec<String> = want
        .map(|context| marked(context.ids.iter().map(|&id| model.token_str(id)).collect()))
        .collect();
    assert!(got.len() == want.len() && got.len() > 4, "{got:?}");
    for (got, want) in got.iter().zip(&want) {
        assert!(got.contains(want.as_str()), "{got:?} {want:?}");
    }
    for token in views[latent].directions.raised.iter().chain(&views[latent].directions.table) {
        let quoted = serde_json::to_string(&token.token).unwrap();
        assert!(text_of(one).contains(&quoted), "{quoted}");
    }
    assert!(one.contains("rgba(var(--shade)") || one.contains("background: rgba"), "{one}");

    // Searches, against a look at every context.
    for words in ["the", "</script><b>", "über", "no such words in any of them"] {
        let want = views
            .iter()
            .filter(|view| contexts(view).iter().any(|context| context.contains(words)))
            .count();
        let encoded: String = words.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let shown = document(&format!("q={encoded}&in=contexts"));
        let status = between(&shown, "<output id=\"status\">", "</output>");
        assert!(
            status.starts_with(&format!("{want} of {d_sae} latents")),
            "{words}: {want}, {status}"
        );
    }
    let raised = views
        .iter()
        .filter(|view| {
            view.directions.raised.iter().any(|one| one.token.to_lowercase().contains("er"))
        })
        .count();
    let shown = document("q=er&in=raised&dead=1");
    let status = between(&shown, "<output id=\"status\">", "</output>");
    assert!(
        raised > 0 && status.starts_with(&format!("{raised} of {d_sae} latents")),
        "{raised}, {status}"
    );

    // Sorted by density, the most frequent first.
    let shown = document("sort=density&order=down");
    let first = between(between(&shown, "<div id=\"list\"", "</section>"), "data-latent=\"", "\"");
    assert_eq!(first.parse::<usize>().unwrap(), dashboard.features.most_frequent(1)[0]);
}
