//! Every kind of figure, read back as text and numbers.

mod gallery;
mod svg;

use super::*;
use svg::well_formed;

/// The figure is well-formed, has only the page's colour and the palette's, and no number that is
/// not one; returns its text.
pub(crate) fn checked(figure: &Figure) -> Vec<String> {
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
    Series::new(
        "TSAE",
        (1..=40).map(|i| (f64::from(i) * 1e5, 0.013 + 0.03 / f64::from(i))).collect(),
    )
}

fn log_y() -> Options {
    Options {
        y: Axis { scale: Scale::Log, ..Axis::default() },
        x: Axis { unit: Unit::Count, ..Axis::default() },
        ..Options::default()
    }
}

#[test]
fn a_spread_is_drawn_as_bars_that_the_axes_have_room_for() {
    let points = vec![(5.0, 0.2), (10.0, 0.1), (20.0, 0.05)];
    let spread = vec![(0.15, 0.4), (0.09, 0.11), (0.05, 0.05)];
    let plain =
        curves("a", "L0", "NMSE", &[Series::new("SAE", points.clone())], &Options::default())
            .unwrap();
    let barred = curves(
        "a",
        "L0",
        "NMSE",
        &[Series::new("SAE", points.clone()).with_spread(spread)],
        &Options::default(),
    )
    .unwrap();
    checked(&barred);
    let strokes = |figure: &Figure| {
        figure.svg().matches("<polyline").count() + figure.svg().matches("<line").count()
    };
    // Two bars with two ends each; the third point does not spread. The taller axis has its own
    // ticks.
    assert!(strokes(&barred) >= strokes(&plain) + 4, "{} {}", strokes(&barred), strokes(&plain));
    let short = Series::new("SAE", points).with_spread(vec![(0.1, 0.2)]);
    assert!(
        curves("a", "L0", "NMSE", &[short], &Options::default())
            .unwrap_err()
            .to_string()
            .contains("1 of its 3 points")
    );
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
    let figure =
        curves("Reconstruction", "tokens seen", "NMSE", &[sae(), tsae().with_markers()], &options)
            .unwrap();
    let texts = checked(&figure);
    for want in [
        "Reconstruction",
        "tokens seen",
        "NMSE",
        "SAE",
        "TSAE",
        "1 M",
        "2 M",
        "0.05",
        "0.1",
        "40× sooner",
        "paper",
    ] {
        assert!(texts.iter().any(|t| t == want), "{want} in {texts:?}");
    }
    assert_eq!(figure.summary(), "Figure: Reconstruction: NMSE against tokens seen; SAE, TSAE");
    assert!(
        figure.svg().contains("#2A7FC6")
            && figure.svg().contains("#D95F02")
            && figure.svg().contains("stroke-dasharray")
    );
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
    let figure =
        panels("two", &[panel("NMSE", vec![sae(), tsae()]), panel("CE", vec![tsae()])], 2).unwrap();
    assert_eq!(checked(&figure).iter().filter(|t| *t == "TSAE").count(), 1, "one legend");
    let strokes = |colour: &str| figure.svg().matches(&format!("stroke=\"{colour}\"")).count();
    assert_eq!(
        (strokes(palette::SERIES[0]), strokes(palette::SERIES[1]), strokes(palette::SERIES[2])),
        (2, 3, 0)
    );
    let error = panels("two", &[panel("NMSE", vec![sae()]), panel("CE", vec![])], 2)
        .unwrap_err()
        .to_string();
    assert!(error.contains("panel \"CE\""), "{error}");
    assert!(panels("none", &[], 2).is_err());
}

#[test]
fn what_was_published_has_the_colour_of_ours() {
    let dashed = |name: &str| Series { name: name.to_owned(), ..sae() }.dashed();
    let series = [sae(), dashed("paper: else"), dashed("paper: TSAE"), tsae()];
    let figure = super::curves("", "x", "y", &series, &log_y()).unwrap();
    let used = |n: usize| figure.svg().matches(palette::SERIES[n]).count();
    // Of SAE, of what is the paper's alone, and of both TSAEs; no fourth.
    assert!(used(0) > 0 && used(1) > 0 && used(2) > used(1), "{}", figure.svg());
    assert_eq!(used(3), 0);
}

#[test]
fn awkward_numbers_are_drawn_or_refused() {
    let draw = |points: &[(f64, f64)], options: &Options| {
        curves("t", "x", "y", &[Series::new("a", points.to_vec())], options)
    };
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
    let mark =
        Options { marks: vec![Mark::Level { y: nan, label: String::new() }], ..Options::default() };
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
    let options =
        Options { y: Axis { range: Some((0.0, 1.0)), ..Axis::default() }, ..Options::default() };
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
    let series = [
        Series::new(evil, vec![(0.0, 1.0), (1.0, 2.0)]),
        Series::new("#FA0101\"", vec![(0.0, 1.0)]),
    ];
    let options =
        Options { marks: vec![Mark::At { x: 0.5, label: evil.into() }], ..Options::default() };
    let figure = curves(evil, evil, evil, &series, &options).unwrap();
    checked(&figure);
    assert!(!figure.svg().contains("<script"));
    checked(
        &bars(
            evil,
            evil,
            evil,
            &[evil.to_owned()],
            &[Sample::new(evil, vec![1.0])],
            &Options::default(),
        )
        .unwrap(),
    );
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
    let figure =
        curves("loss", "step", "loss", &[noisy(1), noisy(2)], &Options::default()).unwrap();
    checked(&figure);
    assert!(figure.svg().len() < 150_000, "{} bytes", figure.svg().len());
}

#[test]
fn histograms_of_one_and_of_two() {
    let norms = |centre: f64| {
        Sample::new(
            &format!("{centre}"),
            (0..4096).map(|i| centre + (f64::from(i) * 0.37).sin()).collect(),
        )
    };
    let one =
        histogram("Lookup norms", "‖W_lookup[t]‖", "tokens", &[norms(4.0)], 0, &Options::default())
            .unwrap();
    assert!(
        !checked(&one).contains(&"4".to_owned()) || one.svg().matches("#2A7FC6").count() == 2,
        "no legend for one name"
    );
    let two = histogram("", "norm", "", &[norms(4.0), norms(5.0)], 30, &log_y()).unwrap();
    assert!(checked(&two).contains(&"100".to_owned()));
    assert!(histogram("", "", "", &[], 0, &Options::default()).is_err());
    let log_x = Options { x: Axis { scale: Scale::Log, ..Axis::default() }, ..Options::default() };
    let error = histogram("", "", "", &[Sample::new("a", vec![1.0, 0.0])], 0, &log_x)
        .unwrap_err()
        .to_string();
    assert!(error.contains("\"a\" holds 0"), "{error}");
}

#[test]
fn bars_stand_on_zero_and_need_all_their_values() {
    let layers: Vec<String> = (5..=11).map(|l| l.to_string()).collect();
    let ce = Sample::new("CE", vec![7.22, 8.13, 6.19, 7.22, 13.0, 11.82, f64::NAN]);
    let nmse = Sample::new("NMSE", vec![9.29, 9.29, 6.84, 6.84, 10.0, 6.84, 9.29]);
    let figure = bars(
        "Speed-up",
        "layer",
        "times sooner",
        &layers,
        &[ce.clone(), nmse],
        &Options::default(),
    )
    .unwrap();
    let texts = checked(&figure);
    assert!(
        texts.contains(&"0".to_owned())
            && texts.contains(&"13.0".to_owned())
            && texts.contains(&"11".to_owned())
    );
    assert_eq!(figure.svg().matches("<rect").count(), 13 + 2);
    checked(
        &bars("", "", "", &layers[..2], &[Sample::new("a", vec![-1.0, 2.0])], &Options::default())
            .unwrap(),
    );
    checked(
        &bars("", "", "", &layers[..2], &[Sample::new("a", vec![1e-3, 2.0])], &log_y()).unwrap(),
    );
    for (categories, groups) in [
        (&layers[..2], vec![ce]),
        (&layers[..1], vec![Sample::new("a", vec![f64::NAN])]),
        (&[], vec![]),
    ] {
        assert!(bars("", "", "", categories, &groups, &Options::default()).is_err());
    }
    assert!(bars("", "", "", &layers[..1], &[Sample::new("a", vec![-1.0])], &log_y()).is_err());
    let many: Vec<String> = (0..200).map(|i| format!("a long category {i}")).collect();
    checked(
        &bars("", "", "", &many, &[Sample::new("a", vec![1.0; 200])], &Options::default()).unwrap(),
    );
}

#[test]
fn tiny_and_huge_sizes_are_drawn() {
    for size in [(0, 0), (150, 100), (u32::MAX, u32::MAX)] {
        let options = Options { size: Some(size), ..Options::default() };
        checked(
            &curves(
                "A title that is far too long for so small a figure",
                "x",
                "y",
                &[sae(), tsae()],
                &options,
            )
            .unwrap(),
        );
    }
}
