//! The sizes of a step: whether a card can do it, and the memory that it takes.

use super::{CHUNK, IN_FULL, OUTLIERS, TILE, WARPS_IN_ORDER, width};
use crate::backend::cpu::screen::Exactness;
use crate::base::error::{Error, Result};
use crate::sae::{Lookup, SaeConfig};

/// Bytes of shared memory that every card from Ampere on gives to a block.
const SHARED: usize = 96 * 1024;

/// The sizes of a step.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) n: usize,
    pub(super) d: usize,
    pub(super) d_sae: usize,
    pub(super) k: usize,
    pub(super) relu: bool,
    pub(super) exactness: Exactness,
    /// Whether a table is subtracted before the encoder, and whether it learns from what comes back.
    pub(super) subtracts: bool,
    pub(super) returns: bool,
    /// The latents that all rows list before there is a bar.
    pub(super) first: usize,
    /// Places of a row's list.
    pub(super) room: usize,
    /// What a list may hold at the end; more is scored in full.
    pub(super) keep: usize,
}

impl Sizes {
    pub(super) fn of(sae: &SaeConfig, n: usize, exactness: Exactness) -> Sizes {
        let (d, d_sae, k) = (sae.d_model, sae.d_sae(), sae.k);
        let first = (8 * k).max(256).next_multiple_of(TILE).min(d_sae);
        let keep = exactness.room() * k + 64;
        let table = sae.lookup.as_ref().filter(|lookup| lookup.is_subtracted());
        Sizes {
            n,
            d,
            d_sae,
            k,
            relu: sae.relu,
            exactness,
            subtracts: table.is_some(),
            returns: table.is_some_and(Lookup::is_learned),
            first,
            room: (2 * first).max(keep),
            keep,
        }
    }

    /// A bound on the rounding of all f32 sums of an estimate and an exact score, relative to the
    /// product of the norms: as [`Screen`](super::Screen)'s for bytes, and for the outliers, which
    /// here are added in two roundings.
    pub(super) fn rounding(&self) -> f32 {
        (2 * self.d.div_ceil(crate::cpu::simd::LANES) + 40) as f32 / (1 << 24) as f32
    }

    /// Refuses what the kernels cannot do.
    pub(super) fn check(&self) -> Result<()> {
        let limits = [
            // Of `select_in_full`, `select_codes` and `order_codes`.
            ("d_model", self.d, 4 * self.d + 2048),
            ("k", self.k, 4 * (self.d.next_multiple_of(4) + 3 * self.keep)),
            ("batch", self.n, 8 * WARPS_IN_ORDER * self.n.div_ceil(32)),
        ];
        for (field, value, needs) in limits {
            if needs > SHARED {
                let why = format!(
                    "{field} = {value} is more than the GPU's step can do ({needs} bytes of its {SHARED} of shared memory): take less, or train on the CPU"
                );
                return Err(Error::config(field, why));
            }
        }
        if [self.n * self.k, self.n * self.room, self.d_sae * width(self.d)]
            .iter()
            .any(|&size| size > u32::MAX as usize)
        {
            let why = format!(
                "{} rows are more than the GPU's step can do at once: take fewer, or train on the CPU",
                self.n
            );
            return Err(Error::config("batch", why));
        }
        Ok(())
    }
}

/// Refuses SAEs that the kernels cannot train with batches of so many rows.
pub(in crate::backend) fn check(saes: &[&SaeConfig], n: usize) -> Result<()> {
    saes.iter().try_for_each(|sae| Sizes::of(sae, n, Exactness::default()).check())
}

/// Bytes that SAEs take on a device in training, with batches of so many rows: what a
/// [`Resident`](super::Resident) and two batches hold, and a tenth more, for what the driver keeps to
/// itself.
pub(in crate::backend) fn bytes(saes: &[&SaeConfig], n: usize) -> u64 {
    let batch = |d: usize| n * (4 * d + width(d) + 4 * (OUTLIERS + 6));
    let one = |sae: &&SaeConfig| {
        let Sizes { d, d_sae, k, room, subtracts, returns, .. } =
            Sizes::of(sae, n, Exactness::default());
        let table = sae
            .lookup
            .as_ref()
            .map_or(0, |lookup| lookup.rows() * d * if lookup.is_learned() { 3 } else { 1 });
        let encoder = d_sae * (width(d) + 4 * (OUTLIERS + 10));
        let lists = 12 * n * room + 4 * IN_FULL * d_sae;
        let rows = 4 * n * d + 36 * n * k + 4 * d_sae.div_ceil(CHUNK) * d;
        let left = usize::from(subtracts) * batch(d) + usize::from(returns) * 4 * n * d;
        4 * (3 * (2 * d_sae * d + d_sae + d) + table) + encoder + lists + rows + left
    };
    let all = saes.iter().map(one).sum::<usize>()
        + 2 * saes.iter().map(|sae| batch(sae.d_model)).max().unwrap_or(0);
    all as u64 / 10 * 11
}
