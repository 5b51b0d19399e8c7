//! Controls beside an SAE and a TSAE: each is what its name says, and compared with what it should be. And
//! SAEs that start by their activations: at their mean, and where they vary.

use tokenized_sae::activations::Dtype;
use tokenized_sae::experiments::controls::{Control, ControlResults, Controls};
use tokenized_sae::prelude::*;
use tokenized_sae::{eval, sae::Sae};

fn run(dir: &std::path::Path) -> (ControlResults, Model, Corpus, ActivationStore) {
    let model = Model::load("tiny-gpt2").unwrap();
    let corpus =
        Corpus::new(model.sample(32, 64, 1).unwrap(), model.sample(4, 64, 2).unwrap()).unwrap();
    let hook = HookPoint::resid_pre(2);
    let acts =
        ActivationStore::harvest(&model, &[hook], &corpus.train, dir, HarvestConfig::default())
            .unwrap();
    let sae = SaeConfig { expansion: 4, k: 8, ..SaeConfig::for_model(&model) };
    let train = TrainConfig {
        tokens: 6144,
        batch: 256,
        lr: 1e-2,
        evaluations: 4,
        held_out_tokens: 256,
        ..Default::default()
    };
    let controls = Controls::new(&model, &acts, hook, sae, train, &corpus.valid)
        .seeds(&[0, 1])
        .shuffled(&Model::load("shuffled-blocks:tiny-gpt2").unwrap());
    let results = controls.run(dir.join("controls")).unwrap().unwrap();
    let again = controls.run(dir.join("controls")).unwrap().unwrap();
    assert_eq!(again.table().text(), results.table().text());
    (results, model, corpus, acts)
}

#[test]
fn every_control_is_what_its_name_says() {
    let dir = tempfile::tempdir().unwrap();
    let (results, model, corpus, acts) = run(dir.path());
    let hook = HookPoint::resid_pre(2);
    let names: Vec<&str> = results.rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "SAE",
            "TSAE",
            "SAE, centred",
            "TSAE of the authors",
            "bypass of rank 24",
            "SAE, as many parameters",
            "SAE, frozen decoder",
            "TSAE, frozen decoder",
            "SAE, frozen encoder",
            "TSAE, frozen encoder",
            "TSAE, only as many latents as the SAE has alive",
            "table alone",
            "SAE, weights shuffled",
            "TSAE, weights shuffled",
        ]
    );
    let row = |name: &str| results.rows.iter().find(|row| row.name == name).unwrap();
    let sae_of = |arm: &str, seed| {
        let runs = &results.runs.runs;
        runs.iter().find(|run| run.setting.arm == arm && run.seed == seed).unwrap().sae().unwrap()
    };

    // What is frozen is at its start, and what is not is elsewhere.
    for (arm, encoder_stays) in [("SAE, frozen encoder", true), ("SAE, frozen decoder", false)] {
        let trained = sae_of(arm, 1);
        let start = Sae::new(SaeConfig { seed: 1, ..trained.config.clone() }).unwrap();
        assert_eq!(trained.w_enc == start.w_enc, encoder_stays);
        assert_eq!(trained.w_dec == start.w_dec, !encoder_stays);
    }
    // As many parameters to a latent, and as many latents as live.
    let (tsae, wide) = (row("TSAE").parameters, row("SAE, as many parameters").parameters);
    assert!(wide >= tsae && wide - tsae < 2 * model.config().d_model + 1, "{tsae} {wide}");
    let dead = row("SAE").dead.iter().sum::<f64>() / 2.0;
    let alive = (1.0 - dead) * row("SAE").d_sae as f64;
    let few = row("TSAE, only as many latents as the SAE has alive").d_sae;
    assert!((few as f64 - alive).abs() <= 0.5, "{few} {alive}");
    // The table alone, by another way: the recommended table, and nothing else.
    let table = Lookup::shrunk_means(&model, &acts, hook).unwrap();
    let alone = Sae::of_table(table).unwrap();
    let found = eval::evaluate(&model, hook, &[("alone", &alone)], &corpus.valid).unwrap();
    // What its sequences add sums up to its figures.
    let by_sequence = &found.rows[0].by_sequence;
    let all: Vec<usize> = (0..by_sequence.len()).collect();
    for measure in [Measure::Nmse, Measure::CeAdded, Measure::CeAddedNats, Measure::LossRecovered] {
        let summed = by_sequence.measured(measure, &all).unwrap();
        let figure = found.rows[0].without_bos.get(measure);
        assert!((summed - figure).abs() < 1e-9, "{}: {summed} {figure}", measure.name());
    }
    let (found, alone) = (found.rows[0].without_bos, row("table alone"));
    assert_eq!(alone.nmse.values, [found.nmse; 2]);
    assert_eq!(found.l0, 0.0);

    // Changes are of the means, and the gain runs from the SAE to the TSAE.
    for row in results.rows.iter().filter(|row| !row.name.contains("shuffled")) {
        let (mean, base) = (row.nmse.spread().mean, row_mean(&results, "SAE"));
        assert!((row.nmse.change.unwrap() - (mean / base - 1.0)).abs() < 1e-12, "{}", row.name);
        assert!(row.nmse.least.is_some_and(|least| least < 0.5), "{}", row.name);
    }
    assert_eq!(row("SAE").nmse.of_gain, Some(0.0));
    assert_eq!(row("TSAE").nmse.of_gain, Some(1.0));
    assert_eq!(row("SAE").nmse.least, Some(0.0));
    assert!(row("TSAE").nmse.change.unwrap() < -row("TSAE").nmse.least.unwrap());
    let shuffled = row("TSAE, weights shuffled");
    assert!(shuffled.nmse.change.is_some() && shuffled.nmse.of_gain.is_none());
    assert!(results.shuffled.as_ref().unwrap().model_name() == "shuffled-blocks:tiny-gpt2");
}

fn row_mean(results: &ControlResults, name: &str) -> f64 {
    results.rows.iter().find(|row| row.name == name).unwrap().nmse.spread().mean
}

#[test]
fn only_what_is_asked_is_trained_and_what_cannot_be_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let model = Model::load("tiny-gpt2").unwrap();
    let corpus =
        Corpus::new(model.sample(8, 64, 1).unwrap(), model.sample(2, 64, 2).unwrap()).unwrap();
    let hook = HookPoint::resid_pre(2);
    let acts = ActivationStore::harvest(
        &model,
        &[hook],
        &corpus.train,
        dir.path(),
        HarvestConfig::default(),
    )
    .unwrap();
    let sae = SaeConfig { expansion: 2, k: 4, ..SaeConfig::for_model(&model) };
    let train = TrainConfig { tokens: 512, batch: 128, ..Default::default() };
    let controls = Controls::new(&model, &acts, hook, sae, train, &corpus.valid);
    let asked = controls.clone().only(&[Control::TableAlone]).run(dir.path().join("one"));
    let names: Vec<String> = asked.unwrap().unwrap().rows.into_iter().map(|row| row.name).collect();
    assert_eq!(names, ["SAE", "TSAE", "table alone"]);
    let d = model.config().d_model;
    let wide = controls.only(&[Control::Bypass(d + 1)]).run(dir.path().join("two"));
    let told = wide.err().unwrap().to_string();
    assert!(told.contains(&format!("between 1 and the width, {d}")), "{told}");
}

#[test]
fn a_centred_sae_starts_at_the_mean_of_what_its_table_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let model = Model::load("tiny-gpt2").unwrap();
    let hook = HookPoint::resid_pre(2);
    let text = model.sample(32, 64, 1).unwrap();
    let acts =
        ActivationStore::harvest(&model, &[hook], &text, dir.path(), HarvestConfig::default())
            .unwrap();
    let sae = SaeConfig { expansion: 2, k: 4, ..SaeConfig::for_model(&model) }.centred();
    let means = Lookup::means(&acts, hook).unwrap();
    // One pass over all rows, by steps that hardly move anything.
    let train = TrainConfig {
        tokens: acts.n_rows() as u64,
        batch: 256,
        lr: 1e-9,
        lookup_lr: 1e-9,
        ..Default::default()
    };
    let runs = Trainer::new(&acts, hook, train)
        .unwrap()
        .add("SAE", sae.clone())
        .unwrap()
        .add("half", sae.clone().with_lookup(means.clone()))
        .unwrap()
        .add("TSAE", sae.with_lookup(means.subtracted_in_full()))
        .unwrap()
        .fit(dir.path().join("runs"))
        .unwrap();
    let d = acts.d_model();
    let x = model.run_to(&text, hook).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    for j in 0..d {
        let mean = x.chunks_exact(d).map(|row| f64::from(row[j])).sum::<f64>() / 2048.0;
        // Activations are kept in f16. Half of the table says half of the mean, all of it the mean.
        for (name, share) in [("SAE", 1.0), ("half", 0.5), ("TSAE", 0.0)] {
            let got = f64::from(runs[name].sae.b_dec[j]);
            assert!((got - share * mean).abs() < 5e-4, "{name}, {j}: {got} for {mean}");
        }
    }
}

#[test]
fn a_decoder_starts_where_activations_vary_most() {
    let dir = tempfile::tempdir().unwrap();
    let model = Model::load("tiny-gpt2").unwrap();
    let hook: HookPoint = "blocks.1.hook_attn_out".parse().unwrap();
    let text = model.sample(32, 64, 1).unwrap();
    let harvest = HarvestConfig { dtype: Dtype::F32, ..Default::default() };
    let acts = ActivationStore::harvest(&model, &[hook], &text, dir.path(), harvest).unwrap();
    let d = acts.d_model();
    let train =
        TrainConfig { tokens: 2048, batch: 256, lr: 1e-9, lr_end: 1e-9, ..Default::default() };
    let start = |name: &str, sae: SaeConfig| {
        let trainer = Trainer::new(&acts, hook, train.clone()).unwrap().add("SAE", sae).unwrap();
        trainer.fit(dir.path().join(name)).unwrap()["SAE"].sae.w_dec.clone()
    };
    let sae = SaeConfig { expansion: 2, k: 4, ..SaeConfig::for_model(&model) };
    let means = Lookup::means(&acts, hook).unwrap().subtracted_in_full().frozen();
    let x = model.run_to(&text, hook).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let token_means = means.table().to_vec();
    for (name, sae, of_table) in
        [("SAE", sae.clone(), false), ("TSAE", sae.clone().with_lookup(means), true)]
    {
        // What is to be reconstructed, about its mean.
        let mut left: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
        for (row, &token) in left.chunks_exact_mut(d).zip(text.ids()).filter(|_| of_table) {
            let said = &token_means[token as usize * d..][..d];
            row.iter_mut().zip(said).for_each(|(x, &t)| *x -= f64::from(t));
        }
        let n = left.len() / d;
        let mean: Vec<f64> =
            (0..d).map(|j| left[j..].iter().step_by(d).sum::<f64>() / n as f64).collect();
        left.chunks_exact_mut(d).for_each(|row| {
            row.iter_mut().zip(&mean).for_each(|(x, mean)| *x -= mean);
        });
        let along = |direction: &[f64]| -> f64 {
            left.chunks_exact(d)
                .map(|row| row.iter().zip(direction).map(|(x, v)| x * v).sum::<f64>().powi(2))
                .sum()
        };
        // How much the rows vary in the space that the decoder's rows span, which has the dimensions
        // that were asked for, against the most that is possible: the largest eigenvalues, one by one.
        let most = largest(&left, d, 8);
        for directions in [1, 8] {
            let name = format!("{name} in {directions}");
            let w_dec = start(&name, sae.clone().in_subspace(directions));
            let basis = basis(&w_dec, d);
            assert_eq!(basis.len(), directions, "{name}");
            let got: f64 = basis.iter().map(|direction| along(direction)).sum();
            let want: f64 = most[..directions].iter().sum();
            assert!(got < 1.000_01 * want && got > 0.99 * want, "{name}: {got} of {want}");
        }
    }
    let whole = start("everywhere", sae.clone());
    assert_eq!(basis(&whole, d).len(), d);
    let refused = sae.in_subspace(d + 1).check().unwrap_err().to_string();
    assert!(refused.contains(&format!("between 1 and the width, {d}")), "{refused}");
}

/// An orthonormal basis of rows `[n, d]`, but for what rounding adds.
fn basis(rows: &[f32], d: usize) -> Vec<Vec<f64>> {
    let mut basis: Vec<Vec<f64>> = Vec::new();
    for row in rows.chunks_exact(d) {
        let mut row: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
        for other in basis.iter().chain(&basis) {
            let along: f64 = row.iter().zip(other).map(|(x, y)| x * y).sum();
            row.iter_mut().zip(other).for_each(|(x, y)| *x -= along * y);
        }
        let length = row.iter().map(|x| x * x).sum::<f64>().sqrt();
        if length > 1e-4 {
            basis.push(row.iter().map(|x| x / length).collect());
        }
    }
    basis
}

/// The `count` largest eigenvalues of `xᵀ x`, by the power method, each direction taken out of the
/// rows when it is found.
fn largest(x: &[f64], d: usize, count: usize) -> Vec<f64> {
    let mut x = x.to_vec();
    let mut found = Vec::new();
    for _ in 0..count {
        let mut direction: Vec<f64> = (0..d).map(|j| 1.0 + j as f64 / d as f64).collect();
        let mut value = 0.0;
        for _ in 0..200 {
            let mut next = vec![0.0; d];
            for row in x.chunks_exact(d) {
                let along: f64 = row.iter().zip(&direction).map(|(x, v)| x * v).sum();
                next.iter_mut().zip(row).for_each(|(to, x)| *to += along * x);
            }
            value = next.iter().map(|x| x * x).sum::<f64>().sqrt();
            direction = next.iter().map(|x| x / value).collect();
        }
        for row in x.chunks_exact_mut(d) {
            let along: f64 = row.iter().zip(&direction).map(|(x, v)| x * v).sum();
            row.iter_mut().zip(&direction).for_each(|(x, v)| *x -= along * v);
        }
        found.push(value);
    }
    found
}
