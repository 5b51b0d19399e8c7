//! Sweeps described in files.

use std::fs;

use tokenized_sae::experiments::sweep::SweepFile;
use tokenized_sae::prelude::*;

use super::{Material, hooks};

#[test]
fn a_file_describes_what_a_notebook_builds() {
    let it = Material::new();
    let toml = r#"
        model = "tiny-gpt2"
        sampled = 2048
        hooks = ["blocks.1.hook_resid_pre", "blocks.2.hook_resid_pre"]
        ks = [4, 8]
        seeds = [0, 1]
        baseline = "SAE"
        [train]
        tokens = 6144
        batch = 256
        lr = 1e-2
        [[arms]]
        name = "SAE"
        expansion = 4
        [[arms]]
        name = "TSAE"
        expansion = 4
        lookup = "unigram"
    "#;
    let file = SweepFile::parse(toml).unwrap();
    let sweep = file.sweep(it.path("file")).unwrap().unwrap();
    assert_eq!(sweep.names().unwrap(), it.both().names().unwrap());
    assert_eq!((file.n_streams(), sweep.n_streams()), (4, 4));
    let json = serde_json::to_string(&file).unwrap();
    fs::write(it.path("sweep.json"), json).unwrap();
    assert!(SweepFile::read(it.path("sweep.json")).unwrap() == file);

    let frozen = "[[arms]]\nname = \"frozen\"\nlookup = \"unigram\"\nlearned = false\nbalance = 0.25\nvary = { expansion = [2, 4], lr = [1e-3] }\n";
    let more = SweepFile::parse(&(toml.to_owned() + frozen))
        .unwrap()
        .sweep(it.path("file"))
        .unwrap()
        .unwrap();
    let names = more.names().unwrap();
    assert_eq!(names.len(), 32);
    assert!(
        names.iter().any(|(_, name)| name == "frozen k=8 expansion=2 lr=1e-3 seed=1"),
        "{names:?}"
    );

    let relu = "[[arms]]\nname = \"ReLU\"\narchitecture = { relu = { l1 = 1.0 } }\n";
    let names = |more: &str| {
        let file = SweepFile::parse(&format!("{toml}{relu}{more}")).unwrap();
        let names = file.sweep(it.path("file")).unwrap().unwrap().names().unwrap();
        names
            .into_iter()
            .map(|(_, name)| name)
            .filter(|name| name.starts_with("ReLU") && name.ends_with("seed=1"))
            .collect::<Vec<_>>()
    };
    assert_eq!(names("")[0], "ReLU expansion=16 lr=1e-2 seed=1");
    assert_eq!(names("penalties = [0.5, 2]")[1], "ReLU expansion=16 lr=1e-2 penalty=2 seed=1");
    assert_eq!(
        names("vary = { \"architecture.relu.l1\" = [0.5, 2] }")[0],
        "ReLU expansion=16 lr=1e-2 l1=0.5 seed=1"
    );

    // Every kind of table trains.
    let kinds = [
        "\"means\"",
        "\"zeros\"",
        "{ ngrams = { longest = 3, rows = 50 } }",
        "{ ngram-means = { longest = 2, rows = 50 } }",
    ];
    let arm = |(i, kind): (usize, &&str)| {
        format!(
            "[[arms]]\nname = \"table {i}\"\nexpansion = 2\nk = 4\nsubtracted = true\nlookup = {kind}\n"
        )
    };
    let one = toml
        .replace("ks = [4, 8]", "")
        .replace("seeds = [0, 1]", "")
        .replace("tokens = 6144", "tokens = 512")
        .replace("batch", "held_out_tokens = 256\nbatch");
    let kinds = SweepFile::parse(&(one + &kinds.iter().enumerate().map(arm).collect::<String>()))
        .unwrap()
        .sweep(it.path("file"))
        .unwrap()
        .unwrap();
    assert_eq!(
        kinds.hooks(&hooks()[..1]).evaluated_on(256).run(it.path("kinds")).unwrap().runs.len(),
        6
    );

    let refused = |from: &str, to: &str| {
        let file = SweepFile::parse(&toml.replace(from, to));
        file.and_then(|file| file.sweep(it.path("file")).map(|_| ())).unwrap_err().to_string()
    };
    assert!(
        refused("expansion = 4", "expanson = 4")
            .contains("there is no setting \"expanson\"; the settings are")
    );
    assert!(
        refused("expansion = 4", "expansion = 4\ncentered = true")
            .contains("there is no setting \"centered\"")
    );
    assert!(refused("expansion = 4", "expansion = 4\ncentred = 3").contains("centred = 3"));
    assert!(refused("batch = 256", "bach = 256").contains("\"bach\""));
    let harvest = |line: &str| refused("[train]", &format!("[harvest]\n{line}\n\n[train]"));
    assert!(
        harvest("hooks = [\"blocks.1.hook_resid_pre\"]")
            .contains("must include blocks.2.hook_resid_pre")
    );
    assert!(harvest("dtype = \"int8\"").contains("dtype"), "the store there is another");
    assert!(refused("seeds =", "seed =").contains("seed"));
    assert!(refused("\"unigram\"", "\"trigram\"").contains("unigram"));
    assert!(refused("expansion = 4", "expansion = \"wide\"").contains("wide"));
    assert!(
        refused("sampled = 2048", "sampled = 2048\ntext = \"a.txt\"").contains("one of the two")
    );
    assert!(
        refused("sampled = 2048", "sampled = 2048\nmax_tokens = 512").contains("for text"),
        "of samples there are as many as it says"
    );
}

#[test]
fn a_file_may_sweep_some_of_the_hooks_that_it_harvests() {
    let dir = tempfile::tempdir().unwrap();
    let names = |hooks: &str, harvested: &str| {
        let toml = format!(
            "model = \"tiny-gpt2\"\nsampled = 512\nhooks = [{hooks}]\n[harvest]\nhooks = [{harvested}]\n[train]\nbatch = 256\n[[arms]]\nname = \"SAE\""
        );
        SweepFile::parse(&toml).unwrap().sweep(dir.path()).unwrap().unwrap().names().unwrap()
    };
    let (first, both) =
        ("\"blocks.1.hook_resid_pre\"", "\"blocks.1.hook_resid_pre\", \"blocks.2.hook_resid_pre\"");
    assert!(names(first, both).iter().map(|(hook, _)| *hook).eq([hooks()[0]]));
    let acts = dir.path().join("activations");
    assert_eq!(ActivationStore::open(acts).unwrap().hooks(), hooks());
    // The store serves for the others.
    assert!(names(both, "").iter().map(|(hook, _)| *hook).eq(hooks()));
}

#[test]
fn a_files_text_is_as_long_as_it_says_however_long_the_training() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("a.txt");
    fs::write(&text, "One more line of the same text. ".repeat(200)).unwrap();
    for (trained, most, rows) in
        [(256, "max_tokens = 512", 512), (6144, "max_tokens = 512", 512), (256, "", 256)]
    {
        let toml = format!(
            "model = \"tiny-gpt2\"\ntext = {text:?}\ncontext = 32\n{most}\n[train]\ntokens = {trained}\nbatch = 256\n[[arms]]\nname = \"SAE\""
        );
        let out = dir.path().join(format!("{trained} {most}"));
        SweepFile::parse(&toml).unwrap().sweep(&out).unwrap();
        assert_eq!(ActivationStore::open(out.join("activations")).unwrap().n_rows(), rows);
    }
}
