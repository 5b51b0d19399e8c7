//! Writing one shard.

use std::collections::BTreeMap;
use std::path::Path;

use bytemuck::cast_slice;
use half::f16;
use half::slice::HalfFloatSliceExt;
use sha2::{Digest, Sha256};

use super::Dtype;
use super::layout::Layout;
use super::manifest::{IDS, Manifest, ShardId};
use super::shard::all_finite;
use crate::base::error::{Error, Result};
use crate::base::files::{AtomicFile, hex};
use crate::model::HookPoint;

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
