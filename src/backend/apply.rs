//! An SAE applied: activations to codes and back.

use std::borrow::Cow;

use super::cpu::rows::{decode, without_table};
use super::fastest;
use crate::base::error::{Error, Result};
use crate::model::Model;
use crate::model::tokens::Tokens;
use crate::sae::{Codes, Index, Keys, RowNorm, RowScale, Sae};

impl Sae {
    /// The codes of the activations `x` `[n, d_model]`: the `k` largest pre-activations of each
    /// row, ties to the lower latent; or whatever else the
    /// [`Architecture`](crate::sae::Architecture) takes.
    ///
    /// Values are always those of f32. Which latents they are is screened in fewer bits first, with
    /// a margin of six standard deviations of the rounding noise: the odds that a latent is missed
    /// are below 2e-8 at worst. [`Trainer::backend`](crate::train::Trainer::backend) with
    /// `"int8-proven"` trains with a margin that cannot miss one.
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` is not a whole number of rows, [`Error::NotFinite`] if a row has NaN
    /// pre-activations, [`Error::Config`] if the SAE subtracts a table from what it encodes: that
    /// needs [`encode_on`](Sae::encode_on).
    pub fn encode(&self, x: &[f32]) -> Result<Codes> {
        if self.subtract {
            let why = "this SAE subtracts its table before it encodes, so it needs the tokens: use encode_on(&x, &tokens) instead of encode(&x)";
            return Err(Error::config("keys", why.to_owned()));
        }
        let (x, scales) = self.scaled(x)?;
        Ok(fastest().encode(self, &x)?.with_scales(scales))
    }

    /// The codes of the activations `x` `[n, d_model]` with the keys of the rows, which are the `n`
    /// tokens unless the table is [indexed](Index) by something else.
    ///
    /// # Errors
    /// As [`encode`](Sae::encode) and [`decode`](Sae::decode).
    pub fn encode_on<'a>(&self, x: &[f32], keys: impl Into<Keys<'a>>) -> Result<Codes> {
        if !self.subtract {
            return self.encode(x);
        }
        let keys = keys.into();
        let (x, scales) = self.scaled(x)?;
        self.check_keys(&keys, x.len() / self.d_model())?;
        Ok(fastest().encode(self, &without_table(self, &x, &keys))?.with_scales(scales))
    }

    /// Activations `x` `[n, d_model]` in the scale in which it reads them, and how each row comes
    /// back.
    fn scaled<'a>(&self, x: &'a [f32]) -> Result<(Cow<'a, [f32]>, Vec<RowScale>)> {
        self.check_rows("activations", x)?;
        if self.row_norm == RowNorm::None {
            return Ok((x.into(), Vec::new()));
        }
        let (z, scales) = self.row_norm.apply(x, self.d_model());
        Ok((z.into(), scales))
    }

    /// Reconstructs activations `[n, d_model]` from codes, and, in a TSAE, the keys of the rows:
    /// the `n` tokens they stand on, unless the table is [indexed](Index) by something else.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are not as many as rows, [`Error::TokenId`] if one is outside the
    /// table; [`Error::Config`] if the SAE [scales rows](Sae::row_norm), and the codes are not of
    /// its own [`encode`](Sae::encode), which knows how they come back.
    pub fn decode<'a>(&self, codes: &Codes, keys: impl Into<Keys<'a>>) -> Result<Vec<f32>> {
        let keys = keys.into();
        self.check_keys(&keys, codes.n())?;
        let mut x_hat = decode(self, codes, &keys);
        if self.row_norm != RowNorm::None {
            if codes.scales().len() != codes.n() {
                let why = "this SAE scales each row by itself, and these codes lack their scales: use codes from its own encode";
                return Err(Error::config("codes", why));
            }
            RowNorm::undo(&mut x_hat, codes.scales(), self.d_model());
        }
        Ok(x_hat)
    }

    /// Encodes and decodes: `x̂` `[n, d_model]` of the activations `x` `[n, d_model]` with the keys
    /// of the rows.
    ///
    /// # Errors
    /// Those of [`encode`](Sae::encode) and [`decode`](Sae::decode).
    pub fn reconstruct<'a>(&self, x: &[f32], keys: impl Into<Keys<'a>>) -> Result<Vec<f32>> {
        let keys = keys.into();
        self.decode(&self.encode_on(x, &keys)?, &keys)
    }

    /// The keys of all positions of a text: its tokens, or what the table is [indexed](Index) by.
    /// Latents of a preceding SAE take a run of the model.
    ///
    /// # Errors
    /// What the model reports, and those of [`encode`](Sae::encode).
    pub fn keys(&self, model: &Model, text: &Tokens) -> Result<Keys<'static>> {
        match &self.index {
            Index::Latents(sae) if self.lookup.is_some() => {
                let x = model.run_to(text, sae.own_hook()?)?.flatten_all()?.to_vec1::<f32>()?;
                Ok(sae.encode_on(&x, &sae.keys(model, text)?)?.into())
            }
            Index::Ngrams(grams) => Ok(grams.rows_of(text).into()),
            _ => Ok(text.ids().to_vec().into()),
        }
    }

    /// The codes of all positions of a text, where `hook` holds `x` `[n_seq · n_ctx, d_model]`.
    ///
    /// # Errors
    /// Those of [`encode_on`](Sae::encode_on) and [`keys`](Sae::keys).
    pub fn encode_text(&self, model: &Model, x: &[f32], text: &Tokens) -> Result<Codes> {
        if self.subtract { self.encode_on(x, &self.keys(model, text)?) } else { self.encode(x) }
    }
}
