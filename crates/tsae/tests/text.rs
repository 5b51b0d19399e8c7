//! The promise: `tsae harvest` makes nothing of text that is not what it is taken for, notices text
//! that has changed, and makes again what is gone.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn run(dir: &Path, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tsae"));
    command.current_dir(dir).env("TSAE_PROGRESS", "off").args(line.split(' ')).output().unwrap()
}

fn told(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

fn prose(i: usize) -> String {
    format!("Sentence {i} of a made-up document, long enough to be read. ").repeat(8)
}

const HARVEST: &str = "harvest tiny-gpt2 --hook blocks.1.hook_resid_pre --context 32 --shard-tokens 256 --held-out-share 0.3";

#[test]
fn a_file_that_looks_like_another_format_is_refused_and_read_by_the_option_that_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let rows = |row: &dyn Fn(usize) -> String| (0..40).map(row).collect::<Vec<_>>().join("\n");
    let lines = rows(&|i| serde_json::json!({ "body": prose(i), "score": i }).to_string());
    fs::write(dir.join("lines"), &lines).unwrap();
    fs::write(
        dir.join("table.bak"),
        format!("id,body\n{}", rows(&|i| format!("{i},\"{}\"", prose(i)))),
    )
    .unwrap();
    for (file, looks, format) in [("lines", "JSON lines", "json"), ("table.bak", "CSV", "csv")] {
        let harvest = format!("{HARVEST} --text {file} --out {file}-store");
        let refused = run(dir, &harvest);
        assert!(!refused.status.success() && told(&refused).contains(looks), "{}", told(&refused));
        assert!(!dir.join(format!("{file}-store/manifest.json")).exists());
        // What column there is, is said next.
        let refused = run(dir, &format!("{harvest} --format {format}"));
        assert!(told(&refused).contains("body"), "{}", told(&refused));
        let read = run(dir, &format!("{harvest} --format {format} --column body"));
        assert!(read.status.success(), "{}", told(&read));
        let insisted =
            run(dir, &format!("{HARVEST} --text {file} --format text --out {file}-text"));
        assert!(insisted.status.success(), "{}", told(&insisted));
    }
    assert_eq!(
        run(dir, &format!("{HARVEST} --text lines --format xml --out x")).status.code(),
        Some(2)
    );
}

#[test]
fn text_that_has_changed_is_noticed_and_a_lost_file_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::create_dir(dir.join("books")).unwrap();
    for i in 0..4 {
        fs::write(dir.join(format!("books/{i}.txt")), prose(i).repeat(4)).unwrap();
    }
    for (out, stream) in [("store", ""), ("streamed", " --tokens 2000 --stream")] {
        let harvest = format!("{HARVEST} --text books{stream} --out {out}");
        let run = || run(dir, &harvest);
        let first = run();
        assert!(first.status.success(), "{}", told(&first));
        let shards = || -> Vec<Vec<u8>> {
            let shard = |i: usize| fs::read(dir.join(format!("{out}/shard-{i:05}.safetensors")));
            (0..).map_while(|i| shard(i).ok()).collect()
        };
        let whole = shards();
        assert!(whole.len() > 2, "{}", whole.len());
        // Gone, or cut short and then deleted, as the message says.
        let lost = dir.join(format!("{out}/shard-00001.safetensors"));
        fs::remove_file(&lost).unwrap();
        let again = run();
        assert!(again.status.success() && shards() == whole, "{}", told(&again));
        fs::write(&lost, &whole[1][..whole[1].len() / 2]).unwrap();
        let cut = run();
        assert!(
            told(&cut).contains("delete it and harvest into this folder again"),
            "{}",
            told(&cut)
        );
        fs::remove_file(&lost).unwrap();
        let again = run();
        assert!(again.status.success() && shards() == whole, "{}", told(&again));
        let held_out = dir.join(format!("{out}/held_out.safetensors"));
        let tokens = fs::read(&held_out).unwrap();
        fs::remove_file(&held_out).unwrap();
        let again = run();
        assert!(again.status.success() && shards() == whole, "{}", told(&again));
        assert!(fs::read(&held_out).unwrap() == tokens);

        let book = dir.join("books/2.txt");
        let text = fs::read_to_string(&book).unwrap();
        fs::write(&book, &text).unwrap();
        assert!(run().status.success(), "touched, and the same");
        fs::write(&book, text.replacen("Sentence 2", "Sentence 5", 1)).unwrap();
        let changed = run();
        assert!(
            !changed.status.success()
                && told(&changed).contains("was \"2.txt\"")
                && told(&changed).contains("another folder"),
            "{}",
            told(&changed)
        );
        fs::write(&book, &text).unwrap();
        // An older harvest does not remember its text.
        fs::remove_file(dir.join(format!("{out}/text.json"))).unwrap();
        assert!(run().status.success());
        // Text that is gone is none that has changed.
        fs::rename(dir.join("books"), dir.join("elsewhere")).unwrap();
        assert!(run().status.success());
        fs::rename(dir.join("elsewhere"), dir.join("books")).unwrap();
    }
}
