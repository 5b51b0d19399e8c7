//! Where everything is in one shard.
//!
//! Everything about the file but the numbers follows from the manifest, so a reader does not parse
//! its header: it forms the header that must be there and compares. Any other safetensors reader
//! can still open it.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Serialize;

use super::Dtype;
use super::manifest::Manifest;

/// Where everything is in one shard.
#[derive(Debug)]
pub struct Layout {
    pub header: Vec<u8>,
    pub tokens: Range<u64>,
    pub positions: Range<u64>,
    /// One a hook.
    pub hooks: Vec<Range<u64>>,
}

/// A tensor as a safetensors header describes it.
#[derive(Serialize)]
#[serde(untagged)]
enum Entry {
    Tensor { dtype: String, shape: Vec<usize>, data_offsets: [u64; 2] },
    Metadata(BTreeMap<&'static str, String>),
}

impl Layout {
    /// The layout of shard `index`, or `None` if it would be larger than any file.
    pub fn new(manifest: &Manifest, index: usize) -> Option<Layout> {
        let rows = manifest.rows_of(index) as u64;
        let d_model = manifest.model.d_model;
        let row_bytes = manifest.dtype.row_bytes(d_model) as u64;
        let (ids_bytes, hook_bytes) = (rows.checked_mul(4)?, rows.checked_mul(row_bytes)?);
        // The ids come first, so that every tensor starts at a multiple of its element size.
        let mut end = 0u64;
        let mut take = |bytes: u64| -> Option<Range<u64>> {
            let start = end;
            end = start.checked_add(bytes)?;
            Some(start..end)
        };
        let (tokens, positions) = (take(ids_bytes)?, take(ids_bytes)?);
        let hooks = manifest.hooks.iter().map(|_| take(hook_bytes)).collect::<Option<Vec<_>>>()?;

        let tensor = |dtype: &str, shape, at: &Range<u64>| Entry::Tensor {
            dtype: dtype.to_uppercase(),
            shape,
            data_offsets: [at.start, at.end],
        };
        let rows = rows as usize;
        // Ties the file to its store and its place in it, so that a shard from elsewhere is noticed
        // before any checksum is formed.
        let metadata = BTreeMap::from([
            ("corpus", manifest.corpus.fingerprint.clone()),
            ("first_row", (index * manifest.shard_rows).to_string()),
            ("format", "pt".to_owned()),
            ("model", manifest.model.fingerprint.clone()),
        ]);
        let mut entries = BTreeMap::from([
            ("__metadata__".to_owned(), Entry::Metadata(metadata)),
            ("tokens".to_owned(), tensor("u32", vec![rows], &tokens)),
            ("positions".to_owned(), tensor("u32", vec![rows], &positions)),
        ]);
        let (dtype, width) = match manifest.dtype {
            // Numbers and scales together are bytes to others.
            Dtype::Int8 => ("u8", row_bytes as usize),
            Dtype::F16 => ("f16", d_model),
            Dtype::F32 => ("f32", d_model),
        };
        for (hook, at) in manifest.hooks.iter().zip(&hooks) {
            entries.insert(hook.to_string(), tensor(dtype, vec![rows, width], at));
        }
        let mut json = serde_json::to_vec(&entries).ok()?;
        json.resize(json.len().next_multiple_of(8), b' ');
        let mut header = (json.len() as u64).to_le_bytes().to_vec();
        header.append(&mut json);

        let start = header.len() as u64;
        end.checked_add(start).filter(|&end| end <= i64::MAX as u64)?;
        let shift = |at: Range<u64>| at.start + start..at.end + start;
        Some(Layout {
            header,
            tokens: shift(tokens),
            positions: shift(positions),
            hooks: hooks.into_iter().map(shift).collect(),
        })
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        (self.tokens.end - self.tokens.start) as usize / 4
    }

    /// Where some rows of one of its tensors are.
    pub fn at(&self, tensor: &Range<u64>, rows: &Range<usize>) -> Range<usize> {
        let start = tensor.start as usize;
        let row = (tensor.end as usize - start) / self.rows();
        start + rows.start * row..start + rows.end * row
    }

    /// The size of the file.
    pub fn bytes(&self) -> u64 {
        self.hooks.last().map_or(self.positions.end, |at| at.end)
    }
}
