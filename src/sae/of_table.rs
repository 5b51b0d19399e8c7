//! A control: the table alone.

use super::{Index, Lookup, Sae, SaeConfig};
use crate::base::error::Result;

impl Sae {
    /// A table and nothing else: `x̂ = T[token]`. It has one latent, which never fires, so that its L0
    /// is 0; its NMSE and CE are what a TSAE's latents have to beat.
    ///
    /// ```
    /// use tokenized_sae::prelude::*;
    /// let lookup = Lookup::from_table(vec![1.0, 2.0, 3.0, 4.0], 2)?;
    /// let alone = Sae::of_table(lookup)?;
    /// assert_eq!(alone.reconstruct(&[9.0, 9.0], &[1])?, [3.0, 4.0]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`SaeConfig::check`].
    pub fn of_table(lookup: Lookup) -> Result<Sae> {
        let d_vocab = match lookup.index() {
            Index::Ngrams(grams) => lookup.rows() - grams.len(),
            Index::Token | Index::Latents(_) => lookup.rows(),
        };
        let config =
            SaeConfig { latents: Some(1), k: 1, ..SaeConfig::new(lookup.d_model(), d_vocab) };
        let mut sae = Sae::new(config.with_lookup(lookup.with_balance(1.0)?))?;
        sae.w_enc.fill(0.0);
        sae.w_dec.fill(0.0);
        Ok(sae)
    }
}
