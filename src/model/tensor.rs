//! The numbers of a tensor.

use candle_core::{CpuStorage, Storage, Tensor};

use crate::base::error::Result;

/// Calls `f` with the numbers of a contiguous f32 tensor on the CPU.
///
/// # Errors
/// [`Error::Candle`](crate::base::error::Error::Candle) if the tensor is of another type or lies
/// elsewhere.
pub(crate) fn with_f32<T>(x: &Tensor, f: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let x = if x.is_contiguous() { x.clone() } else { x.contiguous()? };
    let (storage, layout) = x.storage_and_layout();
    let data = cpu_f32(&storage)?;
    let start = layout.start_offset();
    Ok(f(&data[start..start + layout.shape().elem_count()]))
}

pub(super) fn cpu_f32(storage: &Storage) -> Result<&[f32]> {
    match storage {
        Storage::Cpu(CpuStorage::F32(data)) => Ok(data),
        other => Err(candle_core::Error::Msg(format!(
            "need f32 numbers on the CPU, got {:?} on {:?}",
            other.dtype(),
            other.device()
        ))
        .into()),
    }
}
