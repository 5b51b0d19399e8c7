//! What turns rows into codes, and how many rows are one block.

use crate::cpu::simd::tile::ROWS;
use crate::sae::Sae;

/// Rows in a block, the unit in which rows are summed and stored; whole tiles.
pub(in crate::backend) const BLOCK: usize = 8 * ROWS;

/// The part of an SAE that turns rows into codes.
#[derive(Clone, Copy)]
pub(in crate::backend) struct Encoder<'a> {
    /// `[d_sae, d]`
    pub w: &'a [f32],
    /// `[d_sae]`
    pub b: &'a [f32],
    /// Subtracted from every row: `[d]`.
    pub b_dec: &'a [f32],
    /// How many latents of a row are selected, where it is a number of them.
    pub k: usize,
    /// What a latent's score must exceed, where it is a threshold: `[d_sae]`, or one for all.
    pub thresholds: &'a [f32],
}

impl<'a> Encoder<'a> {
    /// The encoder of an SAE, which selects its k largest.
    pub(super) fn of(sae: &'a Sae) -> Encoder<'a> {
        Encoder {
            w: &sae.w_enc,
            b: &sae.b_enc,
            b_dec: &sae.b_dec,
            k: sae.config.k,
            thresholds: &[],
        }
    }

    /// The width of a row.
    pub(super) fn d(&self) -> usize {
        self.b_dec.len()
    }

    /// How many latents there are.
    pub(super) fn d_sae(&self) -> usize {
        self.b.len()
    }

    /// What the latent's score must exceed; 0 where that is not asked.
    #[inline]
    pub(super) fn threshold(&self, latent: usize) -> f32 {
        match self.thresholds {
            [] => 0.0,
            [threshold] => *threshold,
            thresholds => thresholds[latent],
        }
    }
}
