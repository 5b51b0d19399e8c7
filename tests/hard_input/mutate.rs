//! Ways to spoil a file: by its bytes, and by what is known of its format.

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::{archive, json, tensors};

/// What a file is, as far as the ways to spoil it go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Json,
    SafeTensors,
    /// A file of `torch.save`.
    Torch,
    /// Text, or bytes of any other format.
    Bytes,
}

/// Sizes and offsets that lie on a border.
const BORDERS: [u64; 14] = [
    0,
    1,
    7,
    8,
    0x7F,
    0xFF,
    0x7FFF_FFFF,
    0xFFFF_FFFF,
    1 << 40,
    100_000_000,
    100_000_001,
    i64::MAX as u64,
    u64::MAX - 7,
    u64::MAX,
];

/// Numbers that a text says and nobody means.
const NUMBERS: [&str; 12] = [
    "0",
    "-1",
    "1",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "1e308",
    "1e999",
    "nan",
    "inf",
    "0.1",
];

/// One file with one to five changes. `others` are files of other seeds, to take pieces from.
pub fn spoilt(kind: Kind, bytes: &[u8], others: &[&[u8]], random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let blunt = random.random_range(0..5) == 0;
    match kind {
        Kind::Json if !blunt => {
            if let Some(mut read) = std::str::from_utf8(&bytes).ok().and_then(json::parse) {
                (0..changes(random)).for_each(|_| read.spoil(random));
                bytes = read.text().into_bytes();
            }
        }
        Kind::SafeTensors if !blunt => bytes = tensors::spoilt(bytes, random),
        Kind::Torch if !blunt => bytes = archive::spoilt(bytes, random),
        _ => (0..changes(random)).for_each(|_| spoil(&mut bytes, others, random)),
    }
    if random.random_range(0..20) == 0 {
        spoil(&mut bytes, others, random);
    }
    bytes
}

/// How many changes at a time: mostly one, since two hide each other.
pub fn changes(random: &mut ChaCha8Rng) -> usize {
    *[1, 1, 1, 2, 3, 5].choose(random).expect("there are some")
}

/// One change to bytes that may be anything.
pub fn spoil(bytes: &mut Vec<u8>, others: &[&[u8]], random: &mut ChaCha8Rng) {
    let n = bytes.len();
    if n == 0 {
        bytes.extend((0..random.random_range(0..64)).map(|_| random.random::<u8>()));
        return;
    }
    let at = random.random_range(0..n);
    let piece = |random: &mut ChaCha8Rng| {
        at..(at + *[1, 2, 8, 64, 1024].choose(random).expect("there are some")).min(n)
    };
    match random.random_range(0..13) {
        0 => bytes[at] ^= 1 << random.random_range(0..8),
        1 => bytes[at] = 0,
        2 => bytes[at] = 0xFF,
        3 => bytes[at] = random.random(),
        4 => bytes.truncate(at),
        5 => {
            let piece = piece(random);
            bytes.drain(piece);
        }
        6 => {
            let copy = bytes[piece(random)].to_vec();
            let times = *[1, 1, 2, 100].choose(random).expect("there are some");
            bytes.splice(at..at, copy.repeat(times));
        }
        7 => {
            let copy = bytes[piece(random)].to_vec();
            let to = random.random_range(0..n);
            let end = (to + copy.len()).min(n);
            bytes[to..end].copy_from_slice(&copy[..end - to]);
        }
        8 => {
            let border = BORDERS.choose(random).expect("there are some").to_le_bytes();
            let width = *[2, 4, 8].choose(random).expect("there are some");
            let end = (at + width).min(n);
            bytes[at..end].copy_from_slice(&border[..end - at]);
        }
        9 => {
            let with = if random.random() { 0 } else { 0xFF };
            bytes[piece(random)].fill(with);
        }
        10 => {
            if let Some(other) = others.choose(random).filter(|other| !other.is_empty()) {
                let from = random.random_range(0..other.len());
                let taken = &other[from..(from + random.random_range(1..256)).min(other.len())];
                let replaced = if random.random() { at..(at + taken.len()).min(n) } else { at..at };
                bytes.splice(replaced, taken.iter().copied());
            }
        }
        11 => {
            let more: Vec<u8> = (0..random.random_range(1..32)).map(|_| random.random()).collect();
            bytes.splice(at..at, more);
        }
        _ => {
            // The number that stands there, or the next.
            let Some(first) = (0..n).map(|i| (at + i) % n).find(|&i| bytes[i].is_ascii_digit())
            else {
                return;
            };
            let start = (0..first).rev().find(|&i| !bytes[i].is_ascii_digit()).map_or(0, |i| i + 1);
            let end = (first..n).find(|&i| !bytes[i].is_ascii_digit()).unwrap_or(n);
            bytes.splice(start..end, NUMBERS.choose(random).expect("there are some").bytes());
        }
    }
}

/// A number on a border, or near `n`.
pub fn border(n: u64, random: &mut ChaCha8Rng) -> u64 {
    match random.random_range(0..3) {
        0 => n.wrapping_add_signed(random.random_range(-9..=9)),
        1 => random.random_range(0..=n.saturating_mul(2)),
        _ => *BORDERS.choose(random).expect("there are some"),
    }
}
