//! Ways to spoil a file that `torch.save` wrote: a part of the archive is changed, and the archive
//! made whole again around it, so that its checksums are right.

use std::io::{Cursor, Read, Write};

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::mutate;

/// Pieces of pickles, sensible and not.
const PIECES: [&[u8]; 36] = [
    b"(",
    b")",
    b"]",
    b"}",
    b"N",
    b"0",
    b"t",
    b"R",
    b"b",
    b"s",
    b"u",
    b"a",
    b"e",
    b"Q",
    b".",
    b"\x81",
    b"\x85",
    b"\x86",
    b"\x87",
    b"\x93",
    b"\x94",
    b"h\0",
    b"q\0",
    b"j\xff\xff\xff\xff",
    b"r\0\0\0\x80",
    b"K\xff",
    b"J\xff\xff\xff\xff",
    b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\x8a\xff",
    b"X\xff\xff\xff\x7f",
    b"X\0\0\0\0",
    b"G\x7f\xf8\0\0\0\0\0\0",
    b"cos\nsystem\n",
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"c__builtin__\neval\n",
    b"X\x02\0\0\0lsR",
];

pub fn spoilt(mut bytes: Vec<u8>, random: &mut ChaCha8Rng) -> Vec<u8> {
    let Some(mut parts) = taken_apart(&bytes) else {
        mutate::spoil(&mut bytes, &[], random);
        return bytes;
    };
    if random.random_range(0..10) == 0 {
        let (from, to) = (random.random_range(0..parts.len()), random.random_range(0..parts.len()));
        match random.random_range(0..3) {
            0 => drop(parts.remove(from)),
            1 => parts[to].1 = parts[from].1.clone(),
            _ => parts[to].0 += *["x", "/", "../../y", "é"].choose(random).expect("there are some"),
        }
        return put_together(&parts);
    }
    // The program is where most can go wrong.
    let program = parts.iter().position(|(name, _)| name.ends_with("data.pkl")).unwrap_or(0);
    let which =
        if random.random_range(0..4) > 0 { program } else { random.random_range(0..parts.len()) };
    for _ in 0..mutate::changes(random) {
        let part = &mut parts[which].1;
        if which == program && random.random() {
            let piece = PIECES.choose(random).expect("there are some");
            let at = random.random_range(0..=part.len());
            let replaced =
                if random.random() { at..(at + piece.len()).min(part.len()) } else { at..at };
            part.splice(
                replaced,
                piece.repeat(*[1, 1, 1, 2, 50].choose(random).expect("there are some")),
            );
        } else {
            mutate::spoil(part, &[], random);
        }
    }
    put_together(&parts)
}

fn taken_apart(bytes: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).ok()?;
    let mut parts = Vec::new();
    for i in 0..archive.len() {
        let mut part = archive.by_index(i).ok()?;
        let mut inner = Vec::new();
        part.read_to_end(&mut inner).ok()?;
        parts.push((part.name().ok()?.into_owned(), inner));
    }
    Some(parts).filter(|parts| !parts.is_empty())
}

pub fn put_together(parts: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in parts {
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        // Two parts of one name are refused by the writer: the first stays.
        if zip.start_file(name.as_str(), options).is_ok() {
            zip.write_all(bytes).expect("it is in memory");
        }
    }
    zip.finish().expect("it is in memory").into_inner()
}
