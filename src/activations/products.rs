//! What the products of a model give on a machine, to the last bit.
//!
//! A processor with AVX-512 forms a model's products by [tiles](crate::cpu::matmul), which fuse each
//! multiplication with an addition, in one order everywhere; others by the `gemm` crate, whose
//! order depends on the processor and the sizes of its caches. Activations of the two are equal but
//! for their last bits. One process gives all rows of a store the same; of many, each has to show
//! that it gives the plan's.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Source;
use super::filling::{ForwardOf, Pass};
use crate::base::error::{Error, Result};
use crate::base::files::hex;
use crate::cpu::matmul;
use crate::model::gpu::Bits;
use crate::model::tokens::Tokens;
use crate::model::{Compute, HookPoint};
use sha2::{Digest, Sha256};

/// What a model gave for some tokens, and by which products.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Products {
    /// The kernel, for people.
    pub kernel: String,
    /// The SHA-256 of the activations.
    pub sha256: String,
    /// Whose bits they have; left out where they are a processor's.
    #[serde(default, skip_serializing_if = "Bits::are_processors")]
    pub bits: Bits,
}

impl Products {
    /// Of one pass.
    ///
    /// # Errors
    /// What the model says.
    pub fn of(
        pass: &Tokens,
        hooks: &[HookPoint],
        compute: Compute,
        forward: ForwardOf<'_>,
    ) -> Result<Products> {
        let Pass { values, bits } = forward(0..pass.n_seq(), pass, hooks)?;
        let mut hash = Sha256::new();
        for values in values {
            hash.update(bytemuck::cast_slice::<f32, u8>(&values));
        }
        let kernel = match bits {
            Bits::Processor => matmul::kernel(compute),
            Bits::Card => "a card's matrix units in bf16",
        };
        Ok(Products { kernel: kernel.to_owned(), sha256: hex(hash.finalize()), bits })
    }

    /// Checks that these, found here, are those of the plan in that file.
    ///
    /// # Errors
    /// [`Error::Changed`].
    pub fn same_as(&self, planned: &Products, plan: &Path, source: &Source) -> Result<()> {
        if self.sha256 == planned.sha256 {
            return Ok(());
        }
        let shown =
            |it: &Products| format!("{} by {}", it.sha256.get(..12).unwrap_or_default(), it.kernel);
        Err(Error::Changed {
            path: plan.to_owned(),
            what: "the checksum of a pass of the model",
            stored: shown(planned),
            now: shown(self),
            remedy: format!(
                "this machine gives activations of {} other last bits than the one that made the plan: harvest on machines with the same kind of processor (or, in bf16, of card), or make the plan on one of these, in another folder",
                source.name
            ),
        })
    }
}
