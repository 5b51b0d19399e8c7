//! Named arrays of f32 in one safetensors file, with a JSON text beside them; and those that
//! PyTorch wrote.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use crate::base::error::{Error, Result};
use crate::base::files;
use crate::formats::pickle::Plain;
use crate::formats::settings::{Harmless, is_harmless};
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

/// A file of arrays, checked as it is taken apart: what has been taken is no longer there, and what
/// is left nobody has asked for.
pub(crate) struct Arrays {
    file: Arc<TensorFile>,
    left: BTreeMap<String, Stored>,
    /// The JSON text, if the file has one.
    pub about: Option<String>,
}

enum Stored {
    /// Its name in the file, which may be longer.
    Tensor(String),
    /// A number or a text between the arrays, in a PyTorch file.
    Plain(Plain),
}

impl Arrays {
    /// Opens a safetensors file; each array is read when it is taken. Floating-point numbers and
    /// integers of all usual widths are understood.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Format`] for a file that is cut short, damaged or of another
    /// kind.
    pub(crate) fn load(path: &Path) -> Result<Arrays> {
        Ok(Arrays::of(TensorFile::open(path)?))
    }

    /// Opens a file that `torch.save` wrote, with the numbers and texts between its arrays. Those of
    /// a dictionary within another have both names, `ae.bias`.
    ///
    /// # Errors
    /// Those of [`pickle::Tensors`](crate::formats::pickle::Tensors).
    pub(crate) fn load_torch(path: &Path) -> Result<Arrays> {
        Ok(Arrays::of(TensorFile::open_torch(path)?))
    }

    fn of(file: TensorFile) -> Arrays {
        let plain = file.plain().into_iter().map(|(name, plain)| (name, Stored::Plain(plain)));
        let tensors = file.names().into_iter().map(|name| (name.clone(), Stored::Tensor(name)));
        let about = file.about(ABOUT).map(str::to_owned);
        Arrays { left: plain.chain(tensors).collect(), about, file: Arc::new(file) }
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    /// The names of all arrays and numbers that are left, in order.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.left.keys().map(String::as_str).filter(|name| self.has(name)).collect()
    }

    /// Takes away what wrappers put before all names.
    pub(crate) fn unwrapped(mut self) -> Arrays {
        let wrapping = tensors::wrapping(self.left.keys().map(String::as_str));
        self.within(&wrapping)
    }

    /// Takes out what has a name that begins so, and takes that away from the name.
    pub(crate) fn within(&mut self, prefix: &str) -> Arrays {
        let all = std::mem::take(&mut self.left).into_iter();
        let (inside, left): (BTreeMap<_, _>, _) =
            all.partition(|(name, _)| name.starts_with(prefix));
        self.left = left;
        let strip = |(name, stored): (String, Stored)| (name[prefix.len()..].to_owned(), stored);
        let left = inside.into_iter().map(strip).collect();
        Arrays { file: self.file.clone(), left, about: self.about.clone() }
    }

    /// Whether there is an array or a number of that name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.shape(name).is_ok()
    }

    /// The shape of an array; a number has none.
    ///
    /// # Errors
    /// [`Error::MissingTensor`].
    pub(crate) fn shape(&self, name: &str) -> Result<Vec<usize>> {
        match self.left.get(name) {
            Some(Stored::Tensor(name)) => {
                Ok(self.file.info(name).map_or(Vec::new(), |(_, shape)| shape))
            }
            Some(Stored::Plain(Plain::Number(_))) => Ok(Vec::new()),
            Some(Stored::Plain(_)) | None => Err(self.missing(name)),
        }
    }

    /// A text of that name.
    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        match self.left.remove(name)? {
            Stored::Plain(Plain::Text(text)) => Some(text),
            other => {
                self.left.insert(name.to_owned(), other);
                None
            }
        }
    }

    /// A finite number of that name: an array of one number, or one between the arrays.
    pub(crate) fn number(&mut self, name: &str) -> Option<f32> {
        self.shape(name).ok().filter(|shape| shape.iter().all(|&size| size == 1))?;
        let (_, numbers) = self.take_any(name).ok()?;
        numbers.first().copied().filter(|number| number.is_finite())
    }

    /// Takes an array out, whatever its shape and its numbers.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], or [`Error::Format`] if its numbers are of a type that cannot be
    /// read.
    pub(crate) fn take_any(&mut self, name: &str) -> Result<(Vec<usize>, Vec<f32>)> {
        self.shape(name)?;
        match self.left.remove(name) {
            Some(Stored::Tensor(name)) => {
                let Numbers { shape, values, .. } = self.file.read(&name)?;
                Ok((shape, values))
            }
            Some(Stored::Plain(Plain::Number(number))) => Ok((Vec::new(), vec![number as f32])),
            Some(Stored::Plain(_)) | None => Err(self.missing(name)),
        }
    }

    /// Takes an array out, if it has the shape that is wanted and holds numbers only.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::Shape`] or [`Error::NotFinite`].
    pub(crate) fn take(&mut self, name: &str, want: &[usize]) -> Result<Vec<f32>> {
        let (what, got) = (format!("\"{name}\" in {}", self.path().display()), self.shape(name)?);
        if got != want {
            return Err(Error::Shape { what, want: want.to_vec(), got });
        }
        let (_, numbers) = self.take_any(name)?;
        if let Some(at) = numbers.iter().position(|v| !v.is_finite()) {
            return Err(Error::NotFinite { what, value: numbers[at], at: format!("element {at}") });
        }
        Ok(numbers)
    }

    /// What stands between the arrays, as settings.
    pub(crate) fn into_settings(self) -> impl Iterator<Item = (String, Value)> {
        let value = |(name, stored)| match stored {
            Stored::Plain(Plain::Number(number)) => (name, number.into()),
            Stored::Plain(Plain::Text(text)) => (name, text.into()),
            Stored::Plain(Plain::Flag(flag)) => (name, flag.into()),
            Stored::Plain(Plain::Other) => (name, "neither a number nor a text".into()),
            Stored::Tensor(_) => (name, "a tensor".into()),
        };
        self.left.into_iter().map(value)
    }

    /// Refuses what nobody has taken and is not known to be harmless.
    ///
    /// # Errors
    /// [`Error::Format`] naming it.
    pub(crate) fn finish(&self, harmless: Harmless) -> Result<()> {
        match self.left.keys().find(|name| !is_harmless(name, harmless)) {
            None => Ok(()),
            Some(name) => Err(Error::format(
                self.path(),
                format!(
                    "holds \"{name}\", which is not known here; what it changes would be lost: remove it if it changes nothing"
                ),
            )),
        }
    }

    fn missing(&self, name: &str) -> Error {
        Error::MissingTensor { name: name.to_owned(), file: self.path().to_owned() }
    }
}
