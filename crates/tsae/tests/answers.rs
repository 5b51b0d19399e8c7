//! The promise: `--json` says what the text says. There is one meaning to a `null`, which is that
//! there is none of it; a number that is not finite is a word, and so is what never comes.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Text that is at hand.
const TEXT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/*.md");

fn answer(dir: &Path, line: &str) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tsae"));
    command.current_dir(dir).env("TSAE_PROGRESS", "off").args(line.split(' ')).arg("--json");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{line}: {error}"))
}

/// The places of every `null`, with a star for the places in lists.
fn nulls(value: &Value, place: &str, found: &mut Vec<String>) {
    match value {
        Value::Null => found.push(place.to_owned()),
        Value::Array(items) => items.iter().for_each(|it| nulls(it, &format!("{place}[*]"), found)),
        Value::Object(map) => {
            map.iter().for_each(|(key, it)| nulls(it, &format!("{place}.{key}"), found));
        }
        _ => {}
    }
}

/// What may be `null`, and what that means.
const NONE: [(&str, &str); 13] = [
    ("harvest.revision", "the model came from no repository"),
    ("train.runs[*].train.lookup_sim", "the SAE has no table"),
    ("train.runs[*].held_out", "no text was held out"),
    ("tokenness.saes[*].latents[*].own_table", "the SAE has no table"),
    ("absorption.saes[*].with_table", "the SAE has no table"),
    ("absorption.saes[*].by_table", "the SAE has no table"),
    ("absorption.saes[*].carried.table", "the SAE has no table"),
    ("absorption.saes[*].letters[*].with_table", "the SAE has no table"),
    ("absorption.saes[*].letters[*].by_table", "the SAE has no table"),
    ("absorption.saes[*].letters[*].carried.table", "the SAE has no table"),
    ("features.page", "no page was asked for"),
    ("sweep.runs[*].speedup", "it is the baseline"),
    ("predict.loss", "one token alone predicts none that is known"),
];

#[test]
fn a_null_has_one_meaning_in_every_answer() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::write(
        dir.join("sweep.toml"),
        "model = 'tiny-gpt2'\nsampled = 4000\nhooks = ['blocks.1.hook_resid_pre']\nks = [4]\nexpansions = [2]\nbaseline = 'SAE'\nevaluated_on = 512\n\
         train = { tokens = 2048, batch = 256, evaluations = 2, held_out_tokens = 256 }\n\
         arms = [{ name = 'SAE' }, { name = 'TSAE', lookup = 'unigram' }, { name = 'late', lr = 1e-9 }]\n",
    )
    .unwrap();
    let mut found = Vec::new();
    for line in [
        &format!(
            "harvest tiny-gpt2 --hook blocks.1.hook_resid_pre --text {TEXT} --context 64 --tokens 6000 --held-out-share 0.1 --out store"
        ),
        "harvest tiny-gpt2 --sampled 2000 --out shared --plan",
        "harvest --out shared --only 1/1",
        "harvest --out shared --collect",
        "harvest tiny-gpt2 --sampled 2000 --out shared --jobs slurm --shares 2",
        "train store --lookup none,unigram --k 8 --expansion 2 --lr 3e-3 --tokens 8000 --batch 500 --out runs",
        "eval runs --tokens 640",
        "plot runs --out figures",
        "speedup runs",
        "tokenness runs --tokens 2000",
        "probe runs --tokens 6000",
        "absorption runs --tokens 6000 --min-f1 0",
        "ngrams store --longest 3",
        "features runs/TSAE --store store --tokens 2000 --latent 3",
        "sweep sweep.toml --out sweep",
        "sweep sweep.toml --out sweep --jobs json",
        "sweep sweep.toml --out sweep --prepare",
        "sweep sweep.toml --out sweep --collect",
        "results sweep --out page.md",
        "convert runs/TSAE --to saelens --relu --out other",
        "convert store --to saelens --out cached",
        "predict tiny-gpt2 --text Once --top 2",
        "compare tiny-gpt2 --sampled 4000 --expansion 2 --k 4 --tokens 8192 --lr 3e-3 --out results",
        "bench step --shape 128,1024,16,256 --steps 1",
        "lab --check",
    ] {
        let verb = line.split(' ').next().unwrap();
        nulls(&answer(dir, line), verb, &mut found);
    }
    let report: Value =
        serde_json::from_slice(&std::fs::read(dir.join("results/report.json")).unwrap()).unwrap();
    nulls(&report, "report.json", &mut found);
    found.sort();
    found.dedup();
    let unsaid: Vec<_> =
        found.iter().filter(|place| NONE.iter().all(|(known, _)| known != place)).collect();
    assert!(unsaid.is_empty(), "{unsaid:#?}");
}

#[test]
fn how_many_times_sooner_is_a_number_or_the_words_of_the_text() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    answer(
        dir,
        &format!(
            "harvest tiny-gpt2 --hook blocks.1.hook_resid_pre --text {TEXT} --context 64 --tokens 6000 --held-out-share 0.1 --out store"
        ),
    );
    let train = "train store --expansion 2 --tokens 6000 --batch 500";
    let text = |runs: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tsae"));
        let output = command.current_dir(dir).args(["speedup", runs]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    // A table alone is better than an SAE that learns nothing, from the start.
    answer(dir, &format!("{train} --k 1 --lr 1e-9 --lookup none --name poor --out good"));
    answer(dir, &format!("{train} --k 32 --lr 3e-3 --lookup unigram --out good"));
    let found = answer(dir, "speedup good");
    assert_eq!(found["nmse"], "from the start", "{found}");
    assert!(text("good").contains("from the start"));
    // And one that learns nothing never reaches an SAE that does.
    answer(dir, &format!("{train} --k 32 --lr 3e-3 --lookup none --out poor"));
    answer(dir, &format!("{train} --k 1 --lr 1e-9 --lookup-lr 1e-9 --lookup zeros --out poor"));
    let found = answer(dir, "speedup poor");
    assert_eq!(found["nmse"], "never", "{found}");
    assert!(text("poor").contains("never"));
}
