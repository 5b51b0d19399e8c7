//! Writing one shard.

use std::ops::Range;
use std::path::{Path, PathBuf};

use bytemuck::cast_slice;
use half::f16;
use half::slice::HalfFloatSliceExt;
use sha2::{Digest, Sha256};

use super::layout::Layout;
use super::manifest::{IDS, Manifest, ShardId};
use super::ranges::{self, Summing};
use super::shard::all_finite;
use super::{Dtype, int8};
use crate::base::error::{Error, Result};
use crate::base::files::{AtomicFile, hex};
use crate::model::HookPoint;

/// Writes one shard, pass after pass, under a temporary name until it is whole.
pub struct ShardWriter<'a> {
    manifest: &'a Manifest,
    index: usize,
    path: PathBuf,
    layout: Layout,
    out: AtomicFile,
    ids_hash: Sha256,
    /// The ids' checksums, range by range.
    ids_ranges: Vec<u8>,
    hooks: Vec<Cursor>,
    halves: Vec<f16>,
    bytes: Vec<u8>,
}

/// How far one hook's tensor has been written.
struct Cursor {
    at: u64,
    hash: Sha256,
    ranges: Summing,
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
        let rows = ranges::rows_of_range(manifest);
        let sum = |(tokens, positions): (&[u32], &[u32])| {
            let hash = Sha256::new().chain_update(cast_slice::<u32, u8>(tokens));
            hash.chain_update(cast_slice::<u32, u8>(positions)).finalize()
        };
        let ids_ranges = tokens.chunks(rows).zip(positions.chunks(rows)).flat_map(sum).collect();
        let range = rows * manifest.dtype.row_bytes(manifest.model.d_model);
        let cursor = |at: &Range<u64>| Cursor {
            at: at.start,
            hash: Sha256::new(),
            ranges: Summing::new(range),
        };
        let hooks = layout.hooks.iter().map(cursor).collect();
        let (halves, bytes) = (Vec::new(), Vec::new());
        Ok(ShardWriter {
            manifest,
            index,
            path,
            layout,
            out,
            ids_hash,
            ids_ranges,
            hooks,
            halves,
            bytes,
        })
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
            Dtype::Int8 => {
                self.bytes.clear();
                if !int8::narrow(rows, self.manifest.model.d_model, &mut self.bytes) {
                    // As the largest of its group it is its own scale.
                    return Err(
                        self.not_finite(hook, rows, |x| f16::from_f32(x.abs() / 127.0).to_f32())
                    );
                }
                &self.bytes
            }
        };
        let cursor = &mut self.hooks[hook];
        self.out.write_at(cursor.at, bytes)?;
        cursor.hash.update(bytes);
        cursor.ranges.update(bytes);
        cursor.at += bytes.len() as u64;
        Ok(())
    }

    /// The first value that `stored` makes not finite, with its place in the corpus and what to do.
    fn not_finite(&self, hook: usize, rows: &[f32], stored: impl Fn(f32) -> f32) -> Error {
        let Manifest { model, corpus, dtype, .. } = self.manifest;
        let (d_model, n_ctx) = (model.d_model, corpus.n_ctx);
        let at = rows.iter().position(|&x| !stored(x).is_finite()).unwrap_or(0);
        let before =
            (self.hooks[hook].at - self.layout.hooks[hook].start) / dtype.row_bytes(d_model) as u64;
        let row = self.index * self.manifest.shard_rows + before as usize + at / d_model;
        let advice = match rows[at].is_finite() {
            true => format!(
                "the model gives {}, and {dtype} ends at {}; harvest with dtype: Dtype::F32",
                rows[at],
                if *dtype == Dtype::F16 { 65_504 } else { 127 * 65_504 },
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
                let d_model = self.manifest.model.d_model;
                let rows = (cursor.at - at.start) as usize / self.manifest.dtype.row_bytes(d_model);
                return Err(Error::Shape {
                    what: "what the model gave for a shard".into(),
                    want: vec![self.manifest.rows_of(self.index), d_model],
                    got: vec![rows, d_model],
                });
            }
        }
        let names = self.manifest.hooks.iter().map(HookPoint::to_string);
        let names: Vec<String> = [IDS.to_owned()].into_iter().chain(names).collect();
        let (mut hashes, mut sums) = (vec![hex(self.ids_hash.finalize())], vec![self.ids_ranges]);
        for cursor in self.hooks {
            hashes.push(hex(cursor.hash.finalize()));
            sums.push(cursor.ranges.finish());
        }
        let path = ranges::path(&self.path);
        ranges::write(&path, hashes.iter().map(String::as_str), &sums)?;
        let sha256 = names.into_iter().zip(hashes).collect();
        self.out.commit()?;
        let (file, bytes) = (Manifest::shard_name(self.index), self.layout.bytes());
        let rows = self.manifest.rows_of(self.index);
        Ok(ShardId { file, rows, bytes, sha256, ..ShardId::default() })
    }
}

fn all_finite_f16(values: &[f16]) -> bool {
    const EXPONENT: u16 = 0x7C00;
    values.iter().fold(true, |fine, x| fine & (x.to_bits() & EXPONENT != EXPONENT))
}

#[cfg(test)]
mod tests {
    use super::*;

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
