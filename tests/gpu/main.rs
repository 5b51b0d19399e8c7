//! A GPU's work without a GPU: the kernels run on this processor, every thread of them. A training
//! step must leave the very bits that the CPU's own leaves, and a model give the CPU's at every hook, or in
//! bf16 come close.

mod bf16;
mod bf16_store;
mod compile;
mod copies;
mod driver;
mod emulated;
mod emulator;
mod ladder;
mod model;
mod product16;
mod ptx;
mod step;
mod text;
