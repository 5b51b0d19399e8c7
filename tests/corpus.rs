//! The corpus keeps its promises: documents on one side only, BOS at the start of every sequence,
//! the same sequences for the same files.
//!
//! The tokenizer here gives one token a byte, so that every token can be traced to its document.

#[path = "shared/bytes.rs"]
mod bytes;

use std::fs;

use bytes::{BOS, EOS, encoder, text_files};
use proptest::prelude::*;
use tokenized_sae::corpus::Encoder;
use tokenized_sae::prelude::*;

/// A folder of documents of letters: document `i` has its own letter and nothing else but line
/// ends.
fn folder(sizes: &[usize]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (i, &size) in sizes.iter().enumerate() {
        let letter = char::from(b'a' + i as u8);
        let text: String = (0..size).map(|n| if n % 20 == 19 { '\n' } else { letter }).collect();
        fs::write(dir.path().join(format!("{letter}.txt")), text).unwrap();
    }
    dir
}

/// The stream that a side was packed from, and its documents' letters.
fn unpacked(tokens: &Tokens) -> (Vec<u32>, Vec<char>) {
    assert!((0..tokens.n_seq()).all(|i| tokens.row(i)[0] == BOS), "BOS begins every sequence");
    let stream: Vec<u32> = (0..tokens.n_seq()).flat_map(|i| tokens.row(i)[1..].to_vec()).collect();
    assert!(!stream.contains(&BOS), "and stands nowhere else");
    let mut letters: Vec<char> = stream
        .iter()
        .filter(|&&id| id != EOS && id != 10)
        .map(|&id| char::from(id as u8))
        .collect();
    letters.dedup();
    (stream, letters)
}

#[test]
fn no_document_is_on_both_sides_and_documents_are_whole() {
    let sizes: Vec<usize> = (0..20).map(|i| 1000 + 37 * i).collect();
    let dir = folder(&sizes);
    let corpus = text_files(dir.path()).unwrap().context(32).split(0.1).unwrap();
    let ((train, train_letters), (valid, valid_letters)) =
        (unpacked(&corpus.train), unpacked(&corpus.valid));
    let mut all: Vec<char> = train_letters.iter().chain(&valid_letters).copied().collect();
    all.sort();
    assert_eq!(
        all,
        ('a'..='t').collect::<Vec<_>>(),
        "each document once, in one stretch, on one side"
    );
    for (stream, letters) in [(&train, &train_letters), (&valid, &valid_letters)] {
        let documents: Vec<&[u32]> = stream.split(|&id| id == EOS).collect();
        assert_eq!(documents.len(), letters.len());
        for (document, &letter) in documents.iter().zip(letters).rev().skip(1) {
            assert_eq!(document.len(), sizes[(letter as u8 - b'a') as usize]);
        }
    }
    let share = valid.len() as f64 / (train.len() + valid.len()) as f64;
    assert!((share - 0.1).abs() < 0.05, "{share}");
    let name =
        |letters: &[char]| letters.iter().map(|letter| format!("{letter}.txt")).collect::<Vec<_>>();
    assert_eq!(
        (corpus.train_documents.clone(), corpus.valid_documents.clone()),
        (name(&train_letters), name(&valid_letters))
    );
    assert!(corpus.to_string().contains("held out"), "{corpus}");
}

#[test]
fn the_same_files_give_the_same_sequences_however_they_are_named_and_however_many_threads() {
    let dir = folder(&[3000; 12]);
    let here = text_files(dir.path()).unwrap().context(64).split(0.2).unwrap();
    let glob = text_files(dir.path().join("*.txt")).unwrap().context(64).split(0.2).unwrap();
    let moved = folder(&[3000; 12]);
    let moved = text_files(moved.path()).unwrap().context(64).split(0.2).unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let alone = pool.install(|| text_files(dir.path()).unwrap().context(64).split(0.2).unwrap());
    for other in [&glob, &moved, &alone] {
        assert_eq!((&other.train, &other.valid), (&here.train, &here.valid));
    }
    assert_ne!(here.train.fingerprint(), here.valid.fingerprint());
    assert_eq!(here.train.fingerprint(), glob.train.fingerprint());
}

#[test]
fn two_documents_are_enough_for_two_sides() {
    let dir = folder(&[4000, 900]);
    let corpus = text_files(dir.path()).unwrap().context(128).split(0.02).unwrap();
    assert_eq!(corpus.valid_documents, ["b.txt"]);
    assert_eq!(unpacked(&corpus.train).1, ['a']);
}

#[test]
fn the_tail_of_a_single_document_is_held_out() {
    let dir = tempfile::tempdir().unwrap();
    let paragraph = |i: usize| format!("{i:04} {}\n\n", "x".repeat(40));
    let text: String = (0..200).map(paragraph).collect();
    fs::write(dir.path().join("book.md"), &text).unwrap();
    let corpus = text_files(dir.path()).unwrap().context(16).split(0.1).unwrap();
    let (train, valid) = (unpacked(&corpus.train).0, unpacked(&corpus.valid).0);
    let bytes: Vec<u32> = text.bytes().map(u32::from).collect();
    let cut = 180 * paragraph(0).len();
    assert_eq!(train, bytes[..cut / 15 * 15]);
    assert_eq!(valid, bytes[cut..][..(bytes.len() - cut) / 15 * 15]);
    assert_eq!(corpus.train_documents.len() + corpus.valid_documents.len(), 2);
}

#[test]
fn max_tokens_limits_both_sides_and_spares_the_other_files() {
    let dir = folder(&[5000; 25]);
    let all = text_files(dir.path()).unwrap().context(50).split(0.2).unwrap();
    let some = text_files(dir.path()).unwrap().context(50).max_tokens(10_020).split(0.2).unwrap();
    assert_eq!((some.train.len(), some.valid.len()), (10_000, 2_500));
    // The beginning of the same stream, from the same documents.
    assert_eq!(some.train, all.train.rows(0, 200));
    assert_eq!(some.valid, all.valid.rows(0, 50));
    // A file that cannot be read does not matter as long as it is not needed.
    for name in &all.train_documents[some.train_documents.len()..] {
        fs::write(dir.path().join(name), vec![0xFF; 5000]).unwrap();
    }
    assert_eq!(
        text_files(dir.path()).unwrap().context(50).max_tokens(10_020).split(0.2).unwrap().train,
        some.train
    );
    assert!(matches!(
        text_files(dir.path()).unwrap().context(50).split(0.2),
        Err(Error::Format { .. })
    ));
}

#[test]
fn a_document_that_occurs_twice_counts_once() {
    let dir = folder(&[3000; 6]);
    for copy in ["copy 1.txt", "copy 2.txt", "copy 3.txt"] {
        fs::copy(dir.path().join("a.txt"), dir.path().join(copy)).unwrap();
    }
    let corpus = text_files(dir.path()).unwrap().context(32).split(0.3).unwrap();
    let (train, valid) = (unpacked(&corpus.train).1, unpacked(&corpus.valid).1);
    assert_eq!(
        train.iter().chain(&valid).filter(|&&letter| letter == 'a').count(),
        1,
        "{train:?} {valid:?}"
    );
}

#[test]
fn bos_and_eos_may_be_the_same_and_may_be_0() {
    let dir = folder(&[100, 100, 100]);
    let pythia = Encoder { bos: 0, eos: 0, ..encoder() };
    let corpus = Corpus::text_files_with(pythia, dir.path().to_str().unwrap())
        .unwrap()
        .context(10)
        .split(0.0)
        .unwrap();
    assert!(corpus.valid.is_empty());
    assert!((0..corpus.train.n_seq()).all(|i| corpus.train.row(i)[0] == 0));
    // Two of them between three documents, and one a sequence: 302 stream tokens are 33 sequences
    // of nine.
    assert_eq!(
        (corpus.train.n_seq(), corpus.train.ids().iter().filter(|&&id| id == 0).count()),
        (33, 35)
    );
}

#[test]
fn the_context_is_the_models_but_at_most_256() {
    let dir = folder(&[4000, 4000]);
    assert_eq!(text_files(dir.path()).unwrap().split(0.5).unwrap().n_ctx(), 256);
    let short = Encoder { n_ctx: 100, ..encoder() };
    let pattern = dir.path().to_str().unwrap();
    assert_eq!(
        Corpus::text_files_with(short.clone(), pattern).unwrap().split(0.5).unwrap().n_ctx(),
        100
    );
    let told = Corpus::text_files_with(short, pattern)
        .unwrap()
        .context(101)
        .split(0.5)
        .unwrap_err()
        .to_string();
    assert!(told.contains("101") && told.contains("2 to 100"), "{told}");
    assert!(matches!(
        text_files(pattern).unwrap().context(1).split(0.5),
        Err(Error::Config { field: "context", .. })
    ));
}

#[test]
fn too_little_text_says_how_much_there_is() {
    let dir = folder(&[5000, 50]);
    let told = text_files(dir.path()).unwrap().context(100).split(0.01).unwrap_err();
    assert!(matches!(told, Error::EmptyCorpus { .. }));
    assert!(told.to_string().contains("held-out text has 51 tokens"), "{told}");
    let empty = folder(&[0, 0]);
    assert!(matches!(text_files(empty.path()).unwrap().split(0.1), Err(Error::EmptyCorpus { .. })));
    let blank = tempfile::tempdir().unwrap();
    fs::write(blank.path().join("blank.txt"), " \n\n ").unwrap();
    assert!(matches!(text_files(blank.path()).unwrap().split(0.1), Err(Error::EmptyCorpus { .. })));
    for share in [-0.1, 1.0, f64::NAN] {
        assert!(matches!(
            text_files(dir.path()).unwrap().split(share),
            Err(Error::Config { field: "split", .. })
        ));
    }
    assert!(matches!(
        text_files(dir.path()).unwrap().max_tokens(255).split(0.1),
        Err(Error::Config { field: "max_tokens", .. })
    ));
}

#[test]
fn a_tokenizer_of_another_model_is_found_out() {
    let dir = folder(&[1000, 1000]);
    let small = Encoder { bos: 0, eos: 0, d_vocab: 98, ..encoder() };
    let told = Corpus::text_files_with(small, dir.path().to_str().unwrap())
        .unwrap()
        .context(10)
        .split(0.5)
        .unwrap_err()
        .to_string();
    assert!(told.contains("vocabulary of 98") && told.contains("another model"), "{told}");
}

#[test]
fn sides_made_elsewhere_must_agree() {
    let tokens = |n_ctx| Tokens::new(vec![1; 12], n_ctx).unwrap();
    assert_eq!(Corpus::new(tokens(4), tokens(4)).unwrap().n_ctx(), 4);
    assert!(matches!(Corpus::new(tokens(4), tokens(3)), Err(Error::Shape { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// For any sizes, share and context: whole documents, one side each, BOS first; or an error
    /// that says what is missing.
    #[test]
    fn any_folder_splits_cleanly(sizes in prop::collection::vec(1usize..3000, 1..20), share in 0.0f64..0.99, n_ctx in 2usize..200) {
        let dir = folder(&sizes);
        match text_files(dir.path()).unwrap().context(n_ctx).split(share) {
            Ok(corpus) => {
                let (train, valid) = (unpacked(&corpus.train).1, unpacked(&corpus.valid).1);
                if sizes.len() > 1 {
                    prop_assert!(train.iter().all(|letter| !valid.contains(letter)));
                }
                prop_assert_eq!(corpus.valid.is_empty(), share == 0.0);
            }
            Err(e) => prop_assert!(matches!(e, Error::EmptyCorpus { .. }), "{}", e),
        }
    }
}

#[test]
fn a_model_without_a_tokenizer_says_so() {
    let model = Model::load("tests/golden/gpt2").unwrap();
    assert!(matches!(Corpus::text_files(&model, "tests"), Err(Error::NoTokenizer { .. })));
}

/// Documents are encoded in pieces and by words; the ids are those of the whole text all the same.
#[test]
fn ids_are_those_of_the_models_own_tokenizer() {
    for name in ["tiny-gpt2", "tiny-pythia"] {
        let model = Model::load(name).unwrap();
        let written = model.sample(24, 256, 9).unwrap();
        let mut text: String =
            (0..24).map(|i| model.decode(&written.row(i)[1..]).unwrap() + "\n\n").collect();
        text += "It's 1999,  isn't it?\t\u{2003}Na\u{ef}ve cafe\u{301}\n \n\n   indented\n\u{a0}no-break <|endoftext|> end \n";
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.txt"), &text).unwrap();
        // Two tokens a sequence: BOS, and one of the stream.
        let corpus = Corpus::text_files(&model, dir.path().to_str().unwrap())
            .unwrap()
            .context(2)
            .split(0.0)
            .unwrap();
        let ids: Vec<u32> = corpus.train.ids().chunks(2).map(|pair| pair[1]).collect();
        assert_eq!(ids, model.encode(&text).unwrap());
        assert!(ids.len() > 4_000);
    }
}

#[test]
fn a_sampled_corpus_has_two_sides_and_grows_at_its_end() {
    for name in ["tests/golden/gpt2", "tests/golden/neox", "tests/golden/llama"] {
        let model = Model::load(name).unwrap();
        let small = Corpus::sampled(&model, 100, 3).unwrap();
        let n_ctx = model.config().n_ctx.min(256);
        assert_eq!(
            (small.n_ctx(), small.train.n_seq(), small.valid.n_seq()),
            (n_ctx, 100usize.div_ceil(n_ctx), 32)
        );
        let large = Corpus::sampled(&model, 40 * n_ctx, 3).unwrap();
        assert_eq!(large.train.rows(0, small.train.n_seq()), small.train);
        assert_eq!(large.valid, small.valid);
        let rows = |tokens: &Tokens| {
            (0..tokens.n_seq())
                .map(|i| tokens.row(i).to_vec())
                .collect::<std::collections::HashSet<_>>()
        };
        assert!(rows(&large.train).is_disjoint(&rows(&large.valid)));
        for side in [&large.train, &large.valid] {
            assert!((0..side.n_seq()).all(|i| side.row(i)[0] == model.bos()));
        }
        assert_ne!(Corpus::sampled(&model, 100, 4).unwrap().train, small.train);
        assert!(matches!(
            Corpus::sampled(&model, 0, 3),
            Err(Error::Config { field: "n_tokens", .. })
        ));
    }
}

#[test]
fn a_sampled_corpus_is_written_once() {
    let model = Model::load("tests/golden/gpt2").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let n_ctx = model.config().n_ctx.min(256);
    let sampled_in =
        |sequences: usize, seed| Corpus::sampled_in(&model, sequences * n_ctx, seed, dir.path());
    let file = |seed: u64| {
        dir.path().join(format!("sampled-{}-seed{seed}.safetensors", &model.fingerprint()[..12]))
    };
    for sequences in [3, 100, 100, 7] {
        let (kept, fresh) = (
            sampled_in(sequences, 1).unwrap(),
            Corpus::sampled(&model, sequences * n_ctx, 1).unwrap(),
        );
        assert_eq!((&kept.train, &kept.valid), (&fresh.train, &fresh.valid));
    }
    // Grown in two steps or written in one, the bytes are the same; and what is there is not
    // written again.
    let (grown, elsewhere) = (fs::read(file(1)).unwrap(), tempfile::tempdir().unwrap());
    Corpus::sampled_in(&model, 100 * n_ctx, 1, elsewhere.path()).unwrap();
    assert_eq!(grown, fs::read(elsewhere.path().join(file(1).file_name().unwrap())).unwrap());
    let written = fs::metadata(file(1)).unwrap().modified().unwrap();
    sampled_in(100, 1).unwrap();
    assert_eq!(fs::metadata(file(1)).unwrap().modified().unwrap(), written);
    // Another seed is another file.
    assert_ne!(sampled_in(3, 2).unwrap().train, sampled_in(3, 1).unwrap().train);

    let whole = fs::read(file(1)).unwrap();
    for at in (0..whole.len()).step_by(101) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(file(1), &bytes).unwrap();
        let told = sampled_in(3, 1).unwrap_err();
        assert!(
            matches!(told, Error::Checksum { .. } | Error::Format { .. })
                && told.to_string().contains("delete it"),
            "byte {at}: {told}"
        );
        fs::write(file(1), &whole[..at]).unwrap();
        assert!(matches!(sampled_in(3, 1), Err(Error::Format { .. })));
    }
    fs::write(file(1), &whole).unwrap();
    fs::copy(file(2), file(1)).unwrap();
    assert!(sampled_in(3, 1).unwrap_err().to_string().contains("another model, seed"));
}

/// The other end of the next test: the stop button is pressed while the model writes.
#[cfg(unix)]
#[test]
fn child_sampling() {
    let Ok(dir) = std::env::var("TSAE_TEST_SAMPLED") else { return };
    let model = Model::load("tests/golden/gpt2").unwrap();
    std::thread::spawn(|| {
        std::thread::sleep(std::time::Duration::from_millis(500));
        signal_hook::low_level::raise(signal_hook::consts::SIGINT).unwrap();
    });
    match Corpus::sampled_in(&model, 1_000_000_000, 1, dir) {
        Ok(corpus) => println!("{corpus:?}"),
        Err(e) => println!("error: {e}"),
    }
}

#[cfg(unix)]
#[test]
fn what_was_sampled_before_a_stop_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    let child = child
        .args(["--exact", "child_sampling", "--nocapture"])
        .env("TSAE_TEST_SAMPLED", dir.path());
    let out = child.env_remove("TSAE_PROGRESS").output().unwrap();
    let (stdout, stderr) =
        (String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap());
    assert!(
        out.status.success() && stdout.contains("the same call continues from there"),
        "{stdout}{stderr}"
    );
    let before = fs::metadata(
        fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().path())
            .find(|p| p.extension().is_some())
            .unwrap(),
    )
    .unwrap();
    assert!(before.len() > 1000, "something was kept");
    let model = Model::load("tests/golden/gpt2").unwrap();
    let (kept, fresh) = (
        Corpus::sampled_in(&model, 100, 1, dir.path()).unwrap(),
        Corpus::sampled(&model, 100, 1).unwrap(),
    );
    assert_eq!((kept.train, kept.valid), (fresh.train, fresh.valid));
}
