//! Named arrays of f32 in one safetensors file, with a JSON text beside them; and those that PyTorch wrote.

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::error::{Error, Result};
use crate::files;
use crate::pickle::{self, Plain};

/// The one key under which the JSON text stands in the file's metadata (one key, since a map of several has no fixed order).
const ABOUT: &str = "tokenized_sae";

/// How many times as large as their file tensors may be that share their numbers.
const SHARED: u64 = 4;

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
    arrays: HashMap<String, Read>,
    /// The JSON text, if the file has one.
    pub about: Option<String>,
    /// Texts between the arrays, in a PyTorch file.
    texts: HashMap<String, String>,
}

/// The shape of an array and its numbers, or their type if it is none that can be read.
type Read = (Vec<usize>, std::result::Result<Vec<f32>, Dtype>);

impl Arrays {
    /// Reads every array of a safetensors file. Floating-point numbers and integers of all usual widths are understood.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Format`] for a file that is cut short, damaged or of another kind.
    pub(crate) fn load(path: &Path) -> Result<Arrays> {
        let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
        let wrong = |e| Error::format(path, format!("is no readable safetensors file ({e}); it may have been cut short: write it again"));
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(wrong)?;
        let about = header.metadata().as_ref().and_then(|map| map.get(ABOUT).cloned());
        let tensors = SafeTensors::deserialize(&bytes).map_err(wrong)?;
        let read = |(name, view): (&str, TensorView<'_>)| (name.to_owned(), (view.shape().to_vec(), numbers(view.dtype(), view.data())));
        Ok(Arrays { path: path.to_owned(), arrays: tensors.iter().map(read).collect(), about, texts: HashMap::new() })
    }

    /// Reads every array of a file that `torch.save` wrote, and the numbers and texts between them. Those of a dictionary within another have both names,
    /// `ae.bias`.
    ///
    /// # Errors
    /// Those of [`pickle::Tensors`].
    pub(crate) fn load_torch(path: &Path) -> Result<Arrays> {
        let mut file = pickle::Tensors::open(path)?;
        let (mut arrays, mut texts) = (HashMap::new(), HashMap::new());
        for (name, value) in file.plain() {
            match value {
                Plain::Number(number) => drop(arrays.insert(name.clone(), (Vec::new(), Ok(vec![*number as f32])))),
                Plain::Text(text) => drop(texts.insert(name.clone(), text.clone())),
            }
        }
        // Tensors may share their numbers; no file has so many that do.
        let mut left = SHARED * path.metadata().map_err(Error::io("read", path))?.len();
        for name in file.names() {
            if let Some(read) = file.read(&name)? {
                left =
                    left.checked_sub(read.bytes.len() as u64).ok_or_else(|| Error::format(path, "its tensors are larger than the file"))?;
                arrays.insert(name, (read.shape, numbers(read.dtype, &read.bytes)));
            }
        }
        Ok(Arrays { path: path.to_owned(), arrays, about: None, texts })
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
            map.into_iter().filter_map(|(name, value)| Some((name.strip_prefix(prefix)?.to_owned(), value))).collect()
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
        self.arrays.get(name).map(|(shape, _)| &shape[..]).ok_or_else(|| self.missing(name))
    }

    /// The length of an array of one axis.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], or [`Error::Format`] if it has another number of axes or nothing in it.
    pub(crate) fn len_of(&self, name: &str) -> Result<usize> {
        match self.shape(name)? {
            [n] if *n > 0 => Ok(*n),
            shape => Err(Error::format(&self.path, format!("\"{name}\" has shape {shape:?}; one axis is needed"))),
        }
    }

    /// A text of that name.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.texts.get(name).map(String::as_str)
    }

    /// A finite number of that name: an array of one number, or one between the arrays.
    pub(crate) fn number(&self, name: &str) -> Option<f32> {
        match self.arrays.get(name) {
            Some((_, Ok(numbers))) if numbers.len() == 1 && numbers[0].is_finite() => Some(numbers[0]),
            _ => None,
        }
    }

    /// Takes an array out, whatever its shape and its numbers.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], or [`Error::Format`] if its numbers are of a type that cannot be read.
    pub(crate) fn take_any(&mut self, name: &str) -> Result<(Vec<usize>, Vec<f32>)> {
        let (shape, numbers) = self.arrays.remove(name).ok_or_else(|| self.missing(name))?;
        let numbers =
            numbers.map_err(|dtype| Error::format(&self.path, format!("array \"{name}\" holds {dtype:?}; F32, F16 or BF16 is needed")))?;
        Ok((shape, numbers))
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

    fn missing(&self, name: &str) -> Error {
        Error::MissingTensor { name: name.to_owned(), file: self.path.clone() }
    }
}

/// Numbers as f32, or their type if it is none that can be.
fn numbers(dtype: Dtype, data: &[u8]) -> std::result::Result<Vec<f32>, Dtype> {
    let pairs = || data.as_chunks::<2>().0.iter().map(|b| u16::from_le_bytes(*b));
    let fours = || data.as_chunks::<4>().0.iter();
    let eights = || data.as_chunks::<8>().0.iter();
    Ok(match dtype {
        Dtype::F64 => eights().map(|b| f64::from_le_bytes(*b) as f32).collect(),
        Dtype::F32 => fours().map(|b| f32::from_le_bytes(*b)).collect(),
        Dtype::F16 => pairs().map(|bits| half::f16::from_bits(bits).to_f32()).collect(),
        Dtype::BF16 => pairs().map(|bits| half::bf16::from_bits(bits).to_f32()).collect(),
        Dtype::I64 => eights().map(|b| i64::from_le_bytes(*b) as f32).collect(),
        Dtype::I32 => fours().map(|b| i32::from_le_bytes(*b) as f32).collect(),
        other => return Err(other),
    })
}
