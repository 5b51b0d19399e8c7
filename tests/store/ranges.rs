//! A row is checked with those beside it, and with its whole shard where nothing vouches for them.

use sha2::{Digest, Sha256};

use super::*;

/// So wide that a range of 256 KiB is one sequence.
const WIDE: usize = 8192;

fn wide(pass: &Tokens, hooks: &[HookPoint]) -> Result<Vec<Vec<f32>>> {
    let row = |hook: HookPoint, token: u32| (0..WIDE).map(move |d| value(hook, token, 0, d));
    let rows = |&hook: &HookPoint| pass.ids().iter().flat_map(|&token| row(hook, token)).collect();
    Ok(hooks.iter().map(rows).collect())
}

/// Shards of three ranges, three, and one.
fn harvested() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    again(dir.path());
    dir
}

fn again(dir: &Path) -> ActivationStore {
    let source = Source { d_model: WIDE, ..source() };
    ActivationStore::harvest_with(&source, &hooks(), &tokens(7), dir, CONFIG, &wide).unwrap()
}

/// Which of the rows a store newly opened gives, read one by one.
fn readable(dir: &Path, hook: HookPoint) -> Vec<u64> {
    let store = ActivationStore::open(dir).unwrap();
    let mut batch = Batch::default();
    let mut read = |row| match store.gather(hook, &[row], &mut batch) {
        Ok(()) => true,
        Err(Error::Checksum { .. }) => false,
        Err(e) => panic!("{e}"),
    };
    (0..store.n_rows() as u64).filter(|&row| read(row)).collect()
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn damage_is_noticed_by_whoever_reads_its_range() {
    let dir = harvested();
    assert!(dir.path().join("shard-00001.ranges").exists());
    assert!(!dir.path().join("shard-00002.ranges").exists());
    let all: Vec<u64> = (0..56).collect();
    for hook in hooks() {
        assert_eq!(readable(dir.path(), hook), all);
    }
    let shard = &shards(dir.path())[1];
    let whole = fs::read(shard).unwrap();
    let hook_bytes = 24 * WIDE * 4;
    let start = whole.len() - 2 * hook_bytes; // of the first hook; before it, the ids
    let but = |from: u64| all.iter().copied().filter(move |row| !(from..from + 8).contains(row));
    for range in 0..3 {
        let first = range * 8;
        let lost: Vec<u64> = but(24 + first as u64).collect();
        for row in [first, first + 3, first + 7] {
            for (at, which) in [
                (start - 2 * 96 + row * 4, [true, true]),
                (start - 96 + row * 4, [true, true]),
                (start + row * WIDE * 4 + 77, [true, false]),
                (start + hook_bytes + row * WIDE * 4 + 77, [false, true]),
            ] {
                flip(shard, at);
                for (hook, is_hit) in hooks().into_iter().zip(which) {
                    let want = if is_hit { &lost } else { &all };
                    assert_eq!(&readable(dir.path(), hook), want, "byte {at}");
                }
                let store = ActivationStore::open(dir.path()).unwrap();
                assert!(matches!(store.verify(), Err(Error::Checksum { .. })));
                fs::write(shard, &whole).unwrap();
            }
        }
    }
}

#[test]
fn what_nothing_vouches_for_is_checked_with_its_shard() {
    let dir = harvested();
    let (shard, ranges) = (&shards(dir.path())[0], &dir.path().join("shard-00000.ranges"));
    let (whole, vouched) = (fs::read(shard).unwrap(), fs::read(ranges).unwrap());
    // One checksum, that of the second range of the first hook, is another, and all that ties it is right.
    let lying = {
        let store: serde_json::Value =
            serde_json::from_slice(&fs::read(dir.path().join("manifest.json")).unwrap()).unwrap();
        let mut hash = Sha256::new();
        let sums = &store["store"]["shards"][0]["sha256"];
        for name in ["tokens, positions", "blocks.1.hook_resid_pre", "blocks.10.hook_mlp_out"] {
            hash.update(sums[name].as_str().unwrap());
        }
        let mut sums = vouched[32..].to_vec();
        assert_eq!(hash.clone().chain_update(&sums).finalize()[..], vouched[..32]);
        sums[4 * 32] ^= 1;
        [&hash.chain_update(&sums).finalize()[..], &sums].concat()
    };
    let mut spoilt = vouched.clone();
    spoilt[100] ^= 1;
    let of_another = fs::read(dir.path().join("shard-00001.ranges")).unwrap();
    let files = [
        Some(lying),
        Some(spoilt),
        Some(vouched[..200].to_vec()),
        Some(of_another),
        Some(Vec::new()),
        None,
    ];
    let all: Vec<u64> = (0..56).collect();
    for (i, file) in files.iter().enumerate() {
        match file {
            Some(bytes) => fs::write(ranges, bytes).unwrap(),
            None => fs::remove_file(ranges).unwrap(),
        }
        assert_eq!(readable(dir.path(), hooks()[0]), all, "file {i}");
        flip(shard, whole.len() - 2 * 24 * WIDE * 4 + 9); // the first row of the first hook
        // A file that is right but for one checksum vouches for the third range still.
        let from = if i == 0 { 16 } else { 24 };
        let want: Vec<u64> = (from..56).collect();
        assert_eq!(readable(dir.path(), hooks()[0]), want, "file {i}");
        fs::write(shard, &whole).unwrap();
    }
}

#[test]
fn ranges_are_the_same_bytes_however_their_shard_was_made() {
    let dir = harvested();
    let want = files(dir.path());
    fs::remove_file(dir.path().join("shard-00000.safetensors")).unwrap();
    fs::remove_file(dir.path().join("shard-00000.ranges")).unwrap();
    again(dir.path());
    assert_eq!(files(dir.path()), want);
    // Without them a store is read as before there were any.
    for index in 0..2 {
        fs::remove_file(dir.path().join(format!("shard-0000{index}.ranges"))).unwrap();
    }
    assert_eq!(gather_all(&again(dir.path()), hooks()[1]).unwrap().len(), 56);
}
