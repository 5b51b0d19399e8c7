//! Safetensors files, and PyTorch's, read into f32 tensors; whatever is wrong with one is told with its name and file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use rayon::prelude::*;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use crate::error::{Error, Result};
use crate::model::source::Weights;
use crate::pickle;

/// Where each tensor was found, and what could not be read.
struct Index {
    /// The file of every tensor.
    files: HashMap<String, PathBuf>,
    /// Tensors that hold no floating-point numbers, such as the causal masks of old GPT-2 files.
    others: HashMap<String, Dtype>,
    /// The file that is named where a tensor is in none.
    main: PathBuf,
}

/// A place in a checkpoint's tree of names, from which tensors are read.
#[derive(Clone)]
pub(super) struct Reader {
    vb: VarBuilder<'static>,
    index: Arc<Index>,
}

/// Reads all tensors of a checkpoint as f32.
pub(super) fn open(weights: &Weights) -> Result<Reader> {
    let mut tensors = HashMap::new();
    let main = match weights {
        Weights::Memory(path, _) => path.clone(),
        Weights::Files(paths) => paths.first().cloned().unwrap_or_default(),
    };
    let mut index = Index { files: HashMap::new(), others: HashMap::new(), main };
    match weights {
        Weights::Memory(path, bytes) => read_file(bytes, path, &mut tensors, &mut index)?,
        Weights::Files(paths) => {
            for path in paths {
                if path.extension().is_some_and(|extension| extension == "bin") {
                    read_pickle(path, &mut tensors, &mut index)?;
                    continue;
                }
                let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
                read_file(&bytes, path, &mut tensors, &mut index)?;
            }
        }
    }
    Ok(Reader { vb: VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu), index: Arc::new(index) })
}

fn read_file(bytes: &[u8], path: &Path, tensors: &mut HashMap<String, Tensor>, index: &mut Index) -> Result<()> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| {
        Error::format(
            path,
            format!("is not a whole safetensors file ({e}; {} bytes): it is cut off or damaged, copy it again", bytes.len()),
        )
    })?;
    let views: Vec<(&str, TensorView<'_>)> = file.iter().collect();
    let read: Vec<(&str, Option<Tensor>)> =
        views.par_iter().map(|(name, view)| Ok((*name, read_tensor(name, view, path)?))).collect::<Result<_>>()?;
    for ((name, tensor), (_, view)) in read.into_iter().zip(&views) {
        index.files.insert(name.to_owned(), path.to_owned());
        match tensor {
            Some(tensor) => drop(tensors.insert(name.to_owned(), tensor)),
            None => drop(index.others.insert(name.to_owned(), view.dtype())),
        }
    }
    Ok(())
}

/// One tensor after the other: in a PyTorch file each lies in a part of its own.
fn read_pickle(path: &Path, tensors: &mut HashMap<String, Tensor>, index: &mut Index) -> Result<()> {
    let mut file = pickle::Tensors::open(path)?;
    for name in file.names() {
        let Some(numbers) = file.read(&name)? else { continue };
        let view = TensorView::new(numbers.dtype, numbers.shape, &numbers.bytes)
            .map_err(|e| Error::format(path, format!("tensor \"{name}\": {e}")))?;
        index.files.insert(name.clone(), path.to_owned());
        match read_tensor(&name, &view, path)? {
            Some(tensor) => drop(tensors.insert(name, tensor)),
            None => drop(index.others.insert(name, view.dtype())),
        }
    }
    Ok(())
}

/// The tensor as f32, or `None` if it holds no floating-point numbers.
fn read_tensor(name: &str, view: &TensorView<'_>, path: &Path) -> Result<Option<Tensor>> {
    let data = view.data();
    let values: Vec<f32> = match view.dtype() {
        Dtype::F32 => data.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
        Dtype::F16 => data.as_chunks::<2>().0.iter().map(|&b| half::f16::from_le_bytes(b).to_f32()).collect(),
        Dtype::BF16 => data.as_chunks::<2>().0.iter().map(|&b| half::bf16::from_le_bytes(b).to_f32()).collect(),
        Dtype::F64 => data.as_chunks::<8>().0.iter().map(|&b| f64::from_le_bytes(b) as f32).collect(),
        _ => return Ok(None),
    };
    if let Some(at) = values.iter().position(|v| !v.is_finite()) {
        let what = format!("tensor \"{name}\" of {}", path.display());
        return Err(Error::NotFinite { what, value: values[at], at: format!("{:?}", place(at, view.shape())) });
    }
    Ok(Some(Tensor::from_vec(values, view.shape(), &Device::Cpu)?))
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
    pub fn pp(&self, name: impl ToString) -> Reader {
        Reader { vb: self.vb.pp(name), index: self.index.clone() }
    }

    /// The place where the model's body begins: `prefix`, if the file's names have it, or here.
    pub fn body(&self, prefix: &str) -> Reader {
        let dotted = format!("{prefix}.");
        if self.index.files.keys().any(|name| name.starts_with(&dotted)) { self.pp(prefix) } else { self.clone() }
    }

    /// The tensor `name` below this place, which must have the given shape.
    pub fn get(&self, shape: &[usize], name: &str) -> Result<Tensor> {
        let full = match self.vb.prefix() {
            prefix if prefix.is_empty() => name.to_owned(),
            prefix => format!("{prefix}.{name}"),
        };
        let file = self.index.files.get(&full).unwrap_or(&self.index.main);
        if let Some(dtype) = self.index.others.get(&full) {
            return Err(Error::format(file, format!("tensor \"{full}\" has type {dtype:?}: need F32, F16, BF16 or F64")));
        }
        if !self.vb.contains_tensor(name) {
            return Err(Error::MissingTensor { name: full, file: file.clone() });
        }
        let tensor = self.vb.get_unchecked(name)?;
        if tensor.dims() != shape {
            let what = format!("tensor \"{full}\" of {}", file.display());
            return Err(Error::Shape { what, want: shape.to_vec(), got: tensor.dims().to_vec() });
        }
        Ok(tensor)
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
