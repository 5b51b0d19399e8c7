//! A harvest that is cut off continues, to the same bytes.

use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::*;

#[test]
fn a_finished_harvest_is_used_again_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = tokens(10);
    let first = harvest(dir.path(), &tokens, CONFIG).unwrap();
    let before = files(dir.path());
    let hooks: Vec<_> = hooks().into_iter().rev().chain(hooks()).collect();
    let config = HarvestConfig { batch: 5, ..CONFIG };
    let again =
        ActivationStore::harvest_with(&source(), &hooks, &tokens, dir.path(), config, &never)
            .unwrap();
    assert_eq!(again.fingerprint(), first.fingerprint());
    assert_eq!(files(dir.path()), before);
}

/// What a process killed at any pass leaves behind, temporary files and all, is taken up and ends
/// with the bytes of a quiet harvest.
#[test]
fn a_harvest_killed_at_any_pass_ends_with_the_same_bytes() {
    let tokens = tokens(11);
    let quiet = tempfile::tempdir().unwrap();
    harvest(quiet.path(), &tokens, CONFIG).unwrap();
    let want = files(quiet.path());
    assert_eq!(want.keys().filter(|name| name.starts_with("shard-")).count(), 4);

    // A copy of the folder in the middle of each pass, the passes before being written, is exactly
    // what a kill at that moment leaves.
    let (dir, states) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let pass = AtomicUsize::new(0);
    let state = |n: usize| states.path().join(n.to_string());
    let copying = |pass_tokens: &Tokens, hooks: &[HookPoint]| {
        let n = pass.fetch_add(1, Ordering::Relaxed);
        wait_for_writer(dir.path(), n / 2);
        copy(dir.path(), &state(n));
        forward(pass_tokens, hooks)
    };
    ActivationStore::harvest_with(&source(), &hooks(), &tokens, dir.path(), CONFIG, &copying)
        .unwrap();
    assert_eq!(files(dir.path()), want);
    let n_states = pass.into_inner();
    assert_eq!(n_states, 7);
    for n in 0..n_states {
        assert!(
            files(&state(n)).keys().any(|name| name.ends_with(".tmp")),
            "pass {n} has a file in the making"
        );
        let passes = AtomicUsize::new(0);
        let counting = |pass: &Tokens, hooks: &[HookPoint]| {
            passes.fetch_add(1, Ordering::Relaxed);
            forward(pass, hooks)
        };
        let store = ActivationStore::harvest_with(
            &source(),
            &hooks(),
            &tokens,
            state(n),
            CONFIG,
            &counting,
        )
        .unwrap();
        assert!(store.is_complete());
        assert_eq!(files(&state(n)), want, "killed in pass {n}");
        // Complete shards were kept: shards take 2, 2, 2 and 1 passes.
        assert_eq!(passes.into_inner(), n_states - n / 2 * 2);
    }

    // Between the rename of a shard and that of the manifest, there is a shard that the manifest
    // does not know yet.
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

/// Waits until this many shards are put down, in the manifest or beside themselves, and the next is
/// in the making: until the writer has no more to do.
fn wait_for_writer(dir: &Path, n_shards: usize) {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        let names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let in_manifest =
            fs::read_to_string(dir.join("manifest.json")).unwrap().matches("\"file\"").count();
        let beside = |name: &&String| name.starts_with("shard-") && name.ends_with(".json");
        let listed = in_manifest + names.iter().filter(beside).count();
        let temporary: Vec<_> = names.iter().filter(|name| name.ends_with(".tmp")).collect();
        if listed == n_shards && matches!(&temporary[..], [one] if one.starts_with(".shard-")) {
            return;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "{listed} shards are listed, and not {n_shards}"
        );
        std::thread::sleep(Duration::from_micros(200));
    }
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
    ActivationStore::harvest_with(&source(), &hooks(), &tokens, dir.path(), CONFIG, &fails)
        .unwrap_err();
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
        let child = child
            .args(["--exact", "resuming::child_harvest"])
            .env("TSAE_TEST_STORE", dir.path())
            .env("TSAE_PROGRESS", "off");
        child.stdout(std::process::Stdio::null()).spawn().unwrap()
    };
    let made = || shards(dir.path()).len();
    for round in 0..10 {
        let mut child = start();
        let before = made();
        // Ten rounds always get somewhere and never to the end.
        killing::wait_for_more(made, before, round);
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

/// The other end of the next test: the stop button is pressed in the pass that the environment
/// names.
#[cfg(unix)]
#[test]
fn child_stopped() {
    let (Ok(dir), Ok(at)) = (std::env::var("TSAE_TEST_STOPPED"), std::env::var("TSAE_TEST_PASS"))
    else {
        return;
    };
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
    // The press is spent, unless it came too late to be noticed; then the next long call forgets
    // it.
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
        let child = child
            .args(["--exact", "resuming::child_stopped", "--nocapture"])
            .env("TSAE_TEST_STOPPED", dir.path())
            .env_remove("TSAE_PROGRESS");
        let out = child.env("TSAE_TEST_PASS", pass.to_string()).output().unwrap();
        let (stdout, stderr) =
            (String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap());
        assert!(out.status.success() && stdout.contains(said), "{stdout}{stderr}");
        if pass == 4 {
            assert!(stderr.contains("stopped by hand, 2 of 4 shards kept"), "{stderr}");
        }
        assert!(files(dir.path()).keys().all(|name| !name.ends_with(".tmp")));
        harvest(dir.path(), &tokens(11), CONFIG).unwrap();
        assert_eq!(files(dir.path()), files(quiet.path()));
    }
}

/// At 10⁹ tokens, one written for every shard would have been 95 GB.
#[test]
fn the_manifest_is_written_at_the_beginning_and_at_the_end() {
    let (dir, tokens) = (tempfile::tempdir().unwrap(), tokens(60));
    let manifest = dir.path().join("manifest.json");
    let written = std::sync::Mutex::new(Vec::new());
    let watching = |pass: &Tokens, hooks: &[HookPoint]| {
        written.lock().unwrap().push(fs::read(&manifest).unwrap());
        forward(pass, hooks)
    };
    ActivationStore::harvest_with(&source(), &hooks(), &tokens, dir.path(), CONFIG, &watching)
        .unwrap();
    let mut written = written.into_inner().unwrap();
    let passes = written.len();
    written.dedup();
    assert_eq!((passes, written.len()), (40, 1));
    let last = fs::read_to_string(&manifest).unwrap();
    assert!(last.matches("\"file\"").count() == 20 && last.contains("\"complete\": true"));
    assert!(
        files(dir.path()).keys().all(|name| !name.ends_with(".json") || name == "manifest.json")
    );
}

#[test]
fn what_is_put_down_beside_a_shard_is_held_to_its_checksum_and_store() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let tokens = tokens(11);
    harvest_half(&tokens, dir.path());
    let place = dir.path().join("shard-00001.json");
    let whole = fs::read_to_string(&place).unwrap();
    assert_eq!(ActivationStore::open(dir.path()).unwrap().n_rows(), 6 * N_CTX);
    let source = Source { fingerprint: "ee".repeat(32), ..source() };
    let fails = |pass: &Tokens, hooks: &[HookPoint]| match pass.row(0) == tokens.row(6) {
        true => Err(Error::Tokenizer("stop".into())),
        false => forward(pass, hooks),
    };
    ActivationStore::harvest_with(&source, &hooks(), &tokens, other.path(), CONFIG, &fails)
        .unwrap_err();
    let of_another = fs::read_to_string(other.path().join("shard-00001.json")).unwrap();
    for (wrong, words) in [
        (whole.replace("\"rows\":24", "\"rows\":16"), "checksum is another"),
        (whole[..whole.len() - 9].to_owned(), "does not say"),
        (of_another, "of another store"),
    ] {
        fs::write(&place, wrong).unwrap();
        let told = ActivationStore::open(dir.path()).unwrap_err().to_string();
        assert!(told.contains("shard-00001.json") && told.contains(words), "{told}");
        assert!(harvest(dir.path(), &tokens, CONFIG).is_err());
    }
    // Without it, its shard is made anew.
    fs::remove_file(&place).unwrap();
    assert_eq!(ActivationStore::open(dir.path()).unwrap().n_rows(), 3 * N_CTX);
    harvest(dir.path(), &tokens, CONFIG).unwrap();
    assert!(ActivationStore::open(dir.path()).unwrap().is_complete());
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
    let told =
        ActivationStore::harvest_with(&source(), &hooks(), &tokens, dir.path(), CONFIG, &never)
            .unwrap_err();
    assert!(matches!(told, Error::Checksum { .. }), "{told}");
    assert_eq!(files(dir.path()), before);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the bytes of a shard's header or of the manifest, reading is an error or right, and
    /// never a panic.
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
