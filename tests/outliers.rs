//! Activations a hundred times as long as the others: where a model's family has such, training,
//! means and R² leave them out.

use tokenized_sae::activations::Source;
use tokenized_sae::prelude::*;

fn hook() -> HookPoint {
    HookPoint::resid_pre(2)
}

/// Every this many rows, one is an outlier.
const EVERY: usize = 53;

struct Material {
    model: Model,
    tokens: Tokens,
    dir: tempfile::TempDir,
}

impl Material {
    fn new() -> Material {
        let model = Model::load("tiny-gpt2").unwrap();
        let tokens = model.sample(64, 64, 1).unwrap();
        Material { model, tokens, dir: tempfile::tempdir().unwrap() }
    }

    /// The model's activations, some of them `by` times as long, as of a family that leaves out so
    /// many first positions.
    fn store(&self, by: f32, skip_first: usize) -> ActivationStore {
        let d = self.model.config().d_model;
        let source = Source { skip_first, ..Source::of(&self.model) };
        let forward = |pass: &Tokens, hooks: &[HookPoint]| {
            let of = |hook: &HookPoint| {
                let mut x = self.model.run_to(pass, *hook)?.flatten_all()?.to_vec1::<f32>()?;
                // Whether a row is one follows from its tokens, so that it does not depend on how the
                // text is cut into passes.
                for (i, row) in x.chunks_exact_mut(d).enumerate().filter(|(i, _)| i % 64 > 1) {
                    let pair = pass.ids()[i - 1] as usize * 7 + pass.ids()[i] as usize;
                    if pair.is_multiple_of(EVERY) {
                        row.iter_mut().for_each(|x| *x *= by);
                    }
                }
                Ok(x)
            };
            hooks.iter().map(of).collect()
        };
        let dir = self.dir.path().join(format!("{by}-{skip_first}"));
        let config = HarvestConfig::default();
        ActivationStore::harvest_with(&source, &[hook()], &self.tokens, dir, config, &forward)
            .unwrap()
    }

    /// NMSE at the end of a short training.
    fn trained(&self, acts: &ActivationStore, max_norm_multiple: Option<f64>) -> f64 {
        let train = TrainConfig {
            tokens: 24_000,
            batch: 512,
            lr: 3e-3,
            skip_first: Some(1),
            max_norm_multiple,
            ..Default::default()
        };
        let sae = SaeConfig { expansion: 4, k: 16, ..SaeConfig::for_model(&self.model) };
        let name = format!("{max_norm_multiple:?}");
        let runs = Trainer::new(acts, hook(), train)
            .unwrap()
            .add("SAE", sae)
            .unwrap()
            .fit(acts.dir().join(name))
            .unwrap();
        runs["SAE"].history.train.last().unwrap().loss
    }
}

#[test]
fn outliers_are_left_out_of_training_where_that_is_said_and_by_family() {
    let it = Material::new();
    let (plain, spoilt) = (it.store(1.0, 1), it.store(200.0, 1));
    let clean = it.trained(&plain, None);
    assert_eq!(clean, it.trained(&plain, Some(f64::INFINITY)), "there is none to leave out");
    let by_family = it.trained(&spoilt, None);
    assert_eq!(by_family, it.trained(&spoilt, Some(10.0)));
    assert!(by_family < 1.5 * clean, "{by_family} against {clean}");
    let kept = it.trained(&spoilt, Some(f64::INFINITY));
    assert!(kept > 100.0 * clean, "{kept} against {clean}");
    // GPT-2's authors kept all.
    let gpt2 = it.store(200.0, 0);
    assert_eq!(it.trained(&gpt2, None), it.trained(&gpt2, Some(f64::INFINITY)));
    let told = TrainConfig { max_norm_multiple: Some(1.0), ..Default::default() }.check();
    assert!(told.unwrap_err().to_string().contains("max_norm_multiple"));
}

#[test]
fn a_batch_of_nothing_but_outliers_is_an_error_that_says_what_to_do() {
    let it = Material::new();
    let acts = it.store(200.0, 1);
    let train = TrainConfig { tokens: 400, batch: 1, ..Default::default() };
    let sae = SaeConfig { expansion: 2, k: 4, ..SaeConfig::for_model(&it.model) };
    let trainer = Trainer::new(&acts, hook(), train).unwrap().add("SAE", sae).unwrap();
    let told = trainer.fit(it.dir.path().join("runs")).err().unwrap().to_string();
    assert!(told.contains("take a larger batch"), "{told}");
}

#[test]
fn means_and_r2_are_those_without_outliers() {
    let it = Material::new();
    let (plain, spoilt) = (it.store(1.0, 1), it.store(200.0, 1));
    let longest = 10.0 * spoilt.median_norm(hook()).unwrap();
    let d = spoilt.d_model();
    let norm = |row: &[f32]| row.iter().map(|x| x * x).sum::<f32>().sqrt();
    let rows = Lookup::means(&spoilt, hook()).unwrap();
    assert!(rows.table().chunks_exact(d).all(|row| norm(row) < longest));
    let kept = Lookup::means(&it.store(200.0, 0), hook()).unwrap();
    assert!(kept.table().chunks_exact(d).any(|row| norm(row) > longest));

    let told = |acts: &ActivationStore| acts.norms_table().unwrap().markdown();
    assert!(told(&plain).contains("| 0 | 0 % |"), "{}", told(&plain));
    assert!(told(&spoilt).contains("| 99."), "{}", told(&spoilt));
    let r2 = |acts: &ActivationStore| ngram_r2(acts, hook(), 1).unwrap();
    let (clean, without) = (r2(&plain), r2(&spoilt));
    let (a, b) = (clean.r2(1).unwrap(), without.r2(1).unwrap());
    assert!(a > 0.2 && (a - b).abs() < 0.05, "{a} {b}");
    assert!(without.fitted + without.scored < clean.fitted + clean.scored);
    let with = r2(&it.store(200.0, 0)).r2(1).unwrap();
    assert!(with < a - 0.2, "{with} against {a}");
}

#[test]
fn rows_of_a_table_that_are_too_long_become_the_mean_of_the_others() {
    let mut table: Vec<f32> = (0..40).map(|i| 1.0 + (i % 5) as f32).collect();
    table[6] = 500.0;
    table[7] = -500.0;
    let lookup = Lookup::from_table(table.clone(), 2).unwrap();
    let got = lookup.clone().without_outliers();
    let mean = |column: usize| {
        let rest = (0..20).filter(|row| *row != 3).map(|row| table[2 * row + column]);
        rest.sum::<f32>() / 19.0
    };
    assert!((got.table()[6] - mean(0)).abs() < 1e-5 && (got.table()[7] - mean(1)).abs() < 1e-5);
    assert_eq!(got.table()[..6], table[..6]);
    assert_eq!(got.table()[8..], table[8..]);
    assert_eq!(got.clone().without_outliers().table(), got.table());
}
