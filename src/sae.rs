//! Sparse autoencoders, with and without a table indexed by the current token.
//!
//! ```text
//! pre   = W_enc (x − b_dec) + b_enc                 [n, d_sae]
//! codes = TopK(pre)                                 the k largest of each row
//! x̂     = codes · W_dec + b_dec + W_lookup[token]   [n, d_model]    (the last term only in a TSAE)
//! ```
//!
//! `W_enc` and `W_dec` are both kept as `[d_sae, d_model]`, so that a latent is one contiguous row of each.

mod architecture;
mod config;
mod init;
mod io;
mod lookup;
mod show;

use crate::error::{Error, Result};
use crate::kernel;
use crate::model::HookPoint;

pub use crate::kernel::Codes;
pub use architecture::{Architecture, AuxK};
pub use config::SaeConfig;
pub use lookup::Lookup;

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
    /// What a pre-activation must exceed: `[d_sae]` in a JumpReLU SAE, one number for all in a BatchTopK SAE, empty in others.
    pub threshold: Vec<f32>,
    /// The logarithm of a Gated SAE's magnitude scale `[d_sae]`; empty in others.
    pub r_mag: Vec<f32>,
    /// A Gated SAE's magnitude bias `[d_sae]`; empty in others. Its gate's is `b_enc`.
    pub b_mag: Vec<f32>,
    /// The token table `W_lookup` `[d_vocab, d_model]`; present in a TSAE.
    pub lookup: Option<Vec<f32>>,
    /// Where its activations came from, if it was trained or said so in its file.
    pub origin: Origin,
}

/// The model and the hook whose activations an SAE reads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Origin {
    /// The model's name.
    pub model: Option<String>,
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

    /// The codes of the activations `x` `[n, d_model]`, exactly: the `k` largest pre-activations of each row, ties to the lower latent; or whatever else the
    /// [`Architecture`] takes.
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` is no whole number of rows, [`Error::NotFinite`] if a row has NaN pre-activations.
    pub fn encode(&self, x: &[f32]) -> Result<Codes> {
        kernel::fastest().encode(self, x)
    }

    /// Reconstructs activations `[n, d_model]` from codes, and, in a TSAE, the tokens `[n]` they stand on.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are not as many tokens as rows, [`Error::TokenId`] if one is outside the table.
    pub fn decode(&self, codes: &Codes, tokens: &[u32]) -> Result<Vec<f32>> {
        self.check_tokens(tokens, codes.n())?;
        Ok(kernel::decode(self, codes, tokens))
    }

    /// Encodes and decodes: `x̂` `[n, d_model]` of the activations `x` `[n, d_model]` on the tokens `[n]`.
    ///
    /// # Errors
    /// Those of [`encode`](Sae::encode) and [`decode`](Sae::decode).
    pub fn reconstruct(&self, x: &[f32], tokens: &[u32]) -> Result<Vec<f32>> {
        self.decode(&self.encode(x)?, tokens)
    }

    /// Checks that `x` is whole rows.
    pub(crate) fn check_rows(&self, what: &str, x: &[f32]) -> Result<()> {
        let d = self.d_model();
        if !x.len().is_multiple_of(d) {
            return Err(Error::Shape { what: what.to_owned(), want: vec![x.len() / d, d], got: vec![x.len()] });
        }
        Ok(())
    }

    /// Checks `n` tokens against the table, if there is one.
    pub(crate) fn check_tokens(&self, tokens: &[u32], n: usize) -> Result<()> {
        if tokens.len() != n {
            return Err(Error::Shape { what: "tokens, one a row of activations,".to_owned(), want: vec![n], got: vec![tokens.len()] });
        }
        if let Some(table) = &self.lookup {
            let d_vocab = table.len() / self.d_model();
            if let Some(position) = tokens.iter().position(|&t| t as usize >= d_vocab) {
                return Err(Error::TokenId { id: tokens[position], position, d_vocab });
            }
        }
        Ok(())
    }
}
