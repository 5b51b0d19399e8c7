//! `cfg.json`: SAELens' keys; what is ours stands in `metadata`, which SAELens leaves open.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::table::TableAbout;
use crate::base::error::Result;
use crate::formats::settings::Settings;
use crate::sae::{Architecture, AuxK, Origin, RowNorm, Sae, SaeConfig};

/// What the name of an architecture begins with if there is a token table, so that a reader that
/// knows no tables does not leave it out silently.
const TOKENIZED: &str = "tokenized_";

/// SAELens' word for activations that are multiplied by one number, so that their mean length is
/// √d_in.
pub(super) const SCALED: &str = "expected_average_only_in";

/// The first version with `metadata`. To SAELens a file that names none is older, and what it says
/// of the model is elsewhere.
const SAELENS: &str = "6.0.0";

/// What is written.
#[derive(Serialize)]
pub(super) struct Cfg {
    architecture: String,
    d_in: usize,
    d_sae: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    k: Option<usize>,
    dtype: &'static str,
    device: &'static str,
    apply_b_dec_to_input: bool,
    normalize_activations: &'static str,
    reshape_activations: &'static str,
    rescale_acts_by_decoder_norm: bool,
    metadata: Metadata,
}

#[derive(Serialize)]
struct Metadata {
    sae_lens_version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hook_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context_size: Option<usize>,
    prepend_bos: bool,
    tokenized_sae: Ours,
}

/// What this crate knows of an SAE and SAELens has no key for.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ours {
    version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revision: Option<String>,
    processing: Option<String>,
    d_vocab: usize,
    relu: bool,
    #[serde(default)]
    architecture: Architecture,
    #[serde(default)]
    prefixes: Vec<usize>,
    #[serde(default)]
    aux: Option<AuxK>,
    #[serde(default)]
    unit_norm: bool,
    seed: u64,
    lr: Option<f64>,
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
            k: architecture.uses_k().then_some(sae.config.k),
            dtype: "float32",
            device: "cpu",
            apply_b_dec_to_input: true,
            normalize_activations: sae.row_norm.saelens_name(),
            reshape_activations: "none",
            rescale_acts_by_decoder_norm: false,
            metadata: Metadata {
                sae_lens_version: SAELENS,
                model_name: sae.origin.model.clone(),
                hook_name: sae.origin.hook_name(),
                context_size: sae.origin.n_ctx,
                prepend_bos: true,
                tokenized_sae: Ours {
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
                },
            },
        }
    }
}

/// What is said of an SAE.
pub(super) struct Said {
    pub architecture: Architecture,
    /// Its name in the file.
    pub named: String,
    pub d_in: usize,
    pub d_sae: usize,
    /// How many latents are active, as far as that is said and matters.
    pub k: usize,
    pub row_norm: RowNorm,
    /// Whether activations are multiplied by one number first.
    pub is_scaled: bool,
    pub applies_b_dec_to_input: bool,
    pub rescales_by_decoder_norm: bool,
    /// Whether codes are multiplied by a factor each before they are decoded.
    pub is_finetuned: bool,
    pub origin: Origin,
    pub ours: Option<Ours>,
}

impl Said {
    /// Reads the settings of any version, and refuses whatever this crate would compute otherwise
    /// than their maker did.
    pub(super) fn read(settings: &mut Settings, k: Option<usize>) -> Result<Said> {
        let mut metadata = settings.within("metadata")?;
        // Before version 6 all keys stand side by side.
        let is_flat = metadata.is_empty();
        let mut ours: Option<Ours> = metadata.ours("tokenized_sae")?;
        // Since then a training has them side by side as well. The rest of metadata is free text.
        let hook: Option<String> = metadata.get("hook_name")?;
        let hook = hook.or(settings.first(&["hook_name", "hook_point"])?);
        let (model, n_ctx) = (metadata.get("model_name")?, metadata.get("context_size")?);
        let origin = Origin {
            model: model.or(settings.get("model_name")?),
            revision: ours.as_mut().and_then(|ours| ours.revision.take()),
            processing: ours.as_mut().and_then(|ours| ours.processing.take()),
            n_ctx: n_ctx.or(settings.get("context_size")?),
            ..Origin::at(hook.as_deref())
        };
        let mut of_activation = settings.within("activation_fn_kwargs")?;
        let of_activation_k: Option<usize> = of_activation.get("k")?;
        let k = of_activation_k.or(settings.get("k")?).or(k);
        of_activation.finish(&[])?;
        let named: Option<String> = settings.get("architecture")?;
        let activation: Option<String> = settings.first(&["activation_fn", "activation_fn_str"])?;
        let named = match (activation.filter(|it| !matches!(&it[..], "" | "relu")), named) {
            // One that is not known is refused by name.
            (Some(activation), _) => activation,
            (None, Some(named)) => named,
            (None, None) if is_flat => "standard".to_owned(),
            (None, None) => settings.need(&["architecture"])?,
        };
        let architecture =
            architecture_of(&named, ours.as_ref()).map_err(|why| settings.wrong(why))?;
        let (d_in, d_sae) = (settings.need(&["d_in"])?, settings.need(&["d_sae"])?);
        if d_in == 0 || d_sae == 0 {
            let why = format!("d_in = {d_in} and d_sae = {d_sae}; both must be at least 1");
            return Err(settings.wrong(why));
        }
        let (row_norm, is_scaled) = normalization(settings)?;
        // hook_z: heads one after the other, as rows lie here anyway.
        let reshape: Option<String> = settings.get("reshape_activations")?;
        if let Some(other) = reshape.filter(|it| !matches!(&it[..], "none" | "hook_z")) {
            let why = format!("reshape_activations is \"{other}\"; none and hook_z are understood");
            return Err(settings.wrong(why));
        }
        Ok(Said {
            architecture,
            named,
            d_in,
            d_sae,
            // SAELens' own.
            k: k.unwrap_or(if architecture.uses_k() { 100 } else { 1 }),
            row_norm,
            is_scaled,
            applies_b_dec_to_input: settings.get("apply_b_dec_to_input")?.unwrap_or(true),
            // A checkpoint of BatchTopK is read by the class that trains it.
            rescales_by_decoder_norm: settings
                .get("rescale_acts_by_decoder_norm")?
                .unwrap_or(architecture == Architecture::BatchTopK),
            is_finetuned: settings.get("finetuning_scaling_factor")?.unwrap_or_default(),
            origin,
            ours,
        })
    }

    /// Whether there is a table.
    pub(super) fn is_tokenized(&self) -> bool {
        self.named.starts_with(TOKENIZED)
    }

    /// What is said of the training, if this crate said it.
    pub(super) fn config(&self, config: SaeConfig) -> SaeConfig {
        let Some(ours) = &self.ours else { return config };
        SaeConfig {
            d_vocab: ours.d_vocab,
            prefixes: ours.prefixes.clone(),
            aux: ours.aux,
            unit_norm: ours.unit_norm,
            relu: ours.relu,
            lr: ours.lr,
            seed: ours.seed,
            ..config
        }
    }
}

/// The architecture of a name, and of what this crate says.
fn architecture_of(named: &str, ours: Option<&Ours>) -> std::result::Result<Architecture, String> {
    let name = named.strip_prefix(TOKENIZED);
    let Some(of_name) = of_saelens(name.unwrap_or(named)) else {
        return Err(format!(
            "architecture \"{named}\"; topk, standard, gated, jumprelu and batchtopk are understood, and {TOKENIZED}topk and so on"
        ));
    };
    let architecture = ours.map_or(of_name, |ours| ours.architecture);
    if ours.is_some() && saelens_name(architecture) != name.unwrap_or(named) {
        return Err(format!(
            "architecture \"{named}\", but metadata.tokenized_sae says {}",
            architecture.name()
        ));
    }
    if name.is_some() && ours.is_none_or(|ours| ours.lookup.is_none()) {
        return Err(format!("a {named} needs metadata.tokenized_sae.lookup"));
    }
    Ok(architecture)
}

/// How each row of activations is scaled, and whether all are by one number.
fn normalization(settings: &mut Settings) -> Result<(RowNorm, bool)> {
    let how = match settings.get::<Value>("normalize_activations")? {
        None | Some(Value::Bool(false)) => "none".to_owned(),
        Some(Value::Bool(true)) => SCALED.to_owned(), // before version 3
        Some(how) => how.as_str().map_or_else(|| how.to_string(), str::to_owned),
    };
    let all = [RowNorm::None, RowNorm::LayerNorm, RowNorm::ConstantNorm];
    match all.into_iter().find(|norm| norm.saelens_name() == how) {
        Some(norm) => Ok((norm, false)),
        None if how == SCALED => Ok((RowNorm::None, true)),
        None if how == "covariance_whitening" => Err(settings.wrong(
            "normalize_activations is \"covariance_whitening\", which is not folded yet: save it by save_inference_model",
        )),
        None => Err(settings.wrong(format!(
            "normalize_activations is \"{how}\"; none, layer_norm, constant_norm_rescale and {SCALED} are understood"
        ))),
    }
}
