//! `docs/coming-from-saelens.md` is true: its Rust stands below, word by word but for the model,
//! and its Python is run with the real SAELens.

use super::packages::{python, run};
use super::*;
use tokenized_sae::activations::Batch;
use tokenized_sae::eval::Evaluations;

const PAGE: &str = include_str!("../../docs/coming-from-saelens.md");

/// What is smaller here than on the page.
const SMALL: [(&str, &str); 3] = [
    ("\"gpt2\"", "\"tiny-gpt2\""),
    ("blocks.8.", "blocks.2."),
    ("tokens: 10_000_000", "tokens: 8_192"),
];

/// Does the job of the page in the folder `dir`.
#[rustfmt::skip]
// The page has a path where this has `&at(path)`, by which the test finds it.
#[allow(clippy::needless_borrows_for_generic_args)]
fn job(dir: &Path) -> Result<()> {
    let at = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let model: Model = Model::load_with("tiny-gpt2", Processing::Raw)?;
    let hook: HookPoint = "blocks.2.hook_resid_pre".parse()?;
    let corpus: Corpus = Corpus::text_files(&model, &at("books/*.txt"))?.context(256).split(0.02)?;
    let acts: ActivationStore = ActivationStore::harvest(&model, &[hook], &corpus.train, &at("cache/gpt2"), HarvestConfig::default())?;

    let sae: SaeConfig = SaeConfig { expansion: 16, k: 30, relu: true, ..SaeConfig::for_model(&model) };
    let runs: Runs = Trainer::new(&acts, hook, TrainConfig { tokens: 8_192, batch: 4096, lr: 1e-4, lr_end: 3e-5, ..Default::default() })?
        .held_out(&model, &corpus.valid)?
        .add("SAE", sae.clone())?
        .add("TSAE", sae.with_lookup(Lookup::unigram(&model, hook)?))?
        .fit(&at("runs/gpt2"))?;

    let evaluations: Evaluations = evaluate(&model, hook, &runs, &corpus.valid)?;
    println!("{}", evaluations.get("TSAE")?.without_bos.loss_recovered);
    println!("{}", evaluations.get("TSAE")?.without_bos.explained_variance);

    let dashboard: FeatureDashboard = FeatureDashboard::new(&model, hook, &runs["TSAE"], &acts)?;
    dashboard.save(&at("features.html"))?;

    runs["SAE"].sae.save(at("runs/SAE"))?;
    let mut batch = Batch::default();
    acts.gather(hook, &[1, 2, 3], &mut batch)?;
    let (x, tokens) = (batch.x, batch.tokens);
    let theirs: Sae = Sae::load(&at("runs/SAE"))?;
    let x_hat: Vec<f32> = theirs.reconstruct(&x, &tokens)?;
    assert_eq!(x_hat.len(), x.len());

    runs["TSAE"].sae.export(&at("for-saelens"), SaeFormat::SaeLens, TableExport::Fold)?;

    acts.export_saelens(hook, &at("for-saelens-cache"))?;
    let imported: ActivationStore = ActivationStore::import_saelens(&model, &at("for-saelens-cache"), &at("cache/imported"), HarvestConfig::default())?;
    assert_eq!(imported.fingerprint(), acts.fingerprint());
    Ok(())
}

/// What stands on the page in blocks of a language.
fn blocks(language: &str) -> Vec<&'static str> {
    PAGE.split(&format!("```{language}\n"))
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect()
}

#[test]
fn the_pages_rust_is_what_is_run_here() {
    // Without the folder: `&at("cache/gpt2")` is "cache/gpt2".
    let here: String =
        include_str!("guide.rs").split("&at(").map(|part| part.replacen("\")", "\"", 1)).collect();
    let here = here.replace(' ', "");
    let blocks = blocks("rust");
    assert_eq!(blocks.len(), 7);
    for block in blocks {
        let small = SMALL
            .iter()
            .fold(block.to_owned(), |block, (large, small)| block.replace(large, small));
        for line in small.lines() {
            assert!(here.contains(&line.replace(' ', "")), "{line}");
        }
    }
}

#[test]
fn the_pages_rust_does_what_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let books = dir.path().join("books");
    std::fs::create_dir(&books).unwrap();
    // Any text will do; what is held out are whole files.
    for (i, text) in PAGE.repeat(3).as_bytes().chunks(PAGE.len() / 4).enumerate() {
        std::fs::write(books.join(format!("{i}.txt")), String::from_utf8_lossy(text).as_bytes())
            .unwrap();
    }
    job(dir.path()).unwrap();
    assert!(
        dir.path().join("features.html").is_file()
            && dir.path().join("runs/gpt2/TSAE/README.md").is_file()
    );
}

#[test]
fn the_pages_python_runs() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    run(&python, "guide.py", "run", dir.path());
}
