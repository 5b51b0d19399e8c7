//! Tables of every kind on a model's activations: where they start, what they are indexed by, and
//! that they train, are saved and continue.

use std::path::Path;

use tokenized_sae::activations::{Batch, Dtype};
use tokenized_sae::eval::HeldOut;
use tokenized_sae::prelude::*;
use tokenized_sae::sae::Ngrams;

fn hook() -> HookPoint {
    HookPoint::resid_pre(2)
}

struct Material {
    model: Model,
    corpus: Corpus,
    acts: ActivationStore,
    sae: SaeConfig,
    dir: tempfile::TempDir,
}

impl Material {
    fn new() -> Material {
        let dir = tempfile::tempdir().unwrap();
        let model = Model::load("tiny-gpt2").unwrap();
        let corpus =
            Corpus::new(model.sample(64, 64, 1).unwrap(), model.sample(8, 64, 2).unwrap()).unwrap();
        let hooks = [HookPoint::resid_pre(1), hook()];
        // Shards of a few sequences, so that n-grams are looked for in more than one.
        let config = HarvestConfig { dtype: Dtype::F32, ..HarvestConfig::default() };
        let acts = ActivationStore::harvest(
            &model,
            &hooks,
            &corpus.train,
            dir.path().join("acts"),
            config,
        )
        .unwrap();
        let sae = SaeConfig { expansion: 4, k: 8, ..SaeConfig::for_model(&model) };
        Material { model, corpus, acts, sae, dir }
    }

    fn grams(&self) -> Ngrams {
        Ngrams::most_common(&self.corpus.train, self.model.config().d_vocab, 3, 200).unwrap()
    }

    /// A trained SAE of the layer before.
    fn preceding(&self) -> Sae {
        let config = TrainConfig { tokens: 8192, batch: 512, lr: 1e-3, ..Default::default() };
        let trainer = Trainer::new(&self.acts, HookPoint::resid_pre(1), config)
            .unwrap()
            .add("before", self.sae.clone())
            .unwrap();
        trainer.fit(self.dir.path().join("before")).unwrap()["before"].sae.clone()
    }

    fn lookups(&self) -> Vec<(&'static str, Lookup)> {
        vec![
            ("unigram", Lookup::unigram(&self.model, hook()).unwrap()),
            ("means", Lookup::means(&self.acts, hook()).unwrap()),
            ("zeros", Lookup::zeros(self.sae.d_vocab, self.sae.d_model).unwrap()),
            ("subtracted", Lookup::unigram(&self.model, hook()).unwrap().subtracted()),
            (
                "recommended",
                SaeConfig::recommended(&self.model, &self.acts, hook()).unwrap().lookup.unwrap(),
            ),
            ("n-grams", Lookup::ngrams(&self.model, hook(), self.grams()).unwrap()),
            (
                "mean n-grams",
                Lookup::ngram_means(&self.acts, hook(), self.grams()).unwrap().subtracted(),
            ),
            ("preceding", Lookup::preceding(&self.preceding()).unwrap()),
        ]
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }
}

fn bytes(run: &Path) -> Vec<Vec<u8>> {
    ["cfg.json", "sae_weights.safetensors", "history.json"]
        .map(|name| std::fs::read(run.join(name)).unwrap())
        .to_vec()
}

#[test]
fn means_are_the_means_of_the_rows_that_take_them() {
    let it = Material::new();
    let n = it.acts.n_rows() as u64;
    let mut batch = Batch::default();
    it.acts.gather(hook(), &(0..n).collect::<Vec<_>>(), &mut batch).unwrap();
    let d = it.acts.d_model();
    let grams = it.grams();
    let keys = grams.rows_of(&it.acts.tokens().unwrap());
    assert!(keys.iter().any(|&key| key as usize >= it.sae.d_vocab), "no n-gram occurs");
    for (lookup, keys) in [
        (Lookup::means(&it.acts, hook()).unwrap(), &batch.tokens),
        (Lookup::ngram_means(&it.acts, hook(), grams).unwrap(), &keys),
    ] {
        let mut sums = vec![(0.0f64, vec![0.0f64; d]); lookup.rows()];
        for (x, &key) in batch.x.chunks_exact(d).zip(keys) {
            let (n, sum) = &mut sums[key as usize];
            *n += 1.0;
            sum.iter_mut().zip(x).for_each(|(sum, &x)| *sum += f64::from(x));
        }
        let overall: Vec<f64> =
            (0..d).map(|i| sums.iter().map(|(_, sum)| sum[i]).sum::<f64>() / n as f64).collect();
        for ((count, sum), row) in sums.iter().zip(lookup.table().chunks_exact(d)) {
            let want = |i: usize| if *count > 0.0 { sum[i] / count } else { overall[i] };
            assert!(
                row.iter().enumerate().all(|(i, &value)| (f64::from(value) - want(i)).abs() < 1e-4)
            );
        }
    }
}

#[test]
fn an_n_grams_row_starts_where_the_model_ends_it() {
    let it = Material::new();
    let grams = it.grams();
    let lookup = Lookup::ngrams(&it.model, hook(), grams.clone()).unwrap();
    let (d, d_vocab) = (it.sae.d_model, it.sae.d_vocab);
    assert_eq!((lookup.rows(), grams.longest()), (d_vocab + 200, 3));
    let unigram = Lookup::unigram(&it.model, hook()).unwrap();
    assert_eq!(lookup.table()[..d_vocab * d], *unigram.table());
    for (i, gram) in grams.grams().iter().enumerate().step_by(37) {
        let ids: Vec<u32> = [it.model.bos()].into_iter().chain(gram.iter().copied()).collect();
        let value = it.model.run_to(&Tokens::new(ids, gram.len() + 1).unwrap(), hook()).unwrap();
        let value: Vec<f32> = value.flatten_all().unwrap().to_vec1().unwrap();
        let row = &lookup.table()[(d_vocab + i) * d..][..d];
        assert!(
            row.iter().zip(&value[gram.len() * d..]).all(|(a, b)| (a - b).abs() < 1e-4),
            "{gram:?}"
        );
    }
}

#[test]
fn a_text_and_a_store_of_it_have_the_same_keys_and_codes() {
    let it = Material::new();
    let rows: Vec<u64> = (0..it.acts.n_rows() as u64).rev().step_by(3).collect();
    for (name, lookup) in it.lookups() {
        let mut sae = Sae::new(it.sae.clone().with_lookup(lookup)).unwrap();
        sae.origin.hook = Some(hook());
        let of_text = sae.keys(&it.model, &it.corpus.train).unwrap();
        let of_store = it.acts.keys(&sae, &rows).unwrap();
        assert_eq!(of_store.n(), rows.len());
        for (i, &row) in rows.iter().enumerate() {
            let ((a, a_weights), (b, b_weights)) = (of_text.row(row as usize), of_store.row(i));
            assert_eq!(a, b, "{name}, row {row}");
            assert!(
                a_weights.iter().zip(b_weights).all(|(a, b)| (a - b).abs() < 1e-3),
                "{name}, row {row}"
            );
        }
        let mut batch = Batch::default();
        it.acts.gather(hook(), &rows, &mut batch).unwrap();
        let (codes, keys) = it.acts.encode(&sae, &rows, &batch.x).unwrap();
        assert_eq!(
            (codes.n(), sae.reconstruct(&batch.x, &keys).unwrap().len()),
            (rows.len(), batch.x.len())
        );
        if name == "subtracted" {
            assert!(matches!(sae.encode(&batch.x), Err(Error::Config { .. })));
            // What is subtracted is what is added.
            let x = &sae.lookup.as_ref().unwrap()[..it.sae.d_model];
            let of_zero = Sae { lookup: None, subtract: false, ..sae.clone() }
                .encode(&vec![0.0; it.sae.d_model])
                .unwrap();
            assert_eq!(sae.encode_on(x, &[0u32]).unwrap(), of_zero);
        }
    }
}

#[test]
fn every_table_trains_is_saved_and_goes_on_to_the_same_bytes_when_stopped() {
    let it = Material::new();
    let lookups = it.lookups();
    let config = TrainConfig {
        tokens: 12_000,
        batch: 512,
        lr: 1e-3,
        evaluations: 4,
        held_out_tokens: 256,
        log_every: 5,
        ..Default::default()
    };
    let trainer = || {
        let trainer = Trainer::new(&it.acts, hook(), config.clone())
            .unwrap()
            .held_out(&it.model, &it.corpus.valid)
            .unwrap();
        lookups.iter().fold(
            trainer.add("none", it.sae.clone()).unwrap(),
            |trainer, (name, lookup)| {
                trainer.add(name, it.sae.clone().with_lookup(lookup.clone())).unwrap()
            },
        )
    };
    let whole = trainer().fit(it.path("whole")).unwrap();
    for run in &whole.runs {
        let (first, last) = (run.history.held_out[0], *run.history.held_out.last().unwrap());
        assert!(last.nmse < 0.9 * first.nmse, "{}: {first:?} {last:?}", run.name);
    }
    let training = trainer().fit_in_background(it.path("stopped")).unwrap();
    while !training.is_finished() && training.status().tokens < 8 * 8 * 512 {
        std::thread::yield_now();
    }
    training.stop();
    training.join().unwrap();
    trainer().fit(it.path("stopped")).unwrap();

    let evaluated = evaluate(&it.model, hook(), &whole, &it.corpus.valid).unwrap();
    for (name, lookup) in &lookups {
        assert!(
            bytes(&it.path("whole").join(name)) == bytes(&it.path("stopped").join(name)),
            "{name}"
        );
        // What is loaded is what was trained.
        let (trained, loaded) =
            (&whole[*name].sae, Sae::load(it.path("whole").join(name)).unwrap());
        assert_eq!((&loaded.lookup, loaded.subtract), (&trained.lookup, lookup.is_subtracted()));
        let measured = |sae: &Sae| {
            HeldOut::new(&it.model, hook(), &it.corpus.valid).unwrap().measure(sae).unwrap()
        };
        assert_eq!(measured(&loaded), measured(trained), "{name}");
        assert!(
            (evaluated.rows.iter().find(|row| row.name == *name).unwrap().without_bos.nmse
                - measured(trained).nmse)
                .abs()
                < 1e-9
        );
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let it = Material::new();
    let add = |sae: SaeConfig| {
        Trainer::new(&it.acts, hook(), TrainConfig::default())
            .unwrap()
            .add("x", sae)
            .err()
            .unwrap()
            .to_string()
    };
    let other = Ngrams::most_common(&it.corpus.train, it.sae.d_vocab + 1, 2, 10).unwrap();
    assert!(matches!(Lookup::ngrams(&it.model, hook(), other.clone()), Err(Error::Shape { .. })));
    assert!(matches!(Lookup::ngram_means(&it.acts, hook(), other), Err(Error::Shape { .. })));
    let mut sae = Sae::new(it.sae.clone()).unwrap();
    assert!(Lookup::preceding(&sae).err().unwrap().to_string().contains("origin.hook"));
    sae.origin.hook = Some(HookPoint::resid_pre(0));
    let refused = add(it.sae.clone().with_lookup(Lookup::preceding(&sae).unwrap()));
    assert!(refused.contains("blocks.0.hook_resid_pre"), "{refused}");
    let refused = add(it.sae.clone().with_lookup(Lookup::zeros(3, it.sae.d_model).unwrap()));
    assert!(refused.contains("[3, 128]"), "{refused}");
}
