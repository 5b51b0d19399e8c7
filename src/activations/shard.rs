//! Reading one file of activations: a safetensors file with one tensor `[rows, d_model]` for each hook,
//! named by the hook, beside `tokens [rows]` and `positions [rows]` (u32; the position in its
//! sequence).

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use bytemuck::cast_slice;
use half::f16;
use half::slice::HalfFloatSliceExt;
use sha2::{Digest, Sha256};

use super::layout::Layout;
use super::manifest::{IDS, Manifest};
use super::map::Map;
use super::maps::Maps;
use super::ranges::{self, Ranges};
use super::{Dtype, int8};
use crate::base::error::{Error, Result};
use crate::base::files::{hex, sha256};
use crate::model::HookPoint;

#[cfg(target_endian = "big")]
compile_error!("shards are read and written as they lie in memory, in little-endian order");

const REMEDY: &str = "delete it and harvest into this folder again to recreate only this shard";

/// One shard for reading. It is [mapped](Shard::map) when something of it is read.
pub struct Shard {
    path: PathBuf,
    /// Its place in the store.
    index: usize,
    /// Without the header, which was compared: there may be 10⁵ shards.
    layout: Layout,
    maps: Arc<Maps>,
    /// When its file was written, as the system says.
    written: Option<SystemTime>,
    /// What the ids, then each hook's rows, should hash to, and whether they have been seen to.
    want: Vec<(String, AtomicBool)>,
    /// Rows in a range of them, and what is known of the ranges; that is read when it is first asked
    /// for.
    rows_of_range: usize,
    ranges: OnceLock<Option<Ranges>>,
    d_vocab: usize,
    n_ctx: usize,
}

/// A shard's bytes, for as long as they are read.
pub struct Mapped<'a> {
    layout: &'a Layout,
    map: Arc<Map>,
}

impl Shard {
    /// Opens shard `index` of the store in `dir`, whose maps are `maps`; checks its length and its
    /// header, and no more.
    ///
    /// # Errors
    /// [`Error::Format`] if it is missing or of the wrong length, [`Error::Checksum`] if its header
    /// is not the one that was written.
    pub fn open(dir: &Path, manifest: &Manifest, index: usize, maps: &Arc<Maps>) -> Result<Shard> {
        let path = dir.join(Manifest::shard_name(index));
        let mut layout = Layout::new(manifest, index)
            .ok_or_else(|| Error::format(&path, "is impossibly large"))?;
        let (file, written) = open_file(&path, layout.bytes())?;
        let want = std::mem::take(&mut layout.header);
        let mut header = Vec::with_capacity(want.len());
        file.take(want.len() as u64).read_to_end(&mut header).map_err(Error::io("read", &path))?;
        if header != want {
            let (want, got, remedy) = (sha256(&want), sha256(&header), REMEDY.to_owned());
            return Err(Error::Checksum { path, want, got, remedy });
        }
        let known = &manifest.shards[index].sha256;
        let hooks = manifest.hooks.iter().map(HookPoint::to_string);
        let want = [IDS.to_owned()]
            .into_iter()
            .chain(hooks)
            .map(|name| (known.get(&name).cloned().unwrap_or_default(), AtomicBool::new(false)))
            .collect();
        let (d_vocab, n_ctx) = (manifest.model.d_vocab, manifest.corpus.n_ctx);
        let (rows_of_range, ranges) = (ranges::rows_of_range(manifest), OnceLock::new());
        let maps = maps.clone();
        Ok(Shard {
            path,
            index,
            layout,
            maps,
            written,
            want,
            rows_of_range,
            ranges,
            d_vocab,
            n_ctx,
        })
    }

    /// Its bytes, mapped now unless they still are.
    ///
    /// # Errors
    /// [`Error::Format`] if the file is gone or another since the shard was opened: what was checked
    /// of it may no longer hold. [`Error::Io`].
    pub fn map(&self) -> Result<Mapped<'_>> {
        let map = self.maps.get(self.index, || {
            let (file, written) = open_file(&self.path, self.layout.bytes())?;
            if written != self.written {
                let why = "was replaced while the store was open: open the store again";
                return Err(Error::format(&self.path, why));
            }
            Map::new(&file).map_err(Error::io("map", &self.path))
        })?;
        Ok(Mapped { layout: &self.layout, map })
    }

    /// The range that a row lies in.
    pub fn range_of(&self, row: usize) -> usize {
        row / self.rows_of_range
    }

    /// How many ranges it has.
    pub fn n_ranges(&self) -> usize {
        self.layout.rows().div_ceil(self.rows_of_range)
    }

    /// Whether its ranges can be checked one by one.
    pub fn has_ranges(&self) -> bool {
        self.ranges().is_some()
    }

    fn ranges(&self) -> Option<&Ranges> {
        let read = || {
            let want = self.want.iter().map(|(sum, _)| sum.as_str());
            (self.n_ranges() > 1)
                .then(|| Ranges::read(&ranges::path(&self.path), self.n_ranges(), want))
                .flatten()
        };
        self.ranges.get_or_init(read).as_ref()
    }

    /// Bytes of the ids and of the rows of the hooks at the places `hooks`.
    pub fn bytes_of(&self, hooks: &[usize]) -> u64 {
        let of = |at: &Range<u64>| at.end - at.start;
        of(&self.layout.tokens)
            + of(&self.layout.positions)
            + hooks.iter().map(|&hook| of(&self.layout.hooks[hook])).sum::<u64>()
    }

    /// Whether the ids and the rows of the hooks at the places `hooks` have been checked since the
    /// shard was opened.
    pub fn is_verified(&self, hooks: &[usize]) -> bool {
        sections(hooks).all(|section| self.want[section].1.load(Ordering::Acquire))
    }

    /// As [`is_verified`](Shard::is_verified), of the rows of a range.
    pub fn has_seen(&self, hooks: &[usize], range: usize) -> bool {
        sections(hooks).all(|section| self.has_seen_section(section, range))
    }

    fn has_seen_section(&self, section: usize, range: usize) -> bool {
        let ranges = || self.ranges.get().and_then(Option::as_ref);
        self.want[section].1.load(Ordering::Acquire)
            || ranges().is_some_and(|ranges| ranges.has_seen(section, range))
    }

    /// Checks the ids and the rows of the hooks at the places `hooks` against their checksums, each
    /// once; and that the ids are those of a vocabulary and of whole sequences, for rows of tables
    /// are looked up by them.
    pub fn verify(&self, hooks: &[usize]) -> Result<()> {
        let mapped = self.map()?;
        self.verify_section(&mapped, 0, self.layout.tokens.start..self.layout.positions.end)?;
        hooks.iter().try_for_each(|&hook| {
            self.verify_section(&mapped, 1 + hook, self.layout.hooks[hook].clone())
        })
    }

    /// As [`verify`](Shard::verify), of the rows of a range. What the file of ranges does not vouch
    /// for is checked with the whole shard.
    pub fn verify_range(&self, hooks: &[usize], range: usize) -> Result<()> {
        let Some(ranges) = self.ranges() else { return self.verify(hooks) };
        let mapped = self.map()?;
        let first = range * self.rows_of_range;
        let rows = first..(first + self.rows_of_range).min(self.layout.rows());
        for section in sections(hooks).filter(|&section| !self.has_seen_section(section, range)) {
            let Layout { tokens, positions, hooks: of_hooks, .. } = &self.layout;
            let tensors = match section {
                0 => vec![tokens, positions],
                hook => vec![&of_hooks[hook - 1]],
            };
            let mut hash = Sha256::new();
            for tensor in tensors {
                let at = self.layout.at(tensor, &rows);
                mapped.map.will_need(at.clone());
                hash.update(&mapped.map.bytes()[at]);
            }
            if hash.finalize().as_slice() != ranges.want(section, range) {
                return self.verify(hooks);
            }
            if section == 0 {
                self.check_ids(&mapped, rows.clone())?;
            }
            ranges.see(section, range);
        }
        Ok(())
    }

    /// Checks a section against its checksum, and of the ids what else must hold.
    fn verify_section(&self, mapped: &Mapped<'_>, section: usize, at: Range<u64>) -> Result<()> {
        /// Read ahead and hashed at a time.
        const STRETCH: usize = 8 << 20;
        let (want, seen) = &self.want[section];
        if seen.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut hash = Sha256::new();
        for start in (at.start as usize..at.end as usize).step_by(STRETCH) {
            let end = (start + STRETCH).min(at.end as usize);
            mapped.map.will_need(start..end);
            hash.update(&mapped.map.bytes()[start..end]);
        }
        let got = hex(hash.finalize());
        if got != *want {
            let (path, want, remedy) = (self.path.clone(), want.clone(), REMEDY.to_owned());
            return Err(Error::Checksum { path, want, got, remedy });
        }
        if section == 0 {
            self.check_ids(mapped, 0..self.layout.rows())?;
        }
        seen.store(true, Ordering::Release);
        Ok(())
    }

    fn check_ids(&self, mapped: &Mapped<'_>, mut rows: Range<usize>) -> Result<()> {
        let (tokens, positions) = (mapped.tokens(), mapped.positions());
        let strange = |&row: &usize| {
            tokens[row] as usize >= self.d_vocab || positions[row] as usize != row % self.n_ctx
        };
        let Some(row) = rows.find(strange) else { return Ok(()) };
        let (token, position) = (tokens[row], positions[row]);
        let why = format!(
            "has token {token} at position {position} in row {row}, but sequences have {} tokens from a vocabulary of {}; {REMEDY}",
            self.n_ctx, self.d_vocab
        );
        Err(Error::format(&self.path, why))
    }
}

/// Opens the file of a shard if it has so many bytes; and when it was written, if the system says.
fn open_file(path: &Path, bytes: u64) -> Result<(File, Option<SystemTime>)> {
    let file = File::open(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            Error::format(path, "is missing: put it back, or harvest into this folder again to recreate only this shard")
        }
        _ => Error::io("read", path)(e),
    })?;
    let there = file.metadata().map_err(Error::io("read", path))?;
    if there.len() != bytes {
        let why = format!(
            "has {} bytes, but {bytes} were written: it was cut short or replaced; {REMEDY}",
            there.len()
        );
        return Err(Error::format(path, why));
    }
    Ok((file, there.modified().ok()))
}

impl Mapped<'_> {
    /// Token ids `[rows]`.
    pub fn tokens(&self) -> &[u32] {
        cast_slice(&self.map.bytes()[range(&self.layout.tokens)])
    }

    /// Positions in their sequences `[rows]`.
    pub fn positions(&self) -> &[u32] {
        cast_slice(&self.map.bytes()[range(&self.layout.positions)])
    }

    /// Asks the system to read these rows of the hook at place `hook` ahead, and their ids.
    pub fn will_need(&self, hook: usize, rows: Range<usize>) {
        let Layout { tokens, positions, hooks, .. } = self.layout;
        for tensor in [tokens, positions, &hooks[hook]] {
            self.map.will_need(self.layout.at(tensor, &rows));
        }
    }

    /// The bytes of the rows of the hook at place `hook`.
    pub fn hook(&self, hook: usize) -> &[u8] {
        &self.map.bytes()[range(&self.layout.hooks[hook])]
    }
}

fn range(at: &Range<u64>) -> Range<usize> {
    at.start as usize..at.end as usize
}

/// The places of the ids and of hooks among the checksums.
fn sections(hooks: &[usize]) -> impl Iterator<Item = usize> {
    std::iter::once(0).chain(hooks.iter().map(|hook| 1 + hook))
}

/// Widens the stored bytes of a row to f32.
pub fn widen(dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    match dtype {
        Dtype::F16 => cast_slice::<u8, f16>(bytes).convert_to_f32_slice(out),
        Dtype::F32 => out.copy_from_slice(cast_slice(bytes)),
        Dtype::Int8 => int8::widen(bytes, out),
    }
}

/// Whether there is neither NaN nor infinity. (No early exit: this way it runs at the speed of
/// memory.)
pub fn all_finite(values: &[f32]) -> bool {
    const EXPONENT: u32 = 0x7F80_0000;
    values.iter().fold(true, |fine, x| fine & (x.to_bits() & EXPONENT != EXPONENT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activations::{ActivationStore, Batch, HarvestConfig};
    use crate::model::Model;
    use crate::sae::Lookup;

    #[test]
    fn tokens_and_positions_that_cannot_be_are_noticed_though_their_checksum_is_right() {
        let (dir, model) = (tempfile::tempdir().unwrap(), Model::load("tiny-gpt2").unwrap());
        let hook = HookPoint::resid_pre(1);
        let tokens = model.sample(2, 8, 0).unwrap();
        ActivationStore::harvest(&model, &[hook], &tokens, dir.path(), HarvestConfig::default())
            .unwrap();
        let (shard, whole) =
            (dir.path().join(Manifest::shard_name(0)), Manifest::read(dir.path()).unwrap());
        let (bytes, layout) = (std::fs::read(&shard).unwrap(), Layout::new(&whole, 0).unwrap());
        // The second row: a token beyond the vocabulary, a position before the first.
        for (at, value) in [
            (layout.tokens.start as usize + 4, 1 << 20),
            (layout.positions.start as usize + 4, 2u32),
        ] {
            let mut spoilt = bytes.clone();
            spoilt[at..at + 4].copy_from_slice(&value.to_le_bytes());
            std::fs::write(&shard, &spoilt).unwrap();
            let mut signed = whole.clone();
            signed.shards[0].sha256.insert(
                IDS.to_owned(),
                sha256(&spoilt[layout.tokens.start as usize..layout.positions.end as usize]),
            );
            signed.write(dir.path()).unwrap();
            let store = ActivationStore::open(dir.path()).unwrap();
            for told in [
                store.gather(hook, &[0], &mut Batch::default()).err(),
                store.tokens().err(),
                Lookup::means(&store, hook).err(),
            ] {
                let told = told.expect("it is noticed, each time").to_string();
                assert!(told.contains("shard-00000") && told.contains("in row 1"), "{told}");
            }
        }
    }
}
