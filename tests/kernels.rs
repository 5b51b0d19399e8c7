//! The promise: two notebooks at once do not compile each other's cells.
//!
//! Kernels are hard-linked copies of one build folder. What is written in place there must not be linked, above all the source of the
//! cell: of two kernels that compile at the same moment, one would run what the other's cell says.

use std::process::{Command, Stdio};

use serde_json::Value;
use tokenized_sae::lab::{self, Options};

/// Cells that are sent to both kernels at once.
const ROUNDS: usize = 5;

/// Starts two kernels, has both compile a different cell at the same moment, over and over, and prints what each answered.
const BOTH: &str = r#"
import json, sys
from jupyter_client.manager import start_new_kernel

folder, rounds = sys.argv[1], int(sys.argv[2])

def answer(client, request):
    """What the cell printed and how it ended."""
    text = ""
    while True:
        message = client.get_iopub_msg(timeout=600)
        if message["parent_header"].get("msg_id") != request:
            continue
        content = message["content"]
        if message["msg_type"] == "stream":
            text += content["text"]
        elif message["msg_type"] == "error":
            text += "\n".join(content["traceback"])
        elif message["msg_type"] == "status" and content["execution_state"] == "idle":
            return text

kernels = []
try:
    for _ in range(2):
        kernels.append(start_new_kernel(startup_timeout=600, kernel_name="tsae-rust", cwd=folder))
    answers = []
    for i in range(rounds):
        # Twice as many constants in one as in the other: whoever writes last, the other compiles too little or too much.
        cells = [
            "".join(f'fn round{i}_{n}() -> String {{ "kernel {k}, round {i}".to_owned() }}\n' for n in range(20 * (k + 1)))
            + f'let text{i}: String = round{i}_0();\nprintln!("{{text{i}}}");'
            for k in range(2)
        ]
        requests = [client.execute(cell) for (_, client), cell in zip(kernels, cells)]
        answers.append([answer(client, request) for (_, client), request in zip(kernels, requests)])
    print(json.dumps(answers))
finally:
    for manager, client in kernels:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
"#;

#[test]
fn two_kernels_at_once_keep_their_cells_apart() {
    let lab = lab::set_up(&Options::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(&lab.python)
        .args(["-c", BOTH])
        .arg(folder.path())
        .arg(ROUNDS.to_string())
        .env("JUPYTER_PATH", &lab.jupyter_path)
        .env("JUPYTER_CONFIG_DIR", folder.path())
        .env("JUPYTER_DATA_DIR", folder.path())
        .env("JUPYTER_RUNTIME_DIR", folder.path())
        .env("JUPYTER_PLATFORM_DIRS", "0")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (printed, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{printed}{errors}");
    // The kernels print on the same output.
    let answers: Option<Vec<[Value; 2]>> = printed.lines().find_map(|line| serde_json::from_str(line).ok());
    let answers = answers.unwrap_or_else(|| panic!("no answers in: {printed}{errors}"));
    assert_eq!(answers.len(), ROUNDS);
    for (i, both) in answers.iter().enumerate() {
        for (k, answer) in both.iter().enumerate() {
            assert_eq!(answer.as_str().map(str::trim), Some(&*format!("kernel {k}, round {i}")), "round {i}: {both:#?}");
        }
    }
}
