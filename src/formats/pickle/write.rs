//! Files of tensors as `torch.save` writes them: a pickle of a dictionary, and one stored file of
//! numbers for each tensor.

use std::io::{Cursor, Write};
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::base::error::{Error, Result};
use crate::base::files;

/// The numbers of a tensor, row-major.
pub(crate) enum Data<'a> {
    F32(&'a [f32]),
    I32(&'a [i32]),
    I64(&'a [i64]),
}

/// What `torch.save` aligns storages to.
const ALIGNMENT: u16 = 64;

/// The folder within the archive.
const FOLDER: &str = "archive";

/// Writes a dictionary of tensors in one atomic step. The same tensors give the same bytes.
pub(crate) fn save(path: &Path, tensors: &[(&str, Vec<usize>, Data<'_>)]) -> Result<()> {
    let bytes = archive(tensors)
        .map_err(|e| Error::format(path, format!("could not be serialised: {e}")))?;
    files::write_atomic(path, |out| out.write_all(&bytes))
}

fn archive(tensors: &[(&str, Vec<usize>, Data<'_>)]) -> zip::result::ZipResult<Vec<u8>> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let mut part = |name: String, bytes: &[u8]| -> zip::result::ZipResult<()> {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .with_alignment(ALIGNMENT)
            .large_file(u32::try_from(bytes.len()).is_err());
        zip.start_file(format!("{FOLDER}/{name}"), options)?;
        Ok(zip.write_all(bytes)?)
    };
    part("data.pkl".to_owned(), &pickle(tensors))?;
    part("byteorder".to_owned(), b"little")?;
    for (i, (_, _, data)) in tensors.iter().enumerate() {
        part(format!("data/{i}"), data.bytes())?;
    }
    part("version".to_owned(), b"3\n")?;
    Ok(zip.finish()?.into_inner())
}

/// The pickle, in protocol 2: `{name: torch._utils._rebuild_tensor_v2(storage, 0, shape, strides,
/// False, OrderedDict()), …}`.
fn pickle(tensors: &[(&str, Vec<usize>, Data<'_>)]) -> Vec<u8> {
    let mut out = b"\x80\x02}(".to_vec();
    for (i, (name, shape, data)) in tensors.iter().enumerate() {
        text(&mut out, name);
        out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut out, "storage");
        out.extend(format!("ctorch\n{}\n", data.class()).as_bytes());
        text(&mut out, &i.to_string());
        text(&mut out, "cpu");
        number(&mut out, data.bytes().len() / data.width());
        out.extend(b"tQK\0");
        tuple(&mut out, shape);
        let strides: Vec<usize> =
            (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect();
        tuple(&mut out, &strides);
        out.extend(b"\x89ccollections\nOrderedDict\n)RtR");
    }
    out.extend(b"u.");
    out
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
}

/// A number from 0, in eight bytes of which the highest bit is the sign.
fn number(out: &mut Vec<u8>, number: usize) {
    out.extend([0x8a, 8]);
    out.extend((number as u64).to_le_bytes());
}

fn tuple(out: &mut Vec<u8>, items: &[usize]) {
    out.push(b'(');
    items.iter().for_each(|&item| number(out, item));
    out.push(b't');
}

impl Data<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Data::F32(numbers) => bytemuck::cast_slice(numbers),
            Data::I32(numbers) => bytemuck::cast_slice(numbers),
            Data::I64(numbers) => bytemuck::cast_slice(numbers),
        }
    }

    fn width(&self) -> usize {
        if matches!(self, Data::I64(_)) { 8 } else { 4 }
    }

    fn class(&self) -> &'static str {
        match self {
            Data::F32(_) => "FloatStorage",
            Data::I32(_) => "IntStorage",
            Data::I64(_) => "LongStorage",
        }
    }
}
