//! What is read is what was written.

use half::f16;

use super::*;

#[test]
fn every_row_comes_with_its_own_token_and_position_in_any_order() {
    for dtype in [Dtype::F32, Dtype::F16, Dtype::Int8] {
        let dir = tempfile::tempdir().unwrap();
        let tokens = tokens(50);
        let store = harvest(dir.path(), &tokens, HarvestConfig { dtype, ..CONFIG }).unwrap();
        assert_eq!(
            (store.n_rows(), store.n_ctx(), store.d_model(), store.d_vocab()),
            (400, N_CTX, D_MODEL, 1000)
        );
        assert!(store.is_complete());
        let mut batch = Batch::default();
        for hook in hooks() {
            let mut seen = vec![0; store.n_rows()];
            // Batches that do not divide an epoch, over two epochs.
            for start in (0..800).step_by(100) {
                let rows = store.shuffled(3, start..start + 100);
                store.gather(hook, &rows, &mut batch).unwrap();
                assert_eq!((batch.len(), batch.x.len()), (100, 100 * D_MODEL));
                for (i, &row) in rows.iter().enumerate() {
                    let (token, position) = (tokens.ids()[row as usize], row as usize % N_CTX);
                    assert_eq!((batch.tokens[i], batch.positions[i] as usize), (token, position));
                    let exact: Vec<f32> =
                        (0..D_MODEL).map(|d| value(hook, token, position, d)).collect();
                    // Rounding, and back, is all that may happen to a number: of 8 bits by a scale
                    // that all share.
                    let largest = exact.iter().fold(0f32, |most, x| most.max(x.abs()));
                    let scale = f16::from_f32(largest / 127.0).to_f32();
                    let want = exact.iter().map(|&exact| match dtype {
                        Dtype::F32 => exact,
                        Dtype::F16 => f16::from_f32(exact).to_f32(),
                        Dtype::Int8 => (exact * (1.0 / scale)).round_ties_even() * scale,
                    });
                    assert_eq!(&batch.x[i * D_MODEL..][..D_MODEL], want.collect::<Vec<_>>());
                    seen[row as usize] += 1;
                }
            }
            assert!(seen.iter().all(|&times| times == 2));
        }
        assert_eq!(store.tokens().unwrap(), tokens);
    }
}

#[test]
fn the_mean_is_exact_and_the_same_for_any_number_of_threads() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = tokens(2500);
    let store =
        harvest(dir.path(), &tokens, HarvestConfig { shard_tokens: 4000, ..CONFIG }).unwrap();
    let hook = hooks()[1];
    let mean = store.mean(hook).unwrap();
    for (d, got) in mean.iter().enumerate() {
        let sum: f64 = tokens
            .ids()
            .iter()
            .enumerate()
            .map(|(i, &token)| f64::from(value(hook, token, i % N_CTX, d)))
            .sum();
        let want = sum / tokens.len() as f64;
        assert!((f64::from(*got) - want).abs() <= 1e-6 * want.abs(), "{got} {want}");
    }
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert_eq!(pool.install(|| store.mean(hook)).unwrap(), mean);
    }
}

#[test]
fn what_is_not_there_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let store = harvest(dir.path(), &tokens(4), CONFIG).unwrap();
    let told = store.check_hook(HookPoint::resid_pre(2)).unwrap_err().to_string();
    assert!(told.contains("blocks.1.hook_resid_pre, blocks.10.hook_mlp_out"), "{told}");
    let mut batch = Batch::default();
    assert!(matches!(store.gather(hooks()[0], &[0, 32], &mut batch), Err(Error::Config { .. })));
    assert!(matches!(
        store.gather(HookPoint::resid_pre(2), &[0], &mut batch),
        Err(Error::UnknownHook { .. })
    ));
    store.gather(hooks()[0], &[], &mut batch).unwrap();
    assert!(batch.is_empty());
    assert!(
        ActivationStore::open(dir.path().join("none"))
            .unwrap_err()
            .to_string()
            .contains("manifest.json")
    );
}

#[test]
fn other_programs_can_read_a_shard() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = tokens(5);
    harvest(dir.path(), &tokens, HarvestConfig { dtype: Dtype::F16, ..CONFIG }).unwrap();
    let bytes = fs::read(&shards(dir.path())[1]).unwrap();
    let shard = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut names = shard.names();
    names.sort();
    assert_eq!(names, ["blocks.1.hook_resid_pre", "blocks.10.hook_mlp_out", "positions", "tokens"]);
    let rows = shard.tensor("blocks.1.hook_resid_pre").unwrap();
    assert_eq!((rows.shape(), rows.dtype()), (&[16, D_MODEL][..], safetensors::Dtype::F16));
    let ids = shard.tensor("tokens").unwrap();
    let read: Vec<u32> =
        ids.data().chunks(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect();
    assert_eq!(read, tokens.ids()[24..]);
    let first = f16::from_le_bytes(rows.data()[..2].try_into().unwrap());
    assert_eq!(first, f16::from_f32(value(hooks()[0], tokens.ids()[24], 0, 0)));
}

#[test]
fn an_incomplete_store_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    harvest_half(&tokens(11), dir.path());
    let store = ActivationStore::open(dir.path()).unwrap();
    assert!(!store.is_complete());
    assert_eq!(store.n_rows(), 6 * N_CTX);
    assert_eq!(gather_all(&store, hooks()[0]).unwrap().tokens, tokens(6).ids());
    assert!(store.to_string().contains("2 of 4"), "{store}");
    let complete = harvest(dir.path(), &tokens(11), CONFIG).unwrap();
    // More rows are a different training set.
    assert_ne!(complete.fingerprint(), store.fingerprint());
}

#[test]
fn a_store_without_a_complete_shard_says_how_to_go_on() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("manifest.json"), first_manifest(&tokens(4))).unwrap();
    assert!(
        ActivationStore::open(dir.path())
            .unwrap_err()
            .to_string()
            .contains("harvest into it again")
    );
}

#[test]
fn a_models_rows_are_what_it_gives_for_their_sequences() {
    for name in ["tests/golden/gpt2", "tests/golden/neox"] {
        let model = Model::load(name).unwrap();
        let hooks = [HookPoint { layer: 1, site: Site::MlpOut }, HookPoint::resid_pre(1)];
        let corpus = Corpus::sampled(&model, 300, 5).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let config = HarvestConfig { shard_tokens: 5 * corpus.n_ctx(), batch: 3, ..CONFIG };
        let store =
            ActivationStore::harvest(&model, &hooks, &corpus.train, dir.path(), config.clone())
                .unwrap();
        assert_eq!(
            store.hooks(),
            [HookPoint::resid_pre(1), HookPoint { layer: 1, site: Site::MlpOut }]
        );
        assert_eq!(
            (store.model_fingerprint(), store.processing()),
            (model.fingerprint(), "transformer_lens")
        );
        assert_eq!(store.corpus_fingerprint(), corpus.train.fingerprint());
        for hook in hooks {
            let want = model
                .run_to(&corpus.train, hook)
                .unwrap()
                .flatten_all()
                .unwrap()
                .to_vec1::<f32>()
                .unwrap();
            let got = gather_all(&store, hook).unwrap();
            assert_eq!(got.tokens, corpus.train.ids());
            // Another batch size may add up in another order.
            let far = got.x.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(got.x.len() == want.len() && far < 1e-5, "{far}");
        }
        let raw = Model::load_with(name, Processing::Raw).unwrap();
        let told =
            ActivationStore::harvest(&raw, &hooks, &corpus.train, dir.path(), config.clone())
                .unwrap_err();
        assert!(matches!(told, Error::Changed { what: "processing", .. }), "{told}");
        let beyond = [HookPoint::resid_pre(99)];
        assert!(matches!(
            ActivationStore::harvest(&model, &beyond, &corpus.train, dir.path(), config),
            Err(Error::UnknownHook { .. })
        ));
    }
}
