//! The processor: vector instructions, packed products, and how much memory there is.

pub mod matmul;
pub mod memory;
pub mod simd;
