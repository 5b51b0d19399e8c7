//! What a table is indexed by, for rows of a store.

use super::{ActivationStore, Batch, Waiting};
use crate::base::error::Result;
use crate::sae::{Codes, Index, Keys, Sae};

impl ActivationStore {
    /// The keys of `rows` for the table of an SAE: their tokens, or the n-grams that end there, or
    /// the active latents of a preceding SAE, whose hook the store then needs.
    ///
    /// # Errors
    /// As [`gather`](ActivationStore::gather), and
    /// [`Error::UnknownHook`](crate::Error::UnknownHook) if the store lacks a preceding SAE's hook.
    pub fn keys(&self, sae: &Sae, rows: &[u64]) -> Result<Keys<'static>> {
        self.keys_for(Waiting::Cell, sae, rows)
    }

    /// The codes of `rows`, whose activations are `x`, and their keys.
    ///
    /// # Errors
    /// As [`keys`](ActivationStore::keys) and [`Sae::encode_on`].
    pub fn encode(&self, sae: &Sae, rows: &[u64], x: &[f32]) -> Result<(Codes, Keys<'static>)> {
        let keys = self.keys(sae, rows)?;
        Ok((sae.encode_on(x, &keys)?, keys))
    }

    /// As [`keys`](ActivationStore::keys), for a cell or for a thread in the background.
    pub(crate) fn keys_for(
        &self,
        waiting: Waiting<'_>,
        sae: &Sae,
        rows: &[u64],
    ) -> Result<Keys<'static>> {
        match &sae.index {
            Index::Latents(preceding) => {
                let mut batch = Batch::default();
                self.gather_for(waiting, preceding.own_hook()?, rows, &mut batch)?;
                let keys = self.keys_for(waiting, preceding, rows)?;
                Ok(preceding.encode_on(&batch.x, &keys)?.into())
            }
            index => {
                let mut keys = vec![0u32; rows.len()];
                self.with_shards(rows, &[], waiting, |open| {
                    for (key, &row) in keys.iter_mut().zip(rows) {
                        let Some((shard, within)) = open.place_of(row) else { continue };
                        *key = match index {
                            Index::Ngrams(grams) => {
                                let before = shard.positions()[within] as usize;
                                let before = before.min(grams.longest() - 1);
                                grams.row(&shard.tokens()[within - before..=within])
                            }
                            _ => shard.tokens()[within],
                        };
                    }
                    Ok(())
                })?;
                Ok(keys.into())
            }
        }
    }
}
