//! Text is never guessed: what is not said to be plain text and looks like something else is
//! refused, what is said to be something is read as that, and text that has changed is noticed.

#[path = "shared/bytes.rs"]
mod bytes;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::text_files;
use tokenized_sae::activations::{Dtype, Source};
use tokenized_sae::corpus::{Documents, TokenStream};
use tokenized_sae::prelude::*;

fn file(dir: &Path, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, content).unwrap();
    path
}

/// The documents of a file of such a name and content.
fn read(name: &str, content: impl AsRef<[u8]>) -> Result<Vec<String>> {
    let dir = tempfile::tempdir().unwrap();
    Documents::open(file(dir.path(), name, content), "text")?.collect()
}

fn read_as(format: &str, content: impl AsRef<[u8]>) -> Result<Vec<String>> {
    let dir = tempfile::tempdir().unwrap();
    Documents::open_as(file(dir.path(), "some.bak", content), format, "text")?.collect()
}

fn utf_16(text: &str, big_endian: bool) -> Vec<u8> {
    let bytes = |unit: u16| if big_endian { unit.to_be_bytes() } else { unit.to_le_bytes() };
    [0xFEFF].into_iter().chain(text.encode_utf16()).flat_map(bytes).collect()
}

const LINES: &str =
    "{\"id\": 1, \"text\": \"One.\"}\n{\"id\": 2, \"text\": \"Two, or\\nthree.\"}\n";
const ARRAY: &str = "[\n {\"text\": \"One.\"},\n {\"text\": \"Two, or\\nthree.\"}\n]\n";
const CSV: &str = "id,text\n1,One.\n2,\"Two, or\nthree.\"\n";
const TSV: &str = "id\ttext\n1\tOne.\n2\t\"Two, or\nthree.\"\n";
const TEXTS: [&str; 2] = ["One.", "Two, or\nthree."];

#[test]
fn what_looks_like_something_else_is_refused_with_what_reads_it_and_what_insists() {
    let zeros: Vec<u8> = "A text of some words.\n".bytes().flat_map(|byte| [byte, 0]).collect();
    for (content, looks, remedy) in [
        (LINES.as_bytes(), "JSON lines", "format(\"json\")"),
        (ARRAY.as_bytes(), "a JSON array", "format(\"json\")"),
        (b"[\"One.\", \"Two.\"]", "a JSON array", "format(\"json\")"),
        (CSV.as_bytes(), "CSV, with the columns \"id\", \"text\"", "format(\"csv\")"),
        (TSV.as_bytes(), "(TSV), with the columns \"id\", \"text\"", "format(\"tsv\")"),
        (b"label;text\n0;Eins\n1;Zwei\n", "\"label\", \"text\"", "format(\"csv\")"),
        (b"\xEF\xBB\xBF<!-- x -->\n<!DOCTYPE html>\n<html><p>A</p></html>", "HTML", "text of it"),
        (b"<?xml version=\"1.0\"?>\n<doc>A</doc>", "XML", "the text out of it"),
        (&zeros, "another encoding", "iconv -f utf-16le -t utf-8"),
        (b"\xFF\xFE\0\0A\0\0\0", "another encoding", "iconv -f utf-32 -t utf-8"),
        (b"\x1F\x8B\x08\0\0\0\0\0\0\x03", "a .gz file", "give it that ending"),
    ] {
        for name in ["no-ending", "x.jsonl.1", "x.bak", "x.txt", "x.md"] {
            let told = read(name, content).unwrap_err().to_string();
            let said =
                [name, looks, remedy, "format(\"text\") reads it as plain text all the same"];
            assert!(said.iter().all(|part| told.contains(part)), "{told}");
        }
        if std::str::from_utf8(content).is_ok() {
            assert_eq!(read_as("text", content).unwrap().len(), 1);
        }
    }
    let told = read("part.html", "<p>A paragraph.</p>").unwrap_err().to_string();
    assert!(told.contains("looks like HTML"), "{told}");
    assert!(read_as("xml", "").unwrap_err().to_string().contains("text, json, csv, tsv, parquet"));
}

#[test]
fn a_corpus_is_refused_before_anything_is_made_of_it_and_reads_what_it_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let prose = "A line of prose, and not a short one.\n".repeat(40);
    for i in 0..5 {
        file(dir.path(), &format!("{i}.txt"), &prose);
    }
    let page = file(dir.path(), "page.txt", format!("<html>{prose}</html>"));
    // By a folder, by a glob and by its name.
    for pattern in [dir.path().to_owned(), dir.path().join("*.txt"), page] {
        let text = || text_files(&pattern).unwrap().context(16);
        for told in [text().split(0.2).unwrap_err(), text().max_tokens(99).stream(0.2).unwrap_err()]
        {
            assert!(told.to_string().contains("page.txt: looks like HTML"), "{told}");
        }
        text().format("text").unwrap().split(0.2).unwrap();
    }
    let table =
        file(dir.path(), "table.bak", format!("n,body\n1,\"{prose}\"\n2,\"{prose} End.\"\n"));
    let text = text_files(table).unwrap().format("csv").unwrap().column("body").context(16);
    let corpus = text.split(0.0).unwrap();
    assert_eq!(corpus.train_documents, ["table.bak, row 1", "table.bak, row 2"]);
}

#[test]
fn prose_markdown_source_code_and_logs_are_what_they_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seen = 0;
    for pattern in ["*.md", "docs/*.md", "src/**/*.rs", "tests/*.rs", "tests/golden/*.py", "*.toml"]
    {
        for path in glob::glob(root.join(pattern).to_str().unwrap()).unwrap() {
            let path = path.unwrap();
            let text =
                Documents::open(&path, "text").and_then(|texts| texts.collect::<Result<Vec<_>>>());
            assert_eq!(text.unwrap_or_else(|e| panic!("{e}")).len(), 1);
            seen += 1;
        }
    }
    assert!(seen > 200, "{seen}");
    for text in [
        "{It was} a dark night, and\n{the rest} is known.\n",
        "{\"quoted\" braces} begin no object.\n",
        "{\n  \"a\": 1,\n  \"b\": [2]\n}\n",
        "[Illustration: A ship]\n\nCall me Ishmael.\n",
        "[1] A reference, with a comma.\n[2] Another, with one more.\n",
        "[\"Yes,\" said he], and left.\n",
        "Roses are red, violets are blue\nSugar is sweet, and so are you\nOne more line, of the same kind\n",
        "\"Well,\" said she, \"what now?\"\n\"I do not know,\" said he, \"do you?\"\n\"No,\" she said, \"I do not.\"\n",
        "\"One line.\"\n\"Another line.\"\n\"A third line.\"\n",
        "2024-01-01 12:00:00,123 INFO started\n2024-01-01 12:00:01,456 WARN slow\n2024-01-01 12:00:02,789 INFO done\n",
        "12:00\tstarted\n12:01\tran\n12:02\tended\n12:03\tover\n12:04\ta\n12:05\tb\n12:06\tc\n12:07\td\n12:08\te\n12:09\tf\n",
        "127.0.0.1 - - [10/Oct/2000:13:55:36 -0700] \"GET /a.gif HTTP/1.0\" 200 2326\n",
        "| a | b |\n| --- | --- |\n| 1, 2 | 3 |\n",
        "def f(a, b):\n\treturn a, b\n\nclass A:\n\tx, y = 1, 2\n",
        "int a[] = {1,2,3};\nint b[] = {4,5,6};\nint c[] = {7,8,9};\n",
        "#include <a>\nvoid f(int a,int b);\nvoid g(int c,int d);\nvoid h(int e,int f);\n",
        "<p>Markdown may begin with a paragraph of HTML.</p>\n\n# Title\n",
        "1. First, of all\n2. Second, then\n3. Third, at last\n",
        "",
        "\n\n",
        "one word",
    ] {
        let texts = read("some", text).unwrap_or_else(|e| panic!("{text:?}: {e}"));
        assert_eq!(texts, [text]);
    }
}

#[test]
fn tables_as_text_are_read_by_their_columns() {
    let crlf = CSV.replace('\n', "\r\n").replace("or\r\n", "or\n");
    let semicolons = CSV.replace(',', ";").replace("Two;", "Two,");
    for (name, content) in [
        ("a.csv", CSV.to_owned()),
        ("a.CSV", format!("\u{FEFF}{CSV}")),
        ("a.csv", crlf),
        ("a.csv", CSV.trim_end().to_owned()),
        ("a.csv", semicolons),
        ("a.csv", CSV.replace("id,text", "\"id\",\"text\"")),
        ("a.tsv", TSV.to_owned()),
        ("a.tab", TSV.to_owned()),
    ] {
        assert_eq!(read(name, &content).unwrap(), TEXTS, "{content:?}");
    }
    assert_eq!(read("a.csv", "text\n\"A \"\"quoted\"\" word\"\n").unwrap(), ["A \"quoted\" word"]);
    assert_eq!(read("a.csv", "id,text\n").unwrap(), [""; 0]);
    for (content, parts) in [
        ("id,text\n1,a\n2,b,c\n3,d\n", ["row 2 (line 3)", "has 3 fields", "names 2 columns"]),
        ("id,text\n1,\"a\nb\"\n2\n", ["row 2 (line 4)", "has 1 fields", "names 2 columns"]),
        ("id,text\n1,a\n2,\"b\n3,c\n", ["line 3", "a quotation that is never closed", ""]),
        ("id,text\n1,\"a\n2,\"b\"\n", ["line 2", "text behind a quotation", "double the marks"]),
        ("text,text\na,b\n", ["several columns \"text\"", "rename", ""]),
        ("id,body\n1,a\n", ["no column \"text\"", "\"id\", \"body\"", "column(\"…\")"]),
        ("", ["no column \"text\"", "its columns are", ""]),
    ] {
        let told = read("a.csv", content).unwrap_err().to_string();
        assert!(parts.iter().all(|part| told.contains(part)), "{content:?}: {told}");
    }
    assert!(read("a.csv", b"text\ncaf\xE9\n").unwrap_err().to_string().contains("row 1 (line 2)"));
    // A field that does not end is not read into memory to the end of the file.
    let endless = format!("text\n\"{}", "x".repeat(65 << 20));
    assert!(read("a.csv", endless).unwrap_err().to_string().contains("longer than 64 MiB"));
}

#[test]
fn an_array_is_read_element_by_element() {
    for content in [
        ARRAY.to_owned(),
        format!("\u{FEFF}{}", ARRAY.replace('\n', "\r\n")),
        "[\"One.\", null, \"Two, or\\nthree.\"]".to_owned(),
        "[{\"text\": null}, {\"text\": \"One.\", \"n\": NaN},\"Two, or\\nthree.\" ]  \n".to_owned(),
    ] {
        assert_eq!(read("a.json", &content).unwrap(), TEXTS, "{content}");
    }
    assert_eq!(
        read("a.json", "[{\"text\": \"a]\\\\\\\"[,\", \"b\": [{}, [\"]\"]]}]").unwrap(),
        ["a]\\\"[,"]
    );
    assert_eq!(read("a.json", " [ ] ").unwrap(), [""; 0]);
    assert_eq!(read("a.json", "[\"\\ud800\"]").unwrap(), ["\u{FFFD}"]);
    for (content, told) in [
        ("[\"a\", 3]", "element 2 of its array is neither a text nor an object"),
        ("[\"a\" \"b\"]", "element 1 of its array is not a JSON text"),
        ("[\"a\",, \"b\"]", "element 2 of its array is empty"),
        ("[\"a\", \"b", "element 2 of its array is cut short"),
        ("[\"a\",", "element 2 of its array is not there: the file is cut short"),
        ("[\"a\"] [\"b\"]", "goes on after the end of its array"),
        ("[{\"body\": \"a\"}]", "choose that with column(\"body\")"),
        ("[{\"text\": tru}]", "element 1 of its array is not a JSON object"),
        ("[[\"a\"]]", "element 1 of its array is neither a text nor an object"),
        ("\u{FEFF}[1]", "element 1 of its array is neither a text nor an object"),
        ("{\n \"a\": [1]\n}", "an object has to stand in one line"),
    ] {
        let got = read("a.json", content).unwrap_err().to_string();
        assert!(got.contains(told), "{content}: {got}");
    }
}

#[test]
fn utf_16_with_a_mark_is_read_in_every_format() {
    for big_endian in [false, true] {
        for (name, text) in [("a.jsonl", LINES), ("a.json", ARRAY), ("a.csv", CSV), ("a.tsv", TSV)]
        {
            assert_eq!(read(name, utf_16(text, big_endian)).unwrap(), TEXTS, "{name}");
        }
        let prose = "Naïve 你好 \u{1F600}\r\n".repeat(9_000);
        assert_eq!(read("a.txt", utf_16(&prose, big_endian)).unwrap(), [prose.replace('\r', "")]);
        // It is looked at as the text that it is.
        let told = read("a.txt", utf_16(CSV, big_endian)).unwrap_err().to_string();
        assert!(told.contains("looks like CSV"), "{told}");
        let mut cut = utf_16("One \u{1F600}", big_endian);
        cut.truncate(cut.len() - 2);
        let told = read("a.txt", &cut).unwrap_err().to_string();
        assert!(told.contains("surrogate pair at byte 10") && !told.contains("iconv"), "{told}");
    }
}

#[test]
fn a_chat_and_a_number_of_python_s_say_what_to_do() {
    let chat = "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}]}\n";
    let told = read("a.jsonl", chat).unwrap_err().to_string();
    assert!(told.contains("apply_chat_template") && !told.contains("column("), "{told}");
    let python = "{\"score\": NaN, \"text\": \"One.\"}\n{\"score\": -Infinity, \"text\": \"Two, or\\nthree.\"}";
    assert_eq!(read("a.jsonl", python).unwrap(), TEXTS);
}

const CONFIG: HarvestConfig = HarvestConfig {
    dtype: Dtype::F32,
    compute: Compute::F32,
    shard_tokens: 48,
    batch: 2,
    device: Device::Cpu,
};

fn harvest(dir: &Path, stream: &TokenStream) -> Result<ActivationStore> {
    let (name, fingerprint, processing) = ("formula".into(), "f0".repeat(32), "Raw".into());
    let source = Source {
        name,
        revision: None,
        fingerprint,
        processing,
        d_model: 1,
        d_vocab: 258,
        skip_first: 0,
    };
    let hook = HookPoint::resid_pre(1);
    ActivationStore::harvest_with(&source, &[hook], stream, dir, CONFIG, &|pass, _| {
        Ok(vec![pass.ids().iter().map(|&id| id as f32).collect()])
    })
}

fn shards(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let named = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().unwrap();
        name.starts_with("shard-").then(|| (name, fs::read(entry.path()).unwrap()))
    };
    entries.filter_map(named).collect()
}

#[test]
fn a_shard_that_is_gone_is_made_again_from_the_same_place_of_every_format() {
    let rows = || (0..40).map(|i| (i, format!("Text {i}, \"quoted\" — {}", "é".repeat(i % 7))));
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let objects: Vec<String> = rows()
        .map(|(id, text)| serde_json::json!({ "id": id, "text": text }).to_string())
        .collect();
    let csv: String = rows().map(|(id, text)| format!("{id},{}\r\n", quoted(&text))).collect();
    let csv = format!("id,text\r\n{csv}");
    for (name, content) in [
        ("a.csv", csv.clone().into_bytes()),
        ("b.csv", utf_16(&csv, false)),
        ("a.json", format!("[{}]", objects.join(",\n")).into_bytes()),
        ("b.json", utf_16(&format!("[{}]", objects.join(" ,")), true)),
        ("a.jsonl", objects.join("\n").into_bytes()),
        ("b.jsonl", utf_16(&objects.join("\r\n"), false)),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path(), name, content);
        let stream =
            || text_files(&path).unwrap().context(16).max_tokens(640).stream(0.1).unwrap().train;
        let store = dir.path().join("store");
        harvest(&store, &stream()).unwrap();
        let whole = shards(&store);
        assert!(whole.len() > 8, "{name}: {}", whole.len());
        for gone in [
            &["shard-00003.safetensors"][..],
            &["shard-00000.safetensors", "shard-00005.safetensors"],
        ] {
            gone.iter().for_each(|shard| fs::remove_file(store.join(shard)).unwrap());
            harvest(&store, &stream()).unwrap();
            assert!(shards(&store) == whole, "{name} without {gone:?}");
        }
    }
}

#[test]
fn text_that_has_changed_under_its_activations_is_noticed_and_a_touched_file_is_not_one() {
    let dir = tempfile::tempdir().unwrap();
    // Longer than the ends that a stream's own fingerprint looks at.
    let line =
        |i: usize| serde_json::json!({ "text": format!("Document {i}. ") + &"word ".repeat(40) });
    let lines: Vec<String> = (0..2_000).map(|i| line(i).to_string()).collect();
    let content = lines.join("\n");
    let path = file(dir.path(), "a.jsonl", &content);
    let stream =
        || text_files(&path).unwrap().context(16).max_tokens(3_200).stream(0.1).unwrap().train;
    let store = dir.path().join("store");
    harvest(&store, &stream()).unwrap();
    let touch = |path: &Path| {
        let later = SystemTime::now() + Duration::from_secs(100);
        fs::File::options().write(true).open(path).unwrap().set_modified(later).unwrap();
    };
    touch(&path);
    harvest(&store, &stream()).unwrap();
    // Another word in the middle, of the same length.
    let middle = content.len() / 2 + content[content.len() / 2..].find("word").unwrap();
    let mut other = content.clone().into_bytes();
    other[middle..middle + 4].copy_from_slice(b"WORD");
    fs::write(&path, &other).unwrap();
    touch(&path);
    let told = harvest(&store, &stream()).unwrap_err();
    assert!(
        matches!(told, Error::Changed { .. })
            && told.to_string().contains("the text of these activations was \"a.jsonl\"")
            && told.to_string().contains("harvest into another folder"),
        "{told}"
    );
    // Put back, and without what newer stores remember.
    fs::write(&path, &content).unwrap();
    harvest(&store, &stream()).unwrap();
    fs::remove_file(store.join("text.json")).unwrap();
    fs::write(&path, &other).unwrap();
    harvest(&store, &stream()).unwrap();
}
