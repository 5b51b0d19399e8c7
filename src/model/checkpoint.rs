//! Safetensors files, and PyTorch's, read into f32 tensors one at a time; whatever is wrong with one is told with its name and file.
//!
//! Only the tensor that is asked for is in memory: a checkpoint may be larger than that.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Device, Tensor};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use crate::error::{Error, Result};
use crate::matmul::Precision;
use crate::model::source::Weights;
use crate::pickle;

/// A place in a checkpoint's tree of names, from which tensors are read.
#[derive(Clone)]
pub(super) struct Reader {
    /// Empty, or ended by a dot.
    prefix: String,
    files: Arc<Files>,
}

/// The files of a checkpoint.
struct Files {
    all: Vec<Part>,
    /// In which of them each tensor is.
    of: HashMap<String, usize>,
}

/// A file of tensors.
struct Part {
    path: PathBuf,
    form: Form,
}

enum Form {
    /// A safetensors file in memory: its header, and where its numbers begin.
    Memory(Metadata, usize, &'static [u8]),
    /// One on disk.
    Disk(Metadata, usize, Mutex<File>),
    /// A file of PyTorch's.
    Pickle(Mutex<pickle::Tensors>),
}

/// Finds out which tensors a checkpoint has.
pub(super) fn open(weights: &Weights) -> Result<Reader> {
    let all = match weights {
        Weights::Memory(path, bytes) => {
            let (header, start) = read_header(&mut &bytes[..], bytes.len() as u64, path)?;
            vec![Part { path: path.clone(), form: Form::Memory(header, start, bytes) }]
        }
        Weights::Files(paths) => paths.iter().map(|path| Part::open(path)).collect::<Result<_>>()?,
    };
    let mut of = HashMap::new();
    for (i, part) in all.iter().enumerate() {
        of.extend(part.names().into_iter().map(|name| (name, i)));
    }
    Ok(Reader { prefix: String::new(), files: Arc::new(Files { all, of }) })
}

/// The header of a safetensors file of `size` bytes, and where the numbers begin; what it says of them has been checked against the size.
fn read_header(file: &mut impl Read, size: u64, path: &Path) -> Result<(Metadata, usize)> {
    /// As in the safetensors crate.
    const LARGEST_HEADER: u64 = 100_000_000;
    let bad = |why: String| {
        Error::format(path, format!("is not a whole safetensors file ({why}; {size} bytes): it is cut off or damaged, copy it again"))
    };
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(|e| bad(e.to_string()))?;
    let length = u64::from_le_bytes(length);
    if length > LARGEST_HEADER.min(size.saturating_sub(8)) {
        return Err(bad(format!("its header is said to have {length} bytes")));
    }
    let mut header = vec![0; length as usize];
    file.read_exact(&mut header).map_err(|e| bad(e.to_string()))?;
    let header: Metadata = serde_json::from_slice(&header).map_err(|e| bad(format!("its header: {e}")))?;
    let start = 8 + length as usize;
    let mut end = 0;
    for name in header.offset_keys() {
        let Some(info) = header.info(&name) else { continue };
        let numbers = info.shape.iter().try_fold(1usize, |n, &size| n.checked_mul(size));
        let bits = numbers.and_then(|n| n.checked_mul(info.dtype.bitsize()));
        let (from, to) = info.data_offsets;
        if from != end || to < from || bits != (to - from).checked_mul(8) {
            return Err(bad(format!("tensor \"{name}\" of shape {:?} does not fill its bytes {from} to {to}", info.shape)));
        }
        end = to;
    }
    if (start as u64).checked_add(end as u64) != Some(size) {
        return Err(bad(format!("its tensors end at byte {}", start as u128 + end as u128)));
    }
    Ok((header, start))
}

impl Part {
    fn open(path: &Path) -> Result<Part> {
        let form = if path.extension().is_some_and(|extension| extension == "bin") {
            Form::Pickle(Mutex::new(pickle::Tensors::open(path)?))
        } else {
            let mut file = File::open(path).map_err(Error::io("read", path))?;
            let size = file.metadata().map_err(Error::io("read", path))?.len();
            let (header, start) = read_header(&mut file, size, path)?;
            Form::Disk(header, start, Mutex::new(file))
        };
        Ok(Part { path: path.to_owned(), form })
    }

    fn names(&self) -> Vec<String> {
        match &self.form {
            Form::Memory(header, ..) | Form::Disk(header, ..) => header.offset_keys(),
            Form::Pickle(tensors) => tensors.lock().unwrap_or_else(PoisonError::into_inner).names(),
        }
    }

    /// The numbers of a tensor that the file has.
    fn read(&self, name: &str) -> Result<Numbers> {
        let lacks = || Error::MissingTensor { name: name.to_owned(), file: self.path.clone() };
        let info = |header: &Metadata| header.info(name).cloned().ok_or_else(lacks);
        let new = |dtype, shape: &[usize]| Numbers::new(dtype, shape).map_err(|why| self.bad(name, &why));
        match &self.form {
            Form::Memory(header, start, bytes) => {
                let TensorInfo { dtype, shape, data_offsets: (from, to) } = info(header)?;
                let mut numbers = new(dtype, &shape)?;
                numbers.push(&bytes[start + from..start + to]);
                Ok(numbers)
            }
            Form::Disk(header, start, file) => {
                let TensorInfo { dtype, shape, data_offsets: (from, to) } = info(header)?;
                let mut numbers = new(dtype, &shape)?;
                /// Bytes read at a time: of a tensor in f16, no more than these are in memory beside its f32.
                const PIECE: usize = 1 << 23;
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.seek(SeekFrom::Start((start + from) as u64)).map_err(Error::io("read", &self.path))?;
                let mut piece = vec![0; PIECE.min(to - from)];
                for at in (from..to).step_by(PIECE) {
                    let piece = &mut piece[..PIECE.min(to - at)];
                    file.read_exact(piece).map_err(Error::io("read", &self.path))?;
                    numbers.push(piece);
                }
                Ok(numbers)
            }
            Form::Pickle(tensors) => {
                let stored = tensors.lock().unwrap_or_else(PoisonError::into_inner).read(name)?.ok_or_else(lacks)?;
                let mut numbers = new(stored.dtype, &stored.shape)?;
                numbers.push(&stored.bytes);
                Ok(numbers)
            }
        }
    }

    fn bad(&self, name: &str, why: &str) -> Error {
        Error::format(&self.path, format!("tensor \"{name}\" {why}"))
    }
}

/// The numbers of a tensor as f32, as far as they have been read.
struct Numbers {
    dtype: Dtype,
    shape: Vec<usize>,
    values: Vec<f32>,
}

impl Numbers {
    fn new(dtype: Dtype, shape: &[usize]) -> std::result::Result<Numbers, String> {
        match dtype {
            Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F64 => {
                Ok(Numbers { dtype, shape: shape.to_vec(), values: Vec::with_capacity(shape.iter().product()) })
            }
            // Such as the causal masks of old GPT-2 files, which nobody asks for.
            _ => Err(format!("has type {dtype:?}: need F32, F16, BF16 or F64")),
        }
    }

    /// Adds numbers, little-endian.
    fn push(&mut self, bytes: &[u8]) {
        /// Numbers that a thread takes at a time.
        const PIECE: usize = 1 << 16;
        let from = self.values.len();
        let width = self.dtype.bitsize() / 8;
        self.values.resize(from + bytes.len() / width, 0.0);
        let pieces = self.values[from..].par_chunks_mut(PIECE).zip(bytes.par_chunks(PIECE * width));
        pieces.for_each(|(to, bytes)| {
            let halves = || bytes.as_chunks::<2>().0.iter().map(|&b| u16::from_le_bytes(b)).collect::<Vec<u16>>();
            match self.dtype {
                Dtype::F16 => bytemuck::cast_slice::<u16, f16>(&halves()).convert_to_f32_slice(to),
                Dtype::BF16 => bytemuck::cast_slice::<u16, bf16>(&halves()).convert_to_f32_slice(to),
                Dtype::F64 => to.iter_mut().zip(bytes.as_chunks::<8>().0).for_each(|(x, &b)| *x = f64::from_le_bytes(b) as f32),
                _ => to.iter_mut().zip(bytes.as_chunks::<4>().0).for_each(|(x, &b)| *x = f32::from_le_bytes(b)),
            }
        });
    }
}

/// The indices of the `at`-th number of a row-major array.
fn place(at: usize, shape: &[usize]) -> Vec<usize> {
    let mut rest = at;
    let mut indices: Vec<usize> = shape
        .iter()
        .rev()
        .map(|&size| {
            let index = rest % size.max(1);
            rest /= size.max(1);
            index
        })
        .collect();
    indices.reverse();
    indices
}

impl Reader {
    /// The place `name` below this one.
    pub fn pp(&self, name: impl std::fmt::Display) -> Reader {
        Reader { prefix: format!("{}{name}.", self.prefix), files: self.files.clone() }
    }

    /// The place where the model's body begins: `prefix`, if the file's names have it, or here.
    pub fn body(&self, prefix: &str) -> Reader {
        let dotted = format!("{prefix}.");
        if self.files.of.keys().any(|name| name.starts_with(&dotted)) { self.pp(prefix) } else { self.clone() }
    }

    /// The tensor `name` below this place, which must have the given shape.
    pub fn get(&self, shape: &[usize], name: &str) -> Result<Tensor> {
        Ok(self.get_with_precision(shape, name)?.0)
    }

    /// As [`Reader::get`], and what the numbers are in the file.
    pub fn get_with_precision(&self, shape: &[usize], name: &str) -> Result<(Tensor, Precision)> {
        let name = format!("{}{name}", self.prefix);
        let Some(part) = self.files.of.get(&name).map(|&part| &self.files.all[part]) else {
            let file = self.files.all.first().map(|part| part.path.clone()).unwrap_or_default();
            return Err(Error::MissingTensor { name, file });
        };
        let what = || format!("tensor \"{name}\" of {}", part.path.display());
        let Numbers { dtype, shape: got, values } = part.read(&name)?;
        if got != shape {
            return Err(Error::Shape { what: what(), want: shape.to_vec(), got });
        }
        if let Some(at) = values.par_iter().position_first(|v| !v.is_finite()) {
            return Err(Error::NotFinite { what: what(), value: values[at], at: format!("{:?}", place(at, shape)) });
        }
        let precision = match dtype {
            Dtype::F16 => Precision::F16,
            Dtype::BF16 => Precision::Bf16,
            _ => Precision::Single,
        };
        Ok((Tensor::from_vec(values, shape, &Device::Cpu)?, precision))
    }
}

#[cfg(test)]
mod tests {
    use super::place;

    #[test]
    fn a_place_is_told_by_its_indices() {
        assert_eq!(place(0, &[2, 3]), [0, 0]);
        assert_eq!(place(5, &[2, 3]), [1, 2]);
        assert_eq!(place(7, &[2, 2, 2]), [1, 1, 1]);
        assert_eq!(place(4, &[9]), [4]);
    }
}
