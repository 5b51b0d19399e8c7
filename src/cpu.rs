//! The processor: vector instructions, packed products, and how much memory there is.

pub(crate) mod linear;
pub mod matmul;
pub mod memory;
pub mod simd;
