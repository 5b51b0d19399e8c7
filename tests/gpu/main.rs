//! The step on a GPU, without one: its kernels run on this processor, every thread of them, and a
//! step must leave the very bits that the CPU's own leaves.

mod driver;
mod emulated;
mod emulator;
mod ptx;
mod step;
