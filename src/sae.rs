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
mod of_table;
mod row_norm;
mod show;

use sha2::{Digest, Sha256};

use crate::base::error::{Error, Result};
use crate::base::files;
use crate::model::HookPoint;

pub use architecture::{Architecture, AuxK, Frozen};
pub use card::ModelCard;
pub use codes::Codes;
pub use config::SaeConfig;
pub(crate) use config::check_rate;
pub use io::{SaeFormat, TableExport};
pub use keys::Keys;
pub(crate) use lookup::Start;
pub use lookup::{Index, Lookup, Ngrams};
pub use row_norm::RowNorm;
pub(crate) use row_norm::RowScale;

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
    /// What the rows of the table stand for: tokens by default.
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
    /// The name of the place that it reads, if that is none of the hooks: `blocks.2.hook_q`. It
    /// encodes and decodes what is read there elsewhere; for all else set the hook.
    pub place: Option<String>,
    /// How the model's weights were processed: `Raw` or `TransformerLens`.
    pub processing: Option<String>,
    /// The length of the sequences it was trained on.
    pub n_ctx: Option<usize>,
}

impl Origin {
    /// At a hook or another place, as TransformerLens or the model's own modules call it.
    pub(crate) fn at(name: Option<&str>) -> Origin {
        let hook = name.and_then(|name| name.parse().ok());
        let place = name.filter(|_| hook.is_none()).map(str::to_owned);
        Origin { hook, place, ..Origin::default() }
    }

    /// The name of the hook, or of the place.
    fn hook_name(&self) -> Option<String> {
        self.hook.map(|hook| hook.to_string()).or(self.place.clone())
    }

    /// Why there is no hook.
    pub(crate) fn why_no_hook(&self) -> String {
        match &self.place {
            Some(place) => format!("the SAE reads \"{place}\", which is none of the hooks here"),
            None => "the SAE does not say which hook it reads".to_owned(),
        }
    }
}

/// The authors' guard against a division by a vanishing activation, in their NMSE.
pub(crate) const NMSE_EPSILON: f64 = 1e-4;

impl Sae {
    /// The width of the activations.
    pub fn d_model(&self) -> usize {
        self.config.d_model
    }

    /// How many latents there are.
    pub fn d_sae(&self) -> usize {
        self.config.d_sae()
    }

    /// The hook it says it reads.
    pub(crate) fn own_hook(&self) -> Result<HookPoint> {
        self.origin.hook.ok_or_else(|| {
            Error::config("origin", format!("{}: set its origin.hook", self.origin.why_no_hook()))
        })
    }

    /// All its weights but the table.
    fn weights(&self) -> [&Vec<f32>; 7] {
        let Sae { w_enc, b_enc, w_dec, b_dec, threshold, r_mag, b_mag, .. } = self;
        [w_enc, b_enc, w_dec, b_dec, threshold, r_mag, b_mag]
    }

    /// A checksum over its weights.
    pub(crate) fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for weights in self.weights() {
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
