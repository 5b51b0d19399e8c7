//! `shard-00000.ranges`: checksums of a few rows each, so that to read a row costs a check of its
//! neighbours and not of its shard.
//!
//! The checksums of the manifest are of all rows of a hook in a shard: 1.6 GB, a second of work, in
//! one of 2²⁰ rows of 768 numbers. A first batch of 4,096 rows from all over a store of 10⁹ would
//! check nearly all of it, and one from 64 blocks the 64 shards that they lie in.
//!
//! The file only ever spares work. Rows that it does not vouch for, because it is damaged, of
//! another shard or not there, are checked with their whole shard against the manifest, whose word
//! is the last. So it may be deleted, and a store that was made before there were such files is read
//! as ever. A shard of a single range has none.
//!
//! It holds 32 bytes that tie it to its shard, then for the ids and for each hook the SHA-256 of
//! every range: of its tokens and its positions; of its rows. That is a ten-thousandth of the
//! shard, and it stays in memory once it has been read.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

use super::manifest::Manifest;
use crate::base::error::Result;
use crate::base::files::write_atomic;

/// Bytes of a hook's rows in a range, as near as whole rows come to it: a sixth of a millisecond of
/// work, and more than a disk reads in the time of one seek.
const BYTES: usize = 256 << 10;

/// Bytes of a checksum.
const SUM: usize = 32;

/// Rows of a range, in every shard of a store.
pub fn rows_of_range(store: &Manifest) -> usize {
    (BYTES / store.dtype.row_bytes(store.model.d_model)).max(1)
}

/// Where the ranges of a shard are.
pub fn path(shard: &Path) -> PathBuf {
    shard.with_extension("ranges")
}

/// Whether `name` is that of such a file.
pub fn is_ranges(name: &str) -> bool {
    let number = name.strip_prefix("shard-").and_then(|rest| rest.strip_suffix(".ranges"));
    number.is_some_and(|n| n.len() >= 5 && n.bytes().all(|b| b.is_ascii_digit()))
}

/// Checksums of what is appended, a range at a time.
pub struct Summing {
    /// Bytes of a range, and of what the one in hand still lacks.
    range: usize,
    left: usize,
    hash: Sha256,
    sums: Vec<u8>,
}

impl Summing {
    /// For ranges of so many bytes.
    pub fn new(range: usize) -> Summing {
        Summing { range, left: range, hash: Sha256::new(), sums: Vec::new() }
    }

    /// Goes on with `bytes`.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(self.left.min(bytes.len()));
            self.hash.update(now);
            self.left -= now.len();
            if self.left == 0 {
                self.close();
            }
            bytes = later;
        }
    }

    fn close(&mut self) {
        self.sums.extend_from_slice(&self.hash.finalize_reset());
        self.left = self.range;
    }

    /// The checksums, one after the other.
    pub fn finish(mut self) -> Vec<u8> {
        if self.left < self.range {
            self.close();
        }
        self.sums
    }
}

/// Writes the file of a shard whose checksums in the manifest are `shard`, from the ids' `sums` and
/// each hook's.
pub fn write<'a>(
    path: &Path,
    shard: impl Iterator<Item = &'a str>,
    sums: &[Vec<u8>],
) -> Result<()> {
    if sums.iter().all(|sums| sums.len() <= SUM) {
        return Ok(());
    }
    let sums = sums.concat();
    let tie = tie(shard, &sums);
    write_atomic(path, |out| {
        out.write_all(&tie)?;
        out.write_all(&sums)
    })
}

/// What a file begins with.
fn tie<'a>(shard: impl Iterator<Item = &'a str>, sums: &[u8]) -> [u8; SUM] {
    let mut hash = Sha256::new();
    shard.for_each(|sum| hash.update(sum));
    hash.chain_update(sums).finalize().into()
}

/// The ranges of a shard, and which of them have been checked.
pub struct Ranges {
    /// How many there are of the ids, and of each hook.
    n: usize,
    sums: Vec<u8>,
    /// A bit for each of `sums`.
    seen: Vec<AtomicU64>,
}

impl Ranges {
    /// Those of a shard with `n` of them, whose checksums in the manifest are `shard`; none if the
    /// file is not one that speaks of it.
    pub fn read<'a>(
        path: &Path,
        n: usize,
        shard: impl ExactSizeIterator<Item = &'a str>,
    ) -> Option<Ranges> {
        let all = n * shard.len();
        let bytes = std::fs::read(path).ok().filter(|bytes| bytes.len() == SUM * (1 + all))?;
        let (first, sums) = bytes.split_at(SUM);
        (first == tie(shard, sums)).then(|| Ranges {
            n,
            sums: sums.to_vec(),
            seen: std::iter::repeat_with(AtomicU64::default).take(all.div_ceil(64)).collect(),
        })
    }

    /// What a range of the ids (section 0) or of a hook (sections 1, 2, …) should hash to.
    pub fn want(&self, section: usize, range: usize) -> &[u8] {
        &self.sums[(section * self.n + range) * SUM..][..SUM]
    }

    /// Whether it has been checked.
    pub fn has_seen(&self, section: usize, range: usize) -> bool {
        let bit = section * self.n + range;
        self.seen[bit / 64].load(Ordering::Acquire) >> (bit % 64) & 1 == 1
    }

    /// Notes that it has been checked.
    pub fn see(&self, section: usize, range: usize) {
        let bit = section * self.n + range;
        self.seen[bit / 64].fetch_or(1 << (bit % 64), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_do_not_depend_on_how_bytes_come() {
        let bytes: Vec<u8> = (0..1000u32).map(|i| (i * i % 251) as u8).collect();
        let want: Vec<u8> =
            bytes.chunks(96).flat_map(|range| Sha256::digest(range).to_vec()).collect();
        for piece in [1, 7, 95, 96, 97, 200, 1000] {
            let mut summing = Summing::new(96);
            bytes.chunks(piece).for_each(|bytes| summing.update(bytes));
            assert_eq!(summing.finish(), want, "{piece} at a time");
        }
        let mut whole = Summing::new(500);
        whole.update(&bytes);
        assert_eq!(whole.finish().len(), 2 * SUM);
    }

    #[test]
    fn a_file_speaks_of_its_shard_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = path(&dir.path().join("shard-00007.safetensors"));
        assert!(is_ranges(path.file_name().unwrap().to_str().unwrap()));
        let (shard, other) = (["aa", "bb"], ["aa", "bc"]);
        let sums = [(0..96).collect::<Vec<u8>>(), (100..196).collect()];
        write(&path, shard.into_iter(), &sums).unwrap();
        let ranges = Ranges::read(&path, 3, shard.into_iter()).unwrap();
        assert_eq!(ranges.want(1, 2), &sums[1][64..]);
        ranges.see(1, 2);
        let seen: Vec<_> = (0..6).filter(|i| ranges.has_seen(i / 3, i % 3)).collect();
        assert_eq!(seen, [5]);
        assert!(Ranges::read(&path, 3, other.into_iter()).is_none());
        assert!(Ranges::read(&path, 2, shard.into_iter()).is_none());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[150] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(Ranges::read(&path, 3, shard.into_iter()).is_none());
        // Of a single range nothing is written.
        std::fs::remove_file(&path).unwrap();
        write(&path, shard.into_iter(), &[vec![0; SUM], vec![1; SUM]]).unwrap();
        assert!(!path.exists());
    }
}
