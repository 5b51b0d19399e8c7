//! The promises about a cell's end, and about two notebooks at once.
//!
//! What a cell wrote is there when it ends; a cell that fails says so, and returns those that
//! wait behind it. And two kernels do not compile each other's cells, although they are hard-linked
//! copies of one build folder: what is written in place there must not be linked, above all the
//! source of the cell.
#![cfg(unix)]

#[path = "../shared/kernel.rs"]
mod kernel;

use serde_json::{Value, json};
use tsae::lab;

/// What a program saw in a folder of its own.
fn seen(program: &str, arguments: &[&str]) -> Value {
    let lab = lab::set_up(&lab::Options::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    kernel::drive(&lab, folder.path(), false, program, arguments)
}

#[test]
fn a_cell_has_said_all_when_it_ends_and_its_failure_ends_a_run_of_all() {
    let seen = seen(include_str!("ends.py"), &[]);
    assert_eq!(seen["all"].as_array().unwrap().len(), 20);
    for (i, said) in seen["all"].as_array().unwrap().iter().enumerate() {
        // Out of two pipes; only within each is there an order.
        assert_eq!(
            said,
            &json!({ "stdout": format!("a {i}\nb {i}\n"), "stderr": format!("c {i}\nd {i}\n") })
        );
    }
    let unended: Vec<Value> = seen["unended"]
        .as_array()
        .unwrap()
        .iter()
        .map(|said| json!([said["stdout"], said["stderr"]]))
        .collect();
    let wanted = [
        ["", "remark"],
        ["text", ""],
        ["flushed", ""],
        ["shown ", ""],
        ["failed ", ""],
        ["panicked ", ""],
        ["1", ""],
    ];
    assert_eq!(unended, wanted.map(|said| json!(said)));
    assert_eq!(
        seen["early"],
        json!([["stderr", "early\n"], ["stdout", "late\n"]]),
        "a remark does not wait for the cell's end"
    );

    let failed = seen["failed"].as_object().unwrap();
    assert_eq!(
        failed["panic"]["error"],
        json!(["panic", "index out of bounds: the len is 0 but the index is 3"])
    );
    let told = failed["panic"]["traceback"].as_str().unwrap();
    assert!(told.contains("panicked at line 3, column 20 of the cell:\n"), "{told}");
    assert!(
        !told.contains("evcxr") && !told.contains("<unknown>"),
        "what is below the cell is of no use: {told}"
    );
    assert_eq!(failed["question mark"]["error"], json!(["Error", "invalid digit found in string"]));
    assert_eq!(failed["question mark"]["traceback"], "invalid digit found in string");
    assert_eq!(failed["compiler"]["error"][1], "cannot find function `nowhere` in this scope");
    assert_eq!(failed["end"]["error"][1], "Subprocess terminated with status: exit status: 3");
    for (kind, run) in failed {
        assert_eq!(
            run["states"],
            json!(["ok", "error", "aborted", "ok"]),
            "{kind}: all but the last are one run of all cells"
        );
        assert_eq!(run["reply"], run["error"], "{kind}: for a client that reads only the reply");
        assert_eq!(run["stderr"], "", "{kind}: it would be said twice");
    }
    let places = [(1, 1), (1, 5), (2, 11), (2, 16), (1, 22), (2, 5), (1, 43)];
    for (told, (line, column)) in seen["places"].as_array().unwrap().iter().zip(places) {
        let wanted = format!("panicked at line {line}, column {column} of the cell:");
        assert!(
            told.as_str().unwrap().ends_with(&wanted),
            "{told}; wanted line {line}, column {column}"
        );
    }
    assert_eq!(seen["whatever happens"], json!(["error", "ok"]));
}

/// On Linux, which says what a thread waits for.
#[cfg(target_os = "linux")]
#[test]
fn a_cell_that_reads_standard_input_has_its_reader_asked_or_fails_at_once() {
    let seen = seen(include_str!("input.py"), &[]);
    for (cell, read) in [
        ("line", "\"Ada\""),
        ("again", "\"schön\""),
        ("lines", "\"one two\""),
        ("thread", "\"aside\""),
        ("long", "200001"),
        ("still kept", "7"),
        ("after", "2"),
    ] {
        assert_eq!(seen[cell][0], "ok", "{cell}: {}", seen[cell]);
        assert!(seen[cell][1].as_array().unwrap().contains(&json!(read)), "{cell}: {}", seen[cell]);
    }
    let told = |of: &Value, why: &str| {
        assert_eq!(of[0], "error", "{of}");
        let all = of[1].as_array().unwrap();
        assert!(all.iter().any(|one| one.as_str().unwrap().starts_with(why)), "{of}");
    };
    told(&seen["stopped"], "the cell was stopped while it waited for standard input");
    for kind in ["question mark", "panic", "unheeded", "to the end"] {
        told(
            &seen["alone"][kind],
            "the cell reads standard input, and nobody is there to be asked",
        );
    }
}

#[test]
fn a_cell_ends_before_those_behind_it_are_given_back() {
    let lab = lab::set_up(&lab::Options::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let files = lab.jupyter_path.parent().unwrap().to_str().unwrap();
    let seen = kernel::drive(&lab, folder.path(), false, include_str!("late.py"), &[files]);
    let fails = [["fails", "busy"], ["fails", "error"], ["fails", "idle"]];
    let waits = [["waits", "busy"], ["waits", "idle"]];
    assert_eq!(seen, json!([&fails[..], &waits[..]].concat()));
}

#[test]
fn a_kernel_that_cannot_work_says_so() {
    let seen = seen(include_str!("silent.py"), &[]);
    let told = seen["port"]["told"].as_str().unwrap();
    assert!(
        told.starts_with("the kernel cannot listen at tcp://127.0.0.1:")
            && told.trim().lines().count() == 1,
        "{told}"
    );
    assert_eq!(seen["port"]["status"], 1, "{seen}");

    let cell = &seen["cell"];
    let told = cell["told"].as_array().unwrap();
    assert!(
        told.iter().any(|one| one
            .as_str()
            .unwrap()
            .starts_with("evcxr, which compiles and runs the cells, does not answer")),
        "{seen}"
    );
    assert_eq!(cell["status"], "error");
    assert_ne!(seen["ended"], 0, "{seen}");
}

/// `TSAE_ROUNDS=50 cargo test --release --test cells -- --ignored`, beside two busy processes:
/// `TSAE_AT_ONCE` (four) kernels start at once.
#[test]
#[ignore = "minutes"]
fn kernels_that_start_at_once_all_work() {
    let set =
        |name: &str, otherwise: &str| std::env::var(name).unwrap_or_else(|_| otherwise.to_owned());
    for transport in ["ipc", "tcp"] {
        let seen = seen(
            include_str!("stress.py"),
            &[&set("TSAE_ROUNDS", "10"), &set("TSAE_AT_ONCE", "4"), transport],
        );
        println!("{transport}: {seen}");
        // A port may be somebody else's before the kernel is there, which it says; no test can keep
        // that from happening.
        let failures = seen["failures"].as_array().unwrap();
        assert!(failures.is_empty(), "{failures:#?}");
    }
}

#[test]
fn two_kernels_at_once_keep_their_cells_apart() {
    const ROUNDS: usize = 5;
    let seen = seen(include_str!("two.py"), &[&ROUNDS.to_string()]);
    let answers = seen.as_array().unwrap();
    assert_eq!(answers.len(), ROUNDS);
    for (i, both) in answers.iter().enumerate() {
        assert_eq!(
            both,
            &json!([format!("kernel 0, round {i}"), format!("kernel 1, round {i}")]),
            "round {i}"
        );
    }
}
