//! Figures to be looked at.

use super::*;

/// Every kind of figure is drawn and saved. `TSAE_GALLERY=folder cargo test --release --lib
/// gallery` keeps them, with pages that show them on a white and on a dark ground, to be looked at
/// in a browser.
#[test]
fn gallery() {
    use crate::base::format;
    use crate::display::{Column, Row, Table};
    let scratch = tempfile::tempdir().unwrap();
    let folder = std::env::var_os("TSAE_GALLERY")
        .map_or_else(|| scratch.path().to_owned(), std::path::PathBuf::from);
    let curve = |name: &str, end: f64, start: f64, half: f64| {
        let points = (1..=32)
            .map(|i| f64::from(i) * 125e3)
            .map(|t| (t, end + (start - end) / (1.0 + (t / half).powf(1.6))));
        Series::new(name, points.collect()).with_markers()
    };
    let tokens = || Axis { label: "tokens seen".into(), unit: Unit::Count, ..Axis::default() };
    let log = |label: &str| Axis { label: label.into(), scale: Scale::Log, ..Axis::default() };
    let panel = |title: &str, y: Axis, series: Vec<Series>, marks: Vec<Mark>| PanelSpec {
        title: title.into(),
        x: tokens(),
        y,
        content: Content::Curves(series),
        marks,
    };
    let sooner = |y: f64, from: f64, label: &str| {
        vec![Mark::Sooner { y, from, to: 4e6, label: label.into() }]
    };
    let (nmse_s, nmse_t) = (curve("SAE", 0.036, 0.9, 180e3), curve("TSAE", 0.0125, 0.20, 150e3));
    let (ce_s, ce_t) = (curve("SAE", 0.067, 1.9, 160e3), curve("TSAE", 0.0185, 0.4, 140e3));
    let last = |s: &Series| s.points[31].1;
    let reconstruction = panels(
        "Reconstruction of held-out text, tiny-gpt2 blocks.2.hook_resid_pre",
        &[
            panel(
                "",
                log("NMSE"),
                vec![nmse_s.clone(), nmse_t.clone()],
                sooner(last(&nmse_s), 0.43e6, "9.3× sooner"),
            ),
            panel(
                "",
                log("CE added (relative)"),
                vec![ce_s.clone(), ce_t.clone()],
                sooner(last(&ce_s), 0.45e6, "8.8× sooner"),
            ),
        ],
        2,
    )
    .unwrap();
    let noisy = |name: &str, end: f64, seed: u64| {
        let mut state = seed;
        let points = (0..976).map(|i| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let noise = (state >> 33) as f64 / f64::from(1u32 << 31) - 0.5;
            (
                f64::from(i) * 4096.0,
                (end + 60.0 / (1.0 + f64::from(i) / 12.0)) * (1.0 + 0.35 * noise),
            )
        });
        Series::new(name, points.collect()).smoothed(0.03)
    };
    let flat = |name: &str, y: f64| {
        Series::new(name, (0..976).map(|i| (f64::from(i) * 4096.0, y)).collect())
    };
    let dead = |name: &str, end: f64| {
        Series::new(
            name,
            (0..976)
                .map(|i| (f64::from(i) * 4096.0, end * (1.0 - (-f64::from(i) / 200.0).exp())))
                .collect(),
        )
    };
    let training = panels(
        "Training",
        &[
            panel(
                "loss (sum over d_model)",
                log(""),
                vec![noisy("SAE", 2.1, 3), noisy("TSAE", 0.9, 5)],
                vec![],
            ),
            panel(
                "L0 (latents a token)",
                Axis::default(),
                vec![flat("SAE", 16.0), flat("TSAE", 16.0)],
                vec![],
            ),
            panel(
                "dead latents",
                Axis { unit: Unit::Share, ..Axis::default() },
                vec![dead("SAE", 0.089), dead("TSAE", 0.415)],
                vec![],
            ),
        ],
        3,
    )
    .unwrap();
    let norms = |name: &str, centre: f64| {
        let mut state = 7_u64;
        let values = (0..4096).map(|_| {
            let mut sum = 0.0;
            for _ in 0..6 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                sum += (state >> 33) as f64 / f64::from(1u32 << 31) - 0.5;
            }
            centre * (0.35 * sum).exp()
        });
        Sample::new(name, values.collect())
    };
    let norms = [norms("at the start", 4.2), norms("trained", 6.1)];
    let with_median =
        Options { marks: vec![Mark::At { x: 6.1, label: "median".into() }], ..Options::default() };
    let layers: Vec<String> = (5..=11).map(|l| l.to_string()).collect();
    let speed = [
        Sample::new("CE", vec![7.22, 8.13, 6.19, 7.22, 13.0, 11.82, 7.22]),
        Sample::new("NMSE", vec![9.29, 9.29, 6.84, 6.84, 10.0, 6.84, 9.29]),
    ];
    let many: Vec<Series> = (0..10)
        .map(|i| {
            curve(
                &format!("k = {}", 5 + 5 * i),
                0.03 + 0.012 * f64::from(i),
                0.9,
                2e5 + 5e4 * f64::from(i),
            )
        })
        .collect();
    let many_options = Options {
        x: Axis { scale: Scale::Log, ..tokens() },
        y: log(""),
        marks: vec![Mark::Level { y: 0.1, label: "paper, k = 20".into() }],
        ..Options::default()
    };
    let single = Options {
        x: tokens(),
        y: log(""),
        marks: sooner(last(&nmse_s), 0.43e6, "9.3× sooner"),
        ..Options::default()
    };
    let figures = [
        ("reconstruction", reconstruction),
        (
            "single",
            curves("Held-out NMSE", "tokens seen", "NMSE", &[nmse_s, nmse_t], &single).unwrap(),
        ),
        ("training", training),
        (
            "norms",
            histogram(
                "Norms of the lookup rows, 4096 tokens",
                "‖W_lookup[t]‖",
                "tokens",
                &norms,
                0,
                &with_median,
            )
            .unwrap(),
        ),
        (
            "norms-log",
            histogram(
                "Counts on a logarithmic axis",
                "‖W_lookup[t]‖",
                "tokens",
                &norms,
                0,
                &log_y(),
            )
            .unwrap(),
        ),
        (
            "speed-up",
            bars(
                "Speed-up, GPT-2 small",
                "layer",
                "times sooner",
                &layers,
                &speed,
                &Options::default(),
            )
            .unwrap(),
        ),
        ("many", curves("Ten runs", "tokens seen", "NMSE", &many, &many_options).unwrap()),
    ];
    let evaluation = Table::new(
        "Evaluation on held-out text",
        &[Column::text(""), Column::number("SAE"), Column::number("TSAE").defined("an SAE with a row added for each token")],
    )
    .with(Row::new("NMSE").defined("mean over tokens of ‖x̂ − x‖² / ‖x‖²").lowest_is_best().number(0.0412).number(0.0131))
    .with(Row::new("FVU").defined("Σ‖x̂ − x‖² / Σ‖x − mean‖²").lowest_is_best().number(0.052).number(0.0164))
    .with(
        Row::new("CE added")
            .defined("(CE patched − CE clean) / CE clean")
            .lowest_is_best()
            .shown(0.075, format::percent(0.075))
            .shown(0.019, format::percent(0.019)),
    )
    .with(
        Row::new("loss recovered")
            .defined("1 − (CE patched − CE clean) / (CE zero − CE clean)")
            .highest_is_best()
            .percent(0.932)
            .percent(0.983),
    )
    .with(Row::new("L0").defined("latents that are not 0, a token").number(16.0).number(16.0))
    .with(Row::new("dead").defined("share of latents that never fired").lowest_is_best().percent(0.089).percent(0.415))
    .with(Row::new("lookup").missing().text("learned"))
    .caption("51 k tokens of books that no training token came from; position 0 left out. Processing: TransformerLens.");
    let settings = Table::pairs(
        "tiny-gpt2",
        &[
            ("family", "GPT-2".into()),
            ("layers", "4".into()),
            ("d_model", "128".into()),
            ("d_vocab", "4096".into()),
            ("parameters", format::count(1_350_000)),
        ],
    );
    let points = |xy: &[(f64, f64)]| {
        Series::new("a rather long name of a run with lookup 0.5 and k 32", xy.to_vec())
            .with_markers()
    };
    let near = Options { marks: sooner(0.0405, 3.1e6, "1.3× sooner"), ..single.clone() };
    let near_series = [curve("SAE", 0.0345, 0.9, 180e3), curve("TSAE", 0.032, 0.8, 150e3)];
    let x_log = Options {
        x: Axis { scale: Scale::Log, ..tokens() },
        y: log(""),
        marks: sooner(0.0414, 0.43e6, "9.3× sooner"),
        ..Options::default()
    };
    let two = Options {
        marks: vec![
            Mark::Level { y: 0.03, label: "SAE, 64×".into() },
            Mark::Level { y: 0.028, label: "TSAE, 8×".into() },
            Mark::At { x: 3.9e6, label: "learning rate at its least".into() },
        ],
        ..single.clone()
    };
    let small = Options { size: Some((380, 260)), ..single.clone() };
    let stress = [
        curves("Close", "tokens seen", "NMSE", &near_series, &near).unwrap(),
        curves("Both axes logarithmic", "tokens seen", "NMSE", &many[..2], &x_log).unwrap(),
        curves("Two levels and a line", "tokens seen", "NMSE", &near_series, &two).unwrap(),
        curves(
            "Small, with a title that cannot fit",
            "tokens seen",
            "NMSE",
            &[many[0].clone(), points(&[(1e6, 0.1)])],
            &small,
        )
        .unwrap(),
        curves("One point", "x", "y", &[points(&[(3.0, 7.0)])], &Options::default()).unwrap(),
        curves(
            "Wide numbers",
            "x",
            "y",
            &[
                points(&[(1e-7, 1e15), (3e-7, 1.00002e15)]),
                Series::new("b", vec![(2e-7, 1.00001e15)]),
            ],
            &Options::default(),
        )
        .unwrap(),
        curves(
            "Signs",
            "x",
            "difference",
            &[points(&[(-1.0, -0.2), (0.0, 0.1), (1.0, 0.4)])],
            &Options { y: Axis { unit: Unit::Share, ..Axis::default() }, ..Options::default() },
        )
        .unwrap(),
        bars(
            "Signs",
            "",
            "gain",
            &[
                "GPT-2 small, layer 8".into(),
                "Pythia 1.4B, layer 16, with a frozen table".into(),
                "tiny".into(),
            ],
            &[Sample::new("a", vec![0.12, -0.04, 0.3])],
            &Options { y: Axis { unit: Unit::Share, ..Axis::default() }, ..Options::default() },
        )
        .unwrap(),
    ];
    let mut body = format!("{}{}", evaluation.html(), settings.html());
    for (name, figure) in &figures {
        checked(figure);
        figure.save(folder.join(format!("{name}.svg"))).unwrap();
        body += &format!("<div>{}</div>", figure.svg());
    }
    body += "<hr>";
    for figure in &stress {
        checked(figure);
        body += &format!("<div>{}</div>", figure.svg());
    }
    for (theme, colour, ground) in [("light", "#000000de", "#fff"), ("dark", "#ffffffde", "#111")] {
        let page = format!(
            "<!doctype html><meta charset=utf-8><body style=\"margin:16px;color:{colour};background:{ground};font:14px system-ui\">{body}</body>"
        );
        std::fs::write(folder.join(format!("{theme}.html")), page).unwrap();
    }
    std::fs::write(folder.join("table.txt"), format!("{}\n{}", evaluation.text(), settings.text()))
        .unwrap();
}
