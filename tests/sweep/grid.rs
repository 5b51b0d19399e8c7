//! The grid: its order and its names, and what is refused before anything is trained.

use std::fs;

use tokenized_sae::prelude::*;

use super::{Material, bytes, hooks, quick};

#[test]
fn the_grid_is_walked_hook_by_hook_seed_by_seed_arm_by_arm() {
    let it = Material::new();
    let names = it.both().names().unwrap();
    assert_eq!(names.len(), 16);
    assert_eq!(it.both().n_streams(), 4);
    let first: Vec<&str> = names[..5].iter().map(|(_, name)| name.as_str()).collect();
    let want = [
        "SAE k=4 expansion=4 lr=1e-2 seed=0",
        "SAE k=8 expansion=4 lr=1e-2 seed=0",
        "TSAE k=4 expansion=4 lr=1e-2 seed=0",
        "TSAE k=8 expansion=4 lr=1e-2 seed=0",
        "SAE k=4 expansion=4 lr=1e-2 seed=1",
    ];
    assert_eq!(first, want);
    assert!(
        names[..8].iter().all(|(hook, _)| *hook == hooks()[0])
            && names[8..].iter().all(|(hook, _)| *hook == hooks()[1])
    );
    // An axis more, or a value more, leaves the names that there were.
    let larger = it.both().ks(&[4, 8, 16]).expansions(&[4, 8]).lrs(&[1e-2, 3e-2]).names().unwrap();
    assert!(names.iter().all(|name| larger.contains(name)) && larger.len() == 16 * 6);
}

#[test]
fn a_sweep_that_is_prepared_has_its_grid_and_trains_nothing() {
    let it = Material::new();
    it.sweep().prepare(it.path("runs")).unwrap();
    let results = SweepResults::open(it.path("runs")).unwrap();
    assert!(results.planned() == 8 && results.runs.is_empty());
    assert!(bytes(&it.path("runs")).is_empty());
    let listed = fs::metadata(it.path("runs/sweep.json")).unwrap().modified().unwrap();
    it.sweep().only(1, 4).unwrap().run(it.path("runs")).unwrap();
    let now = fs::metadata(it.path("runs/sweep.json")).unwrap().modified().unwrap();
    assert_eq!(listed, now, "a share wrote the list of the grid again");
}

#[test]
fn what_cannot_be_run_is_refused_before_anything_is_trained() {
    let it = Material::new();
    let refused = |sweep: Sweep| sweep.run(it.path("none")).err().unwrap().to_string();
    assert!(
        refused(Sweep::new(&it.acts, quick()).unwrap().arm("SAE", it.sae()))
            .contains(".held_out(&model")
    );
    let bare = || Sweep::new(&it.acts, quick()).unwrap().held_out(&it.model, &it.corpus.valid);
    assert!(refused(bare()).contains("no arm to run"));
    assert!(refused(it.sweep().seeds(&[])).contains("no seed to run"));
    assert!(refused(it.sweep().ks(&[])).contains("\"k\" has no value"));
    assert!(refused(it.sweep().ks(&[4, 4])).contains("twice"));
    assert!(refused(it.sweep().ks(&[4, 10_000])).contains("k = 10000"));
    assert!(refused(it.sweep().arm("SAE", it.sae())).contains("both be called"));
    assert!(refused(it.sweep().arm("a/b", it.sae())).contains("cannot name a run"));
    assert!(refused(it.sweep().baseline("none")).contains("none"));
    assert!(refused(it.sweep().hooks(&[HookPoint::resid_pre(3)])).contains("has only blocks.1"));
    let other = Model::load("tiny-pythia").unwrap();
    assert!(
        refused(it.sweep().held_out(&other, &it.corpus.valid))
            .contains("the model of the activations")
    );
    let moved = Arm::per_hook("moved", it.sae(), |_, _, sae| Ok(SaeConfig { k: sae.k + 1, ..sae }))
        .ks(&[8]);
    assert!(!it.path("none").exists());
    assert!(
        bare().with_arm(moved).run(it.path("moved")).unwrap().is_complete(),
        "an axis comes after what is made for the hook"
    );
    let moved = Arm::per_hook("moved", it.sae(), |_, _, sae| Ok(SaeConfig { k: sae.k + 1, ..sae }));
    assert!(
        bare()
            .with_arm(moved)
            .run(it.path("moved"))
            .err()
            .unwrap()
            .to_string()
            .contains("vary them by axes")
    );
    assert!(it.sweep().only(0, 2).is_err() && it.sweep().only(3, 2).is_err());
    assert!(
        SweepResults::open(it.path("moved/none"))
            .unwrap_err()
            .to_string()
            .contains("no sweep has been run")
    );
}

#[test]
fn a_plan_whose_runs_lie_elsewhere_is_refused() {
    let it = Material::new();
    it.sweep().ks(&[4]).seeds(&[0]).run(it.path("runs")).unwrap();
    let path = it.path("runs").join("sweep.json");
    let plan = fs::read_to_string(&path).unwrap();
    for name in ["../../elsewhere", "/tmp", "", ".."] {
        fs::write(
            &path,
            plan.replace("\"SAE k=4 expansion=4 lr=1e-2 seed=0\"", &format!("{name:?}")),
        )
        .unwrap();
        let told = SweepResults::open(it.path("runs")).unwrap_err().to_string();
        assert!(
            told.contains("sweep.json") && told.contains(&format!("{name:?} cannot name a run")),
            "{told}"
        );
    }
}

#[test]
fn a_grid_of_more_runs_than_anybody_waits_for_is_refused_before_it_is_laid_out() {
    let it = Material::new();
    let many: Vec<f64> = (1..=100).map(f64::from).collect();
    let vary = |sweep: Sweep, name: &str| sweep.vary(name, &many, |sae, _| Ok(sae));
    let sweep = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "l", "m"]
        .into_iter()
        .fold(it.sweep(), vary);
    let told = sweep.names().unwrap_err().to_string();
    assert!(told.contains("at most 100000"), "{told}");
}
