//! Token ids in rows of equal length.

mod show;

use sha2::{Digest, Sha256};

use crate::base::error::{Error, Result};

/// Token ids `[n_seq, n_ctx]`: what a model reads, and what every activation keeps beside it.
#[derive(Clone, PartialEq, Eq)]
pub struct Tokens {
    ids: Vec<u32>,
    n_ctx: usize,
}

impl Tokens {
    /// Takes `ids` row after row, each of `n_ctx` tokens.
    ///
    /// # Errors
    /// [`Error::Shape`] if the ids do not fill whole rows, or `n_ctx` is 0.
    pub fn new(ids: Vec<u32>, n_ctx: usize) -> Result<Tokens> {
        if n_ctx == 0 || !ids.len().is_multiple_of(n_ctx) {
            return Err(Error::Shape {
                what: format!("tokens for rows of {n_ctx}"),
                want: vec![ids.len() / n_ctx.max(1), n_ctx],
                got: vec![ids.len()],
            });
        }
        Ok(Tokens { ids, n_ctx })
    }

    /// How many sequences there are.
    pub fn n_seq(&self) -> usize {
        self.ids.len() / self.n_ctx
    }

    /// How many tokens a sequence has.
    pub fn n_ctx(&self) -> usize {
        self.n_ctx
    }

    /// How many tokens there are in all: `n_seq · n_ctx`.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are no sequences.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// All ids, row after row.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The ids of sequence `i`.
    ///
    /// # Panics
    /// If `i >= n_seq`, as indexing a slice does.
    pub fn row(&self, i: usize) -> &[u32] {
        &self.ids[i * self.n_ctx..(i + 1) * self.n_ctx]
    }

    /// The sequences `from..to`, cut short at the end.
    pub fn rows(&self, from: usize, to: usize) -> Tokens {
        let to = to.min(self.n_seq());
        let from = from.min(to);
        Tokens { ids: self.ids[from * self.n_ctx..to * self.n_ctx].to_vec(), n_ctx: self.n_ctx }
    }

    /// What tells these tokens from any others: the SHA-256, in hex, of `n_ctx` and all ids.
    pub fn fingerprint(&self) -> String {
        let hash = Sha256::new()
            .chain_update((self.n_ctx as u64).to_le_bytes())
            .chain_update(bytemuck::cast_slice::<u32, u8>(&self.ids));
        crate::base::files::hex(hash.finalize())
    }

    /// Checks that every id lies below `d_vocab`.
    ///
    /// # Errors
    /// [`Error::TokenId`] with the first that does not.
    pub fn check(&self, d_vocab: usize) -> Result<()> {
        match self.ids.iter().position(|&id| id as usize >= d_vocab) {
            Some(position) => Err(Error::TokenId { id: self.ids[position], position, d_vocab }),
            None => Ok(()),
        }
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokens [{}, {}]", self.n_seq(), self.n_ctx)
    }
}
