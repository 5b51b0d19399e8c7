//! Files with changed bytes are read or refused: no panic, and no memory beyond what the file justifies.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use proptest::prelude::*;

use super::*;

/// Remembers the largest allocation of each thread.
struct Watched;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

fn note(size: usize) {
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(size)));
}

// SAFETY: every call goes on to the system's allocator unchanged.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static WATCHED: Watched = Watched;

/// Far above what files of some kilobytes need, and far below what a made-up shape asks for.
const ENOUGH: usize = 4 << 20;

/// An SAE of every format, and its files that a reader looks at.
const FILES: [(&str, &str); 10] = [
    ("saelens_topk", "cfg.json"),
    ("saelens_gated", "sae_weights.safetensors"),
    ("saelens5_topk", "cfg.json"),
    ("saelens_checkpoint", "activation_scaler.json"),
    ("sparsify/layers.3", "cfg.json"),
    ("sparsify/layers.4.mlp", "sae.safetensors"),
    ("dictionary_learning_MatryoshkaBatchTopKSAE", "ae.pt"),
    ("dictionary_learning_left", "ae.pt"),
    ("llamascopium_jumprelu", "config.json"),
    ("llamascopium_jumprelu", "sae_weights.safetensors"),
];

/// One way to spoil a file.
#[derive(Clone, Debug)]
enum Change {
    Byte(usize, u8),
    Cut(usize),
    /// A digit becomes many.
    Longer(usize, u64),
    Twice(usize, usize),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        6 => (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        1 => any::<usize>().prop_map(Change::Cut),
        2 => (any::<usize>(), any::<u64>()).prop_map(|(at, number)| Change::Longer(at, number)),
        1 => (any::<usize>(), 1..64usize).prop_map(|(at, n)| Change::Twice(at, n)),
    ]
}

fn spoil(bytes: &mut Vec<u8>, change: &Change) {
    let n = bytes.len().max(1);
    match *change {
        _ if bytes.is_empty() => {}
        Change::Byte(at, byte) => bytes[at % n] = byte,
        Change::Cut(at) => bytes.truncate(at % n),
        Change::Longer(at, number) => {
            if let Some(digit) = (0..n).map(|i| (at % n + i) % n).find(|&i| bytes[i].is_ascii_digit()) {
                bytes.splice(digit..=digit, number.to_string().bytes());
            }
        }
        Change::Twice(at, len) => {
            let from = at % n;
            let part = bytes[from..(from + len).min(n)].to_vec();
            bytes.splice(from..from, part);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_file_is_read_or_refused_and_nothing_else(which in 0..FILES.len(), changes in prop::collection::vec(change(), 1..5)) {
        let (name, file) = FILES[which];
        let dir = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(golden().join(name)).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
        }
        let mut bytes = std::fs::read(golden().join(name).join(file)).unwrap();
        changes.iter().for_each(|change| spoil(&mut bytes, change));
        std::fs::write(dir.path().join(file), bytes).unwrap();
        LARGEST.with(|largest| largest.set(0));
        if let Err(error) = Sae::load(dir.path()) {
            prop_assert!(!error.to_string().is_empty());
        }
        let largest = LARGEST.with(Cell::get);
        prop_assert!(largest < ENOUGH, "{name}/{file} took {largest} bytes at once");
    }
}
