//! dictionary_learning: `ae.pt`, a pickled state dict whose class stands in `config.json`.

use std::path::Path;

use serde_json::{Value, json};

use super::{Architecture, Origin, Sae, bare, from_0, json as read_json, matrix, transpose};
use crate::base::error::{Error, Result};
use crate::base::files;
use crate::formats::arrays::Arrays;
use crate::formats::pickle::{self, Data};
use crate::model::{HookPoint, Site};

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "ae.pt";

const TOPK: &str = "AutoEncoderTopK";
const BATCH: &str = "BatchTopKSAE";
const MATRYOSHKA: &str = "MatryoshkaBatchTopKSAE";
const JUMP: &str = "JumpReluAutoEncoder";
const GATED: &str = "GatedAutoEncoder";
const RELU: &str = "AutoEncoder";
const NEW: &str = "AutoEncoderNew";

/// Reads the tensors of a finished SAE, or of one that a running training left to go on from,
/// `{step, ae, optimizer, config, norm_factor}`.
pub(super) fn read(tensors: Arrays, config: Option<&Path>, k: Option<usize>) -> Result<Sae> {
    let path = tensors.path().to_owned();
    let json: Value = config.map(read_json).transpose()?.unwrap_or_default();
    let class = json["trainer"]["dict_class"]
        .as_str()
        .or(tensors.text("config.dict_class"))
        .map(str::to_owned);
    let origin = origin(&json, &tensors);
    let is_left = tensors.names().iter().any(|name| name.starts_with("ae."));
    // Biases of a running training are those for activations that were divided by this; of a
    // finished one they are not.
    let scale = if is_left { tensors.number("norm_factor") } else { None };
    let mut tensors = if is_left { tensors.within("ae.") } else { tensors };
    let class = match class.map_or_else(|| of_tensors(&tensors).map(str::to_owned), Ok) {
        Ok(class) => class,
        Err(why) => return Err(Error::format(&path, why)),
    };
    let mut sae = match class.as_str() {
        TOPK | BATCH => {
            let k = of_k(&tensors, k)?;
            let architecture =
                if class == TOPK { Architecture::TopK } else { Architecture::BatchTopK };
            let mut sae = linear(&mut tensors, architecture, k, "encoder.bias", "b_dec")?;
            if class == BATCH {
                sae.threshold = vec![threshold(&tensors)?];
            }
            sae
        }
        MATRYOSHKA => {
            let k = of_k(&tensors, k)?;
            let mut sae = matrices(&mut tensors, Architecture::BatchTopK, k)?;
            sae.threshold = vec![threshold(&tensors)?];
            sae.config.prefixes = prefixes(&mut tensors)?;
            sae
        }
        JUMP => {
            let mut sae = matrices(&mut tensors, Architecture::jump_relu(0.0), 1)?;
            sae.threshold = from_0(tensors.take("threshold", &[sae.d_sae()])?);
            // It does not subtract b_dec from what it encodes.
            let b_dec = sae.b_dec.clone();
            sae.read_further(&b_dec, 1.0);
            sae
        }
        GATED => {
            let mut sae = linear(
                &mut tensors,
                Architecture::Gated { l1: 0.0 },
                1,
                "gate_bias",
                "decoder_bias",
            )?;
            sae.r_mag = tensors.take("r_mag", &[sae.d_sae()])?;
            sae.b_mag = tensors.take("mag_bias", &[sae.d_sae()])?;
            sae
        }
        RELU => linear(&mut tensors, Architecture::Relu { l1: 0.0 }, 1, "encoder.bias", "bias")?,
        NEW => {
            let mut sae = linear(
                &mut tensors,
                Architecture::Relu { l1: 0.0 },
                1,
                "encoder.bias",
                "decoder.bias",
            )?;
            let b_dec = sae.b_dec.clone();
            sae.read_further(&b_dec, 1.0);
            sae
        }
        other => {
            return Err(Error::format(
                config.unwrap_or(&path),
                format!("dict_class \"{other}\" is not one of dictionary_learning's"),
            ));
        }
    };
    if let Some(scale) = scale {
        if scale <= 0.0 {
            return Err(Error::format(
                &path,
                format!("norm_factor is {scale}; it must be above 0"),
            ));
        }
        sae.scale_biases(scale);
    }
    sae.config.check()?;
    sae.origin = origin;
    Ok(sae)
}

/// The class whose tensors these are.
fn of_tensors(tensors: &Arrays) -> std::result::Result<&'static str, String> {
    let has = |name: &str| tensors.has(name);
    if has("group_sizes") {
        Ok(MATRYOSHKA)
    } else if has("encoder.weight") && has("k") {
        Err(format!(
            "is an {TOPK} or a {BATCH} of dictionary_learning: {CONFIG} says which, and must be in the same folder ({{\"trainer\": {{\"dict_class\": …}}}})"
        ))
    } else if has("gate_bias") && has("r_mag") {
        Ok(GATED)
    } else if has("W_enc") && has("threshold") {
        Ok(JUMP)
    } else if has("encoder.weight") && has("bias") {
        Ok(RELU)
    } else if has("encoder.weight") && has("decoder.bias") {
        Ok(NEW)
    } else {
        let names = tensors.names();
        let more = if names.len() > 12 { ", …" } else { "" };
        Err(format!(
            "holds no SAE that is known; its tensors are {}{more}",
            names[..names.len().min(12)].join(", ")
        ))
    }
}

fn of_k(tensors: &Arrays, k: Option<usize>) -> Result<usize> {
    let said = tensors.number("k").filter(|k| *k >= 1.0 && k.fract() == 0.0).map(|k| k as usize);
    said.or(k).ok_or_else(|| {
        Error::format(tensors.path(), "does not say k: give it, with Sae::load_with_k or --k")
    })
}

/// The one threshold; −1 until it was set, when every positive code passes.
fn threshold(tensors: &Arrays) -> Result<f32> {
    let threshold = tensors.number("threshold");
    threshold
        .map(|threshold| threshold.max(0.0))
        .ok_or_else(|| Error::format(tensors.path(), "has no threshold, which must be one number"))
}

/// An SAE of two `nn.Linear`.
fn linear(
    tensors: &mut Arrays,
    architecture: Architecture,
    k: usize,
    b_enc: &str,
    b_dec: &str,
) -> Result<Sae> {
    let [d_sae, d] = matrix(tensors, "encoder.weight")?;
    Ok(Sae {
        w_enc: tensors.take("encoder.weight", &[d_sae, d])?,
        b_enc: tensors.take(b_enc, &[d_sae])?,
        w_dec: transpose(&tensors.take("decoder.weight", &[d, d_sae])?, d, d_sae),
        b_dec: tensors.take(b_dec, &[d])?,
        ..bare(d, d_sae, architecture, k)
    })
}

/// An SAE of two matrices.
fn matrices(tensors: &mut Arrays, architecture: Architecture, k: usize) -> Result<Sae> {
    let [d, d_sae] = matrix(tensors, "W_enc")?;
    Ok(Sae {
        w_enc: transpose(&tensors.take("W_enc", &[d, d_sae])?, d, d_sae),
        b_enc: tensors.take("b_enc", &[d_sae])?,
        w_dec: tensors.take("W_dec", &[d_sae, d])?,
        b_dec: tensors.take("b_dec", &[d])?,
        ..bare(d, d_sae, architecture, k)
    })
}

/// Where each group ends.
fn prefixes(tensors: &mut Arrays) -> Result<Vec<usize>> {
    let n = tensors.len_of("group_sizes")?;
    let sizes = tensors.take("group_sizes", &[n])?;
    if sizes.iter().any(|size| *size < 1.0) {
        return Err(Error::format(tensors.path(), "group_sizes must be at least 1"));
    }
    let end = |end: &mut usize, size: f32| {
        *end = end.saturating_add(size as usize);
        Some(*end)
    };
    Ok(sizes.into_iter().scan(0, end).collect())
}

/// What the trainer's settings say, in `config.json` or in what a running training left.
fn origin(json: &Value, tensors: &Arrays) -> Origin {
    let trainer = &json["trainer"];
    let text = |name: &str| {
        trainer[name].as_str().or(tensors.text(&format!("config.{name}"))).map(str::to_owned)
    };
    let layer = trainer["layer"]
        .as_u64()
        .or(tensors.number("config.layer").map(|layer| layer as u64))
        .map(|layer| layer as usize);
    let module = text("submodule_name").unwrap_or_else(|| "resid_post".to_owned());
    let site = [
        ("resid_post", Site::ResidPost),
        ("resid_pre", Site::ResidPre),
        ("mlp", Site::MlpOut),
        ("att", Site::AttnOut),
    ];
    let site = site.iter().find(|(name, _)| module.starts_with(name)).map(|(_, site)| *site);
    Origin {
        model: text("lm_name"),
        hook: layer.zip(site).map(|(layer, site)| HookPoint { layer, site }),
        n_ctx: json["buffer"]["ctx_len"].as_u64().map(|n| n as usize),
        ..Origin::default()
    }
}

/// Writes a plain SAE.
pub(super) fn save(sae: &Sae, dir: &Path, notes: &mut Vec<String>) -> Result<()> {
    let (d, d_sae) = (sae.d_model(), sae.d_sae());
    let is_matryoshka = !sae.config.prefixes.is_empty();
    let class = match sae.config.architecture {
        Architecture::TopK => TOPK,
        Architecture::BatchTopK if is_matryoshka => MATRYOSHKA,
        Architecture::BatchTopK => BATCH,
        Architecture::Relu { .. } => RELU,
        Architecture::Gated { .. } => GATED,
        Architecture::JumpRelu { .. } => JUMP,
    };
    let mut sae = sae.clone();
    if class == JUMP {
        let b_dec = sae.b_dec.clone();
        sae.read_further(&b_dec, -1.0);
        notes.push(format!("{JUMP} does not subtract b_dec before it encodes: W_enc·b_dec was taken from b_enc, and codes are the same"));
    }
    if class == RELU
        && sae.w_dec.chunks(d).any(|row| (super::super::fold::decoder_norm(row) - 1.0).abs() > 1e-3)
    {
        notes.push(format!(
            "rows of the decoder are not of length 1, and {RELU}.from_pretrained makes them so, which scales codes: pass normalize_decoder=False to keep them"
        ));
    }
    let is_of_matrices = matches!(class, MATRYOSHKA | JUMP);
    let turned = if is_of_matrices {
        transpose(&sae.w_enc, d_sae, d)
    } else {
        transpose(&sae.w_dec, d_sae, d)
    };
    let k = [i32::try_from(sae.config.k).map_err(|_| {
        Error::config("k", format!("k = {} is too large for {class}", sae.config.k))
    })?];
    let threshold = if class == TOPK { vec![-1.0] } else { sae.threshold.clone() };
    let sizes: Vec<i64> = (0..sae.config.prefixes.len())
        .map(|i| {
            sae.config.prefixes[i] as i64
                - i.checked_sub(1).map_or(0, |before| sae.config.prefixes[before] as i64)
        })
        .collect();
    let mut tensors = match is_of_matrices {
        true => vec![
            ("W_enc", vec![d, d_sae], Data::F32(&turned)),
            ("b_enc", vec![d_sae], Data::F32(&sae.b_enc)),
            ("W_dec", vec![d_sae, d], Data::F32(&sae.w_dec)),
        ],
        false => vec![
            ("encoder.weight", vec![d_sae, d], Data::F32(&sae.w_enc)),
            ("decoder.weight", vec![d, d_sae], Data::F32(&turned)),
        ],
    };
    let b_dec = match class {
        RELU => "bias",
        GATED => "decoder_bias",
        _ => "b_dec",
    };
    tensors.push((b_dec, vec![d], Data::F32(&sae.b_dec)));
    if class == GATED {
        tensors.push(("gate_bias", vec![d_sae], Data::F32(&sae.b_enc)));
        tensors.push(("r_mag", vec![d_sae], Data::F32(&sae.r_mag)));
        tensors.push(("mag_bias", vec![d_sae], Data::F32(&sae.b_mag)));
    } else if !is_of_matrices {
        tensors.push(("encoder.bias", vec![d_sae], Data::F32(&sae.b_enc)));
    }
    if matches!(class, TOPK | BATCH | MATRYOSHKA) {
        tensors.push(("k", Vec::new(), Data::I32(&k)));
        tensors.push(("threshold", Vec::new(), Data::F32(&threshold)));
    }
    if class == JUMP {
        tensors.push(("threshold", vec![d_sae], Data::F32(&threshold)));
    }
    if class == MATRYOSHKA {
        tensors.push(("group_sizes", vec![sizes.len()], Data::I64(&sizes)));
    }
    files::create_folder(dir)?;
    pickle::save(&dir.join(WEIGHTS), &tensors)?;
    let text = serde_json::to_vec_pretty(&config(&sae, class)).map_err(Error::json(CONFIG))?;
    files::write_atomic(&dir.join(CONFIG), |out| out.write_all(&text))
}

fn config(sae: &Sae, class: &str) -> Value {
    let hook = sae.origin.hook.map(|hook| match hook.site {
        // What enters a block has left the one before.
        Site::ResidPre if hook.layer > 0 => {
            HookPoint { layer: hook.layer - 1, site: Site::ResidPost }
        }
        _ => hook,
    });
    let module = hook.map(|hook| {
        format!("{}_layer_{}", hook.site.name().trim_start_matches("hook_"), hook.layer)
    });
    json!({
        "trainer": {
            "dict_class": class,
            "activation_dim": sae.d_model(),
            "dict_size": sae.d_sae(),
            "k": sae.config.architecture.uses_k().then_some(sae.config.k),
            "seed": sae.config.seed,
            "device": "cpu",
            "layer": hook.map(|hook| hook.layer),
            "lm_name": sae.origin.model,
            "submodule_name": module,
        },
        "buffer": { "d_submodule": sae.d_model(), "ctx_len": sae.origin.n_ctx },
    })
}
