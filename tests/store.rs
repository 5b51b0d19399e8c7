//! The activation store keeps its promises: whole or not there, the same bytes whenever it was killed, nothing mixed, damage noticed, every
//! row beside its own token.
//!
//! The model is a formula here, so that every number of every row is known.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use half::f16;
use proptest::prelude::*;
use tokenized_sae::activations::Source;
use tokenized_sae::prelude::*;

const D_MODEL: usize = 24;
const N_CTX: usize = 8;
/// Three sequences a shard, two a pass: no border of the one falls on a border of the other.
const CONFIG: HarvestConfig = HarvestConfig { dtype: Dtype::F32, compute: Compute::F32, shard_tokens: 3 * N_CTX, batch: 2 };

fn source() -> Source {
    Source { name: "formula".into(), fingerprint: "f0".repeat(32), processing: "Raw".into(), d_model: D_MODEL, d_vocab: 1000 }
}

fn hooks() -> Vec<HookPoint> {
    vec![HookPoint::resid_pre(1), HookPoint { layer: 10, site: Site::MlpOut }]
}

fn tokens(n_seq: usize) -> Tokens {
    let ids = (0..n_seq * N_CTX).map(|i| if i % N_CTX == 0 { 0 } else { (i as u32 * 7919) % 1000 }).collect();
    Tokens::new(ids, N_CTX).unwrap()
}

/// The activation of `hook` for a token at a position: different in every number.
fn value(hook: HookPoint, token: u32, position: usize, dimension: usize) -> f32 {
    (token as f32 + 0.01 * position as f32).sin() + hook.layer as f32 + 0.37 * dimension as f32
}

fn forward(pass: &Tokens, hooks: &[HookPoint]) -> Result<Vec<Vec<f32>>> {
    let rows = |hook: HookPoint| {
        let of_token = |(i, &token): (usize, &u32)| (0..D_MODEL).map(move |d| value(hook, token, i % N_CTX, d)).collect::<Vec<_>>();
        pass.ids().iter().enumerate().flat_map(of_token).collect()
    };
    Ok(hooks.iter().map(|&hook| rows(hook)).collect())
}

fn harvest(dir: &Path, tokens: &Tokens, config: HarvestConfig) -> Result<ActivationStore> {
    ActivationStore::harvest_with(&source(), &hooks(), tokens, dir, config, &forward)
}

/// A forward pass that must not be called.
fn never(_: &Tokens, _: &[HookPoint]) -> Result<Vec<Vec<f32>>> {
    panic!("nothing was to be computed")
}

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    // A temporary file may have taken its real name since it was listed.
    paths.filter_map(|path| Some((name(&path), fs::read(&path).ok()?))).collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for (name, bytes) in files(from) {
        fs::write(to.join(name), bytes).unwrap();
    }
}

fn shards(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = files(dir).into_keys().filter(|name| name.starts_with("shard-")).map(|name| dir.join(name)).collect();
    paths.sort();
    paths
}

fn gather_all(store: &ActivationStore, hook: HookPoint) -> Result<Batch> {
    let rows: Vec<u64> = (0..store.n_rows() as u64).collect();
    let mut batch = Batch::default();
    store.gather(hook, &rows, &mut batch).map(|()| batch)
}

// ---- rows ----

#[test]
fn every_row_comes_with_its_own_token_and_position_in_any_order() {
    for dtype in [Dtype::F32, Dtype::F16] {
        let dir = tempfile::tempdir().unwrap();
        let tokens = tokens(50);
        let store = harvest(dir.path(), &tokens, HarvestConfig { dtype, ..CONFIG }).unwrap();
        assert_eq!((store.n_rows(), store.n_ctx(), store.d_model(), store.d_vocab()), (400, N_CTX, D_MODEL, 1000));
        assert!(store.is_complete());
        let shuffle = store.shuffle(3);
        let mut batch = Batch::default();
        for hook in hooks() {
            let mut seen = vec![0; store.n_rows()];
            // Batches that do not divide an epoch, over two epochs.
            for start in (0..800).step_by(100) {
                let rows = shuffle.fill(start, 100);
                store.gather(hook, &rows, &mut batch).unwrap();
                assert_eq!((batch.len(), batch.x.len()), (100, 100 * D_MODEL));
                for (i, &row) in rows.iter().enumerate() {
                    let (token, position) = (tokens.ids()[row as usize], row as usize % N_CTX);
                    assert_eq!((batch.tokens[i], batch.positions[i] as usize), (token, position));
                    for (d, &got) in batch.x[i * D_MODEL..(i + 1) * D_MODEL].iter().enumerate() {
                        let exact = value(hook, token, position, d);
                        // Rounding to f16 and back is all that may happen to a number.
                        let want = if dtype == Dtype::F16 { f16::from_f32(exact).to_f32() } else { exact };
                        assert_eq!(got.to_bits(), want.to_bits());
                    }
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
    let store = harvest(dir.path(), &tokens, HarvestConfig { shard_tokens: 4000, ..CONFIG }).unwrap();
    let hook = hooks()[1];
    let mean = store.mean(hook).unwrap();
    for (d, got) in mean.iter().enumerate() {
        let sum: f64 = tokens.ids().iter().enumerate().map(|(i, &token)| f64::from(value(hook, token, i % N_CTX, d))).sum();
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
    assert!(matches!(store.gather(HookPoint::resid_pre(2), &[0], &mut batch), Err(Error::UnknownHook { .. })));
    store.gather(hooks()[0], &[], &mut batch).unwrap();
    assert!(batch.is_empty());
    assert!(ActivationStore::open(dir.path().join("none")).unwrap_err().to_string().contains("manifest.json"));
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
    let read: Vec<u32> = ids.data().chunks(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect();
    assert_eq!(read, tokens.ids()[24..]);
    let first = f16::from_le_bytes(rows.data()[..2].try_into().unwrap());
    assert_eq!(first, f16::from_f32(value(hooks()[0], tokens.ids()[24], 0, 0)));
}

// ---- resuming ----

#[test]
fn a_finished_harvest_is_used_again_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = tokens(10);
    let first = harvest(dir.path(), &tokens, CONFIG).unwrap();
    let before = files(dir.path());
    let hooks: Vec<_> = hooks().into_iter().rev().chain(hooks()).collect();
    let config = HarvestConfig { batch: 5, ..CONFIG };
    let again = ActivationStore::harvest_with(&source(), &hooks, &tokens, dir.path(), config, &never).unwrap();
    assert_eq!(again.fingerprint(), first.fingerprint());
    assert_eq!(files(dir.path()), before);
}

/// What a process killed at any pass leaves behind, temporary files and all, is taken up and ends with the bytes of a quiet harvest.
#[test]
fn a_harvest_killed_at_any_pass_ends_with_the_same_bytes() {
    let tokens = tokens(11);
    let quiet = tempfile::tempdir().unwrap();
    harvest(quiet.path(), &tokens, CONFIG).unwrap();
    let want = files(quiet.path());
    assert_eq!(want.keys().filter(|name| name.starts_with("shard-")).count(), 4);

    // A copy of the folder in the middle of each pass, the passes before being written, is exactly what a kill at that moment leaves.
    let (dir, states) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let pass = AtomicUsize::new(0);
    let state = |n: usize| states.path().join(n.to_string());
    let copying = |pass_tokens: &Tokens, hooks: &[HookPoint]| {
        let n = pass.fetch_add(1, Ordering::Relaxed);
        wait_for_writer(dir.path(), n / 2);
        copy(dir.path(), &state(n));
        forward(pass_tokens, hooks)
    };
    ActivationStore::harvest_with(&source(), &hooks(), &tokens, dir.path(), CONFIG, &copying).unwrap();
    assert_eq!(files(dir.path()), want);
    let n_states = pass.into_inner();
    assert_eq!(n_states, 7);
    for n in 0..n_states {
        assert!(files(&state(n)).keys().any(|name| name.ends_with(".tmp")), "pass {n} has a file in the making");
        let passes = AtomicUsize::new(0);
        let counting = |pass: &Tokens, hooks: &[HookPoint]| {
            passes.fetch_add(1, Ordering::Relaxed);
            forward(pass, hooks)
        };
        let store = ActivationStore::harvest_with(&source(), &hooks(), &tokens, state(n), CONFIG, &counting).unwrap();
        assert!(store.is_complete());
        assert_eq!(files(&state(n)), want, "killed in pass {n}");
        // Complete shards were kept: shards take 2, 2, 2 and 1 passes.
        assert_eq!(passes.into_inner(), n_states - n / 2 * 2);
    }

    // Between the rename of a shard and that of the manifest, there is a shard that the manifest does not know yet.
    for n in (0..n_states).step_by(2) {
        let dir = tempfile::tempdir().unwrap();
        copy(&state(n), dir.path());
        for (name, bytes) in &want {
            fs::write(dir.path().join(name), bytes).unwrap();
        }
        let older = if n == 0 { first_manifest(&tokens) } else { manifest_after(&want, n / 2) };
        fs::write(dir.path().join("manifest.json"), older).unwrap();
        harvest(dir.path(), &tokens, CONFIG).unwrap();
        assert_eq!(files(dir.path()), want);
    }
}

/// Waits until so many shards are in the manifest and the next is in the making: until the writer has no more to do.
fn wait_for_writer(dir: &Path, n_shards: usize) {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        let listed = fs::read_to_string(dir.join("manifest.json")).unwrap().matches("\"file\"").count();
        let temporary = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let temporary: Vec<_> = temporary.filter(|name| name.ends_with(".tmp")).collect();
        if listed == n_shards && matches!(&temporary[..], [one] if one.starts_with(".shard-")) {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{listed} shards are listed, and not {n_shards}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// The manifest before any shard.
fn first_manifest(tokens: &Tokens) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let fails = |_: &Tokens, _: &[HookPoint]| Err(Error::Tokenizer("stop".into()));
    ActivationStore::harvest_with(&source(), &hooks(), tokens, dir.path(), CONFIG, &fails).unwrap_err();
    fs::read(dir.path().join("manifest.json")).unwrap()
}

/// The manifest after `n` shards of a store that is complete in `files`.
fn manifest_after(files: &BTreeMap<String, Vec<u8>>, n: usize) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let tokens = tokens(11);
    let shard = AtomicUsize::new(0);
    let fails = |pass: &Tokens, hooks: &[HookPoint]| match shard.fetch_add(1, Ordering::Relaxed) {
        passes if passes == 2 * n => Err(Error::Tokenizer("stop".into())),
        _ => forward(pass, hooks),
    };
    ActivationStore::harvest_with(&source(), &hooks(), &tokens, dir.path(), CONFIG, &fails).unwrap_err();
    let manifest = fs::read(dir.path().join("manifest.json")).unwrap();
    assert_ne!(&manifest, &files["manifest.json"]);
    manifest
}

/// The other end of the next test: harvests slowly into the folder that the environment names.
#[test]
fn child_harvest() {
    let Ok(dir) = std::env::var("TSAE_TEST_STORE") else { return };
    let slow = |pass: &Tokens, hooks: &[HookPoint]| {
        std::thread::sleep(Duration::from_millis(3));
        forward(pass, hooks)
    };
    ActivationStore::harvest_with(&source(), &hooks(), &tokens(60), dir, CONFIG, &slow).unwrap();
}

#[test]
fn a_process_killed_ten_times_ends_with_the_same_bytes_and_locks_out_another_meanwhile() {
    let (quiet, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    harvest(quiet.path(), &tokens(60), CONFIG).unwrap();
    let start = || {
        let mut child = Command::new(std::env::current_exe().unwrap());
        let child = child.args(["--exact", "child_harvest"]).env("TSAE_TEST_STORE", dir.path()).env("TSAE_PROGRESS", "off");
        child.stdout(std::process::Stdio::null()).spawn().unwrap()
    };
    let made = || shards(dir.path()).len();
    for round in 0..10 {
        let mut child = start();
        let before = made();
        // Killed some time after it has made at least one more shard, so that ten rounds always get somewhere and never to the end.
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while made() <= before && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_micros(731 * round));
        if round == 3 {
            let told = harvest(dir.path(), &tokens(60), CONFIG).unwrap_err();
            assert!(matches!(told, Error::Locked { .. }), "{told}");
            // Reading needs no lock.
            ActivationStore::open(dir.path()).unwrap().verify().unwrap();
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(!ActivationStore::open(dir.path()).unwrap().is_complete());
    assert!(start().wait().unwrap().success());
    assert_eq!(files(dir.path()), files(quiet.path()));
}

/// The other end of the next test: the stop button is pressed in the pass that the environment names.
#[cfg(unix)]
#[test]
fn child_stopped() {
    let (Ok(dir), Ok(at)) = (std::env::var("TSAE_TEST_STOPPED"), std::env::var("TSAE_TEST_PASS")) else { return };
    let pass = AtomicUsize::new(0);
    let pressed = |tokens: &Tokens, hooks: &[HookPoint]| {
        if pass.fetch_add(1, Ordering::Relaxed).to_string() == at {
            signal_hook::low_level::raise(signal_hook::consts::SIGINT).unwrap();
        }
        forward(tokens, hooks)
    };
    match ActivationStore::harvest_with(&source(), &hooks(), &tokens(11), dir, CONFIG, &pressed) {
        Ok(store) => println!("store of {} rows", store.n_rows()),
        Err(e) => println!("error: {e}"),
    }
    // The press is spent, unless it came too late to be noticed; then the next long call forgets it.
    assert_eq!(tokenized_sae::display::interrupt::requested(), at == "6");
}

#[cfg(unix)]
#[test]
fn a_harvest_stopped_by_hand_returns_the_shards_it_has() {
    let quiet = tempfile::tempdir().unwrap();
    harvest(quiet.path(), &tokens(11), CONFIG).unwrap();
    for (pass, said) in [
        (0, "error: the harvest was stopped by hand"),
        (2, "store of 24 rows"),
        (4, "store of 48 rows"),
        (5, "store of 72 rows"),
        (6, "store of 88 rows"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap());
        let child =
            child.args(["--exact", "child_stopped", "--nocapture"]).env("TSAE_TEST_STOPPED", dir.path()).env_remove("TSAE_PROGRESS");
        let out = child.env("TSAE_TEST_PASS", pass.to_string()).output().unwrap();
        let (stdout, stderr) = (String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap());
        assert!(out.status.success() && stdout.contains(said), "{stdout}{stderr}");
        if pass == 4 {
            assert!(stderr.contains("stopped by hand, 2 of 4 shards kept"), "{stderr}");
        }
        assert!(files(dir.path()).keys().all(|name| !name.ends_with(".tmp")));
        harvest(dir.path(), &tokens(11), CONFIG).unwrap();
        assert_eq!(files(dir.path()), files(quiet.path()));
    }
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
    // More rows are another thing to train on.
    assert_ne!(complete.fingerprint(), store.fingerprint());
}

#[test]
fn a_store_without_a_complete_shard_says_how_to_go_on() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("manifest.json"), first_manifest(&tokens(4))).unwrap();
    assert!(ActivationStore::open(dir.path()).unwrap_err().to_string().contains("harvest into it again"));
}

#[test]
fn one_folder_is_harvested_by_one_call_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = tokens(4);
    let nested = |pass: &Tokens, hooks: &[HookPoint]| {
        assert!(matches!(harvest(dir.path(), &tokens, CONFIG), Err(Error::Locked { .. })));
        forward(pass, hooks)
    };
    ActivationStore::harvest_with(&source(), &hooks(), &tokens, dir.path(), CONFIG, &nested).unwrap();
}

// ---- never mixed ----

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
            source_with(|s| (s.processing, s.fingerprint) = ("TransformerLens".into(), "e".repeat(64))),
            hooks(),
            tokens.clone(),
            CONFIG,
        ),
        ("corpus", source(), hooks(), other_tokens, CONFIG),
        ("corpus", source(), hooks(), refolded, CONFIG),
        ("corpus", source(), hooks(), tokens.rows(0, 9), CONFIG),
        ("set of hooks", source(), hooks()[..1].to_vec(), tokens.clone(), CONFIG),
        ("dtype", source(), hooks(), tokens.clone(), HarvestConfig { dtype: Dtype::F16, ..CONFIG }),
        ("compute", source(), hooks(), tokens.clone(), HarvestConfig { compute: Compute::Bf16, ..CONFIG }),
        ("shard size", source(), hooks(), tokens.clone(), HarvestConfig { shard_tokens: N_CTX, ..CONFIG }),
    ];
    for (wanted, source, hooks, tokens, config) in cases {
        let told = ActivationStore::harvest_with(&source, &hooks, &tokens, dir.path(), config, &never).unwrap_err();
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
    let store = harvest(rounded.path(), &tokens(4), HarvestConfig { compute: Compute::Bf16, ..CONFIG }).unwrap();
    assert_eq!((exact_store.compute(), store.compute()), (Compute::F32, Compute::Bf16));
    assert_ne!(exact_store.fingerprint(), store.fingerprint());
    assert!(store.to_string().contains("computed in bf16") && exact_store.to_string().contains("computed in f32"), "{store}");
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
fn a_shard_of_another_store_is_noticed() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    harvest(dir.path(), &tokens(6), CONFIG).unwrap();
    let model = Source { fingerprint: "ee".repeat(32), ..source() };
    ActivationStore::harvest_with(&model, &hooks(), &tokens(6), other.path(), CONFIG, &forward).unwrap();
    for (from, to) in [(&shards(other.path())[1], &shards(dir.path())[1]), (&shards(dir.path())[0], &shards(dir.path())[1])] {
        let kept = fs::read(to).unwrap();
        fs::copy(from, to).unwrap();
        assert!(matches!(ActivationStore::open(dir.path()), Err(Error::Checksum { .. })));
        fs::write(to, kept).unwrap();
    }
    ActivationStore::open(dir.path()).unwrap().verify().unwrap();
}

// ---- damage ----

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
                assert!(e.to_string().contains("only this shard anew"), "{e}");
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
        for told in [ActivationStore::open(dir.path()).unwrap_err(), harvest(dir.path(), &tokens, CONFIG).unwrap_err()] {
            assert!(told.to_string().contains("shard-00001") && told.to_string().contains(&format!("has {len} bytes")), "{told}");
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
    ActivationStore::harvest_with(&source(), &hooks(), &tokens, dir.path(), CONFIG, &counting).unwrap();
    assert_eq!(passes.into_inner(), 2);
    assert_eq!(files(dir.path()), want);
}

#[test]
fn resuming_checks_what_it_keeps() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = tokens(11);
    harvest_half(&tokens, dir.path());
    let path = &shards(dir.path())[0];
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 16;
    fs::write(path, bytes).unwrap();
    let before = files(dir.path());
    let told = ActivationStore::harvest_with(&source(), &hooks(), &tokens, dir.path(), CONFIG, &never).unwrap_err();
    assert!(matches!(told, Error::Checksum { .. }), "{told}");
    assert_eq!(files(dir.path()), before);
}

/// Leaves two of four shards in `dir`.
fn harvest_half(tokens: &Tokens, dir: &Path) {
    let fails = |pass: &Tokens, hooks: &[HookPoint]| match pass.row(0) == tokens.row(6) {
        true => Err(Error::Tokenizer("stop".into())),
        false => forward(pass, hooks),
    };
    ActivationStore::harvest_with(&source(), &hooks(), tokens, dir, CONFIG, &fails).unwrap_err();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the bytes of a shard's header or of the manifest, reading is an error or right, and never a panic.
    #[test]
    fn damaged_files_never_panic(file in 0usize..4, at: prop::sample::Index, bytes in prop::collection::vec(any::<u8>(), 0..12), insert: bool) {
        static WHOLE: LazyLock<(tempfile::TempDir, Batch)> = LazyLock::new(|| {
            let dir = tempfile::tempdir().unwrap();
            let right = gather_all(&harvest(dir.path(), &tokens(7), CONFIG).unwrap(), hooks()[0]).unwrap();
            (dir, right)
        });
        let dir = tempfile::tempdir().unwrap();
        copy(WHOLE.0.path(), dir.path());
        let path = dir.path().join(["manifest.json", "shard-00000.safetensors", "shard-00001.safetensors", "shard-00002.safetensors"][file]);
        let mut content = fs::read(&path).unwrap();
        let header = content.len().min(1000);
        let at = at.index(header);
        let end = if insert { at } else { (at + bytes.len()).min(content.len()) };
        content.splice(at..end, bytes);
        fs::write(&path, content).unwrap();
        if let Ok(batch) = ActivationStore::open(dir.path()).and_then(|store| gather_all(&store, hooks()[0])) {
            prop_assert_eq!(&batch, &WHOLE.1);
        }
    }
}

// ---- bad input ----

#[test]
fn a_number_that_f16_cannot_hold_is_named_with_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let with = |wrong: f32| {
        move |pass: &Tokens, hooks: &[HookPoint]| {
            let mut values = forward(pass, hooks)?;
            // Sequence 4 is the second of the second shard; its position 5, dimension 3, of the second hook.
            if pass.row(0) == tokens(10).row(3) {
                values[1][(N_CTX + 5) * D_MODEL + 3] = wrong;
            }
            Ok(values)
        }
    };
    let run = |wrong: f32, dtype| {
        let config = HarvestConfig { dtype, ..CONFIG };
        ActivationStore::harvest_with(&source(), &hooks(), &tokens(10), dir.path().join(dtype.to_string()), config, &with(wrong))
    };
    let told = run(70_000.0, Dtype::F16).unwrap_err();
    assert!(matches!(told, Error::NotFinite { .. }));
    let told = told.to_string();
    for part in ["blocks.10.hook_mlp_out", "sequence 4, position 5, dimension 3", "70000", "Dtype::F32"] {
        assert!(told.contains(part), "{told} lacks {part}");
    }
    run(70_000.0, Dtype::F32).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for dtype in [Dtype::F16, Dtype::F32] {
        for wrong in [f32::NAN, f32::NEG_INFINITY] {
            let config = HarvestConfig { dtype, ..CONFIG };
            let to = dir.path().join(format!("{dtype}{wrong}"));
            let told = ActivationStore::harvest_with(&source(), &hooks(), &tokens(10), &to, config, &with(wrong)).unwrap_err().to_string();
            assert!(told.contains("sequence 4, position 5, dimension 3") && told.contains("the model itself"), "{told}");
            // The shard before it stays, and no torn file.
            assert_eq!(files(&to).into_keys().collect::<Vec<_>>(), [".lock", "manifest.json", "shard-00000.safetensors"]);
        }
    }
}

#[test]
fn settings_and_inputs_that_cannot_be_are_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("store");
    let run = |hooks: &[HookPoint], tokens: &Tokens, config| {
        let told = ActivationStore::harvest_with(&source(), hooks, tokens, &to, config, &never).unwrap_err();
        assert!(!to.exists());
        told
    };
    assert!(matches!(run(&hooks(), &tokens(2), HarvestConfig { batch: 0, ..CONFIG }), Error::Config { field: "batch", .. }));
    assert!(matches!(run(&hooks(), &tokens(2), HarvestConfig { shard_tokens: 0, ..CONFIG }), Error::Config { field: "shard_tokens", .. }));
    assert!(matches!(run(&[], &tokens(2), CONFIG), Error::Config { field: "hooks", .. }));
    assert!(matches!(run(&hooks(), &tokens(0), CONFIG), Error::EmptyCorpus { .. }));
    let beyond = Tokens::new(vec![1000; N_CTX], N_CTX).unwrap();
    assert!(matches!(run(&hooks(), &beyond, CONFIG), Error::TokenId { id: 1000, .. }));
}

#[test]
fn a_model_that_gives_the_wrong_shape_is_an_error() {
    let right = |pass: &Tokens| vec![vec![0.0; pass.len() * D_MODEL]; 2];
    let changes: [fn(&mut Vec<Vec<f32>>); 4] = [Vec::clear, |v| v.truncate(1), |v| v.push(v[0].clone()), |v| v[1].truncate(D_MODEL)];
    for change in changes {
        let dir = tempfile::tempdir().unwrap();
        let wrong = |pass: &Tokens, _: &[HookPoint]| {
            let mut values = right(pass);
            change(&mut values);
            Ok(values)
        };
        let told = ActivationStore::harvest_with(&source(), &hooks(), &tokens(4), dir.path(), CONFIG, &wrong).unwrap_err();
        assert!(matches!(told, Error::Shape { .. }), "{told}");
    }
}

// ---- with a model ----

#[test]
fn a_models_rows_are_what_it_gives_for_their_sequences() {
    for name in ["tests/golden/gpt2", "tests/golden/neox"] {
        let model = Model::load(name).unwrap();
        let hooks = [HookPoint { layer: 1, site: Site::MlpOut }, HookPoint::resid_pre(1)];
        let corpus = Corpus::sampled(&model, 300, 5).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let config = HarvestConfig { shard_tokens: 5 * corpus.n_ctx(), batch: 3, ..CONFIG };
        let store = ActivationStore::harvest(&model, &hooks, &corpus.train, dir.path(), config.clone()).unwrap();
        assert_eq!(store.hooks(), [HookPoint::resid_pre(1), HookPoint { layer: 1, site: Site::MlpOut }]);
        assert_eq!((store.model_fingerprint(), store.processing()), (model.fingerprint(), "transformer_lens"));
        assert_eq!(store.corpus_fingerprint(), corpus.train.fingerprint());
        for hook in hooks {
            let want = model.run_to(&corpus.train, hook).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let got = gather_all(&store, hook).unwrap();
            assert_eq!(got.tokens, corpus.train.ids());
            // Another batch size may add up in another order.
            let far = got.x.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(got.x.len() == want.len() && far < 1e-5, "{far}");
        }
        let raw = Model::load_with(name, Processing::Raw).unwrap();
        let told = ActivationStore::harvest(&raw, &hooks, &corpus.train, dir.path(), config.clone()).unwrap_err();
        assert!(matches!(told, Error::Changed { what: "processing", .. }), "{told}");
        let beyond = [HookPoint::resid_pre(99)];
        assert!(matches!(ActivationStore::harvest(&model, &beyond, &corpus.train, dir.path(), config), Err(Error::UnknownHook { .. })));
    }
}
