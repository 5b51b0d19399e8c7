//! Running: folders that are found again, what trains together, alone, beside another process.

use std::fs;

use tokenized_sae::prelude::*;
use tokenized_sae::train;

use super::{Material, bytes, files, hooks, quick};

#[test]
fn a_second_call_trains_and_evaluates_nothing_and_gives_the_same() {
    let it = Material::new();
    let first = it.sweep().run(it.path("runs")).unwrap();
    assert!(first.is_complete() && first.runs.len() == 8 && first.failed.is_empty());
    let before = files(&it.path("runs"));
    let second = it.sweep().run(it.path("runs")).unwrap();
    assert_eq!(files(&it.path("runs")), before, "a file was written again");
    assert!(first.runs == second.runs);
    assert!(SweepResults::open(it.path("runs")).unwrap().runs == first.runs);
    // A larger grid adds to it.
    let larger = it.sweep().ks(&[4, 8, 16]).run(it.path("runs")).unwrap();
    assert_eq!(larger.runs.len(), 12);
    assert!(before.iter().all(|file| files(&it.path("runs")).contains(file)));
}

#[test]
fn runs_are_the_same_whether_they_train_together_or_alone() {
    let it = Material::new();
    let sweep = || it.sweep().ks(&[8]);
    sweep().run(it.path("together")).unwrap();
    sweep().memory(1).run(it.path("alone")).unwrap();
    for i in 1..=3 {
        sweep().only(i, 3).unwrap().run(it.path("shared")).unwrap();
    }
    assert_eq!(bytes(&it.path("alone")), bytes(&it.path("together")));
    assert_eq!(bytes(&it.path("shared")), bytes(&it.path("together")));

    // And as a trainer makes them.
    let (hook, seed) = (hooks()[1], 1);
    let sae = SaeConfig { seed, ..it.sae() }
        .with_lr(1e-2)
        .with_lookup(Lookup::unigram(&it.model, hook).unwrap());
    let name = "TSAE k=8 expansion=4 lr=1e-2 seed=1";
    let trainer = Trainer::new(&it.acts, hook, TrainConfig { seed, ..quick() })
        .unwrap()
        .held_out(&it.model, &it.corpus.valid)
        .unwrap();
    let runs = trainer.add(name, sae).unwrap().fit(it.path("trainer")).unwrap();
    for file in ["cfg.json", "sae_weights.safetensors", "history.json", "run.json"] {
        let swept = it.path("together").join(hook.to_string()).join(name).join(file);
        assert_eq!(
            fs::read(it.path("trainer").join(name).join(file)).unwrap(),
            fs::read(swept).unwrap(),
            "{file}"
        );
    }
    let results = SweepResults::open(it.path("together")).unwrap();
    let run = results.runs.iter().find(|run| run.name == name && run.setting.hook == hook).unwrap();
    let whole = train::evaluate(&it.model, hook, &runs, &it.corpus.valid).unwrap();
    for measure in Measure::ALL {
        let (got, want) = (run.metrics.get(measure), whole[name].without_bos.get(measure));
        assert!((got - want).abs() <= 1e-12 * want.abs(), "{measure:?}: {got}, {want}");
    }
    assert_eq!(run.history, runs[name].history);
    assert_eq!(run.sae().unwrap().w_dec, runs[name].sae.w_dec);
}

#[test]
fn a_run_that_overflows_is_put_down_and_the_others_go_on() {
    let it = Material::new();
    let sweep = || it.sweep().ks(&[8]).seeds(&[0]).lrs(&[1e-3, 1e-2, 1e30]);
    let results = sweep().run(it.path("runs")).unwrap();
    assert_eq!((results.runs.len(), results.failed.len()), (4, 2));
    assert!(results.is_complete() && results.failed.iter().all(|run| run.setting.lr == 1e30));
    assert!(results.failed[0].why.contains("not finite"), "{}", results.failed[0].why);
    assert!(
        results.table().text().contains("2 overflowed: SAE at lr 1e30, TSAE at lr 1e30"),
        "{}",
        results.table().text()
    );
    // Each arm at its own best rate is still compared with the baseline at its own.
    assert!(results.is_complete());
    let best = results.best_over("lr", Measure::Nmse).unwrap();
    assert!(best.is_complete() && !best.table().text().contains("runs are finished"));
    assert_eq!(best.rows().iter().map(|row| row.setting.lr).collect::<Vec<_>>(), [1e-2, 1e-2]);
    let other = best.clone().at("lr", 1e-2).unwrap().runs[1].setting.clone();
    assert!(
        other.arm == "TSAE" && best.runs[1].speedup.is_some() && best.runs[0].speedup.is_none()
    );
    let before = files(&it.path("runs"));
    sweep().run(it.path("runs")).unwrap();
    assert_eq!(files(&it.path("runs")), before, "what failed was trained again");
}

#[test]
fn arms_of_every_architecture_stand_side_by_side() {
    let it = Material::new();
    let relu = it.sae().with_architecture(Architecture::Relu { l1: 1.0 });
    let gated = it.sae().with_architecture(Architecture::Gated { l1: 1.0 });
    let sweep = it
        .sweep()
        .seeds(&[0])
        .arm("ReLU", relu)
        .arm_with("Gated + lookup", gated, Lookup::unigram)
        .penalties(&[0.1, 10.0]);
    let results = sweep.run(it.path("runs")).unwrap();
    assert_eq!(results.arms(), ["SAE", "TSAE", "ReLU", "Gated + lookup"]);
    assert_eq!(results.runs.len(), 8);
    for arm in ["ReLU", "Gated + lookup"] {
        let rows = results.clone().of_arms(&[arm]).unwrap().rows();
        let [weak, strong] = [&rows[0], &rows[1]].map(|row| row.spread(Measure::L0).mean);
        assert!(
            rows[0].setting.k.is_none() && weak > strong,
            "{arm}: a larger penalty leaves {strong} active, a smaller one {weak}"
        );
        assert!(
            rows.iter().all(|row| row.sooner_by_nmse().is_none()),
            "{arm} is compared with a TopK SAE of some k"
        );
    }
    assert!(results.pareto().unwrap().svg().contains("Gated + lookup"));
    let text = results.table().text();
    assert!(text.contains("penalty") && text.contains("–"), "{text}");
}

#[test]
fn what_another_process_has_in_hand_is_passed_over() {
    let it = Material::new();
    let sweep = || it.sweep().seeds(&[0]);
    let name = "TSAE k=4 expansion=4 lr=1e-2 seed=0";
    let place = it.path("runs").join(hooks()[1].to_string()).join(".locks").join(name);
    fs::create_dir_all(&place).unwrap();
    let lock = fs::File::create(place.join(".lock")).unwrap();
    lock.lock().unwrap();
    let told = sweep().only(1, 1).unwrap().run(it.path("runs")).err().unwrap();
    assert!(matches!(told, Error::Incomplete { .. }) && told.to_string().contains(name), "{told}");
    let results = SweepResults::open(it.path("runs")).unwrap();
    assert!(
        results.runs.len() == 3
            && !results.is_complete()
            && results.runs.iter().all(|run| run.name != name)
    );
    assert!(results.table().text().contains("3 of 4 runs are finished"));
    let told = results.complete().err().unwrap().to_string();
    assert!(told.contains("1 of 4 runs are missing") && told.contains(name), "{told}");
    // Without a share it is waited for, and taken over when it is let go unfinished.
    let waiting = std::thread::spawn({
        let (sweep, dir) = (sweep(), it.path("runs"));
        move || sweep.run(dir)
    });
    std::thread::sleep(std::time::Duration::from_millis(700));
    assert!(!waiting.is_finished(), "it did not wait");
    lock.unlock().unwrap();
    assert!(waiting.join().unwrap().unwrap().complete().is_ok());
    sweep().run(it.path("alone")).unwrap();
    assert_eq!(bytes(&it.path("runs")), bytes(&it.path("alone")));
}
