//! What does not belong together is neither mixed nor touched.

use super::*;

#[test]
fn one_folder_is_harvested_by_one_call_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = tokens(4);
    let nested = |pass: &Tokens, hooks: &[HookPoint]| {
        assert!(matches!(harvest(dir.path(), &tokens, CONFIG), Err(Error::Locked { .. })));
        forward(pass, hooks)
    };
    ActivationStore::harvest_with(&source(), &hooks(), &tokens, dir.path(), CONFIG, &nested)
        .unwrap();
}

#[test]
fn a_store_of_something_else_is_neither_mixed_nor_touched() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = tokens(10);
    harvest(dir.path(), &tokens, CONFIG).unwrap();
    let before = files(dir.path());
    let mut other_ids = tokens.ids().to_vec();
    other_ids[13] += 1;
    let other_tokens = Tokens::new(other_ids, N_CTX).unwrap();
    let refolded = Tokens::new(tokens.ids().to_vec(), 2 * N_CTX).unwrap();
    let source_with = |change: fn(&mut Source)| {
        let mut source = source();
        change(&mut source);
        source
    };
    let cases: Vec<(&str, Source, Vec<HookPoint>, Tokens, HarvestConfig)> = vec![
        ("model", source_with(|s| s.fingerprint = "e".repeat(64)), hooks(), tokens.clone(), CONFIG),
        (
            "processing",
            source_with(|s| {
                (s.processing, s.fingerprint) = ("TransformerLens".into(), "e".repeat(64))
            }),
            hooks(),
            tokens.clone(),
            CONFIG,
        ),
        ("corpus", source(), hooks(), other_tokens, CONFIG),
        ("corpus", source(), hooks(), refolded, CONFIG),
        ("corpus", source(), hooks(), tokens.rows(0, 9), CONFIG),
        ("set of hooks", source(), hooks()[..1].to_vec(), tokens.clone(), CONFIG),
        ("dtype", source(), hooks(), tokens.clone(), HarvestConfig { dtype: Dtype::F16, ..CONFIG }),
        (
            "compute",
            source(),
            hooks(),
            tokens.clone(),
            HarvestConfig { compute: Compute::Bf16, ..CONFIG },
        ),
        (
            "shard size",
            source(),
            hooks(),
            tokens.clone(),
            HarvestConfig { shard_tokens: N_CTX, ..CONFIG },
        ),
    ];
    for (wanted, source, hooks, tokens, config) in cases {
        let told =
            ActivationStore::harvest_with(&source, &hooks, &tokens, dir.path(), config, &never)
                .unwrap_err();
        let Error::Changed { what, ref stored, ref now, .. } = told else { panic!("{told}") };
        assert_eq!(what, wanted);
        assert_ne!(stored, now);
        assert!(told.to_string().contains("another folder"), "{told}");
    }
    assert_eq!(files(dir.path()), before);
}

#[test]
fn a_store_made_in_bf16_says_so_and_one_in_f32_is_as_it_always_was() {
    let (exact, rounded) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let exact_store = harvest(exact.path(), &tokens(4), CONFIG).unwrap();
    assert!(!String::from_utf8_lossy(&files(exact.path())["manifest.json"]).contains("compute"));
    let store =
        harvest(rounded.path(), &tokens(4), HarvestConfig { compute: Compute::Bf16, ..CONFIG })
            .unwrap();
    assert_eq!((exact_store.compute(), store.compute()), (Compute::F32, Compute::Bf16));
    assert_ne!(exact_store.fingerprint(), store.fingerprint());
    assert!(
        store.to_string().contains("computed in bf16")
            && exact_store.to_string().contains("computed in f32"),
        "{store}"
    );
}

#[test]
fn what_goes_wrong_while_writing_ends_the_harvest_and_costs_no_complete_shard() {
    let (dir, quiet) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    harvest(quiet.path(), &tokens(11), CONFIG).unwrap();
    fs::write(dir.path().join("manifest.json"), first_manifest(&tokens(11))).unwrap();
    // A folder in the place of the third shard cannot be replaced by a file.
    let obstacle = dir.path().join("shard-00002.safetensors");
    fs::create_dir(&obstacle).unwrap();
    let told = harvest(dir.path(), &tokens(11), CONFIG).unwrap_err();
    assert!(matches!(told, Error::Io { .. }) && told.to_string().contains("shard-00002"), "{told}");
    fs::remove_dir(&obstacle).unwrap();
    assert!(files(dir.path()).keys().all(|name| !name.ends_with(".tmp")));
    assert_eq!(ActivationStore::open(dir.path()).unwrap().n_rows(), 6 * N_CTX);
    harvest(dir.path(), &tokens(11), CONFIG).unwrap();
    assert_eq!(files(dir.path()), files(quiet.path()));
}

#[test]
fn shards_without_a_manifest_are_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    harvest(dir.path(), &tokens(4), CONFIG).unwrap();
    fs::remove_file(dir.path().join("manifest.json")).unwrap();
    let told = harvest(dir.path(), &tokens(4), CONFIG).unwrap_err().to_string();
    assert!(told.contains("shard-0000") && told.contains("without a manifest"), "{told}");
}

#[test]
fn a_number_that_f16_cannot_hold_is_named_with_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let with = |wrong: f32| {
        move |pass: &Tokens, hooks: &[HookPoint]| {
            let mut values = forward(pass, hooks)?;
            // Sequence 4 is the second of the second shard; its position 5, dimension 3, of the
            // second hook.
            if pass.row(0) == tokens(10).row(3) {
                values[1][(N_CTX + 5) * D_MODEL + 3] = wrong;
            }
            Ok(values)
        }
    };
    let run = |wrong: f32, dtype| {
        let config = HarvestConfig { dtype, ..CONFIG };
        ActivationStore::harvest_with(
            &source(),
            &hooks(),
            &tokens(10),
            dir.path().join(dtype.to_string()),
            config,
            &with(wrong),
        )
    };
    let told = run(70_000.0, Dtype::F16).unwrap_err();
    assert!(matches!(told, Error::NotFinite { .. }));
    let told = told.to_string();
    for part in
        ["blocks.10.hook_mlp_out", "sequence 4, position 5, dimension 3", "70000", "Dtype::F32"]
    {
        assert!(told.contains(part), "{told} lacks {part}");
    }
    run(70_000.0, Dtype::F32).unwrap();
    run(70_000.0, Dtype::Int8).unwrap();
    fs::remove_dir_all(dir.path().join("int8")).unwrap();
    let told = run(9e6, Dtype::Int8).unwrap_err().to_string();
    assert!(told.contains("dimension 3") && told.contains("int8 ends at 8319008"), "{told}");
    let dir = tempfile::tempdir().unwrap();
    for dtype in [Dtype::F16, Dtype::F32, Dtype::Int8] {
        for wrong in [f32::NAN, f32::NEG_INFINITY] {
            let config = HarvestConfig { dtype, ..CONFIG };
            let to = dir.path().join(format!("{dtype}{wrong}"));
            let told = ActivationStore::harvest_with(
                &source(),
                &hooks(),
                &tokens(10),
                &to,
                config,
                &with(wrong),
            )
            .unwrap_err()
            .to_string();
            assert!(
                told.contains("sequence 4, position 5, dimension 3")
                    && told.contains("the model itself"),
                "{told}"
            );
            // The shard before it stays, and no torn file.
            assert_eq!(
                files(&to).into_keys().collect::<Vec<_>>(),
                [".lock", "manifest.json", "shard-00000.json", "shard-00000.safetensors"]
            );
        }
    }
}

#[test]
fn settings_and_inputs_that_cannot_be_are_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("store");
    let run = |hooks: &[HookPoint], tokens: &Tokens, config| {
        let told = ActivationStore::harvest_with(&source(), hooks, tokens, &to, config, &never)
            .unwrap_err();
        assert!(!to.exists());
        told
    };
    assert!(matches!(
        run(&hooks(), &tokens(2), HarvestConfig { batch: 0, ..CONFIG }),
        Error::Config { field: "batch", .. }
    ));
    assert!(matches!(
        run(&hooks(), &tokens(2), HarvestConfig { shard_tokens: 0, ..CONFIG }),
        Error::Config { field: "shard_tokens", .. }
    ));
    assert!(matches!(run(&[], &tokens(2), CONFIG), Error::Config { field: "hooks", .. }));
    assert!(matches!(run(&hooks(), &tokens(0), CONFIG), Error::EmptyCorpus { .. }));
    let beyond = Tokens::new(vec![1000; N_CTX], N_CTX).unwrap();
    assert!(matches!(run(&hooks(), &beyond, CONFIG), Error::TokenId { id: 1000, .. }));
}

#[test]
fn a_model_that_gives_the_wrong_shape_is_an_error() {
    let right = |pass: &Tokens| vec![vec![0.0; pass.len() * D_MODEL]; 2];
    let changes: [fn(&mut Vec<Vec<f32>>); 4] =
        [Vec::clear, |v| v.truncate(1), |v| v.push(v[0].clone()), |v| v[1].truncate(D_MODEL)];
    for change in changes {
        let dir = tempfile::tempdir().unwrap();
        let wrong = |pass: &Tokens, _: &[HookPoint]| {
            let mut values = right(pass);
            change(&mut values);
            Ok(values)
        };
        let told = ActivationStore::harvest_with(
            &source(),
            &hooks(),
            &tokens(4),
            dir.path(),
            CONFIG,
            &wrong,
        )
        .unwrap_err();
        assert!(matches!(told, Error::Shape { .. }), "{told}");
    }
}

#[test]
fn more_shards_than_a_store_may_have_are_refused_with_a_size_that_does() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = tokens(250_001);
    let config = HarvestConfig { shard_tokens: N_CTX, ..CONFIG };
    let told =
        ActivationStore::harvest_with(&source(), &hooks(), &tokens, dir.path(), config, &never)
            .unwrap_err();
    assert!(matches!(told, Error::Config { field: "shard_tokens", .. }), "{told}");
    let told = told.to_string();
    assert!(told.contains("250001 shards") && told.contains("take 16"), "{told}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
