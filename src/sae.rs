//! Sparse autoencoders, with and without a table indexed by the current token.
//!
//! ```text
//! pre   = W_enc (x − b_dec) + b_enc                 [n, d_sae]
//! codes = TopK(pre)                                 the k largest of each row
//! x̂     = codes · W_dec + b_dec + W_lookup[token]   [n, d_model]    (the last term only in a TSAE)
//! ```
//!
//! `W_enc` and `W_dec` are both kept as `[d_sae, d_model]`, so that a latent is one contiguous row
//! of each.

mod architecture;
mod card;
pub(crate) mod codes;
mod config;
mod fold;
mod init;
mod io;
pub(crate) mod keys;
mod lookup;
mod row_norm;
mod show;

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use crate::backend;
use crate::base::error::{Error, Result};
use crate::base::files;
use crate::model::tokens::Tokens;
use crate::model::{HookPoint, Model};

pub use architecture::{Architecture, AuxK};
pub use card::ModelCard;
pub use codes::Codes;
pub use config::SaeConfig;
pub use io::{Exported, SaeFormat, TableExport};
pub use keys::Keys;
pub(crate) use lookup::Start;
pub use lookup::{Grams, Index, Lookup};
pub use row_norm::{RowNorm, RowScale};

/// A sparse autoencoder: its weights, and what they were trained for.
#[derive(Clone)]
pub struct Sae {
    /// The settings it was made with.
    pub config: SaeConfig,
    /// Encoder `[d_sae, d_model]`, row by row.
    pub w_enc: Vec<f32>,
    /// Encoder bias `[d_sae]`.
    pub b_enc: Vec<f32>,
    /// Decoder `[d_sae, d_model]`, row by row.
    pub w_dec: Vec<f32>,
    /// Decoder bias `[d_model]`: subtracted before encoding, added after decoding.
    pub b_dec: Vec<f32>,
    /// What a pre-activation must exceed: `[d_sae]` in a JumpReLU SAE, one number for all in a
    /// BatchTopK SAE, empty in others.
    pub threshold: Vec<f32>,
    /// The logarithm of a Gated SAE's magnitude scale `[d_sae]`; empty in others.
    pub r_mag: Vec<f32>,
    /// A Gated SAE's magnitude bias `[d_sae]`; empty in others. Its gate's is `b_enc`.
    pub b_mag: Vec<f32>,
    /// The table `W_lookup` `[rows, d_model]`; present in a TSAE.
    pub lookup: Option<Vec<f32>>,
    /// What the rows of the table stand for: tokens, if not said otherwise.
    pub index: Index,
    /// Whether the table is subtracted before the encoder, as well as added after the decoder.
    pub subtract: bool,
    /// How each row of activations is scaled before all of this, and scaled back after: not at all
    /// in an SAE that was trained here.
    pub row_norm: RowNorm,
    /// Where its activations came from, if it was trained or said so in its file.
    pub origin: Origin,
}

/// The model and the hook whose activations an SAE reads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Origin {
    /// The model's name.
    pub model: Option<String>,
    /// The commit of the model's repository on the hub, if it came from there.
    pub revision: Option<String>,
    /// The hook.
    pub hook: Option<HookPoint>,
    /// How the model's weights were processed: `Raw` or `TransformerLens`.
    pub processing: Option<String>,
    /// The length of the sequences it was trained on.
    pub n_ctx: Option<usize>,
}

impl Sae {
    /// The width of the activations.
    pub fn d_model(&self) -> usize {
        self.config.d_model
    }

    /// How many latents there are.
    pub fn d_sae(&self) -> usize {
        self.config.d_sae()
    }

    /// The codes of the activations `x` `[n, d_model]`, exactly: the `k` largest pre-activations of
    /// each row, ties to the lower latent; or whatever else the [`Architecture`] takes.
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` is no whole number of rows, [`Error::NotFinite`] if a row has NaN
    /// pre-activations, [`Error::Config`] if the SAE subtracts a table from what it encodes: that
    /// needs [`encode_on`](Sae::encode_on).
    pub fn encode(&self, x: &[f32]) -> Result<Codes> {
        if self.subtract {
            let why = "this SAE subtracts its table before it encodes, and must know what for: encode_on(&x, &tokens) instead of encode(&x)";
            return Err(Error::config("keys", why.to_owned()));
        }
        let (x, scales) = self.scaled(x)?;
        Ok(backend::fastest().encode(self, &x)?.with_scales(scales))
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
        Ok(backend::fastest()
            .encode(self, &backend::rows::without_table(self, &x, &keys))?
            .with_scales(scales))
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
        let mut x_hat = backend::decode(self, codes, &keys);
        if self.row_norm != RowNorm::None {
            if codes.scales().len() != codes.n() {
                let why = "this SAE reads each row in a scale of its own, which its own encode gives the codes, and these have none";
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
            Index::Grams(grams) => Ok(grams.rows_of(text).into()),
            _ => Ok(text.ids().to_vec().into()),
        }
    }

    /// The hook it says it reads.
    pub(crate) fn own_hook(&self) -> Result<HookPoint> {
        self.origin.hook.ok_or_else(|| {
            Error::config(
                "origin",
                "the SAE does not say which hook it reads: set its origin.hook".to_owned(),
            )
        })
    }

    /// The codes of all positions of a text, where `hook` holds `x` `[n_seq · n_ctx, d_model]`.
    ///
    /// # Errors
    /// Those of [`encode_on`](Sae::encode_on) and [`keys`](Sae::keys).
    pub fn encode_text(&self, model: &Model, x: &[f32], text: &Tokens) -> Result<Codes> {
        if self.subtract { self.encode_on(x, &self.keys(model, text)?) } else { self.encode(x) }
    }

    /// A checksum over its weights.
    pub(crate) fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for weights in [
            &self.w_enc,
            &self.b_enc,
            &self.w_dec,
            &self.b_dec,
            &self.threshold,
            &self.r_mag,
            &self.b_mag,
        ] {
            hash.update(bytemuck::cast_slice::<f32, u8>(weights));
        }
        hash.update(bytemuck::cast_slice::<f32, u8>(self.lookup.as_deref().unwrap_or_default()));
        if self.row_norm != RowNorm::None {
            hash.update(format!("{:?}", self.row_norm));
        }
        files::hex(hash.finalize())
    }

    /// Checks that `x` is whole rows.
    pub(crate) fn check_rows(&self, what: &str, x: &[f32]) -> Result<()> {
        let d = self.d_model();
        if !x.len().is_multiple_of(d) {
            return Err(Error::Shape {
                what: what.to_owned(),
                want: vec![x.len() / d, d],
                got: vec![x.len()],
            });
        }
        Ok(())
    }

    /// Checks the keys of `n` rows against the table, if there is one.
    pub(crate) fn check_keys(&self, keys: &Keys<'_>, n: usize) -> Result<()> {
        if keys.n() != n {
            return Err(Error::Shape {
                what: "tokens, one a row of activations,".to_owned(),
                want: vec![n],
                got: vec![keys.n()],
            });
        }
        if let Some(table) = &self.lookup {
            let rows = table.len() / self.d_model();
            if let Some(position) = keys.all().iter().position(|&key| key as usize >= rows) {
                return Err(Error::TokenId { id: keys.all()[position], position, d_vocab: rows });
            }
        }
        Ok(())
    }
}
