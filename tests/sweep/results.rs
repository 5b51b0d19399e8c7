//! What the runs come to, and how it is drawn and written.

use std::fs;

use tokenized_sae::experiments::sweep::{SweepRun, results_page};
use tokenized_sae::prelude::*;

use super::{Material, hooks};

#[test]
fn means_and_speedups_are_those_of_the_runs() {
    let it = Material::new();
    let results = it.sweep().run(it.path("runs")).unwrap();
    let rows = results.rows();
    assert_eq!(rows.len(), 4);
    for row in &rows {
        let [a, b] = [&row.runs[0], &row.runs[1]].map(|run| run.metrics.nmse);
        assert_eq!((row.runs[0].seed, row.runs[1].seed), (0, 1));
        assert_ne!(a, b, "the seed changed nothing");
        let spread = row.spread(Measure::Nmse);
        assert!((spread.mean - (a + b) / 2.0).abs() < 1e-15);
        assert!((spread.sd.unwrap() - (a - b).abs() / 2f64.sqrt()).abs() < 1e-15);
        assert_eq!((spread.min, spread.max), (a.min(b), a.max(b)));
    }
    // The speed-up of a pair is the one that the trainer's own comparison finds.
    let hook = hooks()[1];
    let pair = |arm: &str| {
        results.runs.iter().find(|run| {
            run.setting.hook == hook
                && run.seed == 1
                && run.setting.k == Some(8)
                && run.setting.arm == arm
        })
    };
    let (sae, tsae) = (pair("SAE").unwrap(), pair("TSAE").unwrap());
    assert!(sae.speedup.is_none());
    let run = |run: &SweepRun| Run {
        name: run.setting.arm.clone(),
        sae: Sae::new(if run.setting.arm == "TSAE" {
            it.sae().with_lookup(Lookup::unigram(&it.model, hook).unwrap())
        } else {
            it.sae()
        })
        .unwrap(),
        history: run.history.clone(),
        tokens: 6144,
        finished: true,
        lr: 1e-2,
        scored_in_full: None,
        made: None,
    };
    assert_eq!(tsae.speedup, Some(speedup(&Runs { runs: vec![run(sae), run(tsae)] }).unwrap()));

    let best = results.best_by(Measure::Nmse).unwrap();
    assert!(
        rows.iter().all(|row| row.spread(Measure::Nmse).mean >= best.spread(Measure::Nmse).mean)
    );
    assert_eq!(results.clone().at("k", 4.0).unwrap().runs.len(), 4);
    assert_eq!(results.clone().of_arms(&["TSAE"]).unwrap().arms(), ["TSAE"]);
    let over_k = results.clone().best_over("k", Measure::Nmse).unwrap();
    assert_eq!(over_k.rows().len(), 2);
    assert!(results.clone().at("k", 5.0).unwrap_err().to_string().contains("[4.0, 8.0]"));
    assert!(
        results.clone().best_over("alpha", Measure::Nmse).is_err()
            && results.clone().with_baseline("none").is_err()
    );
}

#[test]
fn results_are_drawn_and_written() {
    let it = Material::new();
    let results = it.both().run(it.path("pareto")).unwrap();
    let text = results.table().text();
    assert!(
        text.contains("TSAE")
            && text.contains(" ± ")
            && text.contains("256 held-out")
            && !text.contains("NaN"),
        "{text}"
    );
    let figures = [
        results.pareto(),
        results.pareto_beside(&paper::pareto()),
        results.by_layer(Measure::Nmse),
        results.by_layer(Measure::Dead),
    ];
    for figure in
        figures.into_iter().chain([results.speedups(), results.speedups_beside(&paper::speedups())])
    {
        let figure = figure.unwrap();
        assert!(
            figure.svg().contains("TSAE") && !figure.svg().contains("NaN"),
            "{}",
            figure.summary()
        );
    }
    results.write_csv(it.path("a.csv")).unwrap();
    let csv = fs::read_to_string(it.path("a.csv")).unwrap();
    let lines: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines.len(), 17);
    assert!(lines.iter().all(|line| line.len() == lines[0].len()));
    let column = |name: &str| lines[0].iter().position(|cell| *cell == name).unwrap();
    assert_eq!(lines[1][column("nmse")].parse::<f64>().unwrap(), results.runs[0].metrics.nmse);
    assert_eq!(
        lines[1][column("ce_added_with_bos")].parse::<f64>().unwrap(),
        results.runs[0].with_bos.ce_added
    );
    results.write_json(it.path("a.json")).unwrap();
    let json: serde_json::Value =
        serde_json::from_slice(&fs::read(it.path("a.json")).unwrap()).unwrap();
    assert_eq!(json["runs"].as_array().unwrap().len(), 16);
    assert_eq!(json["runs"][3]["setting"]["arm"], "TSAE");

    results_page(&[it.path("pareto")], it.path("docs/results.md")).unwrap();
    let page = fs::read_to_string(it.path("docs/results.md")).unwrap();
    for part in ["## pareto", "| TSAE |", "paper: NMSE", "TopK + lookup", "EleutherAI/pythia-1.4b"]
    {
        assert!(page.contains(part), "{part} is not in\n{page}");
    }
    assert!(!page.contains(&it.dir.path().display().to_string()));
    for line in page.lines().filter(|line| line.starts_with("![")) {
        let place = line.rsplit_once('(').unwrap().1.trim_end_matches(')');
        assert!(it.path("docs").join(place).is_file(), "{line}");
    }
    assert_eq!(fs::read_dir(it.path("docs/results")).unwrap().count(), 3);
    let page_again = || results_page(&[it.dir.path().to_owned()], it.path("docs/results.md"));
    page_again().unwrap();
    assert_eq!(fs::read_to_string(it.path("docs/results.md")).unwrap(), page);
    assert!(results_page(&[it.path("docs")], it.path("a.md")).is_err());
}
