//! The promise: the command does what a notebook does, step by step, with the same bytes; it
//! says what it did in a way that programs can read, and how it ended.

#[path = "shared/folder.rs"]
mod folder;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use folder::assert_same;
use serde_json::Value;
use tokenized_sae::experiments::recipe::RunRecipe;
use tokenized_sae::prelude::*;

/// Text that is at hand.
const TEXT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/*.md");

fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tsae"));
    command.current_dir(dir).env("TSAE_PROGRESS", "off");
    command
}

/// Runs `tsae`, with its words separated by spaces.
fn run(dir: &Path, line: &str) -> Output {
    command(dir).args(line.split(' ')).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// What `tsae … --json` prints, which is one line and nothing else.
fn json(dir: &Path, line: &str) -> Value {
    let output = run(dir, &format!("{line} --json"));
    assert!(output.status.success(), "{line}: {}", text(&output.stderr));
    assert_eq!(text(&output.stdout).lines().count(), 1, "{line}: {}", text(&output.stdout));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn harvest() -> String {
    format!(
        "harvest tiny-gpt2 --hook blocks.1.hook_resid_pre --text {TEXT} --context 64 --tokens 8000 --held-out-share 0.1 --out store"
    )
}

const TRAIN: &str = "train store --lookup none,unigram --k 8 --expansion 2 --lr 3e-3 --tokens 16000 --batch 500 --out runs";

#[test]
fn every_step_of_a_notebook_is_a_command_and_a_second_one_does_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let made = json(dir, &harvest());
    let streamed =
        json(dir, &format!("{} --stream", harvest().replace("--out store", "--out streamed")));
    assert_eq!(
        (&streamed["tokens"], &streamed["held_out_tokens"]),
        (&made["tokens"], &made["held_out_tokens"])
    );
    assert_eq!(
        (&made["hooks"][0], &made["n_ctx"], &made["d_model"]),
        (&"blocks.1.hook_resid_pre".into(), &64.into(), &128.into())
    );
    assert!(
        made["held_out_tokens"].as_u64().unwrap() >= 64 && made["tokens"].as_u64().unwrap() > 5000,
        "{made}"
    );

    let trained = json(dir, TRAIN);
    let names: Vec<&str> = trained["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["SAE", "TSAE"]);
    assert!(
        trained["runs"][1]["finished"] == true
            && trained["runs"][1]["held_out"]["nmse"].as_f64().unwrap() > 0.0,
        "{trained}"
    );

    let found = json(dir, "eval runs");
    let of = |i: usize| found["rows"][i]["without_bos"]["nmse"].as_f64().unwrap();
    assert!(found["rows"][1]["name"] == "TSAE" && of(1) < of(0), "{found}");
    assert_eq!(json(dir, "eval runs/run.toml"), found);
    let alone =
        json(dir, "eval runs/TSAE --processing transformer-lens --hook blocks.1.hook_resid_pre");
    assert_eq!(
        alone["rows"][0], found["rows"][1],
        "an SAE alone finds the held-out text of its run"
    );
    assert_eq!(json(dir, "eval runs/TSAE runs/SAE --store store")["rows"][1], found["rows"][0]);
    assert_eq!(json(dir, &format!("eval runs/TSAE --text {TEXT} --tokens 640"))["tokens"], 640);

    let figures = json(dir, "plot runs --out figures");
    assert_eq!(figures["figures"].as_array().unwrap().len(), 3, "{figures}");
    assert!(dir.join("figures/reconstruction.svg").exists());
    assert_eq!(json(dir, "speedup runs")["tokenized"], "TSAE");
    let tokenness = json(dir, "tokenness runs --tokens 4000");
    assert_eq!(
        (&tokenness["saes"][1]["name"], tokenness["saes"][1]["latents"].as_array().unwrap().len()),
        (&"TSAE".into(), 256)
    );
    assert_eq!(
        json(dir, "ngrams store --longest 2")["hooks"][0]["scores"].as_array().unwrap().len(),
        2
    );

    let features = json(dir, "features runs/TSAE --store store --latent 3 --out features.html");
    assert!(
        features["latents"][0]["feature"]["latent"] == 3 && features["page"] == "features.html",
        "{features}"
    );
    assert!(dir.join("features.html").exists());
    assert_eq!(json(dir, "convert runs/TSAE --to saelens --relu --out other")["format"], "saelens");
    assert_eq!(
        json(dir, &format!("eval other --text {TEXT} --tokens 640"))["rows"][0]["name"],
        "other"
    );
    assert_eq!(json(dir, "convert store --to saelens --out cached")["tokens"], made["tokens"]);
    let back = json(
        dir,
        "convert cached --to tsae --model tiny-gpt2 --processing transformer-lens --out back",
    );
    assert_eq!((&back["hooks"], &back["tokens"]), (&made["hooks"], &made["tokens"]));
    let named = " --model tiny-gpt2";
    for (more, told) in [
        (format!("{named} --relu"), "holds activations"),
        (format!("{named} --hook blocks.1.hook_resid_pre"), "all hooks"),
        (String::new(), "--model"),
    ] {
        let refused = run(dir, &format!("convert cached --to tsae --out nothing{more}"));
        let error = text(&refused.stderr);
        assert!(
            !refused.status.success() && error.contains(told) && !dir.join("nothing").exists(),
            "{more}: {error}"
        );
    }
    let stored =
        |folder: &str| ActivationStore::open(dir.join(folder)).unwrap().fingerprint().to_owned();
    assert_eq!(stored("back"), stored("store"));

    // Once more: the same, and nothing is written again.
    let stamp = |path: &str| fs::metadata(dir.join(path)).unwrap().modified().unwrap();
    let written =
        ["store/shard-00000.safetensors", "store/harvest.toml", "runs/SAE/sae_weights.safetensors"];
    let before = written.map(stamp);
    assert_eq!((json(dir, &harvest()), json(dir, TRAIN)), (made, trained));
    assert_eq!(written.map(stamp), before);
}

#[test]
fn a_run_that_a_file_describes_is_the_run_of_a_notebook() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let hook = HookPoint::resid_pre(1);
    let description = format!(
        "model = \"tiny-gpt2\"\nhook = \"{hook}\"\ntext = \"{TEXT}\"\ncontext = 64\nmax_tokens = 8000\nheld_out_share = 0.1\n\
         [train]\ntokens = 16_000\nbatch = 500\nlr = 3e-3\n\
         [[sae]]\nk = 8\nexpansion = 2\n\
         [[sae]]\nname = \"means\"\nk = 8\nexpansion = 2\nlookup = \"means\"\nsubtracted = true\nseed = 3\n"
    );
    fs::write(dir.join("it.toml"), description).unwrap();
    assert_eq!(json(dir, "train it.toml --out a")["runs"][1]["name"], "means");

    // What it has written describes it wholly, wherever it is run.
    json(dir, "train a/run.toml --out b");
    assert_same(&dir.join("a"), &dir.join("b"));

    // By hand, as in a notebook.
    let model = Model::load("tiny-gpt2").unwrap();
    let corpus =
        Corpus::text_files(&model, TEXT).unwrap().context(64).max_tokens(8000).split(0.1).unwrap();
    let acts = ActivationStore::harvest(
        &model,
        &[hook],
        &corpus.train,
        dir.join("acts"),
        HarvestConfig::default(),
    )
    .unwrap();
    let train = TrainConfig { tokens: 16_000, batch: 500, lr: 3e-3, ..Default::default() };
    let sae = SaeConfig { k: 8, expansion: 2, ..SaeConfig::for_model(&model) };
    let means = SaeConfig { seed: 3, ..sae.clone() }
        .with_lookup(Lookup::means(&acts, hook).unwrap().subtracted());
    let trainer =
        Trainer::new(&acts, hook, train).unwrap().held_out(&model, &corpus.valid).unwrap();
    let trainer = trainer.add("SAE", sae).unwrap().add("means", means).unwrap();
    let before = trainer.description().unwrap();
    let runs = trainer.fit(dir.join("c")).unwrap();
    for name in ["SAE", "means"] {
        assert_same(&dir.join("a").join(name), &dir.join("c").join(name));
    }

    // And what the notebook shows of it is such a file, but for the text, which nobody told the
    // activations.
    let shown = runs.description().unwrap();
    assert_eq!(shown, before);
    let of_file = RunRecipe::load(dir.join("a")).unwrap();
    assert_eq!(
        (&shown.train, &shown.sae, shown.hook, &shown.harvest),
        (&of_file.train, &of_file.sae, of_file.hook, &of_file.harvest)
    );
    assert_eq!(shown.store, Some(dir.join("acts")));
    fs::write(dir.join("shown.toml"), shown.to_toml().unwrap()).unwrap();
    json(dir, "train shown.toml --out d");
    let weights =
        |run: &str| fs::read(dir.join(run).join("means/sae_weights.safetensors")).unwrap();
    assert_eq!(weights("d"), weights("c"));
}

#[cfg(unix)]
#[test]
fn an_interrupted_training_says_so_and_goes_on_to_the_same_end() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    json(dir, &harvest());
    let line = |out: &str| {
        format!(
            "train store --k 8 --expansion 16 --tokens 300000 --batch 500 --checkpoint-seconds 0 --out {out}"
        )
    };
    json(dir, &line("calm"));
    let mut child =
        command(dir).args(line("stopped").split(' ')).stdout(Stdio::null()).spawn().unwrap();
    let checkpoint = dir.join("stopped/SAE/checkpoint.safetensors");
    while !checkpoint.exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it could be stopped");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    assert!(
        Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success()
    );
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(checkpoint.exists() && !dir.join("stopped/SAE/cfg.json").exists());
    let unfinished = run(dir, "eval stopped");
    assert!(
        unfinished.status.code() == Some(1) && text(&unfinished.stderr).contains("no finished SAE"),
        "{}",
        text(&unfinished.stderr)
    );
    json(dir, &line("stopped"));
    assert_same(&dir.join("calm"), &dir.join("stopped"));
}

#[test]
fn wrong_usage_ends_with_2_and_a_failure_with_1() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("bad.toml"), "model = 'tiny-gpt2'\n[train]\ntokns = 5\n").unwrap();
    fs::write(dir.join("range.toml"), "model = 'tiny-gpt2'\n\n[[sae]]\nk = 100_000\n").unwrap();
    fs::write(dir.join("sweep.toml"), "model = 'tiny-gpt2'\nharms = []\n").unwrap();
    for (line, status, words) in [
        ("train", 2, "--out"),
        ("train store --out x --k many", 2, "invalid value"),
        ("harvest tiny-gpt2 --text a --sampled 5 --out x", 2, "cannot be used with"),
        ("harvest tiny-gpt2 --sampled 0 --out x", 2, "sampled = 0; at least 1 is needed"),
        ("train bad.toml --out x", 2, "bad.toml:3: unknown field `tokns`"),
        ("train bad.toml --out x", 2, "did you mean \"tokens\"?"),
        (
            "train range.toml --out x",
            2,
            "range.toml:4: in sae[0]: k = 100000, but there are only 2048 latents",
        ),
        ("train range.toml --out x --k 5", 2, "is a description"),
        ("sweep sweep.toml --out x", 2, "sweep.toml:"),
        ("train there/is/none.toml --out x", 1, "there/is/none.toml: is not there"),
        ("eval there/is/none", 1, "there/is/none"),
        ("predict no-such-model --text a", 1, "no model \"no-such-model\""),
    ] {
        let output = run(dir, line);
        assert_eq!(output.status.code(), Some(status), "{line}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains(words), "{line}: {}", text(&output.stderr));
        assert!(output.stdout.is_empty(), "{line}: {}", text(&output.stdout));
    }
    assert!(!dir.join("x").exists(), "nothing is left of what was wrong from the start");
    let help = run(dir, "--help");
    for words in [
        "Exit status:",
        "0    done",
        "1    failed",
        "2    wrong usage",
        "75   a share",
        "130  interrupted",
    ] {
        assert!(text(&help.stdout).contains(words), "{words}");
    }
}

#[test]
fn a_quiet_command_says_nothing_and_a_reader_that_leaves_is_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let quiet = |progress: &str| {
        let line = format!(
            "harvest tiny-gpt2 --text {TEXT} --context 32 --tokens 600 --quiet --out {progress}"
        );
        command(dir).args(line.split(' ')).env("TSAE_PROGRESS", progress).output().unwrap()
    };
    let output = quiet("lines");
    assert!(
        output.status.success() && output.stderr.is_empty() && !output.stdout.is_empty(),
        "{}",
        text(&output.stderr)
    );

    let mut child = command(dir)
        .args(["predict", "tiny-gpt2", "--text", "Once"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
}

#[cfg(unix)]
#[test]
fn examples_in_the_help_that_are_quick_run_as_they_stand() {
    let dir = tempfile::tempdir().unwrap();
    let place = Path::new(env!("CARGO_BIN_EXE_tsae")).parent().unwrap().display().to_string();
    let path = format!("{place}:{}", std::env::var("PATH").unwrap_or_default());
    let mut ran = 0;
    for (verb, quick) in [
        ("predict", ""),
        ("bench step", "128,1024"),
        ("bench sample", "tiny-gpt2"),
        ("completions", "bash"),
    ] {
        let help = run(dir.path(), &format!("{verb} --help"));
        let help = text(&help.stdout).split("Examples:\n").nth(1).unwrap().to_owned();
        for example in help
            .lines()
            .map(str::trim)
            .filter(|line| line.starts_with("tsae ") && line.contains(quick))
        {
            let example = example.split(" > ").next().unwrap();
            let output = Command::new("sh")
                .args(["-c", example])
                .env("PATH", &path)
                .current_dir(dir.path())
                .output()
                .unwrap();
            assert!(
                output.status.success() && !output.stdout.is_empty(),
                "{example}: {}",
                text(&output.stderr)
            );
            ran += 1;
        }
    }
    assert!(ran >= 4, "{ran}");
}

#[cfg(unix)]
#[test]
fn bash_completes_verbs_and_options() {
    let dir = tempfile::tempdir().unwrap();
    let script = run(dir.path(), "completions bash");
    let file = dir.path().join("tsae.bash");
    fs::write(&file, &script.stdout).unwrap();
    let Ok(checked) = Command::new("bash").arg("-n").arg(&file).status() else { return };
    assert!(checked.success());
    let complete = |words: &[&str]| {
        let (last, before) = words.split_last().unwrap();
        let ask = format!(
            "source {}; COMP_WORDS=({}); COMP_CWORD={}; _tsae tsae '{last}' '{}'; echo \"${{COMPREPLY[@]}}\"",
            file.display(),
            words.join(" "),
            words.len() - 1,
            before.last().unwrap(),
        );
        let output = Command::new("bash").args(["-c", &ask]).output().unwrap();
        text(&output.stdout).trim().to_owned()
    };
    assert_eq!(complete(&["tsae", "har"]), "harvest");
    assert_eq!(complete(&["tsae", "train", "--exp"]), "--expansion");
    assert_eq!(complete(&["tsae", "train", "--arch", "batch"]), "batch-topk");
    for shell in ["zsh", "fish", "powershell", "elvish"] {
        assert!(
            text(&run(dir.path(), &format!("completions {shell}")).stdout).contains("harvest"),
            "{shell}"
        );
    }
}
