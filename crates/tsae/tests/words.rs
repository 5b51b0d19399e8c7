//! The promise: an error of the command speaks of what was typed: of options and not of fields or
//! methods, of the option that is wrong and not of a file that is right; what is not there is said
//! not to be there, and `~` is the home folder wherever a path is.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// Text that is at hand.
const TEXT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/*.md");

fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tsae"));
    command.current_dir(dir).env("TSAE_PROGRESS", "off").env("HOME", dir.join("home"));
    command
}

fn run(dir: &Path, line: &str) -> Output {
    command(dir).args(line.split(' ')).output().unwrap()
}

/// What a line that must fail says, with its exit status.
fn told(dir: &Path, line: &str) -> (String, Option<i32>) {
    let output = run(dir, line);
    assert!(!output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stdout));
    (String::from_utf8(output.stderr).unwrap(), output.status.code())
}

fn store(dir: &Path) {
    let line = format!(
        "harvest tiny-gpt2 --hook blocks.1.hook_resid_pre --text {TEXT} --context 64 --tokens 3000 --out store"
    );
    let output = run(dir, &line);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_is_not_there_is_said_not_to_be_there() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for line in [
        "train nowhere --k 8 --out x",
        "train nowhere --out x",
        "eval nowhere",
        "eval nowhere --model tiny-gpt2 --hook blocks.1.hook_resid_pre --text a",
        "features nowhere --out x.html",
        "tokenness nowhere",
        "probe nowhere",
        "absorption nowhere",
        "ngrams nowhere",
        "plot nowhere --out x",
        "speedup nowhere",
        "convert nowhere --to saelens --out x",
        "sweep nowhere --out x",
        "results nowhere --out x.md",
    ] {
        let (words, status) = told(dir, line);
        assert!(
            words.starts_with("tsae: nowhere: is not there") && status == Some(1),
            "{line}: {words}"
        );
    }
    fs::create_dir(dir.join("empty")).unwrap();
    let (words, _) = told(dir, "train empty --k 8 --out x");
    assert!(
        words.contains("empty: holds neither activations") && words.contains("run.toml"),
        "{words}"
    );
    assert!(!dir.join("x").exists());
}

#[test]
fn the_option_that_is_wrong_is_named_as_it_is_typed() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    store(dir);
    fs::write(dir.join("a.jsonl"), "{\"body\": \"Once upon a time.\"}\n").unwrap();
    fs::write(dir.join("it.toml"), "model = \"tiny-gpt2\"\narms = [{ name = \"a\" }]\n").unwrap();
    for (line, words) in [
        ("train store --lr 0 --out x", "--lr = 0; it must be above 0"),
        ("train store --lookup-lr nan --out x", "--lookup-lr = NaN; it must be above 0"),
        ("train store --k 0 --out x", "--k = 0; at least 1 is needed"),
        ("train store --tokens 0 --out x", "--tokens = 0; at least 1 is needed"),
        ("train store --arch relu --penalty -1 --out x", "--penalty = -1; it must be at least 0"),
        ("train store --checkpoint-seconds -1 --out x", "--checkpoint-seconds = -1; it must be at"),
        ("train store --batch 0 --out x", "--batch = 0; at least 1 is needed"),
        ("train store --checkpoint-seconds nan --out x", "--checkpoint-seconds = NaN; it must be"),
        ("train store --lookup unigram --balance 2 --out x", "--balance = 2; it must lie"),
        (
            "train store --frozen --out x",
            "--frozen: there is no table that it applies to: give one, as --lookup unigram",
        ),
        ("train store --lookup unigram,zeros --name a --out x", "--name is for one SAE"),
        ("harvest tiny-gpt2 --sampled 0 --out x", "--sampled = 0; at least 1 is needed"),
        ("harvest tiny-gpt2 --sampled 100 --context 1 --out x", "--context = 0 or 1; a sequence"),
        ("harvest tiny-gpt2 --text a.jsonl --tokens 0 --out x", "--tokens = 0; at least 1"),
        (
            "harvest tiny-gpt2 --text a.jsonl --held-out-share 1.5 --out x",
            "--held-out-share = 1.5; it must be",
        ),
        ("harvest tiny-gpt2 --sampled 100 --batch 0 --out x", "--batch = 0; at least 1 is needed"),
        ("harvest tiny-gpt2 --text a.jsonl --out x", "has no field \"text\"; it has"),
        ("harvest tiny-gpt2 --text a.jsonl --out x", "choose that with --column body"),
        ("compare tiny-gpt2 --sampled 100 --lr 1e-3,0 --out x", "--lr = 0; it must be above 0"),
        ("compare tiny-gpt2 --sampled 100 --k 0 --out x", "--k = 0; at least 1 is needed"),
        ("ngrams store --longest 9", "--longest = 9; n-grams of 1 to 3 tokens"),
        ("sweep it.toml --memory -1 --out x", "--memory = -1; it must be above 0"),
        ("sweep it.toml --memory=-1 --out x", "--memory = -1; it must be above 0"),
        ("sweep it.toml --jobs hq --shares 0 --out x", "--shares = 0;"),
        ("sweep it.toml --only auto --out x", "none of HQ_TASK_ID"),
        ("eval store --store store --tokens 0", "--tokens = 0; at least 1"),
        ("eval store --sampled 64 --context 0", "--context = 0 or 1; a sequence"),
        ("features store --sampled 0 --latent 1", "--sampled = 0; at least 1 is needed"),
        ("compare tiny-gpt2 --sampled 0 --out x", "--sampled = 0; at least 1 is needed"),
        ("compare tiny-gpt2 --text a.jsonl --out made", "choose that with --column body"),
        (
            "train store --hook blocks.3.hook_resid_pre --out x",
            "--hook: store holds no activations of blocks.3.hook_resid_pre; it holds those of blocks.1.hook_resid_pre",
        ),
        ("train store --arch relu --aux --out x", "ReLU has a penalty instead: leave it out"),
        ("train store --arch topk --l0 5 --out x", "TopK has k, which is its L0: give that as --k"),
        ("harvest tiny-gpt2 --sampled 99 --context 17 --out x", "leave it out, or give --text"),
        (
            "harvest tiny-gpt2 --text a.jsonl --column body --min-chars 9 --max-chars 3 --out x",
            "--max-chars = 3; it must be at least --min-chars = 9",
        ),
    ] {
        let (error, status) = told(dir, line);
        assert!(error.contains(words) && status != Some(101), "{line}: {error}");
        assert!(
            !error.contains("harvest.toml")
                && !error.contains("in sae[")
                && !error.contains("in train"),
            "{line}: {error}"
        );
        assert!(!error.contains("(\"") && !error.contains("(…)"), "no method: {line}: {error}");
    }
    assert!(!dir.join("x").exists());
}

/// A setting of a sweep's file is named with its file, and with what it wants.
#[test]
fn a_setting_in_a_file_is_named_with_what_it_wants() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let file = "model = 'tiny-gpt2'\nsampled = 4000\nks = [4]\ntrain = { tokens = 2048, batch = 256 }\narms = [{ name = 'SAE', expansion = 2 }]\n";
    for (from, to, words) in [
        (
            "tokens = 2048",
            "tokens = 'many'",
            "it.toml: train: tokens = \"many\": invalid type: string \"many\", expected a whole number",
        ),
        ("batch = 256", "lr = nan", "it.toml: train: lr is no finite number"),
        (
            "batch = 256",
            "bach = 256",
            "it.toml: train: there is no setting \"bach\"; the settings are batch",
        ),
        (
            "expansion = 2",
            "expansion = 'two'",
            "it.toml: arm \"SAE\": expansion = \"two\": invalid type: string \"two\", expected a whole number",
        ),
        ("expansion = 2", "k = 0", "it.toml: k = 0; at least 1 is needed"),
        (
            "ks = [4]",
            "ks = [4.5]",
            "it.toml:3: ks: invalid type: floating point `4.5`, expected a whole number",
        ),
        ("ks = [4]", "lrs = 'a'", "it.toml:3: lrs: invalid type: string \"a\", expected a list"),
        ("sampled = 4000", "sampled = 0", "it.toml: sampled = 0; at least 1 is needed"),
        ("model = 'tiny-gpt2'", "", "it.toml:1: missing field `model`"),
        (
            "expansion = 2",
            "balance = 0.5",
            "it.toml: \"SAE\" has no table to be learned, balanced or subtracted",
        ),
    ] {
        fs::write(dir.join("it.toml"), file.replace(from, to)).unwrap();
        let (error, status) = told(dir, "sweep it.toml --out x");
        assert!(error.contains(words) && status == Some(2), "{to}: {error}");
    }
}

#[test]
fn a_tilde_is_home_where_the_shell_leaves_it() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::create_dir(dir.join("home")).unwrap();
    fs::write(dir.join("home/a.txt"), "Once upon a time there was a little fox. ".repeat(200))
        .unwrap();
    for line in [
        "harvest tiny-gpt2 --text=~/a.txt --context 32 --out=~/store",
        "train ~/store --k 4 --expansion 2 --tokens 512 --batch 64 --out=~/runs",
        "eval ~/runs --store=~/store",
    ] {
        let output = run(dir, line);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(dir.join("home/runs/SAE/cfg.json").exists() && !dir.join("~").exists());
}
