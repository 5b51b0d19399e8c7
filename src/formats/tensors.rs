//! A file of named tensors, of which one at a time is in memory: the file may be larger than that.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use crate::base::error::{Error, Result};
use crate::formats::pickle::{self, Plain};

/// A file whose header has been read and checked.
pub(crate) struct TensorFile {
    path: PathBuf,
    form: Form,
}

enum Form {
    Safetensors {
        header: Metadata,
        /// Where the numbers begin.
        start: usize,
        bytes: Bytes,
    },
    Torch(Mutex<pickle::Tensors>),
}

enum Bytes {
    Disk(Mutex<File>),
    Memory(&'static [u8]),
}

fn locked<T>(it: &Mutex<T>) -> MutexGuard<'_, T> {
    it.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TensorFile {
    /// Reads the header of a safetensors file on disk.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Format`] if it is cut off, damaged or of another kind.
    pub fn open(path: &Path) -> Result<TensorFile> {
        let mut file = File::open(path).map_err(Error::io("read", path))?;
        let size = file.metadata().map_err(Error::io("read", path))?.len();
        let (header, start) = read_header(&mut file, size, path)?;
        let bytes = Bytes::Disk(Mutex::new(file));
        Ok(TensorFile { path: path.to_owned(), form: Form::Safetensors { header, start, bytes } })
    }

    /// Reads which tensors a file holds that `torch.save` wrote.
    ///
    /// # Errors
    /// Those of [`pickle::Tensors`].
    pub fn open_torch(path: &Path) -> Result<TensorFile> {
        let form = Form::Torch(Mutex::new(pickle::Tensors::open(path)?));
        Ok(TensorFile { path: path.to_owned(), form })
    }

    /// Reads the header of a safetensors file in memory, which errors call `path`.
    ///
    /// # Errors
    /// [`Error::Format`] if it is cut off, damaged or of another kind.
    pub fn in_memory(path: &Path, bytes: &'static [u8]) -> Result<TensorFile> {
        let (header, start) = read_header(&mut &bytes[..], bytes.len() as u64, path)?;
        let bytes = Bytes::Memory(bytes);
        Ok(TensorFile { path: path.to_owned(), form: Form::Safetensors { header, start, bytes } })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of all tensors, in the order of their bytes, or of their names.
    pub fn names(&self) -> Vec<String> {
        match &self.form {
            Form::Safetensors { header, .. } => header.offset_keys(),
            Form::Torch(file) => locked(file).names(),
        }
    }

    /// The type and shape of a tensor, if there is one of that name whose type has a name here.
    pub fn info(&self, name: &str) -> Option<(Dtype, Vec<usize>)> {
        match &self.form {
            Form::Safetensors { header, .. } => {
                header.info(name).map(|info| (info.dtype, info.shape.clone()))
            }
            Form::Torch(file) => locked(file).info(name),
        }
    }

    /// A text of the file's metadata.
    pub fn about(&self, key: &str) -> Option<&str> {
        match &self.form {
            Form::Safetensors { header, .. } => {
                header.metadata().as_ref()?.get(key).map(String::as_str)
            }
            Form::Torch(_) => None,
        }
    }

    /// What stands between the tensors, which PyTorch's files may have, by name.
    pub fn plain(&self) -> BTreeMap<String, Plain> {
        match &self.form {
            Form::Safetensors { .. } => BTreeMap::new(),
            Form::Torch(file) => locked(file).plain().clone(),
        }
    }

    /// The numbers of a tensor.
    ///
    /// # Errors
    /// [`Error::MissingTensor`]; [`Error::Format`] if its numbers are of a kind that is not known,
    /// or not all there; [`Error::Io`].
    pub fn read(&self, name: &str) -> Result<Numbers> {
        /// Bytes read at a time: of a tensor in f16, no more than these are in memory beside its
        /// f32.
        const PIECE: usize = 1 << 23;
        let lacks = || Error::MissingTensor { name: name.to_owned(), file: self.path.clone() };
        let bad = |why| Error::format(&self.path, format!("tensor \"{name}\" {why}"));
        match &self.form {
            Form::Torch(file) => {
                let stored = locked(file).read(name)?.ok_or_else(lacks)?;
                let mut numbers = Numbers::new(stored.dtype, &stored.shape).map_err(bad)?;
                numbers.push(&stored.bytes);
                Ok(numbers)
            }
            Form::Safetensors { header, start, bytes } => {
                let TensorInfo { dtype, shape, data_offsets: (from, to) } =
                    header.info(name).ok_or_else(lacks)?;
                let mut numbers = Numbers::new(*dtype, shape).map_err(bad)?;
                match bytes {
                    Bytes::Memory(bytes) => numbers.push(&bytes[start + from..start + to]),
                    Bytes::Disk(file) => {
                        let (mut file, failed) = (locked(file), || Error::io("read", &self.path));
                        file.seek(SeekFrom::Start((start + from) as u64)).map_err(failed())?;
                        let mut piece = vec![0; PIECE.min(to - from)];
                        for at in (*from..*to).step_by(PIECE) {
                            let piece = &mut piece[..PIECE.min(to - at)];
                            file.read_exact(piece).map_err(failed())?;
                            numbers.push(piece);
                        }
                    }
                }
                Ok(numbers)
            }
        }
    }
}

/// The header of a safetensors file of `size` bytes, and where the numbers begin; what it says of
/// them has been checked against the size.
fn read_header(file: &mut impl Read, size: u64, path: &Path) -> Result<(Metadata, usize)> {
    /// As in the safetensors crate.
    const LARGEST_HEADER: u64 = 100_000_000;
    let bad = |why: String| {
        Error::format(
            path,
            format!(
                "is not a whole safetensors file ({why}; {size} bytes): it is cut off or damaged, copy it again"
            ),
        )
    };
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(|e| bad(e.to_string()))?;
    let length = u64::from_le_bytes(length);
    if length > LARGEST_HEADER.min(size.saturating_sub(8)) {
        return Err(bad(format!("its header claims to have {length} bytes")));
    }
    let mut header = vec![0; length as usize];
    file.read_exact(&mut header).map_err(|e| bad(e.to_string()))?;
    let header: Metadata =
        serde_json::from_slice(&header).map_err(|e| bad(format!("its header: {e}")))?;
    let start = 8 + length as usize;
    let mut end = 0;
    for name in header.offset_keys() {
        let Some(info) = header.info(&name) else { continue };
        let numbers = info.shape.iter().try_fold(1usize, |n, &size| n.checked_mul(size));
        let bits = numbers.and_then(|n| n.checked_mul(info.dtype.bitsize()));
        let (from, to) = info.data_offsets;
        if from != end || to < from || bits != (to - from).checked_mul(8) {
            return Err(bad(format!(
                "tensor \"{name}\" of shape {:?} does not fill its bytes {from} to {to}",
                info.shape
            )));
        }
        end = to;
    }
    if (start as u64).checked_add(end as u64) != Some(size) {
        return Err(bad(format!("its tensors end at byte {}", start as u128 + end as u128)));
    }
    Ok((header, start))
}

/// What PyTorch's wrappers put before every name of the module within: `torch.compile` and
/// `DataParallel`.
const WRAPPERS: [&str; 2] = ["_orig_mod.", "module."];

/// What stands before every one of some names because of a wrapper.
pub(crate) fn wrapping<'a>(names: impl Iterator<Item = &'a str> + Clone) -> String {
    let mut wrapping = String::new();
    loop {
        let all_have = |wrapper: &&&str| {
            let start = wrapping.clone() + wrapper;
            names.clone().count() > 0 && names.clone().all(|name| name.starts_with(&start))
        };
        match WRAPPERS.iter().find(all_have) {
            Some(wrapper) => wrapping += wrapper,
            None => return wrapping,
        }
    }
}

/// Whether numbers of this type can be read.
fn is_known(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F64 | Dtype::I32 | Dtype::I64)
}

/// The numbers of a tensor as f32.
pub(crate) struct Numbers {
    /// What they are in the file.
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

impl Numbers {
    /// Room for a tensor, unless numbers of this type are not known.
    pub fn new(dtype: Dtype, shape: &[usize]) -> std::result::Result<Numbers, String> {
        match is_known(dtype) {
            true => Ok(Numbers {
                dtype,
                shape: shape.to_vec(),
                values: Vec::with_capacity(shape.iter().product()),
            }),
            false => Err(format!("has type {dtype:?}: need F32, F16, BF16 or F64")),
        }
    }

    /// Adds numbers, little-endian.
    pub fn push(&mut self, bytes: &[u8]) {
        /// Numbers that a thread takes at a time.
        const PIECE: usize = 1 << 16;
        let from = self.values.len();
        let width = self.dtype.bitsize() / 8;
        self.values.resize(from + bytes.len() / width, 0.0);
        let pieces = self.values[from..].par_chunks_mut(PIECE).zip(bytes.par_chunks(PIECE * width));
        pieces.for_each(|(to, bytes)| {
            let pairs = || {
                bytes
                    .as_chunks::<2>()
                    .0
                    .iter()
                    .map(|&b| u16::from_le_bytes(b))
                    .collect::<Vec<u16>>()
            };
            let fours = to.iter_mut().zip(bytes.as_chunks::<4>().0);
            match self.dtype {
                Dtype::F16 => bytemuck::cast_slice::<u16, f16>(&pairs()).convert_to_f32_slice(to),
                Dtype::BF16 => bytemuck::cast_slice::<u16, bf16>(&pairs()).convert_to_f32_slice(to),
                Dtype::F64 => to
                    .iter_mut()
                    .zip(bytes.as_chunks::<8>().0)
                    .for_each(|(x, &b)| *x = f64::from_le_bytes(b) as f32),
                Dtype::I64 => to
                    .iter_mut()
                    .zip(bytes.as_chunks::<8>().0)
                    .for_each(|(x, &b)| *x = i64::from_le_bytes(b) as f32),
                Dtype::I32 => fours.for_each(|(x, &b)| *x = i32::from_le_bytes(b) as f32),
                _ => fours.for_each(|(x, &b)| *x = f32::from_le_bytes(b)),
            }
        });
    }
}

/// Writes tensors of f32 one after the other, and a text under `key` of the metadata: the bytes
/// that the safetensors crate lays out.
///
/// # Errors
/// [`std::io::Error`] of `out`.
pub(crate) fn write(
    out: &mut dyn Write,
    arrays: &[(&str, Vec<usize>, &[f32])],
    (key, about): (&str, &str),
) -> std::io::Result<()> {
    let mut arrays: Vec<_> = arrays.iter().collect();
    arrays.sort_by_key(|(name, ..)| *name);
    let mut end = 0;
    let mut infos = Vec::new();
    for (name, shape, data) in &arrays {
        let data_offsets = (end, end + 4 * data.len());
        end = data_offsets.1;
        infos.push((
            (*name).to_owned(),
            TensorInfo { dtype: Dtype::F32, shape: shape.clone(), data_offsets },
        ));
    }
    let metadata = HashMap::from([(key.to_owned(), about.to_owned())]);
    let header = Metadata::new(Some(metadata), infos).map_err(std::io::Error::other)?;
    let mut header = serde_json::to_vec(&header)?;
    // Numbers begin at a multiple of eight.
    header.resize(header.len().next_multiple_of(8), b' ');
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    arrays.iter().try_for_each(|(.., data)| out.write_all(bytemuck::cast_slice(data)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::tensor::TensorView;

    #[test]
    fn what_is_written_one_by_one_is_what_the_crate_lays_out() {
        let data: Vec<f32> = (0..24).map(|i| i as f32 / 7.0).collect();
        let arrays = [
            ("b", vec![4, 3], &data[..12]),
            ("a.m", vec![5], &data[12..17]),
            ("a", vec![0], &data[..0]),
        ];
        let views = arrays.iter().map(|(name, shape, data)| {
            (*name, TensorView::new(Dtype::F32, shape.clone(), bytemuck::cast_slice(data)).unwrap())
        });
        let want = safetensors::serialize(
            views,
            Some(HashMap::from([("key".to_owned(), "about \"this\"".to_owned())])),
        )
        .unwrap();
        let mut got = Vec::new();
        write(&mut got, &arrays, ("key", "about \"this\"")).unwrap();
        assert_eq!(got, want);
        let bytes: &'static [u8] = got.leak();
        let file = TensorFile::in_memory(Path::new("some.safetensors"), bytes).unwrap();
        assert_eq!(file.read("a.m").unwrap().values, data[12..17]);
        assert_eq!(file.about("key"), Some("about \"this\""));
    }

    #[test]
    fn a_header_that_says_too_much_is_refused() {
        let tensor = |entry: &str, data: usize| {
            let header = format!("{{\"a\":{entry}}}");
            let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
            bytes.extend(header.bytes());
            bytes.resize(bytes.len() + data, 0);
            &*bytes.leak()
        };
        let told = |bytes: &'static [u8]| {
            TensorFile::in_memory(Path::new("some.safetensors"), bytes).err().unwrap().to_string()
        };
        for bytes in [
            &[0xFF; 7][..],
            &[0xFF; 64],
            tensor(r#"{"dtype":"F32","shape":[4],"data_offsets":[0,16]}"#, 15),
            tensor(r#"{"dtype":"F32","shape":[4],"data_offsets":[0,16]}"#, 17),
            tensor(r#"{"dtype":"F32","shape":[5],"data_offsets":[0,16]}"#, 16),
            tensor(r#"{"dtype":"F32","shape":[4],"data_offsets":[4,20]}"#, 20),
            tensor(r#"{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}"#, 0),
            tensor(r#"{"dtype":"F32","shape":[1],"data_offsets":[4,0]}"#, 4),
            tensor("[]", 0),
        ] {
            let told = told(bytes);
            assert!(
                told.contains("some.safetensors") && told.contains("not a whole safetensors file"),
                "{told}"
            );
        }
        let whole = tensor(r#"{"dtype":"F32","shape":[4],"data_offsets":[0,16]}"#, 16);
        assert_eq!(
            TensorFile::in_memory(Path::new("x"), whole).unwrap().read("a").unwrap().values,
            [0.0; 4]
        );
    }
}
