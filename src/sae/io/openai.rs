//! openai/sparse_autoencoder: one pickled state dict. Their TopK SAEs, unlike those with ReLU,
//! normalise each row of activations.

use super::{Architecture, RowNorm, Sae, bare, matrix, transpose};
use crate::base::error::{Error, Result};
use crate::formats::arrays::Arrays;

pub(super) fn read(mut tensors: Arrays) -> Result<Sae> {
    let path = tensors.path().to_owned();
    let refuse = |why: String| Err(Error::format(&path, why));
    let [d_sae, d] = matrix(&tensors, "encoder.weight")?;
    let mut sae = match tensors.text("activation") {
        None | Some("ReLU") => bare(d, d_sae, Architecture::Relu { l1: 0.0 }, 1),
        Some("TopK") => {
            let Some(k) =
                tensors.number("activation_state_dict.k").filter(|k| *k >= 1.0 && k.fract() == 0.0)
            else {
                return refuse("is an OpenAI TopK SAE, and activation_state_dict has no k that is a whole number above 0".to_owned());
            };
            Sae { row_norm: RowNorm::LayerNorm, ..bare(d, d_sae, Architecture::TopK, k as usize) }
        }
        Some(other) => {
            return refuse(format!(
                "is an OpenAI SAE with activation \"{other}\"; ReLU and TopK are understood"
            ));
        }
    };
    sae.config.relu = match tensors.text("activation_state_dict.postact_fn") {
        None | Some("ReLU") => true,
        Some("Identity") => false,
        Some(other) => {
            return refuse(format!("postact_fn is \"{other}\"; ReLU and Identity are understood"));
        }
    };
    sae.config.check()?;
    sae.row_norm.check(d)?;
    let w_enc = tensors.take("encoder.weight", &[d_sae, d])?;
    // A tied decoder is the encoder's transpose, and has no tensor of its own, or one below the
    // encoder's name.
    let w_dec = if tensors.has("decoder.weight") {
        transpose(&tensors.take("decoder.weight", &[d, d_sae])?, d, d_sae)
    } else {
        w_enc.clone()
    };
    Ok(Sae {
        w_dec,
        w_enc,
        b_enc: tensors.take("latent_bias", &[d_sae])?,
        b_dec: tensors.take("pre_bias", &[d])?,
        ..sae
    })
}
