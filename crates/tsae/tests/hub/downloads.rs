//! Files on their way into the cache.

use super::*;

#[test]
fn the_cache_is_laid_out_as_python_s() {
    let server = Server::start();
    let (hub, _dir) = hub(&server);
    let (small, large) = (b"{\"a\": 1}".to_vec(), bytes(50_000));
    server.publish(
        "models/org/name",
        "main",
        &commit(1),
        &[("config.json", small.clone()), ("sub/model.bin", large.clone()), ("other", vec![1])],
    );
    let listing = hub.list(&repo()).unwrap();
    assert_eq!((listing.commit.as_str(), listing.files.len()), (commit(1).as_str(), 3));
    let snapshot = hub.download(&listing, &["config.json", "sub/model.bin"]).unwrap();

    let folder = folder(&hub);
    assert_eq!(snapshot.folder, folder.join("snapshots").join(commit(1)));
    assert_eq!(fs::read_to_string(folder.join("refs/main")).unwrap(), commit(1));
    let (git, sha256) = (server::git_sha1(&small), Server::sha256(&large));
    let mut blobs = vec![git.clone(), sha256.clone()];
    blobs.sort();
    assert_eq!(names(&folder.join("blobs")), blobs);
    assert_eq!(names(&folder), ["blobs", "refs", "snapshots"]);
    assert_eq!(names(&snapshot.folder), ["config.json", "sub"], "nothing that was not asked for");
    assert_eq!(fs::read(snapshot.folder.join("config.json")).unwrap(), small);
    assert_eq!(fs::read(snapshot.folder.join("sub/model.bin")).unwrap(), large);
    #[cfg(unix)]
    {
        let link =
            |file: &str| fs::read_link(snapshot.folder.join(file)).unwrap().display().to_string();
        assert_eq!(link("config.json"), format!("../../blobs/{git}"));
        assert_eq!(link("sub/model.bin"), format!("../../../blobs/{sha256}"));
    }
    server.asked();
    assert_eq!(hub.download(&listing, &["config.json", "sub/model.bin"]).unwrap(), snapshot);
    assert_eq!(hub.cached(&repo()), Some(snapshot));
    assert!(server.asked().is_empty(), "what is there is not asked for");
}

#[test]
fn a_file_that_two_commits_share_is_fetched_once() {
    let server = Server::start();
    let (hub, _dir) = hub(&server);
    let content = bytes(9_000);
    one_file(&server, &hub, "model.bin", &content).unwrap();
    server.publish("models/org/name", "main", &commit(2), &[("model.bin", content.clone())]);
    server.asked();
    let snapshot = hub.download(&hub.list(&repo()).unwrap(), &["model.bin"]).unwrap();
    assert_eq!(snapshot.commit, commit(2));
    assert_eq!(fs::read(snapshot.folder.join("model.bin")).unwrap(), content);
    assert!(gets(&server.asked()).is_empty());
    assert_eq!(fs::read_to_string(folder(&hub).join("refs/main")).unwrap(), commit(2));
    assert!(hub.cached(&repo().at(&commit(1))).is_some(), "the older one is still there");
}

#[test]
fn a_cut_connection_goes_on_where_it_was_cut() {
    let server = Server::start();
    let (hub, _dir) = hub(&server);
    let content = bytes(100_000);
    // More cuts than attempts: each of them brings something.
    for cut in [10_000, 0, 20_000, 1, 30_000] {
        server.fault("GET /large", Fault::Cut(cut), 1);
    }
    let snapshot = one_file(&server, &hub, "model.bin", &content).unwrap();
    assert_eq!(fs::read(snapshot.folder.join("model.bin")).unwrap(), content);
    assert_eq!(gets(&server.asked()), [0, 10_000, 10_000, 30_000, 30_001, 60_001]);
}

#[test]
fn cuts_that_bring_nothing_come_to_an_end_and_what_came_before_stays() {
    let server = Server::start();
    let (hub, _dir) = hub(&server);
    let content = bytes(100_000);
    server.fault("GET /large", Fault::Cut(40_000), 1);
    server.fault("GET /large", Fault::Cut(0), 2);
    let told = one_file(&server, &hub, "model.bin", &content).unwrap_err().to_string();
    assert!(told.contains("org/name") && told.contains("continues from there"), "{told}");
    assert!(!folder(&hub).join("refs").exists(), "a branch whose files are not there");
    server.asked();
    let snapshot = one_file(&server, &hub, "model.bin", &content).unwrap();
    assert_eq!(fs::read(snapshot.folder.join("model.bin")).unwrap(), content);
    assert_eq!(gets(&server.asked()), [40_000]);
    assert_eq!(names(&folder(&hub).join("blobs")), [Server::sha256(&content)]);
}

#[test]
fn a_server_without_ranges_is_read_from_the_beginning() {
    let server = Server::start();
    let (hub, _dir) = hub(&server);
    let content = bytes(80_000);
    server.fault("GET /large", Fault::Cut(50_000), 1);
    server.fault("GET /large", Fault::NoRange, 1);
    let snapshot = one_file(&server, &hub, "model.bin", &content).unwrap();
    assert_eq!(fs::read(snapshot.folder.join("model.bin")).unwrap(), content);
    assert_eq!(gets(&server.asked()), [0, 50_000]);
}

#[test]
fn what_an_earlier_process_left_is_gone_on_from_or_if_damaged_fetched_again() {
    let content = bytes(60_000);
    for (left, want) in [
        (content[..25_000].to_vec(), vec![25_000]),
        (content.clone(), vec![]),
        (vec![0; 25_000], vec![25_000, 0]),
        (vec![0; 60_000], vec![0]),
        (vec![0; 70_000], vec![0]),
    ] {
        let server = Server::start();
        let (hub, _dir) = hub(&server);
        let blobs = folder(&hub).join("blobs");
        fs::create_dir_all(&blobs).unwrap();
        fs::write(blobs.join(format!("{}.incomplete", Server::sha256(&content))), &left).unwrap();
        let snapshot = one_file(&server, &hub, "model.bin", &content).unwrap();
        assert_eq!(fs::read(snapshot.folder.join("model.bin")).unwrap(), content);
        assert_eq!(gets(&server.asked()), want, "{} bytes left", left.len());
        assert_eq!(names(&blobs), [Server::sha256(&content)]);
    }
}

#[test]
fn damage_on_the_way_is_found_before_the_file_gets_its_name() {
    let server = Server::start();
    let (hub, _dir) = hub(&server);
    server.fault("GET /large", Fault::Damage, 1);
    let told = one_file(&server, &hub, "model.bin", &bytes(30_000)).unwrap_err().to_string();
    assert!(
        told.contains("model.bin") && told.contains("SHA-256") && told.contains("removed"),
        "{told}"
    );
    assert!(names(&folder(&hub).join("blobs")).is_empty());
    assert!(hub.cached(&repo()).is_none());

    server.fault("GET /api/resolve-cache", Fault::Damage, 1);
    let told = one_file(&server, &hub, "config.json", b"{}").unwrap_err().to_string();
    assert!(told.contains("config.json") && told.contains("git SHA-1"), "{told}");
    one_file(&server, &hub, "config.json", b"{}").unwrap();
}

#[test]
fn another_length_than_was_said_is_refused() {
    let server = Server::start();
    let (hub, _dir) = hub(&server);
    server.fault("GET /large", Fault::Shorter(1), 1);
    let told = one_file(&server, &hub, "model.bin", &bytes(30_000)).unwrap_err().to_string();
    assert!(told.contains("29999 bytes where 30000 were announced"), "{told}");
    assert!(hub.cached(&repo()).is_none());
}

#[test]
fn empty_files_and_files_of_data_sets_are_fetched_too() {
    let server = Server::start();
    let (hub, _dir) = hub(&server);
    let snapshot = one_file(&server, &hub, "empty", b"").unwrap();
    assert_eq!(fs::read(snapshot.folder.join("empty")).unwrap(), b"");

    let set = Repo::dataset("org/name@refs/convert/parquet").unwrap();
    let content = bytes(10_000);
    server.publish(
        "datasets/org/name",
        "refs/convert/parquet",
        &commit(3),
        &[("default/train/0000.parquet", content.clone())],
    );
    let snapshot = hub.download(&hub.list(&set).unwrap(), &["default/train/0000.parquet"]).unwrap();
    assert_eq!(fs::read(snapshot.folder.join("default/train/0000.parquet")).unwrap(), content);
    assert_eq!(hub.cached(&set), Some(snapshot));
    assert!(
        hub.cache.clone().unwrap().join("datasets--org--name/refs/refs/convert/parquet").exists()
    );
}

#[test]
fn names_that_lead_out_of_the_cache_are_refused() {
    let server = Server::start();
    let (hub, _dir) = hub(&server);
    let listing = |file: &str, commit: String| Snapshot {
        repo: repo(),
        commit,
        folder: PathBuf::new(),
        files: vec![file.to_owned()],
    };
    for file in ["../../evil", "/tmp/evil", "a/../../evil"] {
        let told = hub.download(&listing(file, commit(1)), &[file]).unwrap_err().to_string();
        assert!(told.contains(file), "{told}");
    }
    assert!(
        hub.download(&listing("a", "../x".to_owned()), &["a"])
            .unwrap_err()
            .to_string()
            .contains("not a commit")
    );
    assert!(
        hub.download(&listing("a", commit(1)), &["b"])
            .unwrap_err()
            .to_string()
            .contains("no file \"b\"")
    );
    assert!(server.asked().is_empty());
}

#[test]
fn two_at_once_fetch_a_file_once() {
    let server = Server::start();
    let (hub, _dir) = hub(&server);
    let content = bytes(200_000);
    server.publish("models/org/name", "main", &commit(1), &[("model.bin", content.clone())]);
    server.fault("GET /large", Fault::Slow(Duration::from_millis(5)), 10);
    let listing = hub.list(&repo()).unwrap();
    server.asked();
    let snapshots: Vec<Snapshot> = std::thread::scope(|scope| {
        let both: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| hub.download(&listing, &["model.bin"]).unwrap()))
            .collect();
        both.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(
        snapshots
            .iter()
            .all(|snapshot| fs::read(snapshot.folder.join("model.bin")).unwrap() == content)
    );
    assert_eq!(gets(&server.asked()), [0]);
}
