//! PyTorch's files of tensors (`pytorch_model.bin`, `ae.pt`), read without Python and without
//! running anything.
//!
//! Such a file is a zip archive of a pickle, `data.pkl`, and one file of numbers for each storage.
//! A pickle is a program for a small machine with a stack; here its calls are not made but kept as
//! they stand, and the few that build a tensor are recognised. One that names a function which is
//! no part of a tensor is refused by that name. Values lie in one list and refer to each other by
//! number, so that no pickle can make this read deep, long or large beyond its own size.

mod globals;
mod machine;
mod write;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use zip::ZipArchive;
use zip::read::{ArchiveOffset, Config};

use crate::base::error::{Error, Result};

pub(crate) use write::{Data, save};

use machine::{Found, Machine};

/// A tensor as the pickle describes it.
#[derive(Clone, Debug, PartialEq)]
struct Stored {
    /// The name of its storage's type, `FloatStorage`.
    class: String,
    /// The name of its storage's file.
    storage: String,
    /// In numbers, as are the strides.
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

/// What stands between the tensors.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Plain {
    Number(f64),
    Text(String),
    Flag(bool),
    /// A list, a call, a dictionary too deep to look into: there, and not read.
    Other,
}

/// A file of named tensors.
pub(crate) struct Tensors {
    path: PathBuf,
    archive: ZipArchive<BufReader<File>>,
    /// The folder within the archive.
    folder: String,
    found: Found,
    /// The storage that was read last, whose tensors often follow each other.
    storage: Option<(String, Vec<u8>)>,
    /// How many bytes of storages, and of tensors, may yet be read.
    left: [u64; 2],
}

/// How many times as large as their file storages may be when each is read for its tensors.
const READ: u64 = 64;

/// How many times as large as their file tensors may be that share their numbers.
const SHARED: u64 = 4;

/// A tensor's numbers, row-major and little-endian.
pub(crate) struct Numbers {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

impl Tensors {
    /// Reads which tensors a file holds.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Format`] if it is not such a file.
    pub fn open(path: &Path) -> Result<Tensors> {
        let bad = |why: String| Error::format(path, why);
        let file = File::open(path).map_err(Error::io("read", path))?;
        let size = file.metadata().map_err(Error::io("read", path))?.len();
        // Nothing stands before the archive. Where the zip crate (9.4) looks for its beginning, it takes
        // the second entry of PyTorch's directory for the first if that has as many bytes as the
        // records behind the directory, as with the authors' gpt2_resid_pre_8_ot30.pt.
        let config = Config { archive_offset: ArchiveOffset::Known(0) };
        let mut archive = ZipArchive::with_config(config, BufReader::new(file)).map_err(|e| {
            bad(format!(
                "is not a zip archive ({e}): it is cut off, or PyTorch wrote it before version 1.6; load it with transformers and write it \
                 again with save_pretrained"
            ))
        })?;
        let names: Vec<String> =
            archive.file_names().filter_map(|name| Some(name.ok()?.into_owned())).collect();
        let folder = names
            .iter()
            .find_map(|name| name.strip_suffix("data.pkl"))
            .ok_or_else(|| bad("holds no data.pkl".to_owned()))?
            .to_owned();
        if names.contains(&format!("{folder}byteorder")) {
            let order =
                read_entry(&mut archive, &format!("{folder}byteorder"), size).map_err(bad)?;
            if order != b"little" {
                return Err(bad("has its numbers in the byte order of another machine".to_owned()));
            }
        }
        let pickle = read_entry(&mut archive, &format!("{folder}data.pkl"), size).map_err(bad)?;
        let found = Machine::run(&pickle)
            .map_err(|why| bad(format!("its data.pkl cannot be read: {why}")))?;
        let left = [READ * size, SHARED * size];
        Ok(Tensors { path: path.to_owned(), archive, folder, found, storage: None, left })
    }

    /// The names of all tensors, in order.
    pub fn names(&self) -> Vec<String> {
        self.found.tensors.keys().cloned().collect()
    }

    /// The type and shape of a tensor, if there is one of that name and its type is known.
    pub fn info(&self, name: &str) -> Option<(Dtype, Vec<usize>)> {
        let stored = self.found.tensors.get(name)?;
        Some((dtype(&stored.class)?.0, stored.shape.clone()))
    }

    /// What stands between the tensors, by name.
    pub fn plain(&self) -> &BTreeMap<String, Plain> {
        &self.found.plain
    }

    /// The numbers of a tensor; `None` if there is none of that name.
    ///
    /// # Errors
    /// [`Error::Format`] if they are not all there, or of a type that is not known.
    pub fn read(&mut self, name: &str) -> Result<Option<Numbers>> {
        let Some(stored) = self.found.tensors.get(name).cloned() else { return Ok(None) };
        let numbers = self.numbers(&stored);
        numbers
            .map(Some)
            .map_err(|why| Error::format(&self.path, format!("tensor \"{name}\" {why}")))
    }

    fn numbers(&mut self, stored: &Stored) -> std::result::Result<Numbers, String> {
        let pay = |left: &mut u64, bytes: &[u8], why: &str| {
            *left = left
                .checked_sub(bytes.len() as u64)
                .ok_or_else(|| format!("is one too many: {why}"))?;
            Ok::<(), String>(())
        };
        let (dtype, width) =
            dtype(&stored.class).ok_or_else(|| format!("has an unknown type, {}", stored.class))?;
        let storage = match self.storage.take() {
            Some((name, storage)) if name == stored.storage => storage,
            _ => {
                let size = self.path.metadata().map_err(|e| e.to_string())?.len();
                let storage = read_entry(
                    &mut self.archive,
                    &format!("{}data/{}", self.folder, stored.storage),
                    size,
                )?;
                pay(
                    &mut self.left[0],
                    &storage,
                    "the tensors of this file lie scattered over its storages, which no program writes",
                )?;
                storage
            }
        };
        let (bytes, rest) = stored.taken(storage, width)?;
        pay(&mut self.left[1], &bytes, "the tensors of this file are larger than the file")?;
        self.storage = rest.map(|rest| (stored.storage.clone(), rest));
        Ok(Numbers { dtype, shape: stored.shape.clone(), bytes })
    }
}

impl Stored {
    /// Its bytes, and the storage, if there is more in it.
    fn taken(
        &self,
        storage: Vec<u8>,
        width: usize,
    ) -> std::result::Result<(Vec<u8>, Option<Vec<u8>>), String> {
        let there = storage.len() / width;
        let n = self
            .shape
            .iter()
            .try_fold(1usize, |n, &size| n.checked_mul(size))
            .filter(|&n| n <= there);
        let last =
            self.shape.iter().zip(&self.strides).try_fold(self.offset, |last, (&size, &stride)| {
                last.checked_add(size.saturating_sub(1).checked_mul(stride)?)
            });
        let (Some(n), Some(last)) =
            (n, last.filter(|&last| last < there || self.shape.contains(&0)))
        else {
            return Err(format!(
                "of shape {:?} needs more than the {there} numbers stored",
                self.shape
            ));
        };
        if n == 0 || last - self.offset + 1 == n && is_row_major(&self.shape, &self.strides) {
            let from = if n == 0 { 0 } else { self.offset * width };
            if n * width == storage.len() {
                return Ok((storage, None));
            }
            return Ok((storage[from..from + n * width].to_vec(), Some(storage)));
        }
        let mut bytes = Vec::with_capacity(n * width);
        for i in 0..n {
            let (mut rest, mut at) = (i, self.offset);
            for (&size, &stride) in self.shape.iter().zip(&self.strides).rev() {
                at += rest % size * stride;
                rest /= size;
            }
            bytes.extend_from_slice(&storage[at * width..(at + 1) * width]);
        }
        Ok((bytes, Some(storage)))
    }
}

/// Whether numbers lie one after the other in the order of their indices.
fn is_row_major(shape: &[usize], strides: &[usize]) -> bool {
    let mut step = 1;
    shape.iter().zip(strides).rev().all(|(&size, &stride)| {
        let fits = size == 1 || stride == step;
        step *= size;
        fits
    })
}

/// A file of the archive, which `limit` bytes at most can be in.
fn read_entry(
    archive: &mut ZipArchive<BufReader<File>>,
    name: &str,
    limit: u64,
) -> std::result::Result<Vec<u8>, String> {
    let mut entry =
        archive.by_name(name).map_err(|e| format!("its part {name} cannot be read ({e})"))?;
    if entry.size() > limit {
        return Err(format!("its part {name} claims to be larger than the whole"));
    }
    let mut bytes = Vec::with_capacity(entry.size() as usize);
    entry
        .by_ref()
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|e| format!("its part {name} cannot be read ({e})"))?;
    Ok(bytes)
}

/// The type of a storage's numbers, and the bytes of each.
fn dtype(class: &str) -> Option<(Dtype, usize)> {
    Some(match class {
        "FloatStorage" => (Dtype::F32, 4),
        "DoubleStorage" => (Dtype::F64, 8),
        "HalfStorage" => (Dtype::F16, 2),
        "BFloat16Storage" => (Dtype::BF16, 2),
        "LongStorage" => (Dtype::I64, 8),
        "IntStorage" => (Dtype::I32, 4),
        "ShortStorage" => (Dtype::I16, 2),
        "CharStorage" => (Dtype::I8, 1),
        "ByteStorage" => (Dtype::U8, 1),
        "BoolStorage" => (Dtype::BOOL, 1),
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
