//! Named arrays of f32 in one safetensors file, with a JSON text beside them; and those that
//! PyTorch wrote.

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::Dtype;

use crate::base::error::{Error, Result};
use crate::base::files;
use crate::formats::pickle::{self, Plain};
use crate::formats::tensors::{self, Numbers, TensorFile};

/// The one key under which the JSON text stands in the file's metadata (one key, since a map of
/// several has no fixed order).
const ABOUT: &str = "tokenized_sae";

/// An array: its name, its shape and its numbers.
pub(crate) type Array<'a> = (&'a str, Vec<usize>, &'a [f32]);

/// Writes the arrays and the text in one atomic step. The same arrays give the same bytes.
pub(crate) fn save(path: &Path, arrays: &[Array<'_>], about: &str) -> Result<()> {
    files::write_atomic(path, |out| tensors::write(out, arrays, (ABOUT, about)))
}

/// A file of arrays, checked as it is taken apart.
pub(crate) struct Arrays {
    path: std::path::PathBuf,
    arrays: HashMap<String, Stored>,
    /// The file of those that have not been read.
    file: Option<TensorFile>,
    /// The JSON text, if the file has one.
    pub about: Option<String>,
    /// Texts between the arrays, in a PyTorch file.
    texts: HashMap<String, String>,
}

/// An array, read or not.
enum Stored {
    Read(Vec<usize>, Vec<f32>),
    /// To be read from the file, where it may have a longer name.
    Later(Vec<usize>, String),
    /// Of a type that cannot be read.
    Strange(Vec<usize>, Dtype),
}

impl Stored {
    fn shape(&self) -> &[usize] {
        let (Stored::Read(shape, _) | Stored::Later(shape, _) | Stored::Strange(shape, _)) = self;
        shape
    }
}

impl Arrays {
    /// Opens a safetensors file; each array is read when it is taken. Floating-point numbers and
    /// integers of all usual widths are understood.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Format`] for a file that is cut short, damaged or of another
    /// kind.
    pub(crate) fn load(path: &Path) -> Result<Arrays> {
        let file = TensorFile::open(path)?;
        let stored = |name: String| {
            let (dtype, shape) = file.info(&name)?;
            let shape = shape.to_vec();
            let stored = if tensors::is_known(dtype) {
                Stored::Later(shape, name.clone())
            } else {
                Stored::Strange(shape, dtype)
            };
            Some((name, stored))
        };
        let arrays = file.names().into_iter().filter_map(stored).collect();
        let about = file.about(ABOUT).map(str::to_owned);
        Ok(Arrays { path: path.to_owned(), arrays, file: Some(file), about, texts: HashMap::new() })
    }

    /// Reads every array of a file that `torch.save` wrote, and the numbers and texts between them.
    /// Those of a dictionary within another have both names, `ae.bias`.
    ///
    /// # Errors
    /// Those of [`pickle::Tensors`].
    pub(crate) fn load_torch(path: &Path) -> Result<Arrays> {
        let mut file = pickle::Tensors::open(path)?;
        let (mut arrays, mut texts) = (HashMap::new(), HashMap::new());
        for (name, value) in file.plain() {
            match value {
                Plain::Number(number) => drop(
                    arrays.insert(name.clone(), Stored::Read(Vec::new(), vec![*number as f32])),
                ),
                Plain::Text(text) => drop(texts.insert(name.clone(), text.clone())),
            }
        }
        for name in file.names() {
            if let Some(read) = file.read(&name)? {
                let stored = match Numbers::new(read.dtype, &read.shape) {
                    Err(_) => Stored::Strange(read.shape, read.dtype),
                    Ok(mut numbers) => {
                        numbers.push(&read.bytes);
                        Stored::Read(read.shape, numbers.values)
                    }
                };
                arrays.insert(name, stored);
            }
        }
        Ok(Arrays { path: path.to_owned(), arrays, file: None, about: None, texts })
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The names of all arrays, in order.
    pub(crate) fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.arrays.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// Leaves only the arrays and texts whose names begin so, and takes that away.
    pub(crate) fn within(self, prefix: &str) -> Arrays {
        fn strip<T>(map: HashMap<String, T>, prefix: &str) -> HashMap<String, T> {
            map.into_iter()
                .filter_map(|(name, value)| Some((name.strip_prefix(prefix)?.to_owned(), value)))
                .collect()
        }
        Arrays { arrays: strip(self.arrays, prefix), texts: strip(self.texts, prefix), ..self }
    }

    /// Whether there is an array of that name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.arrays.contains_key(name)
    }

    /// The shape of an array.
    ///
    /// # Errors
    /// [`Error::MissingTensor`].
    pub(crate) fn shape(&self, name: &str) -> Result<&[usize]> {
        self.arrays.get(name).map(Stored::shape).ok_or_else(|| self.missing(name))
    }

    /// The length of an array of one axis.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], or [`Error::Format`] if it has another number of axes or nothing
    /// in it.
    pub(crate) fn len_of(&self, name: &str) -> Result<usize> {
        match self.shape(name)? {
            [n] if *n > 0 => Ok(*n),
            shape => Err(Error::format(
                &self.path,
                format!("\"{name}\" has shape {shape:?}; one axis is needed"),
            )),
        }
    }

    /// A text of that name.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.texts.get(name).map(String::as_str)
    }

    /// A finite number of that name: an array of one number, or one between the arrays.
    pub(crate) fn number(&self, name: &str) -> Option<f32> {
        let only = |numbers: &[f32]| match numbers {
            [number] if number.is_finite() => Some(*number),
            _ => None,
        };
        match self.arrays.get(name)? {
            Stored::Read(_, numbers) => only(numbers),
            Stored::Later(shape, name) if shape.iter().all(|&size| size == 1) => {
                only(&self.file.as_ref()?.read(name).ok()?.values)
            }
            Stored::Later(..) | Stored::Strange(..) => None,
        }
    }

    /// Takes an array out, whatever its shape and its numbers.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], or [`Error::Format`] if its numbers are of a type that cannot be
    /// read.
    pub(crate) fn take_any(&mut self, name: &str) -> Result<(Vec<usize>, Vec<f32>)> {
        match (self.arrays.remove(name).ok_or_else(|| self.missing(name))?, &self.file) {
            (Stored::Read(shape, numbers), _) => Ok((shape, numbers)),
            (Stored::Later(shape, name), Some(file)) => Ok((shape, file.read(&name)?.values)),
            (Stored::Strange(_, dtype), _) => Err(Error::format(
                &self.path,
                format!("array \"{name}\" holds {dtype:?}; F32, F16 or BF16 is needed"),
            )),
            (Stored::Later(..), None) => Err(self.missing(name)),
        }
    }

    /// Takes an array out, if it has the shape that is wanted and holds numbers only.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::Shape`] or [`Error::NotFinite`].
    pub(crate) fn take(&mut self, name: &str, want: &[usize]) -> Result<Vec<f32>> {
        let what = format!("\"{name}\" in {}", self.path.display());
        let shape = self.shape(name)?;
        if shape != want {
            return Err(Error::Shape { what, want: want.to_vec(), got: shape.to_vec() });
        }
        let (_, numbers) = self.take_any(name)?;
        if let Some(at) = numbers.iter().position(|v| !v.is_finite()) {
            return Err(Error::NotFinite { what, value: numbers[at], at: format!("element {at}") });
        }
        Ok(numbers)
    }

    fn missing(&self, name: &str) -> Error {
        Error::MissingTensor { name: name.to_owned(), file: self.path.clone() }
    }
}
