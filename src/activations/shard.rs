//! Reading one file of activations: a safetensors file with one tensor `[rows, d_model]` for each hook,
//! named by the hook, beside `tokens [rows]` and `positions [rows]` (u32; the position in its
//! sequence).

mod checks;

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use bytemuck::cast_slice;
use half::f16;
use half::slice::HalfFloatSliceExt;

use super::layout::Layout;
use super::manifest::{IDS, Manifest};
use super::map::Map;
use super::maps::Maps;
use super::ranges::{self, Ranges};
use super::{Dtype, int8};
use crate::base::error::{Error, Result};
use crate::base::files::sha256;
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
