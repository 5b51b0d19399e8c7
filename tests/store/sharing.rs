//! A harvest that many processes share ends with the bytes of one, whatever becomes of them.

use std::sync::LazyLock;

use tokenized_sae::Share;

use super::*;

/// Two sequences a shard: seven shards, the last with one.
const SHARED: HarvestConfig = HarvestConfig {
    dtype: Dtype::F16,
    compute: Compute::F32,
    shard_tokens: 32,
    batch: 3,
    device: Device::Cpu,
};

static MODEL: LazyLock<Model> = LazyLock::new(|| Model::load("tiny-gpt2").unwrap());

fn hooks_of_model() -> [HookPoint; 2] {
    [HookPoint::resid_pre(1), HookPoint::resid_pre(2)]
}

fn text() -> Tokens {
    MODEL.sample(13, 16, 0).unwrap()
}

fn plan(dir: &Path) -> Result<tokenized_sae::activations::HarvestPlan> {
    ActivationStore::plan(&MODEL, &hooks_of_model(), &text(), dir, SHARED)
}

fn share(dir: &Path, i: usize, n: usize) -> Result<()> {
    ActivationStore::harvest_share(&MODEL, dir, Share::new(i, n).unwrap())
}

fn alone() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    ActivationStore::harvest(&MODEL, &hooks_of_model(), &text(), dir.path(), SHARED).unwrap();
    dir
}

/// All files but locks.
fn bytes(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = files(dir);
    files.remove(".lock");
    files
}

#[test]
fn shares_in_any_order_are_the_store_of_one_process() {
    let (alone, want) = (alone(), 7);
    for n in [1, 3, 7, 9] {
        let dir = tempfile::tempdir().unwrap();
        let planned = plan(dir.path()).unwrap();
        assert_eq!((planned.shards, planned.tokens), (want, 13 * 16));
        assert_eq!(planned.bytes, 13 * 16 * (8 + 2 * 2 * 128));
        for i in (1..=n).rev() {
            share(dir.path(), i, n).unwrap();
        }
        let store = ActivationStore::collect(dir.path()).unwrap();
        assert!(store.is_complete() && store.n_rows() == 13 * 16);
        assert_eq!(bytes(dir.path()), bytes(alone.path()), "{n} shares");
    }
}

#[test]
fn what_is_missing_is_named_and_made_whichever_worker_died_when() {
    let (alone, dir) = (alone(), tempfile::tempdir().unwrap());
    let dir = dir.path();
    plan(dir).unwrap();
    let told = ActivationStore::collect(dir).unwrap_err();
    assert!(matches!(told, Error::Incomplete { .. }), "{told}");
    let told = ActivationStore::open(dir).unwrap_err().to_string();
    assert!(told.contains("not collected yet"), "{told}");
    for i in 1..=3 {
        share(dir, i, 3).unwrap();
    }
    let whole = files(dir);
    // In the middle of a shard; between a shard and what is put down of it; and one deleted.
    let temporary = dir.join(".shard-00001.safetensors.77-0.tmp");
    fs::write(&temporary, "half").unwrap();
    fs::remove_file(dir.join("shard-00001.safetensors")).unwrap();
    fs::remove_file(dir.join("shard-00002.json")).unwrap();
    fs::remove_file(dir.join("shard-00006.safetensors")).unwrap();
    let told = ActivationStore::collect(dir).unwrap_err().to_string();
    for words in ["3 of 7 shards are missing", "shard-00001", "shard-00002", "shard-00006"] {
        assert!(told.contains(words), "{told}");
    }
    // Cut anew, and with what is there passed over: shards 2 and 6 are the second share's of two.
    let kept = fs::metadata(dir.join("shard-00000.safetensors")).unwrap().modified().unwrap();
    share(dir, 1, 2).unwrap();
    let told = ActivationStore::collect(dir).unwrap_err().to_string();
    assert!(told.contains("1 of 7 shards are missing (shard-00001"), "{told}");
    share(dir, 2, 2).unwrap();
    let now = fs::metadata(dir.join("shard-00000.safetensors")).unwrap().modified().unwrap();
    assert_eq!(kept, now, "a shard that was there was made again");
    fs::remove_file(&temporary).unwrap();
    assert_eq!(files(dir), whole);
    fs::write(&temporary, "half").unwrap();
    ActivationStore::collect(dir).unwrap();
    assert_eq!(bytes(dir), bytes(alone.path()));
    // Who comes late has nothing to do, plans, harvests or collects.
    share(dir, 2, 3).unwrap();
    plan(dir).unwrap();
    ActivationStore::collect(dir).unwrap();
    ActivationStore::harvest(&MODEL, &hooks_of_model(), &text(), dir, SHARED).unwrap();
    assert_eq!(bytes(dir), bytes(alone.path()));
}

/// Between the manifest and the end of tidying up, whoever comes next goes on.
#[test]
fn a_collection_that_was_killed_is_ended_by_the_next() {
    let (alone, dir) = (alone(), tempfile::tempdir().unwrap());
    let dir = dir.path();
    plan(dir).unwrap();
    share(dir, 1, 1).unwrap();
    let before = files(dir);
    for left in [&["plan.json", "plan.ids", "shard-00003.json"][..], &["plan.json"]] {
        ActivationStore::collect(dir).unwrap();
        for name in left {
            fs::write(dir.join(name), &before[*name]).unwrap();
        }
        share(dir, 1, 2).unwrap();
        assert!(ActivationStore::collect(dir).unwrap().is_complete());
        assert_eq!(bytes(dir), bytes(alone.path()));
    }
}

#[test]
fn what_does_not_fit_the_plan_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let told = share(dir.path(), 1, 2).unwrap_err().to_string();
    assert!(told.contains("no plan"), "{told}");
    assert!(ActivationStore::collect(dir.path()).unwrap_err().to_string().contains("no plan"));
    plan(dir.path()).unwrap();
    let whole = files(dir.path());
    // Another model, other hooks, one process alone.
    let other = Model::load_with("tiny-gpt2", Processing::Raw).unwrap();
    let told = ActivationStore::harvest_share(&other, dir.path(), Share::new(1, 2).unwrap());
    assert!(matches!(told, Err(Error::Changed { what: "processing", .. })));
    let told = ActivationStore::plan(&MODEL, &hooks_of_model()[..1], &text(), dir.path(), SHARED);
    assert!(matches!(told, Err(Error::Changed { what: "set of hooks", .. })));
    let told = ActivationStore::harvest(&MODEL, &hooks_of_model(), &text(), dir.path(), SHARED);
    assert!(told.unwrap_err().to_string().contains("many processes share"));
    plan(dir.path()).unwrap();
    assert_eq!(files(dir.path()), whole);
    // Damaged ids, and a damaged plan.
    let ids = dir.path().join("plan.ids");
    let mut bytes = fs::read(&ids).unwrap();
    bytes[4 * 3 * 32] ^= 1;
    fs::write(&ids, &bytes).unwrap();
    let told = share(dir.path(), 4, 7).unwrap_err();
    assert!(
        matches!(told, Error::Checksum { .. }) && told.to_string().contains("plan.ids"),
        "{told}"
    );
    share(dir.path(), 3, 7).unwrap();
    fs::write(&ids, &bytes[..bytes.len() - 4]).unwrap();
    let told = share(dir.path(), 4, 7).unwrap_err().to_string();
    assert!(told.contains("plan.ids: has 828 bytes") && told.contains("of 208 ids"), "{told}");
    let json = String::from_utf8(whole["plan.json"].clone()).unwrap();
    for (wrong, words) in [
        (json.replace("\"batch\":3", "\"batch\":4"), "checksum"),
        (json.replace("\"version\":1,\"store\"", "\"version\":2,\"store\""), "reads version 1"),
        (json[..json.len() / 2].to_owned(), "is not the plan"),
    ] {
        assert_ne!(wrong, json);
        fs::write(dir.path().join("plan.json"), wrong).unwrap();
        let told = share(dir.path(), 1, 2).unwrap_err().to_string();
        assert!(told.contains(words), "{told}");
    }
    // Where one process has begun.
    let begun = tempfile::tempdir().unwrap();
    harvest_half(&tokens(11), begun.path());
    let told = ActivationStore::plan(&MODEL, &hooks_of_model(), &text(), begun.path(), SHARED)
        .unwrap_err();
    assert!(matches!(told, Error::Changed { .. }), "{told}");
}
