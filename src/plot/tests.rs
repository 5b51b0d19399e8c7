use super::*;

/// Reads the SVG as XML does: tags balance, attributes are quoted and occur once, no stray `<` or `&`; returns all text.
fn well_formed(svg: &str) -> Vec<String> {
    let mut open: Vec<String> = Vec::new();
    let mut texts = Vec::new();
    let mut rest = svg;
    while let Some(at) = rest.find('<') {
        let text = &rest[..at];
        check_text(text);
        if !text.trim().is_empty() {
            texts.push(text.trim().to_owned());
        }
        let end = rest.find('>').expect("an open tag");
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name));
            continue;
        }
        let (body, closed) = tag.strip_suffix('/').map_or((tag, false), |body| (body, true));
        let (name, attributes) = body.split_once(' ').unwrap_or((body, ""));
        check_attributes(attributes);
        if !closed {
            open.push(name.to_owned());
        }
    }
    assert!(open.is_empty(), "{open:?} left open");
    assert!(rest.trim().is_empty());
    texts
}

fn check_attributes(mut attributes: &str) {
    let mut seen = Vec::new();
    while let Some((name, rest)) = attributes.split_once("=\"") {
        let (value, rest) = rest.split_once('"').expect("a closing quote");
        let name = name.trim();
        assert!(!name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{name}");
        assert!(!seen.contains(&name), "{name} twice");
        assert!(!["NaN", "inf", "-inf"].iter().any(|bad| value.split([' ', ',', '(']).any(|v| v == *bad)), "{name}={value}");
        check_text(value);
        seen.push(name);
        attributes = rest;
    }
    assert!(attributes.trim().is_empty(), "{attributes}");
}

fn check_text(text: &str) {
    for (i, _) in text.match_indices('&') {
        assert!(["&amp;", "&lt;", "&gt;", "&quot;", "&#39;", "&apos;"].iter().any(|e| text[i..].starts_with(e)), "{text}");
    }
    assert!(!text.contains('<') && !text.chars().any(|c| c.is_control() && c != '\n'));
}

/// The figure is well-formed, has only the page's colour and the palette's, and no number that is none; returns its text.
pub(super) fn checked(figure: &Figure) -> Vec<String> {
    let svg = figure.svg();
    let texts = well_formed(svg);
    well_formed(&figure.standalone());
    for (i, _) in svg.match_indices("=\"#") {
        let colour = &svg[i + 2..i + 9];
        assert!(palette::SERIES.contains(&colour), "{colour} would be illegible in one theme");
    }
    assert!(!svg.contains("id=\"") && !svg.contains("url(#"));
    texts
}

fn sae() -> Series {
    Series::new("SAE", (1..=40).map(|i| (f64::from(i) * 1e5, 0.041 + 0.2 / f64::from(i))).collect())
}

fn tsae() -> Series {
    Series::new("TSAE", (1..=40).map(|i| (f64::from(i) * 1e5, 0.013 + 0.03 / f64::from(i))).collect())
}

fn log_y() -> Options {
    Options { y: Axis { scale: Scale::Log, ..Axis::default() }, x: Axis { unit: Unit::Count, ..Axis::default() }, ..Options::default() }
}

#[test]
fn a_spread_is_drawn_as_bars_that_the_axes_have_room_for() {
    let points = vec![(5.0, 0.2), (10.0, 0.1), (20.0, 0.05)];
    let spread = vec![(0.15, 0.4), (0.09, 0.11), (0.05, 0.05)];
    let plain = curves("a", "L0", "NMSE", &[Series::new("SAE", points.clone())], &Options::default()).unwrap();
    let barred = curves("a", "L0", "NMSE", &[Series::new("SAE", points.clone()).with_spread(spread)], &Options::default()).unwrap();
    checked(&barred);
    let strokes = |figure: &Figure| figure.svg().matches("<polyline").count() + figure.svg().matches("<line").count();
    // Two bars with two ends each; the third point does not spread. The taller axis has its own ticks.
    assert!(strokes(&barred) >= strokes(&plain) + 4, "{} {}", strokes(&barred), strokes(&plain));
    let short = Series::new("SAE", points).with_spread(vec![(0.1, 0.2)]);
    assert!(curves("a", "L0", "NMSE", &[short], &Options::default()).unwrap_err().to_string().contains("1 of its 3 points"));
}

#[test]
fn a_dashed_curve_is_dashed_in_the_legend_too() {
    let figure = curves("a", "L0", "NMSE", &[sae(), tsae().dashed()], &Options::default()).unwrap();
    checked(&figure);
    assert_eq!(figure.svg().matches("stroke-dasharray").count(), 2);
}

#[test]
fn curves_have_axes_legend_and_marks() {
    let options = Options {
        marks: vec![
            Mark::Sooner { y: 0.046, from: 1e5, to: 4e6, label: "40× sooner".into() },
            Mark::Level { y: 0.05, label: "paper".into() },
        ],
        ..log_y()
    };
    let figure = curves("Reconstruction", "tokens seen", "NMSE", &[sae(), tsae().with_markers()], &options).unwrap();
    let texts = checked(&figure);
    for want in ["Reconstruction", "tokens seen", "NMSE", "SAE", "TSAE", "1 M", "2 M", "0.05", "0.1", "40× sooner", "paper"] {
        assert!(texts.iter().any(|t| t == want), "{want} in {texts:?}");
    }
    assert_eq!(figure.summary(), "Figure: Reconstruction: NMSE against tokens seen; SAE, TSAE");
    assert!(figure.svg().contains("#2A7FC6") && figure.svg().contains("#D95F02") && figure.svg().contains("stroke-dasharray"));
}

#[test]
fn equal_names_have_equal_colours_in_all_panels() {
    let panel = |title: &str, series: Vec<Series>| PanelSpec {
        title: title.into(),
        x: Axis { label: "tokens".into(), ..Axis::default() },
        y: Axis { label: title.into(), ..Axis::default() },
        content: Content::Curves(series),
        marks: vec![],
    };
    let figure = panels("two", &[panel("NMSE", vec![sae(), tsae()]), panel("CE", vec![tsae()])], 2).unwrap();
    assert_eq!(checked(&figure).iter().filter(|t| *t == "TSAE").count(), 1, "one legend");
    let strokes = |colour: &str| figure.svg().matches(&format!("stroke=\"{colour}\"")).count();
    assert_eq!((strokes(palette::SERIES[0]), strokes(palette::SERIES[1]), strokes(palette::SERIES[2])), (2, 3, 0));
    let error = panels("two", &[panel("NMSE", vec![sae()]), panel("CE", vec![])], 2).unwrap_err().to_string();
    assert!(error.contains("panel \"CE\""), "{error}");
    assert!(panels("none", &[], 2).is_err());
}

#[test]
fn awkward_numbers_are_drawn_or_refused() {
    let draw = |points: &[(f64, f64)], options: &Options| curves("t", "x", "y", &[Series::new("a", points.to_vec())], options);
    let nan = f64::NAN;
    for points in [
        &[(1.0, 1.0)][..],
        &[(1.0, 2.0), (1.0, 2.0)],
        &[(0.0, 0.0), (1.0, 0.0)],
        &[(1.0, 1.0), (2.0, nan), (3.0, 2.0), (nan, 1.0), (f64::INFINITY, 3.0), (5.0, 2.0)],
        &[(1e-300, 1e300), (2e-300, 2e300)],
        &[(-5.0, -3.0), (5.0, 3.0)],
        &[(0.0, 1e15), (1.0, 1e15 + 1.0)],
    ] {
        checked(&draw(points, &Options::default()).unwrap());
    }
    let refused = |points: &[(f64, f64)], options: &Options, want: &str| {
        let error = draw(points, options).unwrap_err().to_string();
        assert!(error.starts_with("figure: ") && error.contains(want), "{error}");
    };
    refused(&[], &Options::default(), "\"a\" has no point");
    refused(&[(nan, 1.0), (1.0, nan)], &Options::default(), "no point that could be drawn, of 2");
    refused(&[(1.0, 1.0), (2.0, -0.5)], &log_y(), "-0.5 cannot be drawn on a logarithmic y axis");
    refused(&[(1.0, 0.0)], &log_y(), "logarithmic");
    refused(&[(1.0, -1e308), (2.0, 1e308)], &Options::default(), "too far apart");
    let mark = Options { marks: vec![Mark::Level { y: nan, label: String::new() }], ..Options::default() };
    refused(&[(1.0, 1.0)], &mark, "not finite");
    let low = Options { marks: vec![Mark::Level { y: 0.0, label: String::new() }], ..log_y() };
    refused(&[(1.0, 1.0)], &low, "logarithmic");
    assert!(curves("t", "x", "y", &[], &Options::default()).is_err());
}

#[test]
fn a_curve_over_another_is_dashed() {
    let flat = |name: &str, y: f64| Series::new(name, vec![(0.0, y), (1.0, y), (2.0, y)]);
    let dashes = |series: &[Series]| {
        let figure = curves("", "", "", series, &Options::default()).unwrap();
        checked(&figure);
        figure.svg().matches("stroke-dasharray").count()
    };
    assert_eq!(dashes(&[flat("SAE", 16.0), flat("TSAE", 16.0)]), 1);
    assert_eq!(dashes(&[flat("SAE", 16.0), flat("TSAE", 12.0)]), 0);
}

#[test]
fn what_lies_outside_a_range_is_cut_off() {
    let options = Options { y: Axis { range: Some((0.0, 1.0)), ..Axis::default() }, ..Options::default() };
    let points = (0..100).map(|i| (f64::from(i), if i == 50 { 1e9 } else { 0.5 })).collect();
    let figure = curves("", "", "", &[Series::new("a", points)], &options).unwrap();
    checked(&figure);
    for number in figure.svg().split(['"', ' ', ',']).filter_map(|s| s.parse::<f64>().ok()) {
        assert!((-10.0..=8000.0).contains(&number), "{number}");
    }
}

#[test]
fn text_from_outside_is_escaped() {
    let evil = "<script>&\"'\u{0}\n";
    let series = [Series::new(evil, vec![(0.0, 1.0), (1.0, 2.0)]), Series::new("#FA0101\"", vec![(0.0, 1.0)])];
    let options = Options { marks: vec![Mark::At { x: 0.5, label: evil.into() }], ..Options::default() };
    let figure = curves(evil, evil, evil, &series, &options).unwrap();
    checked(&figure);
    assert!(!figure.svg().contains("<script"));
    checked(&bars(evil, evil, evil, &[evil.to_owned()], &[Group::new(evil, vec![1.0])], &Options::default()).unwrap());
}

#[test]
fn thousands_of_points_stay_a_small_figure() {
    let noisy = |seed: u64| {
        let mut state = seed;
        let points = (0..96_000).map(|i| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (f64::from(i), 1.0 + (state >> 40) as f64 / 1e8)
        });
        Series::new(&seed.to_string(), points.collect()).smoothed(0.02)
    };
    let figure = curves("loss", "step", "loss", &[noisy(1), noisy(2)], &Options::default()).unwrap();
    checked(&figure);
    assert!(figure.svg().len() < 150_000, "{} bytes", figure.svg().len());
}

#[test]
fn histograms_of_one_and_of_two() {
    let norms = |centre: f64| Sample::new(&format!("{centre}"), (0..4096).map(|i| centre + (f64::from(i) * 0.37).sin()).collect());
    let one = histogram("Lookup norms", "‖W_lookup[t]‖", "tokens", &[norms(4.0)], 0, &Options::default()).unwrap();
    assert!(!checked(&one).contains(&"4".to_owned()) || one.svg().matches("#2A7FC6").count() == 2, "no legend for one name");
    let two = histogram("", "norm", "", &[norms(4.0), norms(5.0)], 30, &log_y()).unwrap();
    assert!(checked(&two).contains(&"100".to_owned()));
    assert!(histogram("", "", "", &[], 0, &Options::default()).is_err());
    let log_x = Options { x: Axis { scale: Scale::Log, ..Axis::default() }, ..Options::default() };
    let error = histogram("", "", "", &[Sample::new("a", vec![1.0, 0.0])], 0, &log_x).unwrap_err().to_string();
    assert!(error.contains("\"a\" holds 0"), "{error}");
}

#[test]
fn bars_stand_on_zero_and_need_all_their_values() {
    let layers: Vec<String> = (5..=11).map(|l| l.to_string()).collect();
    let ce = Group::new("CE", vec![7.22, 8.13, 6.19, 7.22, 13.0, 11.82, f64::NAN]);
    let nmse = Group::new("NMSE", vec![9.29, 9.29, 6.84, 6.84, 10.0, 6.84, 9.29]);
    let figure = bars("Speed-up", "layer", "times sooner", &layers, &[ce.clone(), nmse], &Options::default()).unwrap();
    let texts = checked(&figure);
    assert!(texts.contains(&"0".to_owned()) && texts.contains(&"13.0".to_owned()) && texts.contains(&"11".to_owned()));
    assert_eq!(figure.svg().matches("<rect").count(), 13 + 2);
    checked(&bars("", "", "", &layers[..2], &[Group::new("a", vec![-1.0, 2.0])], &Options::default()).unwrap());
    checked(&bars("", "", "", &layers[..2], &[Group::new("a", vec![1e-3, 2.0])], &log_y()).unwrap());
    for (categories, groups) in [(&layers[..2], vec![ce]), (&layers[..1], vec![Group::new("a", vec![f64::NAN])]), (&[], vec![])] {
        assert!(bars("", "", "", categories, &groups, &Options::default()).is_err());
    }
    assert!(bars("", "", "", &layers[..1], &[Group::new("a", vec![-1.0])], &log_y()).is_err());
    let many: Vec<String> = (0..200).map(|i| format!("a long category {i}")).collect();
    checked(&bars("", "", "", &many, &[Group::new("a", vec![1.0; 200])], &Options::default()).unwrap());
}

#[test]
fn tiny_and_huge_sizes_are_drawn() {
    for size in [(0, 0), (150, 100), (u32::MAX, u32::MAX)] {
        let options = Options { size: Some(size), ..Options::default() };
        checked(&curves("A title that is far too long for so small a figure", "x", "y", &[sae(), tsae()], &options).unwrap());
    }
}

/// Every kind of figure is drawn and saved. `TSAE_GALLERY=folder cargo test --release --lib gallery` keeps them, with pages that show them
/// on a white and on a dark ground, to be looked at in a browser.
#[test]
fn gallery() {
    use crate::display::{Column, Row, Table, format};
    let scratch = tempfile::tempdir().unwrap();
    let folder = std::env::var_os("TSAE_GALLERY").map_or_else(|| scratch.path().to_owned(), std::path::PathBuf::from);
    let curve = |name: &str, end: f64, start: f64, half: f64| {
        let points = (1..=32).map(|i| f64::from(i) * 125e3).map(|t| (t, end + (start - end) / (1.0 + (t / half).powf(1.6))));
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
    let sooner = |y: f64, from: f64, label: &str| vec![Mark::Sooner { y, from, to: 4e6, label: label.into() }];
    let (nmse_s, nmse_t) = (curve("SAE", 0.036, 0.9, 180e3), curve("TSAE", 0.0125, 0.20, 150e3));
    let (ce_s, ce_t) = (curve("SAE", 0.067, 1.9, 160e3), curve("TSAE", 0.0185, 0.4, 140e3));
    let last = |s: &Series| s.points[31].1;
    let reconstruction = panels(
        "Reconstruction of held-out text, tiny-gpt2 blocks.2.hook_resid_pre",
        &[
            panel("", log("NMSE"), vec![nmse_s.clone(), nmse_t.clone()], sooner(last(&nmse_s), 0.43e6, "9.3× sooner")),
            panel("", log("CE added (relative)"), vec![ce_s.clone(), ce_t.clone()], sooner(last(&ce_s), 0.45e6, "8.8× sooner")),
        ],
        2,
    )
    .unwrap();
    let noisy = |name: &str, end: f64, seed: u64| {
        let mut state = seed;
        let points = (0..976).map(|i| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let noise = (state >> 33) as f64 / f64::from(1u32 << 31) - 0.5;
            (f64::from(i) * 4096.0, (end + 60.0 / (1.0 + f64::from(i) / 12.0)) * (1.0 + 0.35 * noise))
        });
        Series::new(name, points.collect()).smoothed(0.03)
    };
    let flat = |name: &str, y: f64| Series::new(name, (0..976).map(|i| (f64::from(i) * 4096.0, y)).collect());
    let dead = |name: &str, end: f64| {
        Series::new(name, (0..976).map(|i| (f64::from(i) * 4096.0, end * (1.0 - (-f64::from(i) / 200.0).exp()))).collect())
    };
    let training = panels(
        "Training",
        &[
            panel("loss (sum over d_model)", log(""), vec![noisy("SAE", 2.1, 3), noisy("TSAE", 0.9, 5)], vec![]),
            panel("L0 (latents a token)", Axis::default(), vec![flat("SAE", 16.0), flat("TSAE", 16.0)], vec![]),
            panel("dead latents", Axis { unit: Unit::Share, ..Axis::default() }, vec![dead("SAE", 0.089), dead("TSAE", 0.415)], vec![]),
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
    let with_median = Options { marks: vec![Mark::At { x: 6.1, label: "median".into() }], ..Options::default() };
    let layers: Vec<String> = (5..=11).map(|l| l.to_string()).collect();
    let speed = [
        Group::new("CE", vec![7.22, 8.13, 6.19, 7.22, 13.0, 11.82, 7.22]),
        Group::new("NMSE", vec![9.29, 9.29, 6.84, 6.84, 10.0, 6.84, 9.29]),
    ];
    let many: Vec<Series> =
        (0..10).map(|i| curve(&format!("k = {}", 5 + 5 * i), 0.03 + 0.012 * f64::from(i), 0.9, 2e5 + 5e4 * f64::from(i))).collect();
    let many_options = Options {
        x: Axis { scale: Scale::Log, ..tokens() },
        y: log(""),
        marks: vec![Mark::Level { y: 0.1, label: "paper, k = 20".into() }],
        ..Options::default()
    };
    let single = Options { x: tokens(), y: log(""), marks: sooner(last(&nmse_s), 0.43e6, "9.3× sooner"), ..Options::default() };
    let figures = [
        ("reconstruction", reconstruction),
        ("single", curves("Held-out NMSE", "tokens seen", "NMSE", &[nmse_s, nmse_t], &single).unwrap()),
        ("training", training),
        ("norms", histogram("Norms of the lookup rows, 4096 tokens", "‖W_lookup[t]‖", "tokens", &norms, 0, &with_median).unwrap()),
        ("norms-log", histogram("Counts on a logarithmic axis", "‖W_lookup[t]‖", "tokens", &norms, 0, &log_y()).unwrap()),
        ("speed-up", bars("Speed-up, GPT-2 small", "layer", "times sooner", &layers, &speed, &Options::default()).unwrap()),
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
    let points = |xy: &[(f64, f64)]| Series::new("a rather long name of a run with lookup 0.5 and k 32", xy.to_vec()).with_markers();
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
        curves("Small, with a title that cannot fit", "tokens seen", "NMSE", &[many[0].clone(), points(&[(1e6, 0.1)])], &small).unwrap(),
        curves("One point", "x", "y", &[points(&[(3.0, 7.0)])], &Options::default()).unwrap(),
        curves(
            "Wide numbers",
            "x",
            "y",
            &[points(&[(1e-7, 1e15), (3e-7, 1.00002e15)]), Series::new("b", vec![(2e-7, 1.00001e15)])],
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
            &["GPT-2 small, layer 8".into(), "Pythia 1.4B, layer 16, with a frozen table".into(), "tiny".into()],
            &[Group::new("a", vec![0.12, -0.04, 0.3])],
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
    std::fs::write(folder.join("table.txt"), format!("{}\n{}", evaluation.text(), settings.text())).unwrap();
}
