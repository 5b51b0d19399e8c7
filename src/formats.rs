//! File formats of others, read and written within limits: safetensors, NumPy arrays, Python's
//! pickle as PyTorch uses it, Arrow as Hugging Face datasets uses it.

pub(crate) mod arrays;
pub(crate) mod arrow;
pub(crate) mod ids;
pub(crate) mod pickle;
pub(crate) mod settings;
pub(crate) mod tensors;
