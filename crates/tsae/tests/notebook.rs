//! The promises: a notebook runs in the real kernel, cells share one copy of the library, types are
//! inferred, an interrupt loses nothing; and every way in which a cell can fail makes the run fail
//! and names the cell.
//!
//! The first run sets up Jupyter and the kernel, as `tsae run` does: that takes up to half an hour
//! on two cores, and says so.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use serde_json::{Value, json};
use tsae::Error;
use tsae::bench::{self, NotebookBench};
use tsae::lab::{self, Executed, RunOptions};

/// Two kernels at once would only make each other slow.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// A code cell and its tags.
type Cell<'a> = (&'a str, &'a [&'a str]);

fn write_notebook(path: &Path, cells: &[Cell]) {
    let cell = |(i, (source, tags)): (usize, &Cell)| json!({ "cell_type": "code", "id": format!("cell-{i}"), "metadata": { "tags": tags }, "source": source, "outputs": [], "execution_count": null });
    let cells: Vec<Value> = cells.iter().enumerate().map(cell).collect();
    let spec = json!({ "name": "tsae-rust", "display_name": "Rust (tsae)", "language": "rust" });
    let notebook = json!({ "cells": cells, "metadata": { "kernelspec": spec }, "nbformat": 4, "nbformat_minor": 5 });
    std::fs::write(path, notebook.to_string()).unwrap();
}

/// A folder with a notebook of these cells after the usual first one, and what running it gives.
fn run(cells: &[Cell]) -> (tempfile::TempDir, Result<Executed, Error>) {
    run_with(cells, &[])
}

fn run_with(
    cells: &[Cell],
    parameters: &[(&str, &str)],
) -> (tempfile::TempDir, Result<Executed, Error>) {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.ipynb");
    let first = format!(
        ":dep tokenized-sae = {{ path = \"{}\" }}\nuse tokenized_sae::prelude::*;",
        root().display()
    );
    let cells: Vec<Cell> =
        [(&*first, [].as_slice())].into_iter().chain(cells.iter().copied()).collect();
    write_notebook(&path, &cells);
    let result = lab::run(&[path], &with(parameters));
    (folder, result.map(|mut executed| executed.remove(0)))
}

fn with(parameters: &[(&str, &str)]) -> RunOptions {
    let parameters =
        parameters.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    RunOptions { parameters, ..RunOptions::default() }
}

fn outputs(executed: &Path) -> Vec<Value> {
    let notebook: Value = serde_json::from_slice(&std::fs::read(executed).unwrap()).unwrap();
    notebook["cells"].as_array().unwrap().iter().map(|cell| cell["outputs"].clone()).collect()
}

/// What a cell printed, and the plain text of its value.
fn text(outputs: &Value) -> String {
    // A notebook's file holds a text as a list of lines.
    let lines = |text: &Value| match text {
        Value::Array(lines) => lines.iter().filter_map(Value::as_str).collect(),
        text => text.as_str().unwrap_or_default().to_owned(),
    };
    outputs
        .as_array()
        .unwrap()
        .iter()
        .map(|output| {
            lines(&output["text"])
                + &lines(&output["data"]["text/plain"])
                + &lines(&output["traceback"])
        })
        .collect()
}

#[test]
fn the_quickstart_runs() {
    let _alone = alone();
    let notebook = root().join("notebooks/01_quickstart.ipynb");
    let out = tempfile::tempdir().unwrap();
    let options = RunOptions { out: Some(out.path().to_owned()), ..RunOptions::default() };
    let executed = lab::run(&[notebook], &options).unwrap().remove(0);
    assert!(executed.cells.len() >= 9, "{} cells", executed.cells.len());
    let page = std::fs::read_to_string(&executed.html).unwrap();
    assert!(page.contains("src=\"data:image/svg+xml;base64,"), "the page shows no figure");
    let outputs = outputs(&executed.ipynb);
    let shown = outputs.iter().filter(|cell| {
        cell.as_array().is_some_and(|all| all.iter().any(|o| o["output_type"] == "execute_result"))
    });
    assert!(shown.count() >= 5, "few cells show anything: {outputs:?}");
}

/// All the others, on little text and for few steps: what they find is theirs to say, here it
/// counts that every cell works.
#[test]
fn every_experiment_runs() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let library = format!("path = \\\"{}\\\"", root().display());
    let mut experiments: Vec<PathBuf> = std::fs::read_dir(root().join("notebooks"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    experiments.retain(|path| {
        path.extension().is_some_and(|end| end == "ipynb") && !path.ends_with("01_quickstart.ipynb")
    });
    experiments.sort();
    assert!(experiments.len() >= 7, "{experiments:?}");
    for experiment in experiments {
        let copy = folder.path().join(experiment.file_name().unwrap());
        let source = std::fs::read_to_string(&experiment).unwrap();
        assert!(
            source.contains("path = \\\"..\\\""),
            "{} does not begin as the others",
            experiment.display()
        );
        std::fs::write(&copy, source.replace("path = \\\"..\\\"", &library)).unwrap();
        let mut few = vec![
            ("sampled", "40000"),
            ("tokens", "40000"),
            ("samples", "20000"),
            ("seeds", "1"),
            ("counted", "20000"),
        ];
        if source.contains("HuggingFaceTB/") {
            few.extend([("model_name", "tiny-gpt2"), ("text", ""), ("layers", "1, 2")]);
            // Whose words are too few to tell their letters.
            few.extend([("layer", "2"), ("min_f1", "0.0")]);
        }
        let known: Vec<(&str, &str)> =
            few.into_iter().filter(|(name, _)| source.contains(&format!("let {name}: "))).collect();
        let executed = lab::run(&[copy], &with(&known)).unwrap().remove(0);
        let page = std::fs::read_to_string(&executed.html).unwrap();
        // Some have tables alone.
        let draws = source.contains("plot::") || source.contains("SweepResults");
        assert!(
            page.contains("src=\"data:image/svg+xml;base64,") || !draws,
            "{}: the page shows no figure",
            experiment.display()
        );
    }
}

#[test]
fn cells_share_the_library_and_an_interrupt_loses_nothing() {
    // As the stop button does, and not to a shell in between: the signal goes to the kernel's whole
    // process group.
    let stop =
        "std::process::Command::new(\"sh\").args([\"-c\", \"kill -INT 0\"]).status().is_ok()";
    let (_folder, result) = run(&[
        (
            "let hook = \"blocks.2.hook_resid_pre\".parse::<HookPoint>()?;\nlet ids: Vec<u32> = (0..6).collect();",
            &[],
        ),
        (
            "let tokens = Tokens::new(ids.clone(), 3)?;\nlet twice = ids.iter().map(|&id| f64::from(id) * 2.0).sum::<f64>();",
            &[],
        ),
        (
            "use tokenized_sae::display::interrupt;\ninterrupt::watch();\ninterrupt::requested()",
            &[],
        ),
        (stop, &[]),
        ("std::thread::sleep(std::time::Duration::from_millis(300));\ninterrupt::requested()", &[]),
        ("interrupt::clear();\nprintln!(\"{hook} {} {twice}\", tokens.n_seq());", &[]),
    ]);
    let executed = result.unwrap();
    let outputs = outputs(&executed.ipynb);
    assert_eq!(text(&outputs[3]).trim(), "false");
    assert_eq!(text(&outputs[4]).trim(), "true", "the cell that sent the signal outlives it");
    assert_eq!(
        text(&outputs[5]).trim(),
        "true",
        "the flag that one cell's code sets is not the one that another cell's code reads"
    );
    assert_eq!(text(&outputs[6]).trim(), "blocks.2.hook_resid_pre 2 30");
    assert_eq!(executed.cells.len(), 7);
    assert!(executed.html.is_file() && executed.ipynb.ends_with("executed/small.ipynb"));
}

/// A long call shows a bar that is redrawn in place, training a figure below it; the text around
/// them stays text, in its order.
#[test]
fn bars_move_and_figures_grow_while_a_cell_runs() {
    let count = "println!(\"before\");
let mut progress = tokenized_sae::display::Progress::new(\"count <up>\", 40, \"steps\");
for i in 0..=40 {
    std::thread::sleep(std::time::Duration::from_millis(30));
    progress.set(i);
}
progress.finish();
println!(\"after\");";
    let train = "let model: Model = Model::load(\"tiny-gpt2\")?;
let hook: HookPoint = HookPoint::resid_pre(2);
let corpus: Corpus = Corpus::sampled(&model, 8_000, 0)?;
let acts: ActivationStore = ActivationStore::harvest(&model, &[hook], &corpus.train, \"cache\", HarvestConfig::default())?;
let config: TrainConfig = TrainConfig { tokens: 400_000, batch: 1024, ..Default::default() };
let sae: SaeConfig = SaeConfig { k: 16, expansion: 16, ..SaeConfig::for_model(&model) };
let runs: Runs = Trainer::new(&acts, hook, config)?.add(\"SAE\", sae)?.fit(\"runs\")?;";
    let (_folder, result) = run(&[(count, &[]), (train, &[])]);
    let outputs = outputs(&result.unwrap().ipynb);
    let kinds = |cell: &Value| -> Vec<String> {
        cell.as_array()
            .unwrap()
            .iter()
            .map(|o| o["output_type"].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    assert_eq!(kinds(&outputs[1]), ["stream", "display_data", "stream"], "{}", outputs[1]);
    assert!(
        text(&outputs[1]).starts_with("before\ncount <up>  40 steps")
            && text(&outputs[1]).ends_with("after\n"),
        "{}",
        outputs[1]
    );
    let page = outputs[1][1]["data"]["text/html"].to_string();
    assert!(page.contains("width:100.0%") && page.contains("count &lt;up&gt;"), "{page}");
    let pictures: Vec<String> =
        outputs[2].as_array().unwrap().iter().map(|o| o["data"]["text/html"].to_string()).collect();
    assert!(
        pictures.iter().any(|html| html.contains("tsae-figure")),
        "training drew no figure: {}",
        text(&outputs[2])
    );
    assert!(
        !outputs.iter().any(|cell| cell.to_string().contains("TSAE {")),
        "a marked line came through as it was printed"
    );
}

/// The cache folder may be deleted at any time, under a running kernel too.
#[test]
fn a_build_folder_that_is_deleted_is_put_back_before_the_next_cell() {
    let delete = "let kept: String = \"kept\".to_owned();\nstd::fs::remove_dir_all(std::env::var(\"EVCXR_TMPDIR\")?)?;";
    let (_folder, result) =
        run(&[(delete, &[]), ("println!(\"{kept} {}\", HookPoint::resid_pre(1));", &[])]);
    assert_eq!(text(&outputs(&result.unwrap().ipynb)[2]).trim(), "kept blocks.1.hook_resid_pre");
}

/// VS Code signals the kernel's first process alone, which is the launcher.
#[cfg(target_os = "linux")]
#[test]
fn a_signal_to_the_launcher_alone_reaches_the_library_once() {
    let signal = r#"{
    let parent = |pid: String| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().to_owned()
    };
    let launcher = parent(parent("self".to_owned()));
    std::process::Command::new("kill").args(["-INT", &launcher]).status().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(600));
}"#;
    let (_folder, result) = run(&[
        ("use tokenized_sae::display::interrupt;\ninterrupt::watch();\nlet kept: usize = 5;", &[]),
        (signal, &[]),
        ("println!(\"{} {kept}\", interrupt::requested());", &[]),
    ]);
    // Twice within three seconds would have ended the process, and the variable with it.
    assert_eq!(text(&outputs(&result.unwrap().ipynb)[3]).trim(), "true 5");
}

/// The number, message and source of the cell that failed.
fn failure(cells: &[Cell]) -> (usize, String, String) {
    let (folder, result) = run(cells);
    let told = match result {
        Err(Error::Cell { notebook, cell, message, source_text }) => {
            assert_eq!(notebook, std::path::absolute(folder.path().join("small.ipynb")).unwrap());
            (cell, message, source_text)
        }
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("no failure"),
    };
    let copy: PathBuf = folder.path().join("executed/small.ipynb");
    assert!(
        !outputs(&copy)[told.0 - 1].as_array().unwrap().is_empty(),
        "the executed copy lacks the failure"
    );
    assert!(
        outputs(&copy)[told.0..].iter().all(|later| later.as_array().unwrap().is_empty()),
        "a later cell ran"
    );
    told
}

#[test]
fn a_panic_fails_the_run() {
    let (cell, message, source) = failure(&[
        ("let fine: usize = 1;", &[]),
        ("let empty: Vec<usize> = Vec::new();\nprintln!(\"{}\", empty[fine]);", &[]),
        ("println!(\"later\");", &[]),
    ]);
    assert_eq!(cell, 3);
    assert!(
        message.contains("panicked at") && message.contains("index out of bounds"),
        "{message}"
    );
    assert!(source.starts_with("let empty"), "{source}");
}

#[test]
fn a_failing_question_mark_fails_the_run() {
    let (cell, message, source) = failure(&[
        ("let hook: HookPoint = \"blocks.two\".parse()?;", &[]),
        ("println!(\"later\");", &[]),
    ]);
    assert_eq!(cell, 2);
    assert!(message.contains("blocks.two"), "{message}");
    assert!(source.starts_with("let hook"), "{source}");
}

#[test]
fn a_cell_that_does_not_compile_fails_the_run() {
    let (cell, message, _) =
        failure(&[("let number: usize = \"one\";", &[]), ("println!(\"later\");", &[])]);
    assert_eq!(cell, 2);
    assert!(message.contains("mismatched types"), "{message}");
    assert!(!message.contains('\u{1b}'), "colour codes in {message:?}");
}

#[test]
fn tags_allow_what_is_meant() {
    let fails: Cell = ("let hook: HookPoint = \"blocks.two\".parse()?;", &["raises-exception"]);
    let (_folder, result) = run(&[fails, fails, fails, ("println!(\"reached\");", &[])]);
    let outputs = outputs(&result.unwrap().ipynb);
    assert!(outputs[1..4].iter().all(|cell| text(cell).contains("blocks.two")), "{outputs:?}");
    assert_eq!(text(&outputs[4]).trim(), "reached");
}

#[test]
fn what_a_cell_writes_to_standard_error_is_output() {
    let (_folder, result) = run(&[
        ("eprintln!(\"only a remark\"); 1", &[]),
        ("let x: i32 = dbg!(1 + 2);\nx", &[]),
        ("std::panic::catch_unwind(|| panic!(\"told and caught\")).is_err()", &[]),
        ("std::thread::spawn(|| panic!(\"in a thread\")).join().is_err()", &[]),
        ("struct P { x: i32 }\nlet p: P = P { x: 1 };\np.x", &[]),
        ("struct P { x: i32, y: i32 }\nlet p: P = P { x: 1, y: 2 };\np.x + p.y", &[]),
        (
            "std::process::Command::new(\"sh\").args([\"-c\", \"echo from a program >&2\"]).status()?.success()",
            &[],
        ),
    ]);
    let outputs = outputs(&result.unwrap().ipynb);
    let wanted = [
        ("only a remark", "1"),
        ("1 + 2 = 3", "3"),
        ("told and caught", "true"),
        ("in a thread", "true"),
        ("", "1"),
        ("was redefined, so was lost", "3"),
        ("from a program", "true"),
    ];
    for (cell, (remark, value)) in outputs[1..].iter().zip(wanted) {
        let kinds = cell.as_array().unwrap();
        assert!(kinds.iter().all(|output| output["output_type"] != "error"), "{cell}");
        let is_remark = |output: &&Value| output["name"] == "stderr";
        assert_eq!(kinds.iter().any(|output| is_remark(&output)), !remark.is_empty(), "{cell}");
        assert!(text(cell).contains(remark) && text(cell).contains(value), "{cell}");
    }
}

#[test]
fn parameters_reach_all_that_hangs_on_them_and_a_copy_runs_again() {
    let odd = "a \"quoted\" \\ {k} \u{202e}; ä\nnext";
    let declared = "let k: usize = 16; // active\nlet lr: f64 = 1e-3;\nlet word: String = \"some\".to_owned();\nlet mut all: Vec<usize> = vec![];\n\
                    let twice: String = format!(\"{}\", 2 * k);\nlet hook: HookPoint = HookPoint::resid_pre(k);\nhook";
    let used =
        "all.push(k);\nprintln!(\"{k} {lr} {twice} {hook} {all:?} {}\", word.escape_unicode());";
    let cells: [Cell; 2] = [(declared, &["parameters"]), (used, &[])];
    let given = [("k", "3e0"), ("lr", "3e-4"), ("word", odd), ("all", "vec![1, 2]")];
    let (folder, result) = run_with(&cells, &given);
    let executed = result.unwrap();
    let told = outputs(&executed.ipynb);
    assert_eq!(told.len(), 4);
    assert!(
        text(&told[1]).starts_with("blocks.16.hook_resid_pre: "),
        "the cell itself runs as it is: {}",
        text(&told[1])
    );
    assert!(text(&told[2]).starts_with("blocks.3.hook_resid_pre: "), "{}", text(&told[2]));
    let wanted = format!("3 0.0003 6 blocks.3.hook_resid_pre [1, 2, 3] {}", odd.escape_unicode());
    assert_eq!(text(&told[3]).trim(), wanted);
    let copy: Value = serde_json::from_slice(&std::fs::read(&executed.ipynb).unwrap()).unwrap();
    let recorded = json!({ "k": 3, "lr": 0.0003, "word": odd, "all": "vec![1, 2]" });
    assert_eq!(copy["metadata"]["papermill"]["parameters"], recorded);
    assert_eq!(copy["cells"][2]["metadata"]["tags"], json!(["injected-parameters"]));
    assert!(
        std::fs::read_to_string(&executed.html).unwrap().contains("celltag_injected-parameters")
    );

    // The copy, again: its injected cell gives way to another. A failing cell is counted in what
    // ran.
    let again = |value: &str| {
        let _alone = alone();
        lab::run(
            std::slice::from_ref(&executed.ipynb),
            &RunOptions { out: Some(folder.path().to_owned()), ..with(&[("k", value)]) },
        )
    };
    let told = outputs(&again("5").unwrap()[0].ipynb);
    assert_eq!(told.len(), 4);
    assert_eq!(
        text(&told[3]).trim(),
        format!("5 0.001 10 blocks.5.hook_resid_pre [5] {}", "some".escape_unicode())
    );
    match again("many") {
        Err(Error::Parameter { name, why, .. }) => {
            assert!(name == "k" && why.contains("usize") && why.contains("\"many\""), "{why}")
        }
        other => panic!("no such failure: {other:?}"),
    }
}

#[test]
fn a_cell_that_fails_under_its_parameters_is_the_one_that_is_named() {
    let declared: Cell =
        ("let list: Vec<u32> = vec![1];\nlet first: u32 = list[0];", &["parameters"]);
    let (_folder, result) =
        run_with(&[declared, ("println!(\"later\");", &[])], &[("list", "Vec::new()")]);
    match result {
        Err(Error::Cell { cell, message, source_text, .. }) => {
            assert_eq!(cell, 3);
            assert!(message.contains("panicked at"), "{message}");
            assert!(source_text.contains("let list: Vec<u32> = Vec::new();\n"), "{source_text}");
        }
        other => panic!("no such failure: {other:?}"),
    }
}

#[test]
fn the_kernel_is_measured() {
    let _alone = alone();
    let bench = NotebookBench { starts: 1, repetitions: 2, ..NotebookBench::default() };
    let report = bench::notebook(&bench).unwrap();
    let seconds = [
        report.kernel_start,
        report.first_cell,
        report.first_let,
        report.call,
        report.print,
        report.figure,
        report.untyped_let,
    ];
    assert!(seconds.iter().all(|&seconds| seconds > 0.0 && seconds < 600.0), "{report:?}");
    // evcxr's own profile would make it a third each time; what else the machine does meanwhile
    // lowers it once.
    let ratios = std::iter::once(report).chain((0..2).map(|_| bench::notebook(&bench).unwrap()));
    assert!(
        cfg!(debug_assertions) || ratios.map(|report| report.step_ratio).any(|ratio| ratio > 0.6),
        "three times at most 0.6"
    );
}
