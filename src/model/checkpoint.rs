//! A checkpoint's files, safetensors or PyTorch's, read into f32 tensors one at a time; whatever is
//! wrong with one is reported with its name and file.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Device, Tensor};
use rayon::prelude::*;
use safetensors::Dtype;

use crate::base::error::{Error, Result};
use crate::cpu::matmul::{Precision, has_tiles};
use crate::formats::settings::{Harmless, is_harmless};
use crate::formats::tensors::{self, Numbers, TensorFile};
use crate::model::source::Weights;

/// A place in a checkpoint's tree of names, from which tensors are read.
#[derive(Clone)]
pub(super) struct Reader {
    /// Empty, or ended by a dot.
    prefix: String,
    files: Arc<Files>,
}

/// The files of a checkpoint.
struct Files {
    all: Vec<TensorFile>,
    /// In which of them each tensor is.
    of: HashMap<String, usize>,
    /// What stands before all names because of a wrapper.
    wrapping: String,
    /// The names that were asked for.
    read: Mutex<HashSet<String>>,
}

/// Finds out which tensors a checkpoint has.
pub(super) fn open(weights: &Weights) -> Result<Reader> {
    let open = |path: &PathBuf| match path.extension().is_some_and(|extension| extension == "bin") {
        true => TensorFile::open_torch(path),
        false => TensorFile::open(path),
    };
    let all = match weights {
        Weights::Memory(path, bytes) => vec![TensorFile::in_memory(path, bytes)?],
        Weights::Files(paths) => paths.iter().map(open).collect::<Result<_>>()?,
    };
    let mut of = HashMap::new();
    for (i, file) in all.iter().enumerate() {
        of.extend(file.names().into_iter().map(|name| (name, i)));
    }
    let wrapping = tensors::wrapping(of.keys().map(String::as_str));
    let of = of.into_iter().map(|(name, i)| (name[wrapping.len()..].to_owned(), i)).collect();
    Ok(Reader {
        prefix: String::new(),
        files: Arc::new(Files { all, of, wrapping, read: Mutex::default() }),
    })
}

/// The matrices of a checkpoint as they will be kept.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Matrices {
    pub numbers: u64,
    pub bytes: u64,
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
        if self.files.of.keys().any(|name| name.starts_with(&dotted)) {
            self.pp(prefix)
        } else {
            self.clone()
        }
    }

    /// The checkpoint's only file, or the first of several.
    pub fn file(&self) -> PathBuf {
        self.files.all.first().map(|file| file.path().to_owned()).unwrap_or_default()
    }

    /// Refuses a tensor that has not been read, is not known to be harmless, and is not one of a
    /// later block whose like in block 0 was: to be asked when that has been read.
    ///
    /// `blocks` is the place of the blocks, below which they are numbered, `n_layers` of them.
    pub fn finish(&self, blocks: &Reader, n_layers: usize, harmless: Harmless) -> Result<()> {
        let read = self.files.read.lock().unwrap_or_else(PoisonError::into_inner);
        let in_block_0 = |name: &str| {
            let (layer, rest) = name.strip_prefix(&blocks.prefix)?.split_once('.')?;
            layer.parse().is_ok_and(|layer: usize| layer < n_layers).then(|| format!("0.{rest}"))
        };
        for file in &self.files.all {
            if let Some(name) = file.plain().keys().find(|name| !is_harmless(name, harmless)) {
                let why = format!(
                    "holds \"{name}\" beside its tensors, which no part of this model reads: save the model's state_dict alone"
                );
                return Err(Error::format(file.path(), why));
            }
        }
        let mut names: Vec<&String> = self.files.of.keys().collect();
        names.sort();
        for name in names {
            let first = in_block_0(name);
            let is_read = match &first {
                Some(first) => read.contains(&format!("{}{first}", blocks.prefix)),
                None => read.contains(name),
            };
            let short = first.as_deref().unwrap_or(name);
            if !is_read && !is_harmless(short, harmless) {
                let file = self.files.all[self.files.of[name]].path();
                let why = format!(
                    "holds \"{name}\", which no part of this model reads; what it changes would be lost: remove it if it changes nothing"
                );
                return Err(Error::format(file, why));
            }
        }
        Ok(())
    }

    /// How many numbers the matrices have, and what they will take: sixteen bits each if they come
    /// so and the processor has tiles.
    pub fn bytes_of_matrices(&self) -> Matrices {
        let mut all = Matrices::default();
        for (name, &file) in &self.files.of {
            let name = format!("{}{name}", self.files.wrapping);
            let Some((dtype, shape)) = self.files.all[file].info(&name) else { continue };
            let [rows, columns] = shape[..] else { continue };
            let bytes = match dtype {
                Dtype::F16 | Dtype::BF16 if has_tiles() => 2,
                Dtype::F16 | Dtype::BF16 | Dtype::F32 | Dtype::F64 => 4,
                _ => continue,
            };
            let numbers = (rows as u64).saturating_mul(columns as u64);
            all.numbers = all.numbers.saturating_add(numbers);
            all.bytes = all.bytes.saturating_add(numbers.saturating_mul(bytes));
        }
        all
    }

    /// The tensor `name` below this place, which must have the given shape.
    pub fn get(&self, shape: &[usize], name: &str) -> Result<Tensor> {
        Ok(self.get_with_precision(shape, name)?.0)
    }

    /// As [`Reader::get`], and what the numbers are in the file.
    pub fn get_with_precision(&self, shape: &[usize], name: &str) -> Result<(Tensor, Precision)> {
        let name = format!("{}{name}", self.prefix);
        let Some(file) = self.files.of.get(&name).map(|&file| &self.files.all[file]) else {
            return Err(Error::MissingTensor { name, file: self.file() });
        };
        let what = || format!("tensor \"{name}\" of {}", file.path().display());
        let stored = format!("{}{name}", self.files.wrapping);
        let Numbers { dtype, shape: got, values } = file.read(&stored)?;
        self.files.read.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone());
        if matches!(dtype, Dtype::I32 | Dtype::I64) {
            return Err(Error::format(
                file.path(),
                format!("tensor \"{name}\" has type {dtype:?}: need F32, F16, BF16 or F64"),
            ));
        }
        if got != shape {
            return Err(Error::Shape { what: what(), want: shape.to_vec(), got });
        }
        if let Some(at) = values.par_iter().position_first(|v| !v.is_finite()) {
            return Err(Error::NotFinite {
                what: what(),
                value: values[at],
                at: format!("{:?}", place(at, shape)),
            });
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
