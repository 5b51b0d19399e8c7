//! Files that nobody meant: every reader is given spoilt copies of files that it can read.
//!
//! Whatever comes in, a reader does one of two things: it reads it, and what it has read can be
//! used; or it returns an error that names the file. It does not panic, it comes to an end, and it
//! takes no more memory than the files justify.
//!
//! `TSAE_FUZZ_INPUTS` is how many inputs there are over all readers; a million take about an hour
//! on two cores. `TSAE_FUZZ_SEED` gives other ones. A fault says which numbers make its input
//! again, and where it is kept.
//!
//! ```sh
//! TSAE_FUZZ_INPUTS=1000000 cargo test --release --test hard_input -- --nocapture
//! ```

mod archive;
mod corpora;
mod documents;
mod hammer;
#[cfg(feature = "hub")]
mod hub;
mod json;
mod memory;
mod models;
mod mutate;
mod runs;
mod saes;
mod stores;
mod sweeps;
mod tensors;

#[global_allocator]
static COUNTED: memory::Counted = memory::Counted;
