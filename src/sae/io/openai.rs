//! openai/sparse_autoencoder: one pickled state dict. Their TopK SAEs, unlike those with ReLU, normalise each row of activations.

use super::{Architecture, Sae, bare, matrix, transpose};
use crate::arrays::Arrays;
use crate::error::{Error, Result};

pub(super) fn read(mut tensors: Arrays) -> Result<Sae> {
    let path = tensors.path().to_owned();
    match tensors.text("activation") {
        None | Some("ReLU") => {}
        Some("TopK") => {
            let k = tensors.number("activation_state_dict.k").map_or(String::new(), |k| format!(" of k {k}"));
            let why = format!(
                "is an OpenAI TopK SAE{k}, which centres each row of activations, divides it by its own standard deviation (std + 1e-5, of d − 1) and \
                 multiplies the reconstruction by it: no weights can do that, so it is not read"
            );
            return Err(Error::format(&path, why));
        }
        Some(other) => return Err(Error::format(&path, format!("is an OpenAI SAE with activation \"{other}\"; ReLU is understood"))),
    }
    let [d_sae, d] = matrix(&tensors, "encoder.weight")?;
    let sae = bare(d, d_sae, Architecture::Relu { l1: 0.0 }, 1);
    sae.config.check()?;
    let w_enc = tensors.take("encoder.weight", &[d_sae, d])?;
    // A tied decoder is the encoder's transpose, and has no tensor of its own, or one below the encoder's name.
    let w_dec =
        if tensors.has("decoder.weight") { transpose(&tensors.take("decoder.weight", &[d, d_sae])?, d, d_sae) } else { w_enc.clone() };
    Ok(Sae { w_dec, w_enc, b_enc: tensors.take("latent_bias", &[d_sae])?, b_dec: tensors.take("pre_bias", &[d])?, ..sae })
}
