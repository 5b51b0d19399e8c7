//! Files to documents, and to a corpus in memory.

use super::*;

const TABLES: [&str; 6] = [
    "snappy.parquet",
    "zstd-pages-2.parquet",
    "gzip-large.parquet",
    "plain-delta.parquet",
    "zstd-lengths.parquet",
    "dictionary.parquet",
];
const LINES: [&str; 4] = ["plain.jsonl", "odd.ndjson", "members.jsonl.gz", "frames.jsonl.zst"];

/// Opens a file of such a name and content.
fn of_bytes(name: &str, bytes: &[u8]) -> Result<Documents> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, bytes).unwrap();
    Documents::open(path, "text")
}

fn texts(name: &str) -> Vec<String> {
    Documents::open(golden(name), "text")
        .unwrap()
        .collect::<Result<_>>()
        .unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn every_form_of_file_gives_the_same_documents() {
    let want: Vec<String> = rows().into_iter().flatten().collect();
    assert_eq!(want.len(), 59);
    for name in LINES.into_iter().chain(TABLES) {
        // What may not be null is an empty text there.
        let want: Vec<String> = if name == "dictionary.parquet" {
            rows().into_iter().map(Option::unwrap_or_default).collect()
        } else {
            want.clone()
        };
        assert_eq!(texts(name), want, "{name}");
    }
    for name in ["book.txt", "book.txt.gz", "book.txt.zst"] {
        assert_eq!(texts(name), [fs::read_to_string(golden("book.txt")).unwrap()], "{name}");
    }
    assert_eq!(texts("empty.parquet"), [""; 0]);
}

#[test]
fn a_text_within_a_struct_has_a_name_with_a_point() {
    let urls: Vec<String> = Documents::open(golden("snappy.parquet"), "meta.url")
        .unwrap()
        .collect::<Result<_>>()
        .unwrap();
    assert_eq!((urls.len(), urls[59].as_str()), (60, "https://example.org/59"));
}

#[test]
fn a_column_that_is_none_is_refused_with_those_that_there_are() {
    for (name, column, wanted) in [
        (
            "snappy.parquet",
            "content",
            vec![
                "content",
                "text (strings)",
                "id (numbers)",
                "meta.tags.list.element (lists)",
                "column(",
            ],
        ),
        ("snappy.parquet", "id", vec!["numbers in its column \"id\"", "text (strings)"]),
        ("snappy.parquet", "meta.tags.list.element", vec!["has lists"]),
        ("plain.jsonl", "content", vec!["line 1", "no field \"content\"", "column(\"text\")"]),
        ("plain.jsonl", "id", vec!["line 1", "a number", "\"id\""]),
        ("lz4.parquet", "text", vec!["LZ4", "snappy, gzip, zstd"]),
    ] {
        let told = Documents::open(golden(name), column)
            .and_then(|mut documents| documents.next().unwrap())
            .unwrap_err()
            .to_string();
        assert!(told.contains(name) && wanted.iter().all(|part| told.contains(part)), "{told}");
    }
}

#[test]
fn a_wrong_line_says_which_and_nothing_comes_after_it() {
    for (bytes, line, why) in [
        (&b"{\"text\": \"a\"}\n\n{\"text\": \"b\"\n{\"text\": \"c\"}\n"[..], 3, "EOF"),
        (b"{\"text\": \"a\"}\n{\"text\": \"cut sho", 2, "cut short"),
        (b"3\n", 1, "an object such as"),
        (b"{\"text\": \"caf\xE9\"}\n", 1, "unicode"),
    ] {
        let mut documents = of_bytes("a.jsonl", bytes).unwrap();
        let told = documents.find_map(Result::err).unwrap().to_string();
        assert!(told.contains(&format!("line {line}")) && told.contains(why), "{told}");
        assert!(documents.next().is_none());
    }
}

#[test]
fn files_cut_short_or_damaged_are_errors_and_never_fewer_documents() {
    for name in ["members.jsonl.gz", "frames.jsonl.zst", "book.txt.gz", "book.txt.zst"]
        .into_iter()
        .chain(TABLES)
    {
        let whole = fs::read(golden(name)).unwrap();
        let want = texts(name);
        for end in (1..whole.len()).step_by(37).chain([whole.len() - 1]) {
            if let Ok(got) = of_bytes(name, &whole[..end])
                .and_then(|documents| documents.collect::<Result<Vec<_>>>())
            {
                // Only between members, frames and lines at once.
                assert!(
                    got.len() < want.len()
                        && got == want[..got.len()]
                        && !name.ends_with("parquet"),
                    "{name} cut at {end}"
                );
                assert!(!name.starts_with("book"), "{name} cut at {end}");
            }
        }
        for at in (0..whole.len()).step_by(61) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x55;
            // A checksum, where there is one, tells; without one another text may come, but never a
            // panic.
            drop(
                of_bytes(name, &damaged)
                    .and_then(|documents| documents.collect::<Result<Vec<_>>>()),
            );
        }
    }
}

/// A packed file of 100 MB that is one document, or one line: 100 KB on disk.
#[test]
fn what_unpacks_to_more_than_a_document_may_be_is_an_error() {
    use std::io::Write;
    for (name, said) in
        [("bomb.txt.gz", "64 MiB"), ("bomb.jsonl.gz", "line 1 is longer than 64 MiB")]
    {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        (0..100).for_each(|_| gzip.write_all(&[b'x'; 1 << 20]).unwrap());
        let told = of_bytes(name, &gzip.finish().unwrap())
            .unwrap()
            .next()
            .unwrap()
            .unwrap_err()
            .to_string();
        assert!(told.contains(said), "{told}");
    }
}

/// The documents of a stream that has one token a byte.
fn unpacked(tokens: &Tokens) -> Vec<u8> {
    assert!((0..tokens.n_seq()).all(|i| tokens.row(i)[0] == BOS));
    let stream = (0..tokens.n_seq()).flat_map(|i| tokens.row(i)[1..].iter());
    stream.map(|&id| if id == EOS { 0 } else { id as u8 }).collect()
}

#[test]
fn a_data_set_in_memory_is_its_documents_each_once_each_on_one_side() {
    let dir = tempfile::tempdir().unwrap();
    let mut sides = Vec::new();
    for name in LINES.into_iter().chain(TABLES) {
        let here = tempfile::tempdir().unwrap();
        let corpus =
            text_files(copied(here.path(), name, name)).unwrap().context(2).split(0.2).unwrap();
        let sets = [&corpus.train, &corpus.valid].map(unpacked);
        let of = |side: &[u8]| {
            side.split(|&b| b == 0)
                .map(|text| String::from_utf8(text.to_vec()).unwrap())
                .collect::<Vec<_>>()
        };
        let (train, valid) = (of(&sets[0]), of(&sets[1]));
        assert_eq!(
            (train.len(), valid.len()),
            (corpus.train_documents.len(), corpus.valid_documents.len())
        );
        let mut all: Vec<String> = train.iter().chain(&valid).cloned().collect();
        let mut want: Vec<String> =
            rows().into_iter().flatten().filter(|text| !text.is_empty()).collect();
        all.sort();
        want.sort();
        want.dedup();
        assert_eq!(all, want, "{name}");
        assert!((5..20).contains(&valid.len()), "{} of 57 held out", valid.len());
        sides.push((corpus.train, corpus.valid));
    }
    assert!(
        sides.iter().all(|side| *side == sides[0]),
        "a document's side depends on its text alone"
    );
    // Beside a second file, each document keeps its side.
    copied(dir.path(), "plain.jsonl", "a.jsonl");
    copied(dir.path(), "snappy.parquet", "b.parquet");
    let both = text_files(dir.path()).unwrap().context(2).split(0.2).unwrap();
    assert_eq!((both.train, both.valid), sides[0].clone(), "all copies are left out");
    let other = text_files(dir.path()).unwrap().context(2).seed(5).split(0.2).unwrap();
    assert_ne!(other.valid, sides[0].1);
}

#[test]
fn documents_are_named_by_line_and_row_and_filtered_by_length() {
    let corpus = text_files(golden("plain.jsonl")).unwrap().context(2).split(0.0).unwrap();
    assert_eq!(corpus.train_documents[7], "plain.jsonl, line 9", "line 8 has no text");
    let corpus = text_files(golden("snappy.parquet"))
        .unwrap()
        .context(2)
        .min_chars(100)
        .max_chars(200)
        .split(0.0)
        .unwrap();
    let lengths: Vec<usize> =
        rows().into_iter().flatten().map(|text| text.chars().count()).collect();
    let mut within = lengths.iter().filter(|length| (100..=200).contains(*length)).count();
    within -= usize::from((100..=200).contains(&lengths[12]));
    assert_eq!(corpus.train_documents.len(), within);
    assert!(corpus.train_documents[0].contains("snappy.parquet, row "));
    let told = text_files(golden("plain.jsonl")).unwrap().min_chars(10_000).split(0.0).unwrap_err();
    assert!(matches!(told, Error::EmptyCorpus { .. }), "{told}");
}

#[test]
fn packed_plain_text_is_split_as_plain_text_is() {
    let plain = text_files(golden("book.txt")).unwrap().context(32).split(0.1).unwrap();
    for name in ["book.txt.gz", "book.txt.zst"] {
        let packed = text_files(golden(name)).unwrap().context(32).split(0.1).unwrap();
        assert_eq!((&packed.train, &packed.valid), (&plain.train, &plain.valid));
    }
}
