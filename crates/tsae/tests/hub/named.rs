//! SAEs by name, from a hub of our own: files of each shape that the releases have.

use super::*;

/// The files of a folder under `tests/golden/sae`, to lie at `path`.
fn golden(name: &str, path: &str, files: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/sae").join(name);
    let read = |(file, published): &(&str, &str)| {
        (format!("{path}/{published}"), fs::read(folder.join(file)).unwrap())
    };
    files.iter().map(read).collect()
}

fn publish(server: &Server, repo: &str, files: &[(String, Vec<u8>)]) {
    let files: Vec<(&str, Vec<u8>)> =
        files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    server.publish(&format!("models/{repo}"), "main", &commit(1), &files);
}

#[test]
fn published_saes_are_fetched_by_name_once_and_are_what_their_files_are() {
    let server = Server::start();
    let (hub, _dir) = hub(&server);
    let here = |name: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/sae");
        Sae::load(folder.join(name)).unwrap()
    };
    let lens = [("cfg.json", "cfg.json"), ("sae_weights.safetensors", "sae_weights.safetensors")];
    let ae = [("ae.pt", "ae.pt"), ("config.json", "config.json")];
    for (name, repo, path, like, files) in [
        (
            "gpt2-small-res-jb/blocks.8.hook_resid_pre",
            "jbloom/GPT2-Small-SAEs-Reformatted",
            "blocks.8.hook_resid_pre",
            "saelens5_standard",
            &lens[..],
        ),
        (
            "gpt2-small-resid-post-v5-32k/blocks.3.hook_resid_post",
            "jbloom/GPT2-Small-OAI-v5-32k-resid-post-SAEs",
            "v5_32k_layer_3.pt",
            "saelens5_topk",
            &lens,
        ),
        (
            "gpt2-small-res_scefr-ajt/blocks.6.hook_resid_pre",
            "neuronpedia/gpt2-small__res_scefr-ajt",
            "6-res_scefr-ajt",
            "saelens5_standard",
            &lens,
        ),
        (
            "adamkarvonen/saebench_pythia-160m-deduped_width-2pow12_date-0108/BatchTopK_pythia-160m-deduped__0108/resid_post_layer_8/trainer_2",
            "adamkarvonen/saebench_pythia-160m-deduped_width-2pow12_date-0108",
            "BatchTopK_pythia-160m-deduped__0108/resid_post_layer_8/trainer_2",
            "dictionary_learning_BatchTopKSAE",
            &ae,
        ),
        ("hf://someone/saes/deep/in/it", "someone/saes", "deep/in/it", "saelens_jumprelu", &lens),
    ] {
        let mut all = golden(like, path, files);
        // What else lies there is not asked for.
        all.push((format!("{path}/sparsity.safetensors"), bytes(1000)));
        all.push(("README.md".to_owned(), b"SAEs".to_vec()));
        publish(&server, repo, &all);
        server.asked();
        let sae = Sae::load_from(&hub, name).unwrap();
        let want = here(like);
        assert_eq!(
            (&sae.w_dec, &sae.b_enc, sae.origin.hook),
            (&want.w_dec, &want.b_enc, want.origin.hook),
            "{name}"
        );
        let fetched: std::collections::BTreeSet<String> = server
            .asked()
            .into_iter()
            .filter(|asked| asked.method == "GET" && asked.path.contains("/resolve/"))
            .map(|asked| asked.path)
            .collect();
        assert_eq!(fetched.len(), 2, "{name}: settings and weights, not {fetched:?}");
        // Again, from the cache: nothing is asked.
        assert_eq!(Sae::load_from(&hub, name).unwrap().w_dec, want.w_dec);
        let offline = Hub { offline: true, ..hub.clone() };
        assert_eq!(Sae::load_from(&offline, name).unwrap().w_dec, want.w_dec);
        assert!(server.asked().is_empty(), "{name}");
    }
}

#[test]
fn sparsify_s_folders_are_named_by_their_module() {
    let server = Server::start();
    let (hub, _dir) = hub(&server);
    let like = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/sae/sparsify");
    let at =
        fs::read_dir(&like).unwrap().map(|entry| entry.unwrap().path()).find(|path| path.is_dir());
    let folder = at.unwrap();
    let module = folder.file_name().unwrap().to_str().unwrap().to_owned();
    let read = |file: &str| (format!("{module}/{file}"), fs::read(folder.join(file)).unwrap());
    publish(&server, "EleutherAI/sae-pythia-70m-32k", &[read("cfg.json"), read("sae.safetensors")]);
    let sae = Sae::load_from(&hub, format!("EleutherAI/sae-pythia-70m-32k/{module}")).unwrap();
    assert_eq!(sae.origin.hook, Some(module.parse().unwrap()));
}

#[test]
fn what_a_repository_does_not_have_is_told_with_what_it_has() {
    let server = Server::start();
    let (hub, _dir) = hub(&server);
    let lens = [("cfg.json", "cfg.json"), ("sae_weights.safetensors", "sae_weights.safetensors")];
    publish(&server, "someone/saes", &golden("saelens_topk", "layer_3", &lens));
    let told = |name: &str| Sae::load_from(&hub, name).err().unwrap().to_string();
    let none = told("hf://someone/saes/layer_4");
    assert!(none.contains("no SAE at \"layer_4\"") && none.contains("layer_3"), "{none}");
    let id = told("gpt2-small-res-jb/blocks.12.hook_resid_pre");
    assert!(id.contains("blocks.{0..11}.hook_resid_pre"), "{id}");
    let offline = Hub { offline: true, ..hub.clone() };
    let told = Sae::load_from(&offline, "hf://someone/saes/layer_3").err().unwrap().to_string();
    assert!(told.contains("HF_HUB_OFFLINE"), "{told}");
    let nowhere = Sae::load("results/no-such-run").err().unwrap().to_string();
    assert!(nowhere.contains("is not there") && nowhere.contains("convert --list"), "{nowhere}");
}
