//! dictionary_learning: `ae.pt`, a pickled state dict whose class stands in `config.json`.

use std::path::Path;

use serde_json::{Value, json};

use super::weights::{Matrix, Names};
use super::{Architecture, Given, Library, Origin, Sae, bare, from_0, write_json};
use crate::base::error::{Error, Result};
use crate::base::files;
use crate::formats::arrays::Arrays;
use crate::formats::pickle::{self, Data};
use crate::formats::settings::{Harmless, Setting, Settings};
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

pub(super) const LIBRARY: Library = Library { read, harmless: &[] };

/// A class: what makes a latent active, and what it calls its weights.
fn class(name: &str) -> Option<(Architecture, Names)> {
    let matrices = Names {
        w_enc: Matrix::Columns("W_enc"),
        b_enc: "b_enc",
        w_dec: Matrix::Rows("W_dec"),
        b_dec: "b_dec",
    };
    let linear = |b_enc, b_dec| Names {
        w_enc: Matrix::Rows("encoder.weight"),
        b_enc,
        w_dec: Matrix::Columns("decoder.weight"),
        b_dec,
    };
    Some(match name {
        TOPK => (Architecture::TopK, linear("encoder.bias", "b_dec")),
        BATCH => (Architecture::BatchTopK, linear("encoder.bias", "b_dec")),
        MATRYOSHKA => (Architecture::BatchTopK, matrices),
        JUMP => (Architecture::jump_relu(0.0), matrices),
        GATED => (Architecture::Gated { l1: 0.0 }, linear("gate_bias", "decoder_bias")),
        RELU => (Architecture::Relu { l1: 0.0 }, linear("encoder.bias", "bias")),
        NEW => (Architecture::Relu { l1: 0.0 }, linear("encoder.bias", "decoder.bias")),
        _ => return None,
    })
}

/// Reads the tensors of a finished SAE, or of one that a running training left to go on from,
/// `{step, ae, optimizer, config, norm_factor}`.
fn read(Given { tensors, settings, k, .. }: &mut Given) -> Result<Sae> {
    let path = tensors.path().to_owned();
    let mut trainer = settings.within("trainer")?;
    let mut buffer = settings.within("buffer")?;
    let is_left = tensors.names().iter().any(|name| name.starts_with("ae."));
    // Biases of a running training are those for activations that were divided by this; of a
    // finished one they are not.
    let mut scale = 1.0;
    if is_left {
        if tensors.has("norm_factor") {
            // What is no number is refused below.
            scale = tensors.number("norm_factor").unwrap_or(f32::NAN);
        }
        let inside = tensors.within("ae.").unwrapped();
        let mut around = std::mem::replace(tensors, inside);
        trainer.add(around.within("config.").into_settings());
        around.finish(AROUND)?;
    }
    let named = match trainer.get::<String>("dict_class")? {
        Some(named) => named,
        None => of_tensors(tensors).map_err(|why| Error::format(&path, why))?.to_owned(),
    };
    let Some((architecture, names)) = class(&named) else {
        let why = format!("dict_class \"{named}\" is not one of dictionary_learning's");
        return Err(settings.wrong(why));
    };
    let origin = origin(&mut trainer, &mut buffer)?;
    let [d_sae, d] = names.sizes(tensors)?;
    let said = trainer.get("k")?;
    let k = if architecture.uses_k() { of_k(tensors, said, *k)? } else { 1 };
    let mut sae = names.take(tensors, Sae { origin, ..bare(d, d_sae, architecture, k) })?;
    match &named[..] {
        // It keeps a threshold from training, and takes the k largest all the same.
        TOPK => drop(tensors.number("threshold")),
        BATCH | MATRYOSHKA => sae.threshold = vec![threshold(tensors)?],
        JUMP => sae.threshold = from_0(tensors.take("threshold", &[d_sae])?),
        GATED => {
            sae.r_mag = tensors.take("r_mag", &[d_sae])?;
            sae.b_mag = tensors.take("mag_bias", &[d_sae])?;
        }
        _ => {}
    }
    if named == MATRYOSHKA {
        sae.config.prefixes = prefixes(tensors)?;
    }
    if matches!(&named[..], JUMP | NEW) {
        sae.read_without_b_dec(1.0);
    }
    if !(scale > 0.0 && scale.is_finite()) {
        return Err(Error::format(&path, format!("norm_factor is {scale}; it must be above 0")));
    }
    sae.scale_biases(scale);
    sae.config.check()?;
    trainer.finish(OF_TRAINING)?;
    buffer.finish(OF_TRAINING)?;
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

/// k by the tensor, the settings (files from before December 2024 have no such tensor), or the
/// caller.
fn of_k(tensors: &mut Arrays, said: Option<usize>, k: Option<usize>) -> Result<usize> {
    let stored = tensors.number("k").filter(|k| *k >= 1.0 && k.fract() == 0.0).map(|k| k as usize);
    stored.or(said).or(k).ok_or_else(|| {
        Error::format(tensors.path(), "does not say k: give it, with Sae::load_with_k or --k")
    })
}

/// The one threshold; −1 until it was set, when every positive code passes.
fn threshold(tensors: &mut Arrays) -> Result<f32> {
    let threshold = tensors.number("threshold");
    threshold
        .map(|threshold| threshold.max(0.0))
        .ok_or_else(|| Error::format(tensors.path(), "has no threshold, which must be one number"))
}

/// Where each group ends.
fn prefixes(tensors: &mut Arrays) -> Result<Vec<usize>> {
    let (shape, sizes) = tensors.take_any("group_sizes")?;
    let is_size = |size: &f32| size.is_finite() && *size >= 1.0;
    if shape.len() != 1 || sizes.is_empty() || !sizes.iter().all(is_size) {
        let why = "group_sizes must be numbers along one axis, each at least 1";
        return Err(Error::format(tensors.path(), why));
    }
    let end = |end: &mut usize, size: f32| {
        *end = end.saturating_add(size as usize);
        Some(*end)
    };
    Ok(sizes.into_iter().scan(0, end).collect())
}

/// What the trainer's settings say, in `config.json` or in what a running training left.
fn origin(trainer: &mut Settings, buffer: &mut Settings) -> Result<Origin> {
    let io = buffer.get::<String>("io")?.unwrap_or_else(|| "out".to_owned());
    if io == "in_and_out" {
        return Err(buffer.wrong(format!("is a transcoder (buffer.io is \"{io}\")")));
    }
    let layer: Option<Value> = trainer.get("layer")?; // a text in some
    let layer = layer.and_then(|it| usize::of(&it).or_else(|| it.as_str()?.parse().ok()));
    let module = trainer.get("submodule_name")?.unwrap_or_else(|| "resid_post".to_owned());
    let site = [
        ("resid_post", Site::ResidPost),
        ("resid_pre", Site::ResidPre),
        ("mlp", Site::MlpOut),
        ("att", Site::AttnOut),
    ];
    let site = site.iter().find(|(name, _)| module.starts_with(name)).map(|(_, site)| *site);
    // The input of a block is a hook; those of attention and the MLP are behind a layer norm.
    let (site, place) = match site {
        Some(Site::ResidPost) if io == "in" => (Some(Site::ResidPre), None),
        Some(Site::MlpOut | Site::AttnOut) if io == "in" => {
            (None, Some(format!("the input of {module}")))
        }
        site => (site, None),
    };
    Ok(Origin {
        model: trainer.get("lm_name")?,
        hook: layer.zip(site).map(|(layer, site)| HookPoint { layer, site }),
        place,
        n_ctx: buffer.get("ctx_len")?,
        ..Origin::default()
    })
}

/// Beside an SAE that a running training left.
const AROUND: Harmless =
    &[("where the training stood", "step"), ("what Adam remembers", "optimizer.*")];

/// What was trained on, and how.
const OF_TRAINING: Harmless = &[
    (
        "the trainer and its schedule",
        "trainer_class lr steps seed device wandb_name warmup_steps warmup_length decay_start \
         sparsity_warmup_steps resample_steps anneal_start anneal_end n_sparsity_updates \
         sparsity_queue_length normalize_every_n_steps",
    ),
    (
        "what training charges for",
        "auxk_alpha l1_penalty l1_penalty_scale sparsity_penalty initial_sparsity_penalty \
         sparsity_function p_start p_end target_l0 bandwidth threshold_beta threshold_start_step \
         threshold_init k_anneal_steps group_fractions group_weights top_k_aux \
         dead_feature_threshold",
    ),
    ("what the weights show themselves", "activation_dim dict_size group_sizes"),
    (
        "where activations came from",
        "d_submodule n_ctxs refresh_batch_size out_batch_size add_special_tokens remove_bos \
         max_activation_norm_multiple",
    ),
];

/// Writes a plain SAE.
pub(super) fn save(sae: &Sae, dir: &Path, notes: &mut Vec<String>) -> Result<()> {
    let (d, d_sae) = (sae.d_model(), sae.d_sae());
    let named = match sae.config.architecture {
        Architecture::TopK => TOPK,
        Architecture::BatchTopK if !sae.config.prefixes.is_empty() => MATRYOSHKA,
        Architecture::BatchTopK => BATCH,
        Architecture::Relu { .. } => RELU,
        Architecture::Gated { .. } => GATED,
        Architecture::JumpRelu { .. } => JUMP,
    };
    let Some((_, names)) = class(named) else { return Ok(()) };
    let mut sae = sae.clone();
    if named == JUMP {
        sae.read_without_b_dec(-1.0);
        notes.push(format!("{JUMP} does not subtract b_dec before it encodes: W_enc·b_dec was taken from b_enc, and codes are the same"));
    }
    if named == RELU
        && sae.w_dec.chunks(d).any(|row| (super::super::fold::decoder_norm(row) - 1.0).abs() > 1e-3)
    {
        notes.push(format!(
            "rows of the decoder are not of length 1, and {RELU}.from_pretrained makes them so, which scales codes: pass normalize_decoder=False to keep them"
        ));
    }
    let k = [i32::try_from(sae.config.k).map_err(|_| {
        Error::config("k", format!("k = {} is too large for {named}", sae.config.k))
    })?];
    let threshold = if named == TOPK { vec![-1.0] } else { sae.threshold.clone() };
    let ends = [&[0], &sae.config.prefixes[..]].concat();
    let sizes: Vec<i64> = ends.windows(2).map(|pair| (pair[1] - pair[0]) as i64).collect();
    let laid_out = names.laid_out(&sae);
    let mut arrays = names.arrays(&sae, &laid_out);
    if matches!(names.w_enc, Matrix::Rows(_)) {
        arrays[1..].rotate_left(1); // the encoder's bias last, as classes with an nn.Linear had it from the start
    }
    let tensor = |(name, shape, numbers)| (name, shape, Data::F32(numbers));
    let mut tensors: Vec<_> = arrays.into_iter().map(tensor).collect();
    if named == GATED {
        tensors.push(("r_mag", vec![d_sae], Data::F32(&sae.r_mag)));
        tensors.push(("mag_bias", vec![d_sae], Data::F32(&sae.b_mag)));
    }
    if matches!(named, TOPK | BATCH | MATRYOSHKA) {
        tensors.push(("k", Vec::new(), Data::I32(&k)));
        tensors.push(("threshold", Vec::new(), Data::F32(&threshold)));
    }
    if named == JUMP {
        tensors.push(("threshold", vec![d_sae], Data::F32(&threshold)));
    }
    if named == MATRYOSHKA {
        tensors.push(("group_sizes", vec![sizes.len()], Data::I64(&sizes)));
    }
    files::create_folder(dir)?;
    pickle::save(&dir.join(WEIGHTS), &tensors)?;
    write_json(&dir.join(CONFIG), &config(&sae, named))
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
