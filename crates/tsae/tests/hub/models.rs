//! Whole models by name.

use super::*;

fn golden(family: &str, file: &str) -> Vec<u8> {
    fs::read(
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
            .join("tests/golden")
            .join(family)
            .join(file),
    )
    .unwrap()
}

fn built_in(file: &str) -> Vec<u8> {
    fs::read(
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
            .join("models/tiny-gpt2")
            .join(file),
    )
    .unwrap()
}

fn fingerprint(family: &str) -> String {
    let folder =
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join("tests/golden").join(family);
    Model::load_with(folder.to_str().unwrap(), Processing::Raw).unwrap().fingerprint().to_owned()
}

fn files_of(asked: &[Asked]) -> Vec<String> {
    let mut files: Vec<_> = asked
        .iter()
        .filter(|asked| asked.method == "HEAD" && asked.path.contains("/resolve/"))
        .map(|asked| asked.path.rsplit('/').next().unwrap().to_owned())
        .collect();
    files.sort();
    files
}

#[test]
fn a_model_is_fetched_once_and_only_what_it_needs() {
    let server = Server::start();
    let (hub, _dir) = hub(&server);
    let files =
        ["config.json", "tokenizer.json", "model.safetensors"].map(|file| (file, built_in(file)));
    let more = [
        ("pytorch_model.bin", bytes(9_000)),
        ("README.md", b"# A model".to_vec()),
        ("onnx/model.onnx", bytes(9_000)),
    ];
    server.publish(
        "models/org/name",
        "main",
        &commit(1),
        &[files.as_slice(), more.as_slice()].concat(),
    );
    let model = Model::load_from(&hub, "org/name", Processing::Raw).unwrap();
    assert_eq!(files_of(&server.asked()), ["config.json", "model.safetensors", "tokenizer.json"]);
    assert_eq!(
        model.fingerprint(),
        Model::load_with("tiny-gpt2", Processing::Raw).unwrap().fingerprint()
    );
    assert_eq!((model.name(), model.revision()), ("org/name", Some(commit(1).as_str())));
    assert!(model.table().text().contains(&commit(1)[..12]));
    assert_eq!(
        model.encode("Once upon").unwrap(),
        Model::load("tiny-gpt2").unwrap().encode("Once upon").unwrap()
    );

    // The branch moves on; what is in the cache stays what it was, until it is asked for by hand.
    server.publish("models/org/name", "main", &commit(2), &files);
    assert_eq!(
        Model::load_from(&hub, "org/name", Processing::Raw).unwrap().revision(),
        Some(commit(1).as_str())
    );
    assert!(server.asked().is_empty());
    assert_eq!(Model::download(&hub, "org/name").unwrap().commit, commit(2));
    assert!(gets(&server.asked()).is_empty(), "the same files");
    assert_eq!(
        Model::load_from(&hub, "org/name", Processing::Raw).unwrap().revision(),
        Some(commit(2).as_str())
    );
    assert_eq!(
        Model::load_from(&hub, &format!("org/name@{}", commit(1)), Processing::Raw)
            .unwrap()
            .revision(),
        Some(commit(1).as_str())
    );
}

#[test]
fn revisions_are_fetched_by_branch_tag_and_commit() {
    let server = Server::start();
    let (hub, _dir) = hub(&server);
    for (n, revision, family) in [(1, "main", "gpt2"), (2, "step3000", "neox")] {
        let files = ["config.json", "model.safetensors"].map(|file| (file, golden(family, file)));
        server.publish("models/org/name", revision, &commit(n), &files);
    }
    let load = |name: &str| Model::load_from(&hub, name, Processing::Raw).unwrap();
    assert_eq!(load("org/name@step3000").fingerprint(), fingerprint("neox"));
    assert_eq!(load("org/name").fingerprint(), fingerprint("gpt2"));
    assert_eq!(load(&format!("org/name@{}", commit(2))).fingerprint(), fingerprint("neox"));
    let told = Model::load_from(&hub, "org/name@step4", Processing::Raw).unwrap_err().to_string();
    assert!(told.contains("org/name@step4") && told.contains("no revision \"step4\""), "{told}");
}

#[test]
fn old_names_and_short_ones_lead_to_the_model() {
    let server = Server::start();
    let (hub, _dir) = hub(&server);
    let files =
        |family| ["config.json", "model.safetensors"].map(|file| (file, golden(family, file)));
    server.publish("models/openai-community/gpt2", "main", &commit(1), &files("gpt2"));
    server.publish("models/EleutherAI/pythia-70m", "main", &commit(2), &files("neox"));
    server.moved("gpt2", "openai-community/gpt2");
    for (name, family) in [
        ("gpt2-small", "gpt2"),
        ("gpt2", "gpt2"),
        ("openai-community/gpt2", "gpt2"),
        ("pythia-70m", "neox"),
    ] {
        let model = Model::load_from(&hub, name, Processing::Raw).unwrap();
        assert_eq!((model.fingerprint(), model.name()), (fingerprint(family).as_str(), name));
    }
    assert_eq!(
        names(hub.cache.as_deref().unwrap()),
        [".locks", "models--EleutherAI--pythia-70m", "models--gpt2"]
    );
    assert_eq!(
        server.asked().iter().filter(|asked| asked.path.starts_with("/api/models/gpt2/")).count(),
        1,
        "fetched once for all its names"
    );
}

#[test]
fn shards_are_fetched_by_their_index() {
    let server = Server::start();
    let (hub, _dir) = hub(&server);
    let weights = golden("gpt2", "model.safetensors");
    let tensors = safetensors::SafeTensors::deserialize(&weights).unwrap();
    let shard = |name: &str| {
        if name.contains(".1.") {
            "model-00002-of-00002.safetensors"
        } else {
            "model-00001-of-00002.safetensors"
        }
    };
    let of = |file: &str| {
        let views: Vec<_> = tensors.iter().filter(|(name, _)| shard(name) == file).collect();
        (safetensors::serialize(views, None).unwrap(), file.to_owned())
    };
    let map: std::collections::BTreeMap<&str, &str> =
        tensors.iter().map(|(name, _)| (name, shard(name))).collect();
    let index = serde_json::json!({"metadata": {}, "weight_map": map}).to_string().into_bytes();
    let (one, two) =
        (of("model-00001-of-00002.safetensors"), of("model-00002-of-00002.safetensors"));
    let files = [
        ("config.json", golden("gpt2", "config.json")),
        ("model.safetensors.index.json", index),
        (one.1.as_str(), one.0),
        (two.1.as_str(), two.0),
        ("model-00003-of-00002.safetensors", bytes(10)),
    ];
    server.publish("models/org/name", "main", &commit(1), &files);
    server.fault("GET /large", Fault::Status(404, vec![]), 1);
    assert!(Model::load_from(&hub, "org/name", Processing::Raw).is_err());
    assert_eq!(
        Model::load_from(&hub, "org/name", Processing::Raw).unwrap().fingerprint(),
        fingerprint("gpt2")
    );
    let snapshot = hub.cached(&repo()).unwrap();
    assert_eq!(
        names(&snapshot.folder),
        [
            "config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json"
        ]
    );
    server.asked();
    Model::load_from(&hub, "org/name", Processing::Raw).unwrap();
    assert!(server.asked().is_empty(), "it is known that the model has no tokenizer");
}

#[test]
fn what_python_fetched_in_part_is_completed_at_its_commit() {
    let server = Server::start();
    let (hub, _dir) = hub(&server);
    let files =
        ["config.json", "tokenizer.json", "model.safetensors"].map(|file| (file, built_in(file)));
    server.publish("models/org/name", "main", &commit(1), &files);
    hub.download(&hub.list(&repo()).unwrap(), &["config.json", "model.safetensors"]).unwrap();
    server.publish("models/org/name", "main", &commit(2), &[("config.json", b"{}".to_vec())]);
    let offline =
        Model::load_from(&Hub { offline: true, ..hub.clone() }, "org/name", Processing::Raw)
            .unwrap();
    assert!(offline.tokenizer().is_err());
    server.asked();
    let model = Model::load_from(&hub, "org/name", Processing::Raw).unwrap();
    assert!(model.tokenizer().is_ok());
    assert_eq!(model.revision(), Some(commit(1).as_str()));
    assert_eq!(files_of(&server.asked()), ["tokenizer.json"]);
    assert_eq!(fs::read_to_string(folder(&hub).join("refs/main")).unwrap(), commit(1));
}

#[test]
fn a_repository_that_is_no_model_says_what_it_lacks() {
    let server = Server::start();
    let (hub, _dir) = hub(&server);
    let told = || Model::load_from(&hub, "org/name", Processing::Raw).unwrap_err().to_string();
    server.publish("models/org/name", "main", &commit(1), &[("README.md", b"#".to_vec())]);
    assert!(told().contains("no config.json"), "{}", told());
    server.publish(
        "models/org/name",
        "main",
        &commit(2),
        &[("config.json", b"{}".to_vec()), ("tf_model.h5", bytes(10))],
    );
    assert!(told().contains("neither as model.safetensors"), "{}", told());
}

/// A real model's own files, with the connection cut in the midst of 269 MB.
#[test]
fn smollm2_comes_from_the_hub_in_spite_of_a_cut() {
    let Some(folder) = std::env::var("TSAE_SMOLLM2").ok().filter(|folder| !folder.is_empty())
    else {
        return eprintln!("skipped: set TSAE_SMOLLM2=$(tests/real/smollm2.sh)");
    };
    let server = Server::start();
    let (hub, _dir) = hub(&server);
    let files = ["config.json", "tokenizer.json", "model.safetensors"]
        .map(|file| (file, fs::read(Path::new(&folder).join(file)).unwrap()));
    server.publish("models/HuggingFaceTB/SmolLM2-135M", "main", &commit(1), &files);
    // The tokenizer comes first, cut at its second megabyte; then its rest, and then the weights.
    for cut in [2_000_000, 100_000_000, 100_000_000] {
        server.fault("GET /large", Fault::Cut(cut), 1);
    }
    let name = "HuggingFaceTB/SmolLM2-135M";
    let model = Model::load_from(&hub, name, Processing::TransformerLens).unwrap();
    assert_eq!(model.fingerprint(), Model::load(&folder).unwrap().fingerprint());
    let begun: Vec<u64> = gets(&server.asked());
    assert_eq!(begun, [0, 2_000_000, 0, 100_000_000], "continued where it was cut");
    assert_eq!(model.token_str(model.bos()), "<|endoftext|>");
}
