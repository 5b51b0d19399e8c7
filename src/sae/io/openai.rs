//! openai/sparse_autoencoder: one pickled state dict. Their TopK SAEs, unlike those with ReLU,
//! normalise each row of activations.

use super::weights::{Matrix, Names};
use super::{Architecture, Given, Library, RowNorm, Sae, bare};
use crate::base::error::{Error, Result};

const NAMES: Names = Names {
    w_enc: Matrix::Rows("encoder.weight"),
    b_enc: "latent_bias",
    w_dec: Matrix::Columns("decoder.weight"),
    b_dec: "pre_bias",
};

pub(super) const LIBRARY: Library = Library {
    read,
    harmless: &[(
        "what training counted",
        "stats_last_nonzero latents_activation_frequency latents_mean_square",
    )],
};

fn read(Given { tensors, .. }: &mut Given) -> Result<Sae> {
    let path = tensors.path().to_owned();
    let refuse = |why: String| Err(Error::format(&path, why));
    let sizes @ [d_sae, d] = NAMES.sizes(tensors)?;
    let mut sae = match tensors.text("activation").as_deref() {
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
    sae.config.relu = match tensors.text("activation_state_dict.postact_fn").as_deref() {
        None | Some("ReLU") => true,
        Some("Identity") => false,
        Some(other) => {
            return refuse(format!("postact_fn is \"{other}\"; ReLU and Identity are understood"));
        }
    };
    sae.config.check()?;
    sae.row_norm.check(d)?;
    if tensors.has("decoder.weight") {
        return NAMES.take(tensors, sae);
    }
    // A tied decoder is the transpose of the encoder, which it holds by a name of its own, if at
    // all.
    let w_enc = NAMES.w_enc.take(tensors, sizes)?;
    let tied = Matrix::Rows("decoder.linear.weight");
    let w_dec = tied.take(tensors, sizes).or_else(|error| match error {
        Error::MissingTensor { .. } => Ok(w_enc.clone()),
        other => Err(other),
    })?;
    let b_enc = tensors.take(NAMES.b_enc, &[d_sae])?;
    Ok(Sae { w_dec, w_enc, b_enc, b_dec: tensors.take(NAMES.b_dec, &[d])?, ..sae })
}
