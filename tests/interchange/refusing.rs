//! What cannot be read or written is refused, with what was found and what to do.

use super::*;
use tokenized_sae::sae::{Index, Ngrams};

fn told(path: &Path) -> String {
    Sae::load(path).err().unwrap_or_else(|| panic!("{} is read", path.display())).to_string()
}

fn has(told: &str, words: &[&str]) {
    assert!(words.iter().all(|word| told.contains(word)), "{told}");
}

#[test]
fn what_another_library_cannot_compute_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |sae: &Sae, format, table| {
        sae.export(dir.path().join("out"), format, table).unwrap_err().to_string()
    };
    let mut signed = sample(Architecture::TopK, false);
    signed.config.relu = false;
    for format in formats(Architecture::TopK) {
        has(
            &refused(&signed, format, TableExport::Drop),
            &["negative", format.name(), "config.relu"],
        );
    }
    let gated = sample(Architecture::Gated { l1: 0.0 }, false);
    has(&refused(&gated, SaeFormat::Sparsify, TableExport::Drop), &["sparsify", "Gated"]);
    has(&refused(&gated, SaeFormat::Llamascopium, TableExport::Drop), &["Llamascopium", "Gated"]);
    let mut nowhere = sample(Architecture::TopK, false);
    nowhere.origin.hook = None;
    has(&refused(&nowhere, SaeFormat::Llamascopium, TableExport::Drop), &["origin.hook"]);
    let mut subtracted = sample(Architecture::TopK, true);
    subtracted.subtract = true;
    for table in [TableExport::Fold, TableExport::Drop] {
        has(&refused(&subtracted, SaeFormat::Sparsify, table), &["subtracted", "keep"]);
    }
    let grams = Ngrams::new(&[vec![1, 2]], D_VOCAB).unwrap();
    let mut by_gram = sample(Architecture::TopK, true);
    by_gram.index = Index::Ngrams(grams.into());
    by_gram.lookup = Some(vec![0.5; (D_VOCAB + 1) * D]);
    has(
        &refused(&by_gram, SaeFormat::SaeLens, TableExport::Fold),
        &["n-gram", "keep it or drop it"],
    );
    assert!(!dir.path().join("out").exists(), "nothing was made");
}

#[test]
fn what_concerns_training_alone_is_left_out_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut sae = sample(Architecture::TopK, false);
    sae.config = sae.config.with_prefixes(&[5]).with_aux(AuxK::default());
    let exported = sae.export(dir.path(), SaeFormat::Sparsify, TableExport::Drop).unwrap();
    has(&exported.join("\n"), &["AuxK", "[5, 10]", "layers.3"]);
    has(
        &sae.export(dir.path(), SaeFormat::SaeLens, TableExport::Drop).unwrap_err().to_string(),
        &["cfg.json already"],
    );
}

#[test]
fn a_folder_without_an_sae_says_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    has(&told(dir.path()), &["it is empty"]);
    has(&told(&dir.path().join("nowhere")), &["is not there", "nowhere"]);
    std::fs::write(dir.path().join("notes.txt"), "x").unwrap();
    has(&told(dir.path()), &["it has notes.txt"]);
    has(&told(&dir.path().join("notes.txt")), &["not an SAE that can be read"]);
    sample(Architecture::TopK, false).save(dir.path().join("layers.3")).unwrap();
    has(&told(dir.path()), &["name one of them: layers.3"]);
    std::fs::remove_file(dir.path().join("layers.3/sae_weights.safetensors")).unwrap();
    has(&told(&dir.path().join("layers.3")), &["settings but no weights"]);
    std::fs::write(dir.path().join("params.npz"), "x").unwrap();
    has(&told(dir.path()), &["Gemma Scope"]);
    std::fs::create_dir(dir.path().join("sae_weights.dcp")).unwrap();
    has(&told(dir.path()), &["save them again from one device"]);
}

#[test]
fn an_sae_is_found_by_any_of_its_files() {
    for file in [
        "saelens_topk/cfg.json",
        "saelens_topk/sae_weights.safetensors",
        "sparsify/layers.3/sae.safetensors",
        "dictionary_learning_BatchTopKSAE/ae.pt",
    ] {
        Sae::load(golden().join(file)).unwrap();
    }
}

#[test]
fn what_is_not_computed_here_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let changed = |name: &str, file: &str, from: &str, to: &str| {
        let text = std::fs::read_to_string(golden().join(name).join(file)).unwrap();
        assert!(text.contains(from), "{text}");
        let copy =
            dir.path().join(format!("{name} {}", std::fs::read_dir(dir.path()).unwrap().count()));
        std::fs::create_dir(&copy).unwrap();
        for entry in std::fs::read_dir(golden().join(name)).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
        }
        std::fs::write(copy.join(file), text.replace(from, to)).unwrap();
        told(&copy)
    };
    let scaled = changed(
        "saelens_topk",
        "cfg.json",
        "\"normalize_activations\": \"none\"",
        "\"normalize_activations\": \"expected_average_only_in\"",
    );
    has(&scaled, &["activation_scaler.json"]);
    has(
        &changed("llamascopium_topk", "config.json", "\"inference\"", "\"batch-wise\""),
        &["batch-wise"],
    );
    has(&changed("llamascopium_topk", "config.json", "\"topk\"", "\"batchtopk\""), &["batchtopk"]);
    has(
        &changed(
            "llamascopium_topk",
            "config.json",
            "\"hook_point_out\": \"blocks.3",
            "\"hook_point_out\": \"blocks.4",
        ),
        &["transcoder"],
    );
    has(&changed("saelens5_standard", "cfg.json", "\"relu\"", "\"tanh-relu\""), &["tanh-relu"]);
    has(
        &changed("saelens_standard", "cfg.json", "\"standard\"", "\"transcoder\""),
        &["transcoder"],
    );
}

#[test]
fn a_file_that_does_not_say_k_is_read_if_it_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("authors.pt");
    std::fs::copy(golden().join("gpt2_resid_pre_8_ot3.pt"), &path).unwrap();
    has(&told(&path), &["does not say k", "load_with_k"]);
    let sae = Sae::load_with_k(&path, 3).unwrap();
    Case::read(&golden().join("gpt2_resid_pre_8_ot3.pt.safetensors")).check("authors", &sae);
    let two = Sae::load_with_k(golden().join("saelens_topk"), 2).unwrap_err().to_string();
    has(&two, &["k = 2", "says 3"]);
    // An ae.pt of its own could be either of two classes.
    std::fs::copy(
        golden().join("dictionary_learning_BatchTopKSAE/ae.pt"),
        dir.path().join("ae.pt"),
    )
    .unwrap();
    has(&told(&dir.path().join("ae.pt")), &["AutoEncoderTopK", "BatchTopKSAE", "config.json"]);
}
