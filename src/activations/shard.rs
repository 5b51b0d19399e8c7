//! One file of activations: a safetensors file with one tensor `[rows, d_model]` for each hook,
//! named by the hook, beside `tokens [rows]` and `positions [rows]` (u32; the position in its
//! sequence).

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use bytemuck::cast_slice;
use half::f16;
use half::slice::HalfFloatSliceExt;
use sha2::{Digest, Sha256};

use super::Dtype;
use super::layout::Layout;
use super::manifest::{IDS, Manifest, ShardId};
use super::map::Map;
use crate::base::error::{Error, Result};
use crate::base::files::{AtomicFile, hex, sha256};
use crate::model::HookPoint;

#[cfg(target_endian = "big")]
compile_error!("shards are read and written as they lie in memory, in little-endian order");

const REMEDY: &str = "delete it and harvest into this folder again to recreate only this shard";

/// Writes one shard, pass after pass, under a temporary name until it is whole.
pub struct ShardWriter<'a> {
    manifest: &'a Manifest,
    index: usize,
    layout: Layout,
    out: AtomicFile,
    ids_hash: Sha256,
    hooks: Vec<Cursor>,
    halves: Vec<f16>,
}

/// How far one hook's tensor has been written.
struct Cursor {
    at: u64,
    hash: Sha256,
}

impl<'a> ShardWriter<'a> {
    /// Starts shard `index` of the store in `dir`, which is to hold `tokens`, whole sequences.
    pub fn create(
        dir: &Path,
        manifest: &'a Manifest,
        index: usize,
        tokens: &[u32],
    ) -> Result<ShardWriter<'a>> {
        let path = dir.join(Manifest::shard_name(index));
        let too_large =
            || Error::format(&path, "would be larger than any file: choose a smaller shard_tokens");
        let layout = Layout::new(manifest, index).ok_or_else(too_large)?;
        let positions: Vec<u32> =
            (0..tokens.len()).map(|row| (row % manifest.corpus.n_ctx) as u32).collect();
        let mut out = AtomicFile::create(&path)?;
        out.write_at(0, &layout.header)?;
        out.write_at(layout.tokens.start, cast_slice(tokens))?;
        out.write_at(layout.positions.start, cast_slice(&positions))?;
        let ids_hash = Sha256::new()
            .chain_update(cast_slice::<u32, u8>(tokens))
            .chain_update(cast_slice::<u32, u8>(&positions));
        let hooks =
            layout.hooks.iter().map(|at| Cursor { at: at.start, hash: Sha256::new() }).collect();
        Ok(ShardWriter { manifest, index, layout, out, ids_hash, hooks, halves: Vec::new() })
    }

    /// Appends rows `[n, d_model]` of the hook at place `hook`.
    ///
    /// # Errors
    /// [`Error::NotFinite`] if a value is not finite, or not finite as f16; [`Error::Io`].
    pub fn append(&mut self, hook: usize, rows: &[f32]) -> Result<()> {
        let bytes: &[u8] = match self.manifest.dtype {
            Dtype::F32 => {
                if !all_finite(rows) {
                    return Err(self.not_finite(hook, rows, |x| x));
                }
                cast_slice(rows)
            }
            Dtype::F16 => {
                self.halves.resize(rows.len(), f16::ZERO);
                self.halves.convert_from_f32_slice(rows);
                if !all_finite_f16(&self.halves) {
                    return Err(self.not_finite(hook, rows, |x| f16::from_f32(x).to_f32()));
                }
                cast_slice(&self.halves)
            }
        };
        let cursor = &mut self.hooks[hook];
        self.out.write_at(cursor.at, bytes)?;
        cursor.hash.update(bytes);
        cursor.at += bytes.len() as u64;
        Ok(())
    }

    /// The first value that `stored` makes not finite, with its place in the corpus and what to do.
    fn not_finite(&self, hook: usize, rows: &[f32], stored: impl Fn(f32) -> f32) -> Error {
        let (d_model, n_ctx) = (self.manifest.model.d_model, self.manifest.corpus.n_ctx);
        let at = rows.iter().position(|&x| !stored(x).is_finite()).unwrap_or(0);
        let before = (self.hooks[hook].at - self.layout.hooks[hook].start)
            / (d_model * self.manifest.dtype.bytes()) as u64;
        let row = self.index * self.manifest.shard_rows + before as usize + at / d_model;
        let advice = match rows[at].is_finite() {
            true => format!(
                "the model gives {}, and f16 ends at 65504; harvest with dtype: Dtype::F32",
                rows[at]
            ),
            false => {
                "the model itself gives it, so its weights are damaged or its arithmetic overflows"
                    .to_owned()
            }
        };
        let (sequence, position, dimension) = (row / n_ctx, row % n_ctx, at % d_model);
        Error::NotFinite {
            what: format!("{} (as {})", self.manifest.hooks[hook], self.manifest.dtype),
            value: stored(rows[at]),
            at: format!(
                "sequence {sequence}, position {position}, dimension {dimension}: {advice}"
            ),
        }
    }

    /// Gives the shard its name, and says what goes into the manifest.
    pub fn finish(self) -> Result<ShardId> {
        for (cursor, at) in self.hooks.iter().zip(&self.layout.hooks) {
            if cursor.at != at.end {
                let got = (cursor.at - at.start) as usize / self.manifest.dtype.bytes();
                return Err(Error::Shape {
                    what: "what the model gave for a shard".into(),
                    want: vec![self.manifest.rows_of(self.index), self.manifest.model.d_model],
                    got: vec![got],
                });
            }
        }
        let names = self.manifest.hooks.iter().map(HookPoint::to_string);
        let hashes = self.hooks.into_iter().map(|cursor| hex(cursor.hash.finalize()));
        let mut sha256: BTreeMap<_, _> = names.zip(hashes).collect();
        sha256.insert(IDS.to_owned(), hex(self.ids_hash.finalize()));
        self.out.commit()?;
        let (file, bytes) = (Manifest::shard_name(self.index), self.layout.bytes());
        Ok(ShardId { file, rows: self.manifest.rows_of(self.index), bytes, sha256, after: None })
    }
}

/// One shard, mapped for reading.
pub struct Shard {
    path: PathBuf,
    layout: Layout,
    map: Map,
    /// What the ids, then each hook's rows, should hash to, and whether they have been seen to.
    want: Vec<(String, AtomicBool)>,
    d_vocab: usize,
    n_ctx: usize,
}

impl Shard {
    /// Maps shard `index` of the store in `dir`; checks its length and its header, and no more.
    ///
    /// # Errors
    /// [`Error::Format`] if it is missing or of the wrong length, [`Error::Checksum`] if its header
    /// is not the one that was written.
    pub fn open(dir: &Path, manifest: &Manifest, index: usize) -> Result<Shard> {
        let path = dir.join(Manifest::shard_name(index));
        let file = File::open(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => {
                Error::format(&path, "is missing: put it back, or harvest into this folder again to recreate only this shard")
            }
            _ => Error::io("read", &path)(e),
        })?;
        let layout = Layout::new(manifest, index)
            .ok_or_else(|| Error::format(&path, "is impossibly large"))?;
        let bytes = file.metadata().map_err(Error::io("read", &path))?.len();
        if bytes != layout.bytes() {
            let why = format!(
                "has {bytes} bytes, but {} were written: it was cut short or replaced; {REMEDY}",
                layout.bytes()
            );
            return Err(Error::format(&path, why));
        }
        let map = Map::new(&file).map_err(Error::io("map", &path))?;
        let header = &map.bytes()[..layout.header.len()];
        if header != layout.header {
            let (want, got, remedy) = (sha256(&layout.header), sha256(header), REMEDY.to_owned());
            return Err(Error::Checksum { path, want, got, remedy });
        }
        let known = &manifest.shards[index].sha256;
        let hooks = manifest.hooks.iter().map(HookPoint::to_string);
        let want = [IDS.to_owned()]
            .into_iter()
            .chain(hooks)
            .map(|name| (known.get(&name).cloned().unwrap_or_default(), AtomicBool::new(false)));
        let (d_vocab, n_ctx) = (manifest.model.d_vocab, manifest.corpus.n_ctx);
        Ok(Shard { path, layout, map, want: want.collect(), d_vocab, n_ctx })
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
        let seen = |section: usize| self.want[section].1.load(Ordering::Acquire);
        seen(0) && hooks.iter().all(|hook| seen(1 + hook))
    }

    /// Checks the ids and the rows of the hooks at the places `hooks` against their checksums, each
    /// once; and that the ids are those of a vocabulary and of whole sequences, for rows of tables
    /// are looked up by them.
    pub fn verify(&self, hooks: &[usize]) -> Result<()> {
        self.verify_section(0, self.layout.tokens.start..self.layout.positions.end, || {
            let strange = |(row, (&token, &position)): (usize, (&u32, &u32))| {
                token as usize >= self.d_vocab || position as usize != row % self.n_ctx
            };
            let Some(row) = self.tokens().iter().zip(self.positions()).enumerate().position(strange)
            else {
                return Ok(());
            };
            let (token, position) = (self.tokens()[row], self.positions()[row]);
            let why = format!(
                "has token {token} at position {position} in row {row}, but sequences have {} tokens from a vocabulary of {}; {REMEDY}",
                self.n_ctx, self.d_vocab
            );
            Err(Error::format(&self.path, why))
        })?;
        hooks.iter().try_for_each(|&hook| {
            self.verify_section(1 + hook, self.layout.hooks[hook].clone(), || Ok(()))
        })
    }

    /// Checks a section against its checksum, and then for what else must hold of it.
    fn verify_section(
        &self,
        section: usize,
        at: Range<u64>,
        also: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        /// Read ahead and hashed at a time.
        const STRETCH: usize = 8 << 20;
        let (want, seen) = &self.want[section];
        if seen.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut hash = Sha256::new();
        for start in (at.start as usize..at.end as usize).step_by(STRETCH) {
            let end = (start + STRETCH).min(at.end as usize);
            self.map.will_need(start, end - start);
            hash.update(&self.map.bytes()[start..end]);
        }
        let got = hex(hash.finalize());
        if got != *want {
            let (path, want, remedy) = (self.path.clone(), want.clone(), REMEDY.to_owned());
            return Err(Error::Checksum { path, want, got, remedy });
        }
        also()?;
        seen.store(true, Ordering::Release);
        Ok(())
    }

    /// Token ids `[rows]`.
    pub fn tokens(&self) -> &[u32] {
        cast_slice(&self.map.bytes()[range(&self.layout.tokens)])
    }

    /// Positions in their sequences `[rows]`.
    pub fn positions(&self) -> &[u32] {
        cast_slice(&self.map.bytes()[range(&self.layout.positions)])
    }

    /// The bytes of the rows of the hook at place `hook`.
    pub fn hook(&self, hook: usize) -> &[u8] {
        &self.map.bytes()[range(&self.layout.hooks[hook])]
    }
}

fn range(at: &Range<u64>) -> Range<usize> {
    at.start as usize..at.end as usize
}

/// Widens stored bytes to f32.
pub fn widen(dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    match dtype {
        Dtype::F16 => cast_slice::<u8, f16>(bytes).convert_to_f32_slice(out),
        Dtype::F32 => out.copy_from_slice(cast_slice(bytes)),
    }
}

/// Whether there is neither NaN nor infinity. (No early exit: this way it runs at the speed of
/// memory.)
pub fn all_finite(values: &[f32]) -> bool {
    const EXPONENT: u32 = 0x7F80_0000;
    values.iter().fold(true, |fine, x| fine & (x.to_bits() & EXPONENT != EXPONENT))
}

fn all_finite_f16(values: &[f16]) -> bool {
    const EXPONENT: u16 = 0x7C00;
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

    #[test]
    fn finite_means_neither_nan_nor_infinite() {
        let fine = [0.0, -0.0, f32::MAX, f32::MIN, f32::MIN_POSITIVE, 1e-45];
        assert!(all_finite(&fine));
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in 0..20 {
                let mut values = vec![1.0; 20];
                values[at] = wrong;
                assert!(!all_finite(&values));
                let halves: Vec<_> = values.iter().map(|&x| f16::from_f32(x)).collect();
                assert!(!all_finite_f16(&halves));
            }
        }
        assert!(all_finite_f16(&[f16::MAX, f16::MIN, f16::MIN_POSITIVE_SUBNORMAL]));
    }
}
