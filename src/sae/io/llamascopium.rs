//! Llamascopium (Language-Model-SAEs): `config.json` and `sae_weights.safetensors`, with `W_E`,
//! `b_E`, `W_D` and `b_D`. Its encoder does not subtract `b_D`.

use std::path::Path;

use serde_json::json;

use super::weights::{Matrix, Names};
use super::{Architecture, Given, Library, Origin, RowNorm, Sae, bare, write_json};
use crate::base::error::{Error, Result};
use crate::base::files;
use crate::formats::arrays;
use crate::formats::settings::Settings;
use crate::sae::fold::decoder_norm;

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "sae_weights.safetensors";

/// The logarithm of thresholds.
const THRESHOLD: &str = "activation_function.log_jumprelu_threshold";

/// Before the name of a hook, the mean length of activations there.
const NORM: &str = "dataset_average_activation_norm.";

const NAMES: Names =
    Names { w_enc: Matrix::Columns("W_E"), b_enc: "b_E", w_dec: Matrix::Rows("W_D"), b_dec: "b_D" };

pub(super) const LIBRARY: Library = Library {
    read,
    harmless: &[
        ("the lengths of activations at other hooks", "dataset_average_activation_norm.*"),
        (
            "where, in what numbers and by which kernels it was computed",
            "device dtype promote_act_fn_dtype use_triton_kernel sparsity_threshold_for_*",
        ),
        ("of training", "jumprelu_threshold_window"),
    ],
};

fn read(Given { dir, tensors, settings, .. }: &mut Given) -> Result<Sae> {
    let mut text = |key: &str, default: &str| -> Result<String> {
        Ok(settings.get(key)?.unwrap_or_else(|| default.to_owned()))
    };
    let (sae_type, act_fn) = (text("sae_type", "sae")?, text("act_fn", "relu")?.to_lowercase());
    let norm_activation = text("norm_activation", "dataset-wise")?;
    let hook: String = settings.need(&["hook_point_in"])?;
    let hook_out = settings.get("hook_point_out")?.unwrap_or_else(|| hook.clone());
    let refuse = |settings: &Settings, why: String| Err(settings.wrong(why));
    if sae_type != "sae" {
        let why = format!("is a Llamascopium \"{sae_type}\", and only \"sae\" is understood");
        return refuse(settings, why);
    }
    if settings.get("use_glu_encoder")?.unwrap_or(false) {
        let why = "use_glu_encoder is true: a gated linear encoder is not computed here";
        return refuse(settings, why.to_owned());
    }
    if hook != hook_out {
        return refuse(settings, format!("is a transcoder, from {hook} to {hook_out}"));
    }
    let architecture = match &act_fn[..] {
        "relu" => Architecture::Relu { l1: 0.0 },
        "topk" => Architecture::TopK,
        "jumprelu" => Architecture::jump_relu(0.0),
        "batchtopk" => {
            let why = "act_fn is batchtopk, which has no threshold outside of a batch until Llamascopium makes it jumprelu";
            return refuse(settings, why.to_owned());
        }
        other => {
            let why = format!("act_fn is \"{other}\"; relu, topk and jumprelu are understood");
            return refuse(settings, why);
        }
    };
    let (d, factor): (usize, f64) =
        (settings.need(&["d_model"])?, settings.need(&["expansion_factor"])?);
    let d_sae = d as f64 * factor;
    if d == 0
        || !(1.0..=f64::from(u32::MAX)).contains(&d_sae)
        || (d_sae - d_sae.round()).abs() > 1e-6
    {
        let why = format!("d_model {d} times expansion_factor {factor} is not a number of latents");
        return refuse(settings, why);
    }
    let d_sae = d_sae.round() as usize;
    let k = settings.get("top_k")?.unwrap_or(50);
    let mut sae = bare(d, d_sae, architecture, if architecture.uses_k() { k } else { 1 });
    sae.config.check()?;
    let (row_norm, scale) = match &norm_activation[..] {
        "inference" => (RowNorm::None, 1.0),
        "token-wise" => (RowNorm::ConstantNorm, 1.0),
        "dataset-wise" => {
            let name = format!("{NORM}{hook}");
            let Some(norm) = tensors.number(&name).filter(|norm| *norm > 0.0) else {
                let why =
                    format!("norm_activation is dataset-wise, but {name} is not a number above 0");
                return Err(Error::format(tensors.path(), why));
            };
            (RowNorm::None, norm / (d as f32).sqrt())
        }
        other => {
            let why = format!(
                "norm_activation is \"{other}\"; inference, dataset-wise and token-wise are understood"
            );
            return refuse(settings, why);
        }
    };
    sae.row_norm = row_norm;
    sae.origin = Origin { model: lm_name(dir), ..Origin::at(Some(&hook)) };
    let has_b_dec = settings.get("use_decoder_bias")?.unwrap_or(true);
    let mut sae = if has_b_dec {
        NAMES.take(tensors, sae)?
    } else {
        NAMES.take_without_b_dec(tensors, sae)?
    };
    let of_decoder = settings.get("sparsity_include_decoder_norm")?.unwrap_or(true);
    if matches!(architecture, Architecture::JumpRelu { .. }) {
        let logs = tensors.take(THRESHOLD, &[d_sae])?;
        sae.threshold = logs.into_iter().map(|log| log.exp().min(f32::MAX)).collect();
        if of_decoder {
            // Their thresholds are for pre-activations times the decoder's length, their codes are
            // not.
            let norms = sae.w_dec.chunks_exact(d).map(decoder_norm);
            sae.threshold.iter_mut().zip(norms).for_each(|(threshold, norm)| *threshold /= norm);
        }
    }
    sae.scale_biases(scale);
    sae.read_without_b_dec(1.0);
    if architecture == Architecture::TopK && of_decoder {
        sae.fold_decoder_norms();
    }
    Ok(sae)
}

/// The model's name stands beside the SAE.
fn lm_name(dir: &Path) -> Option<String> {
    Settings::read(&dir.join("lm_config.json")).ok()?.get("model_name").ok()?
}

/// `d_sae / d`, and no less than gives `d_sae` again: Llamascopium drops what is behind the point
/// of the product.
fn expansion_factor(d_sae: usize, d: usize) -> f64 {
    let mut factor = d_sae as f64 / d as f64;
    while factor * (d as f64) < d_sae as f64 {
        factor = factor.next_up();
    }
    factor
}

/// Writes a plain SAE.
pub(super) fn save(sae: &Sae, dir: &Path, notes: &mut Vec<String>) -> Result<()> {
    let (d, d_sae) = (sae.d_model(), sae.d_sae());
    let refuse = |why: &str| {
        Err(Error::config("format", format!("Llamascopium {why}: choose another library")))
    };
    let act_fn = match sae.config.architecture {
        Architecture::Relu { .. } => "relu",
        Architecture::TopK => "topk",
        Architecture::JumpRelu { .. } | Architecture::BatchTopK => "jumprelu",
        Architecture::Gated { .. } => return refuse("has no Gated SAEs"),
    };
    let norm_activation = match sae.row_norm {
        RowNorm::None => "inference",
        RowNorm::ConstantNorm => "token-wise",
        RowNorm::LayerNorm => return refuse("does not subtract each row's mean, as this SAE does"),
    };
    // It keeps the logarithm, which 0 does not have: what stands instead is below every number that
    // an encoder gives.
    let log = |threshold: f32| threshold.max(f32::MIN_POSITIVE).ln();
    let logs: Vec<f32> = sae.thresholds().into_iter().map(log).collect();
    let Some(hook) = sae.origin.hook else {
        return Err(Error::config(
            "origin",
            "Llamascopium must know the hook that the SAE reads: set its origin.hook",
        ));
    };
    let mut sae = sae.clone();
    sae.read_without_b_dec(-1.0);
    notes.push("Llamascopium does not subtract b_D before it encodes: W_E·b_D was taken from b_E, and codes are the same".to_owned());
    // Only its "dataset-wise" SAEs use it, and every file of weights has it.
    let (norm, norm_name) = ([(d as f32).sqrt()], format!("{NORM}{hook}"));
    let laid_out = NAMES.laid_out(&sae);
    let mut tensors = NAMES.arrays(&sae, &laid_out);
    tensors.push((&norm_name, Vec::new(), &norm[..]));
    if !logs.is_empty() {
        tensors.push((THRESHOLD, vec![d_sae], &logs[..]));
    }
    files::create_folder(dir)?;
    arrays::save(&dir.join(WEIGHTS), &tensors, "{}")?;
    let config = json!({
        "device": "cpu",
        "dtype": "torch.float32",
        "sae_type": "sae",
        "d_model": d,
        "expansion_factor": expansion_factor(d_sae, d),
        "use_decoder_bias": true,
        "use_glu_encoder": false,
        "act_fn": act_fn,
        "norm_activation": norm_activation,
        "sparsity_include_decoder_norm": false,
        "top_k": sae.config.k,
        "use_triton_kernel": false,
        "hook_point_in": hook.to_string(),
        "hook_point_out": hook.to_string(),
    });
    write_json(&dir.join(CONFIG), &config)
}

#[cfg(test)]
mod tests {
    use super::expansion_factor;

    #[test]
    fn the_number_of_latents_comes_out_again() {
        for d in 1..60 {
            for d_sae in 1..200 {
                assert_eq!(
                    (expansion_factor(d_sae, d) * d as f64) as usize,
                    d_sae,
                    "{d_sae} of {d}"
                );
            }
        }
    }
}
