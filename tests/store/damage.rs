//! Damage is noticed before it is used.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

#[test]
fn a_shard_of_another_store_is_noticed() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    harvest(dir.path(), &tokens(6), CONFIG).unwrap();
    let model = Source { fingerprint: "ee".repeat(32), ..source() };
    ActivationStore::harvest_with(&model, &hooks(), &tokens(6), other.path(), CONFIG, &forward)
        .unwrap();
    for (from, to) in [
        (&shards(other.path())[1], &shards(dir.path())[1]),
        (&shards(dir.path())[0], &shards(dir.path())[1]),
    ] {
        let kept = fs::read(to).unwrap();
        fs::copy(from, to).unwrap();
        assert!(matches!(ActivationStore::open(dir.path()), Err(Error::Checksum { .. })));
        fs::write(to, kept).unwrap();
    }
    ActivationStore::open(dir.path()).unwrap().verify().unwrap();
}

#[test]
fn a_flipped_bit_anywhere_in_any_shard_is_noticed_before_its_shard_is_used() {
    let dir = tempfile::tempdir().unwrap();
    harvest(dir.path(), &tokens(7), CONFIG).unwrap();
    for (index, path) in shards(dir.path()).into_iter().enumerate() {
        let whole = fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by(37).chain([whole.len() - 1]) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&path, &bytes).unwrap();
            let read = |hook| {
                let store = ActivationStore::open(dir.path())?;
                let row = (index * 3 * N_CTX) as u64;
                store.gather(hook, &[row], &mut Batch::default())
            };
            let told: Vec<_> = hooks().into_iter().filter_map(|hook| read(hook).err()).collect();
            // Only the hook that is read is checked, and the tokens with either.
            assert!(!told.is_empty(), "byte {at} of {} of {}", whole.len(), path.display());
            for e in told {
                let Error::Checksum { path: ref named, .. } = e else { panic!("{e}") };
                assert_eq!(named, &path);
                assert!(e.to_string().contains("recreate only this shard"), "{e}");
            }
            assert!(ActivationStore::open(dir.path()).and_then(|store| store.verify()).is_err());
        }
        fs::write(&path, whole).unwrap();
    }
    ActivationStore::open(dir.path()).unwrap().verify().unwrap();
}

#[test]
fn undamaged_shards_of_a_damaged_store_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    harvest(dir.path(), &tokens(7), CONFIG).unwrap();
    let path = &shards(dir.path())[1];
    let mut bytes = fs::read(path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(path, bytes).unwrap();
    let store = ActivationStore::open(dir.path()).unwrap();
    let mut batch = Batch::default();
    store.gather(hooks()[1], &[0, 48], &mut batch).unwrap();
    assert!(matches!(store.gather(hooks()[1], &[0, 24], &mut batch), Err(Error::Checksum { .. })));
    assert!(matches!(store.mean(hooks()[1]), Err(Error::Checksum { .. })));
    store.gather(hooks()[0], &[0, 24], &mut batch).unwrap();
}

#[test]
fn a_shard_cut_short_or_missing_is_named_and_can_be_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = tokens(7);
    harvest(dir.path(), &tokens, CONFIG).unwrap();
    let want = files(dir.path());
    let path = &shards(dir.path())[1];
    for len in [0, 7, 8, 100, want["shard-00001.safetensors"].len() - 1] {
        fs::write(path, &want["shard-00001.safetensors"][..len]).unwrap();
        for told in [
            ActivationStore::open(dir.path()).unwrap_err(),
            harvest(dir.path(), &tokens, CONFIG).unwrap_err(),
        ] {
            assert!(
                told.to_string().contains("shard-00001")
                    && told.to_string().contains(&format!("has {len} bytes")),
                "{told}"
            );
        }
    }
    fs::remove_file(path).unwrap();
    let told = ActivationStore::open(dir.path()).unwrap_err().to_string();
    assert!(told.contains("shard-00001") && told.contains("is missing"), "{told}");
    let passes = AtomicUsize::new(0);
    let counting = |pass: &Tokens, hooks: &[HookPoint]| {
        passes.fetch_add(1, Ordering::Relaxed);
        forward(pass, hooks)
    };
    ActivationStore::harvest_with(&source(), &hooks(), &tokens, dir.path(), CONFIG, &counting)
        .unwrap();
    assert_eq!(passes.into_inner(), 2);
    assert_eq!(files(dir.path()), want);
}
