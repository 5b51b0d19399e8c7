//! Named arrays of f32 in one safetensors file, with a JSON text beside them.

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::error::{Error, Result};
use crate::files;

/// The one key under which the JSON text stands in the file's metadata (one key, since a map of several has no fixed order).
const ABOUT: &str = "tokenized_sae";

/// An array: its name, its shape and its numbers.
pub(crate) type Array<'a> = (&'a str, Vec<usize>, &'a [f32]);

/// Writes the arrays and the text in one atomic step. The same arrays give the same bytes.
pub(crate) fn save(path: &Path, arrays: &[Array<'_>], about: &str) -> Result<()> {
    let views = arrays.iter().map(|(name, shape, data)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytemuck::cast_slice(data));
        view.map(|view| (*name, view)).map_err(|e| Error::format(path, format!("array \"{name}\" of shape {shape:?}: {e}")))
    });
    let views = views.collect::<Result<Vec<_>>>()?;
    let about = HashMap::from([(ABOUT.to_owned(), about.to_owned())]);
    let bytes = safetensors::serialize(views, Some(about)).map_err(|e| Error::format(path, format!("could not be laid out: {e}")))?;
    files::write_atomic(path, |out| out.write_all(&bytes))
}

/// A file of arrays, read whole and checked as it is taken apart.
pub(crate) struct Arrays {
    path: std::path::PathBuf,
    arrays: HashMap<String, (Vec<usize>, Vec<f32>)>,
    /// The JSON text, if the file has one.
    pub about: Option<String>,
}

impl Arrays {
    /// Reads every array. f32, f16 and bf16 are understood.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Format`] for a file that is cut short, damaged or of another kind.
    pub(crate) fn load(path: &Path) -> Result<Arrays> {
        let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
        let wrong = |e| Error::format(path, format!("is no readable safetensors file ({e}); it may have been cut short: write it again"));
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(wrong)?;
        let about = header.metadata().as_ref().and_then(|map| map.get(ABOUT).cloned());
        let tensors = SafeTensors::deserialize(&bytes).map_err(wrong)?;
        let mut arrays = HashMap::new();
        for (name, view) in tensors.iter() {
            let numbers = numbers(&view)
                .ok_or_else(|| Error::format(path, format!("array \"{name}\" holds {:?}; F32, F16 or BF16 is needed", view.dtype())))?;
            arrays.insert(name.to_owned(), (view.shape().to_vec(), numbers));
        }
        Ok(Arrays { path: path.to_owned(), arrays, about })
    }

    /// Whether there is an array of that name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.arrays.contains_key(name)
    }

    /// Takes an array out, whatever its shape and its numbers.
    ///
    /// # Errors
    /// [`Error::MissingTensor`].
    pub(crate) fn take_any(&mut self, name: &str) -> Result<(Vec<usize>, Vec<f32>)> {
        let missing = || Error::MissingTensor { name: name.to_owned(), file: self.path.clone() };
        self.arrays.remove(name).ok_or_else(missing)
    }

    /// Takes an array out, if it has the shape that is wanted and holds numbers only.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::Shape`] or [`Error::NotFinite`].
    pub(crate) fn take(&mut self, name: &str, want: &[usize]) -> Result<Vec<f32>> {
        let (shape, numbers) = self.take_any(name)?;
        let what = || format!("\"{name}\" in {}", self.path.display());
        if shape != want {
            return Err(Error::Shape { what: what(), want: want.to_vec(), got: shape });
        }
        if let Some(at) = numbers.iter().position(|v| !v.is_finite()) {
            return Err(Error::NotFinite { what: what(), value: numbers[at], at: format!("element {at}") });
        }
        Ok(numbers)
    }
}

fn numbers(view: &TensorView<'_>) -> Option<Vec<f32>> {
    let data = view.data();
    let pairs = || data.as_chunks::<2>().0.iter().map(|b| u16::from_le_bytes(*b));
    match view.dtype() {
        Dtype::F32 => Some(data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
        Dtype::F16 => Some(pairs().map(|bits| half::f16::from_bits(bits).to_f32()).collect()),
        Dtype::BF16 => Some(pairs().map(|bits| half::bf16::from_bits(bits).to_f32()).collect()),
        _ => None,
    }
}
