//! The claims of the paper that hold on the built-in model, over seeds: the notebooks show them,
//! and here they are held to.

use tokenized_sae::prelude::*;

const SEEDS: [u64; 3] = [0, 1, 2];

/// Mean and standard deviation.
fn spread(values: &[f64]) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (
        mean,
        (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64).sqrt(),
    )
}

#[test]
fn a_table_reconstructs_better_at_equal_k_and_leaves_fewer_token_latents() {
    let dir = tempfile::tempdir().unwrap();
    let (model, hook) = (Model::load("tiny-gpt2").unwrap(), HookPoint::resid_pre(2));
    let corpus =
        Corpus::new(model.sample(512, 128, 1).unwrap(), model.sample(64, 128, 2).unwrap()).unwrap();
    let acts = ActivationStore::harvest(
        &model,
        &[hook],
        &corpus.train,
        dir.path().join("acts"),
        HarvestConfig::default(),
    )
    .unwrap();
    let lookup = Lookup::unigram(&model, hook).unwrap();
    let (mut nmse, mut ce_added, mut sooner, mut token_like, mut on_one_token) =
        (vec![], vec![], vec![], vec![], vec![]);
    for seed in SEEDS {
        let train = TrainConfig {
            tokens: 400_000,
            lr: 3e-3,
            seed,
            evaluations: 12,
            held_out_tokens: 4096,
            ..Default::default()
        };
        let sae = SaeConfig { k: 16, expansion: 8, seed, ..SaeConfig::for_model(&model) };
        let trainer =
            Trainer::new(&acts, hook, train).unwrap().held_out(&model, &corpus.valid).unwrap();
        let trainer = trainer
            .add("SAE", sae.clone())
            .unwrap()
            .add("TSAE", sae.with_lookup(lookup.clone()))
            .unwrap();
        let runs = trainer.fit(dir.path().join(format!("seed {seed}"))).unwrap();

        let evaluated = evaluate(&model, hook, &runs, &corpus.valid).unwrap();
        let [sae, tsae] = [0, 1].map(|i| evaluated.rows[i].without_bos);
        nmse.push((sae.nmse / tsae.nmse).ln());
        ce_added.push((sae.ce_added / tsae.ce_added).ln());
        sooner.push(speedup(&runs).unwrap().nmse.unwrap().ln());
        let config = TokennessConfig { tokens: 60_000, order: 1, ..Default::default() };
        let found = token_or_context_with(&model, hook, &runs, &acts, &config).unwrap();
        let fewer = |test| {
            found.share("SAE", test, Weighting::Mass).unwrap()
                - found.share("TSAE", test, Weighting::Mass).unwrap()
        };
        token_like.push(fewer(TokenTest::LikeTable));
        on_one_token.push(fewer(TokenTest::TopToken));
    }
    // Three standard errors above what it would be by chance, and large.
    for (what, values, least) in [
        ("ln (NMSE of the SAE / of the TSAE)", nmse, 1.5f64.ln()),
        ("ln (CE added of the SAE / of the TSAE)", ce_added, 1.5f64.ln()),
        ("ln (times sooner by NMSE)", sooner, 3f64.ln()),
        (
            "share of activation mass in latents like a row of the table, SAE less TSAE",
            token_like,
            0.05,
        ),
        (
            "share of activation mass in latents with most of theirs on one token, SAE less TSAE",
            on_one_token,
            0.01,
        ),
    ] {
        let (mean, sd) = spread(&values);
        println!("{what}: {mean:.3} ± {sd:.3}");
        assert!(
            mean - 3.0 * sd / (SEEDS.len() as f64).sqrt() > 0.0 && mean > least,
            "{what}: {mean} ± {sd} of {values:?}"
        );
    }
}
