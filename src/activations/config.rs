//! How a harvest runs and what it writes.

use super::Dtype;
use crate::device::Device;
use crate::model::Compute;

/// How a harvest runs and what it writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HarvestConfig {
    /// How numbers are stored. Default [`Dtype::F16`].
    pub dtype: Dtype,
    /// The number format of the model's products. Default [`Compute::F32`].
    ///
    /// [`Compute::Bf16`] takes about half the time, at a price that is measured there. What was
    /// made in the one is never mixed with what was made in the other.
    pub compute: Compute,
    /// Tokens in a file, made whole sequences; a killed harvest loses at most one file.
    /// Default 65,536; beyond some 10⁹ tokens take 2²⁰. A store has 250,000 files at most.
    pub shard_tokens: usize,
    /// Sequences in one pass of the model: more takes more memory, and longer until the stop button
    /// is heeded. Default 8.
    pub batch: usize,
    /// Where the model runs: see [`Device`]. Default [`Device::Auto`]. The numbers are the same, to
    /// the bit, so that a harvest may go on elsewhere; but in [`Compute::Bf16`] a card's come close to a
    /// processor's, and no more, and the store is refused where it was not begun. A processor without
    /// AVX-512 runs models alone.
    pub device: Device,
}

impl Default for HarvestConfig {
    fn default() -> HarvestConfig {
        HarvestConfig {
            dtype: Dtype::F16,
            compute: Compute::F32,
            shard_tokens: 1 << 16,
            batch: 8,
            device: Device::Auto,
        }
    }
}
