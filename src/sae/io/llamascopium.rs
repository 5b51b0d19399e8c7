//! Llamascopium (Language-Model-SAEs): `config.json` and `sae_weights.safetensors`, with `W_E`,
//! `b_E`, `W_D` and `b_D`. Its encoder does not subtract `b_D`.

use std::path::Path;

use serde::Deserialize;
use serde_json::json;

use super::{Architecture, RowNorm, Sae, bare, json as read_json, transpose};
use crate::base::error::{Error, Result};
use crate::base::files;
use crate::formats::arrays::{self, Arrays};
use crate::sae::fold::decoder_norm;

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "sae_weights.safetensors";

/// The logarithm of thresholds.
const THRESHOLD: &str = "activation_function.log_jumprelu_threshold";

/// Before the name of a hook, the mean length of activations there.
const NORM: &str = "dataset_average_activation_norm.";

#[derive(Deserialize)]
struct Config {
    #[serde(default = "sae")]
    sae_type: String,
    d_model: usize,
    expansion_factor: f64,
    #[serde(default = "yes")]
    use_decoder_bias: bool,
    #[serde(default)]
    use_glu_encoder: bool,
    #[serde(default = "relu")]
    act_fn: String,
    #[serde(default = "dataset_wise")]
    norm_activation: String,
    #[serde(default = "yes")]
    sparsity_include_decoder_norm: bool,
    #[serde(default = "fifty")]
    top_k: usize,
    hook_point_in: String,
    hook_point_out: String,
}

fn sae() -> String {
    "sae".to_owned()
}

fn yes() -> bool {
    true
}

fn relu() -> String {
    "relu".to_owned()
}

fn dataset_wise() -> String {
    "dataset-wise".to_owned()
}

fn fifty() -> usize {
    50
}

pub(super) fn load(dir: &Path, weights: &Path) -> Result<Sae> {
    read(dir, Arrays::load(weights)?)
}

/// Reads the tensors with the settings in `dir`.
pub(super) fn read(dir: &Path, mut tensors: Arrays) -> Result<Sae> {
    let path = dir.join(CONFIG);
    let config: Config = read_json(&path)?;
    let refuse = |why: String| Err(Error::format(&path, why));
    if config.sae_type != "sae" {
        return refuse(format!(
            "is a Llamascopium \"{}\", and only \"sae\" is understood",
            config.sae_type
        ));
    }
    if config.use_glu_encoder {
        return refuse(
            "use_glu_encoder is true: a gated linear encoder is not computed here".to_owned(),
        );
    }
    if config.hook_point_in != config.hook_point_out {
        return refuse(format!(
            "is a transcoder, from {} to {}",
            config.hook_point_in, config.hook_point_out
        ));
    }
    let architecture = match config.act_fn.to_lowercase().as_str() {
        "relu" => Architecture::Relu { l1: 0.0 },
        "topk" => Architecture::TopK,
        "jumprelu" => Architecture::jump_relu(0.0),
        "batchtopk" => {
            return refuse(
                "act_fn is batchtopk, which has no threshold outside of a batch until Llamascopium makes it jumprelu".to_owned(),
            );
        }
        other => {
            return refuse(format!(
                "act_fn is \"{other}\"; relu, topk and jumprelu are understood"
            ));
        }
    };
    let d = config.d_model;
    let d_sae = d as f64 * config.expansion_factor;
    if d == 0
        || !(1.0..=f64::from(u32::MAX)).contains(&d_sae)
        || (d_sae - d_sae.round()).abs() > 1e-6
    {
        return refuse(format!(
            "d_model {d} times expansion_factor {} is not a number of latents",
            config.expansion_factor
        ));
    }
    let d_sae = d_sae.round() as usize;
    let (row_norm, scale) = scale(&config, &tensors, &path)?;
    let mut sae =
        bare(d, d_sae, architecture, if architecture.uses_k() { config.top_k } else { 1 });
    sae.config.check()?;
    sae.row_norm = row_norm;
    sae.w_enc = transpose(&tensors.take("W_E", &[d, d_sae])?, d, d_sae);
    sae.b_enc = tensors.take("b_E", &[d_sae])?;
    sae.w_dec = tensors.take("W_D", &[d_sae, d])?;
    sae.b_dec = if config.use_decoder_bias { tensors.take("b_D", &[d])? } else { vec![0.0; d] };
    sae.origin.hook = Some(config.hook_point_in.parse()?);
    sae.origin.model = lm_name(dir);
    if matches!(architecture, Architecture::JumpRelu { .. }) {
        sae.threshold = tensors
            .take(THRESHOLD, &[d_sae])?
            .into_iter()
            .map(|log| log.exp().min(f32::MAX))
            .collect();
        if config.sparsity_include_decoder_norm {
            // Their thresholds are for pre-activations times the decoder's length, their codes are
            // not.
            let norms: Vec<f32> = sae.w_dec.chunks_exact(d).map(decoder_norm).collect();
            sae.threshold.iter_mut().zip(norms).for_each(|(threshold, norm)| *threshold /= norm);
        }
    }
    sae.scale_biases(scale);
    let b_dec = sae.b_dec.clone();
    sae.read_further(&b_dec, 1.0);
    if architecture == Architecture::TopK && config.sparsity_include_decoder_norm {
        sae.fold_decoder_norms();
    }
    Ok(sae)
}

/// What activations were divided by before the SAE read them: each row by its own, or all by one
/// number.
fn scale(config: &Config, tensors: &Arrays, path: &Path) -> Result<(RowNorm, f32)> {
    match config.norm_activation.as_str() {
        "inference" => Ok((RowNorm::None, 1.0)),
        "token-wise" => Ok((RowNorm::ConstantNorm, 1.0)),
        "dataset-wise" => {
            let name = format!("{NORM}{}", config.hook_point_in);
            let norm = tensors.number(&name).filter(|norm| *norm > 0.0);
            let norm = norm.ok_or_else(|| {
                Error::format(
                    tensors.path(),
                    format!("norm_activation is dataset-wise, but {name} is not a number above 0"),
                )
            })?;
            Ok((RowNorm::None, norm / (config.d_model as f32).sqrt()))
        }
        other => Err(Error::format(
            path,
            format!(
                "norm_activation is \"{other}\"; inference, dataset-wise and token-wise are understood"
            ),
        )),
    }
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

/// The model's name stands beside the SAE.
fn lm_name(dir: &Path) -> Option<String> {
    let config: serde_json::Value = read_json(&dir.join("lm_config.json")).ok()?;
    config["model_name"].as_str().map(str::to_owned)
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
    let threshold: Vec<f32> =
        if sae.threshold.len() == 1 { sae.threshold.repeat(d_sae) } else { sae.threshold.clone() };
    // It keeps the logarithm, which 0 does not have: what stands instead is below every number that
    // an encoder gives.
    let logs: Vec<f32> =
        threshold.iter().map(|threshold| threshold.max(f32::MIN_POSITIVE).ln()).collect();
    let Some(hook) = sae.origin.hook else {
        return Err(Error::config(
            "origin",
            "Llamascopium must know the hook that the SAE reads: set its origin.hook",
        ));
    };
    let mut sae = sae.clone();
    let b_dec = sae.b_dec.clone();
    sae.read_further(&b_dec, -1.0);
    notes.push("Llamascopium does not subtract b_D before it encodes: W_E·b_D was taken from b_E, and codes are the same".to_owned());
    let w_enc = transpose(&sae.w_enc, d_sae, d);
    // Only its "dataset-wise" SAEs use it, and every file of weights has it.
    let norm = [(d as f32).sqrt()];
    let norm_name = format!("{NORM}{hook}");
    let mut tensors = vec![
        ("W_E", vec![d, d_sae], &w_enc[..]),
        ("b_E", vec![d_sae], &sae.b_enc[..]),
        ("W_D", vec![d_sae, d], &sae.w_dec[..]),
        ("b_D", vec![d], &sae.b_dec[..]),
        (&norm_name, Vec::new(), &norm[..]),
    ];
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
    let text = serde_json::to_vec_pretty(&config).map_err(Error::json(CONFIG))?;
    files::write_atomic(&dir.join(CONFIG), |out| out.write_all(&text))
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
