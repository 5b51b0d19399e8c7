//! `cfg.json`: SAELens' keys; what is ours stands in `metadata`, which SAELens leaves open.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::super::table::TableAbout;
use super::json;
use crate::base::error::{Error, Result};
use crate::sae::{Architecture, AuxK, RowNorm, Sae};

/// What the name of an architecture begins with if there is a token table, so that a reader that
/// knows no tables does not leave it out silently.
const TOKENIZED: &str = "tokenized_";

/// SAELens' word for activations that are multiplied by one number, so that their mean length is
/// √d_in.
pub(super) const SCALED: &str = "expected_average_only_in";

/// The first version with `metadata`. To SAELens a file that names none is older, and what it says
/// of the model is elsewhere.
const SAELENS: &str = "6.0.0";

#[derive(Serialize, Deserialize)]
pub(super) struct Cfg {
    pub architecture: String,
    pub d_in: usize,
    pub d_sae: usize,
    /// A number with a fraction is allowed to BatchTopK in training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    k: Option<serde_json::Number>,
    dtype: String,
    device: String,
    pub apply_b_dec_to_input: bool,
    pub normalize_activations: String,
    reshape_activations: String,
    #[serde(default)]
    pub rescale_acts_by_decoder_norm: bool,
    #[serde(default)]
    pub metadata: Metadata,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Metadata {
    #[serde(skip_serializing_if = "Option::is_none")]
    sae_lens_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hook_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_size: Option<usize>,
    prepend_bos: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenized_sae: Option<Ours>,
}

/// What this crate knows of an SAE and SAELens has no key for.
#[derive(Serialize, Deserialize)]
pub(super) struct Ours {
    version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    pub processing: Option<String>,
    pub d_vocab: usize,
    pub relu: bool,
    #[serde(default)]
    architecture: Architecture,
    #[serde(default)]
    pub prefixes: Vec<usize>,
    #[serde(default)]
    pub aux: Option<AuxK>,
    #[serde(default)]
    pub unit_norm: bool,
    pub seed: u64,
    pub lr: Option<f64>,
    pub lookup: Option<TableAbout>,
}

/// SAELens' word for an architecture. Outside of training a BatchTopK SAE is a JumpReLU one with
/// equal thresholds, and SAELens saves it as such.
fn saelens_name(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::TopK => "topk",
        Architecture::Relu { .. } => "standard",
        Architecture::Gated { .. } => "gated",
        Architecture::JumpRelu { .. } | Architecture::BatchTopK => "jumprelu",
    }
}

/// The architecture of SAELens' name, as far as the name tells.
fn of_saelens(name: &str) -> Option<Architecture> {
    match name {
        "topk" => Some(Architecture::TopK),
        "standard" => Some(Architecture::Relu { l1: 0.0 }),
        "gated" => Some(Architecture::Gated { l1: 0.0 }),
        "jumprelu" => Some(Architecture::jump_relu(0.0)),
        // Checkpoints of a training; a finished one is saved as jumprelu.
        "batchtopk" | "matryoshka_batchtopk" => Some(Architecture::BatchTopK),
        _ => None,
    }
}

impl Cfg {
    pub(super) fn of(sae: &Sae) -> Cfg {
        let architecture = sae.config.architecture;
        Cfg {
            architecture: if sae.lookup.is_some() { TOKENIZED } else { "" }.to_owned()
                + saelens_name(architecture),
            d_in: sae.d_model(),
            d_sae: sae.d_sae(),
            k: architecture.uses_k().then(|| sae.config.k.into()),
            dtype: "float32".to_owned(),
            device: "cpu".to_owned(),
            apply_b_dec_to_input: true,
            normalize_activations: sae.row_norm.saelens_name().to_owned(),
            reshape_activations: "none".to_owned(),
            rescale_acts_by_decoder_norm: false,
            metadata: Metadata {
                sae_lens_version: Some(SAELENS.to_owned()),
                model_name: sae.origin.model.clone(),
                hook_name: sae.origin.hook.map(|hook| hook.to_string()),
                context_size: sae.origin.n_ctx,
                prepend_bos: Some(true),
                tokenized_sae: Some(Ours {
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                    revision: sae.origin.revision.clone(),
                    processing: sae.origin.processing.clone(),
                    d_vocab: sae.config.d_vocab,
                    relu: sae.config.relu,
                    architecture,
                    prefixes: sae.config.prefixes.clone(),
                    aux: sae.config.aux,
                    unit_norm: sae.config.unit_norm,
                    seed: sae.config.seed,
                    lr: sae.config.lr,
                    lookup: TableAbout::of(sae),
                }),
            },
        }
    }

    /// Reads the settings of any version.
    pub(super) fn read(path: &Path) -> Result<Cfg> {
        let mut map: Map<String, Value> = json(path)?;
        let has_metadata = map.get("metadata").is_some_and(|metadata| {
            metadata.as_object().is_some_and(|metadata| !metadata.is_empty())
        });
        if !has_metadata {
            of_version_5(&mut map);
        }
        serde_json::from_value(Value::Object(map)).map_err(Error::json(path.display()))
    }

    /// How it scales each row of activations.
    pub(super) fn row_norm(&self) -> RowNorm {
        let all = [RowNorm::LayerNorm, RowNorm::ConstantNorm];
        all.into_iter()
            .find(|norm| norm.saelens_name() == self.normalize_activations)
            .unwrap_or_default()
    }

    /// How many latents are active, as far as that is said and matters.
    pub(super) fn k(&self, path: &Path) -> Result<usize> {
        let Some(k) = &self.k else { return Ok(1) };
        let whole = k
            .as_u64()
            .or_else(|| k.as_f64().filter(|k| *k >= 1.0 && k.fract() == 0.0).map(|k| k as u64));
        whole
            .map(|k| k as usize)
            .ok_or_else(|| Error::format(path, format!("k is {k}; a whole number is needed")))
    }

    /// Refuses whatever this crate would compute otherwise than its maker did.
    ///
    /// Returns the architecture, and whether there is a table.
    pub(super) fn check(&self, path: &Path) -> Result<(Architecture, bool)> {
        let refuse = |why: String| Err(Error::format(path, why));
        let ours = self.metadata.tokenized_sae.as_ref();
        let (is_tokenized, name) = match self.architecture.strip_prefix(TOKENIZED) {
            Some(name) => (true, name),
            None => (false, self.architecture.as_str()),
        };
        let Some(named) = of_saelens(name) else {
            let known = format!(
                "topk, standard, gated, jumprelu and batchtopk are understood, and {TOKENIZED}topk and so on"
            );
            return refuse(format!("architecture \"{}\"; {known}", self.architecture));
        };
        let architecture = ours.map_or(named, |ours| ours.architecture);
        if ours.is_some() && saelens_name(architecture) != name {
            return refuse(format!(
                "architecture \"{}\", but metadata.tokenized_sae says {}",
                self.architecture,
                architecture.name()
            ));
        }
        if architecture.uses_k() && self.k.is_none() {
            return refuse(format!("a {} SAE needs k", architecture.name()));
        }
        if self.d_in == 0 || self.d_sae == 0 {
            return refuse(format!(
                "d_in = {} and d_sae = {}; both must be at least 1",
                self.d_in, self.d_sae
            ));
        }
        match self.normalize_activations.as_str() {
            "none" | "layer_norm" | "constant_norm_rescale" | SCALED => {}
            "covariance_whitening" => {
                return refuse(
                    "normalize_activations is \"covariance_whitening\", which is not folded yet: save it by save_inference_model"
                        .to_owned(),
                );
            }
            other => {
                let known =
                    format!("none, layer_norm, constant_norm_rescale and {SCALED} are understood");
                return refuse(format!("normalize_activations is \"{other}\"; {known}"));
            }
        }
        if self.reshape_activations != "none" {
            return refuse(format!(
                "reshape_activations is \"{}\"; \"none\" is understood",
                self.reshape_activations
            ));
        }
        if is_tokenized && ours.is_none_or(|ours| ours.lookup.is_none()) {
            return refuse(format!("a {} needs metadata.tokenized_sae.lookup", self.architecture));
        }
        Ok((architecture, is_tokenized))
    }
}

/// From a file of SAELens before version 6, which is flat, to one of version 6.
fn of_version_5(map: &mut Map<String, Value>) {
    for (old, new) in [("hook_point", "hook_name"), ("activation_fn_str", "activation_fn")] {
        if let Some(value) = map.remove(old) {
            map.entry(new).or_insert(value);
        }
    }
    let text = |map: &Map<String, Value>, key: &str| {
        map.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    match text(map, "activation_fn").as_str() {
        "topk" => {
            let k = map.get("activation_fn_kwargs").and_then(|kwargs| kwargs.get("k")).cloned();
            map.insert("architecture".to_owned(), "topk".into());
            if let Some(k) = k {
                map.insert("k".to_owned(), k);
            }
        }
        "" | "relu" => {}
        // Refused by name where architectures are checked.
        other => drop(map.insert("architecture".to_owned(), other.into())),
    }
    match map.get("normalize_activations") {
        Some(Value::Bool(true)) => {
            drop(map.insert("normalize_activations".to_owned(), SCALED.into()))
        }
        Some(Value::String(_)) => {}
        _ => drop(map.insert("normalize_activations".to_owned(), "none".into())),
    }
    let is_hook_z = text(map, "hook_name").contains("hook_z");
    let defaults: [(&str, Value); 5] = [
        ("architecture", "standard".into()),
        ("dtype", "float32".into()),
        ("device", "cpu".into()),
        ("apply_b_dec_to_input", true.into()),
        ("reshape_activations", if is_hook_z { "hook_z" } else { "none" }.into()),
    ];
    for (key, value) in defaults {
        map.entry(key).or_insert(value);
    }
    let of_model = ["model_name", "hook_name", "context_size", "prepend_bos"];
    let metadata = of_model
        .iter()
        .filter_map(|key| Some(((*key).to_owned(), map.get(*key)?.clone())))
        .collect();
    map.insert("metadata".to_owned(), Value::Object(metadata));
}
