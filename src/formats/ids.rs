//! Token ids in a safetensors file, with a description of where they come from.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::error::{Error, Result};
use crate::base::files::write_atomic;

/// The one key of the metadata: the order of several is not fixed, and the same ids are to give the
/// same bytes.
const ABOUT: &str = "tokenized_sae";

/// Writes ids `[n, n_ctx]` under their names.
pub(crate) fn write(
    path: &Path,
    about: &impl Serialize,
    ids: &[(&str, &[u32])],
    n_ctx: usize,
) -> Result<()> {
    let about = serde_json::to_string(about).map_err(Error::json(path.display()))?;
    let views = ids.iter().map(|&(name, ids)| {
        let shape = vec![ids.len() / n_ctx, n_ctx];
        Ok((name, TensorView::new(Dtype::U32, shape, bytemuck::cast_slice(ids))?))
    });
    let views: Result<Vec<_>, safetensors::SafeTensorError> = views.collect();
    let about = HashMap::from([(ABOUT.to_owned(), about)]);
    let bytes = views
        .and_then(|views| safetensors::serialize(views, Some(about)))
        .map_err(|e| Error::format(path, format!("could not be serialised: {e}")))?;
    write_atomic(path, |out| out.write_all(&bytes))
}

/// Reads the ids of these names, and the description; `None` if there is no such file.
///
/// # Errors
/// What `damaged` makes of the reason if it is no such file; [`Error::Io`].
pub(crate) fn read<A: DeserializeOwned, const N: usize>(
    path: &Path,
    names: [&str; N],
    n_ctx: usize,
    damaged: &dyn Fn(String) -> Error,
) -> Result<Option<(A, [Vec<u32>; N])>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("read", path)(e)),
    };
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| damaged(e.to_string()))?;
    let about = header.metadata().as_ref().and_then(|map| map.get(ABOUT));
    let about = about.ok_or_else(|| damaged("it has no description".into()))?;
    let about = serde_json::from_str(about).map_err(|e| damaged(e.to_string()))?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| damaged(e.to_string()))?;
    let mut all = [const { Vec::new() }; N];
    for (name, ids) in names.into_iter().zip(&mut all) {
        let tensor = tensors.tensor(name).map_err(|e| damaged(e.to_string()))?;
        let (dtype, shape) = (tensor.dtype(), tensor.shape());
        if dtype != Dtype::U32 || shape.len() != 2 || shape[1] != n_ctx {
            return Err(damaged(format!("{name} is {dtype:?} {shape:?}")));
        }
        let bytes = tensor.data().as_chunks::<4>().0;
        *ids = bytes.iter().map(|id| u32::from_le_bytes(*id)).collect();
    }
    Ok(Some((about, all)))
}
