//! The whole job of somebody with a model on the hub and text in parquet.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::*;

const FILES: [&str; 3] = ["config.json", "model.safetensors", "tokenizer.json"];

/// Sixty documents of words of a book in some order.
fn write_parquet(path: &Path) {
    let book = fs::read_to_string("../../tests/golden/documents/book.txt").unwrap();
    let words: Vec<&str> = book.split_whitespace().collect();
    let document = |i: u8| -> ByteArray {
        let some = bytes(1_000 + usize::from(i)).into_iter().step_by(2).enumerate();
        let text: Vec<&str> =
            some.map(|(at, byte)| words[(at * 7 + usize::from(byte)) % words.len()]).collect();
        ByteArray::from(text.join(" ").into_bytes())
    };
    let schema = Arc::new(
        parse_message_type("message schema { REQUIRED BYTE_ARRAY text (UTF8); }").unwrap(),
    );
    let mut file =
        SerializedFileWriter::new(fs::File::create(path).unwrap(), schema, Default::default())
            .unwrap();
    let mut group = file.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let documents: Vec<ByteArray> = (0..60).map(document).collect();
    column.typed::<ByteArrayType>().write_batch(&documents, None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    file.close().unwrap();
}

/// `tsae compare MODEL --text data.parquet`, in a process with a home of its own.
fn compare(model: &str, endpoint: &str, home: &Path, out: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tsae"));
    for name in [
        "HF_HUB_CACHE",
        "HUGGINGFACE_HUB_CACHE",
        "HF_TOKEN",
        "HF_HUB_OFFLINE",
        "TRANSFORMERS_OFFLINE",
    ] {
        command.env_remove(name);
    }
    let text = home.with_file_name("data.parquet");
    command.args([
        "compare",
        model,
        "--text",
        text.to_str().unwrap(),
        "--k",
        "4",
        "--expansion",
        "2",
        "--tokens",
        "16384",
        "--lr",
        "3e-3",
        "--out",
    ]);
    command
        .arg(out)
        .env("HF_HOME", home)
        .env("HF_ENDPOINT", endpoint)
        .env("TSAE_PROGRESS", "lines");
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// The NMSE of both SAEs, as the report has it.
fn nmse(out: &Path) -> Vec<String> {
    let report = fs::read_to_string(out.join("report.json")).unwrap();
    let numbers: Vec<String> = report
        .lines()
        .filter(|line| line.contains("\"nmse\""))
        .map(|line| line.trim().to_owned())
        .collect();
    assert!(numbers.len() >= 2, "{report}");
    numbers
}

#[test]
fn a_comparison_cut_in_mid_download_ends_as_one_that_was_never_cut() {
    let (server, dir) = (Server::start(), tempfile::tempdir().unwrap());
    let files =
        FILES.map(|file| (file, fs::read(Path::new("../../models/tiny-gpt2").join(file)).unwrap()));
    server.publish("models/org/gpt2-like", "main", &commit(1), &files);
    server.fault("GET /large", Fault::Slow(Duration::from_millis(20)), 3);
    let (home, out) = (dir.path().join("home"), dir.path().join("out"));
    write_parquet(&dir.path().join("data.parquet"));

    let mut first = compare("org/gpt2-like", &server.endpoint, &home, &out);
    let part = home
        .join("hub/models--org--gpt2-like/blobs")
        .join(format!("{}.incomplete", Server::sha256(&files[1].1)));
    for waited in 0.. {
        assert!(waited < 3_000, "no part of the model came in 30 seconds");
        match part.metadata() {
            Ok(data) if data.len() > 20_000 => break,
            _ => std::thread::sleep(Duration::from_millis(10)),
        }
    }
    first.kill().unwrap(); // SIGKILL
    first.wait().unwrap();
    server.asked();

    let second =
        compare("org/gpt2-like", &server.endpoint, &home, &out).wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(second.status.success(), "{said}");
    let from: Vec<u64> = gets(&server.asked());
    assert!(
        from.iter().any(|&from| from >= 20_000),
        "{from:?}: the download did not go on where it was"
    );

    let whole = dir.path().join("whole");
    let never_cut = compare("../../models/tiny-gpt2", "http://127.0.0.1:9", &home, &whole)
        .wait_with_output()
        .unwrap();
    assert!(never_cut.status.success(), "{}", String::from_utf8_lossy(&never_cut.stderr));
    assert_eq!(nmse(&out), nmse(&whole));
}
