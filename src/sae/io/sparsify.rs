//! EleutherAI's sparsify: `cfg.json` and `sae.safetensors` in a folder named after the module whose
//! output the SAE reads, `layers.10`.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Architecture, Origin, Sae, bare, json, matrix};
use crate::base::error::{Error, Result};
use crate::base::files;
use crate::formats::arrays::{self, Arrays};
use crate::model::{HookPoint, Site};

const CFG: &str = "cfg.json";
const WEIGHTS: &str = "sae.safetensors";

#[derive(Serialize, Deserialize)]
struct Cfg {
    #[serde(default = "topk")]
    activation: String,
    expansion_factor: usize,
    #[serde(default)]
    normalize_decoder: bool,
    #[serde(default)]
    num_latents: Option<usize>,
    k: usize,
    #[serde(default)]
    multi_topk: bool,
    #[serde(default)]
    skip_connection: bool,
    #[serde(default)]
    transcode: bool,
    #[serde(default, skip_serializing)]
    signed: bool,
    d_in: usize,
}

fn topk() -> String {
    "topk".to_owned()
}

pub(super) fn load(dir: &Path) -> Result<Sae> {
    let path = dir.join(CFG);
    let cfg: Cfg = json(&path)?;
    let refuse = |what: &str| {
        Err(Error::format(
            &path,
            format!("is a sparsify {what}, which this crate does not compute"),
        ))
    };
    if cfg.activation != "topk" {
        return refuse(&format!("SAE with activation \"{}\"", cfg.activation));
    }
    if cfg.transcode {
        return refuse("transcoder (transcode is true)");
    }
    if cfg.skip_connection {
        return refuse("SAE with a skip connection");
    }
    if cfg.signed {
        return refuse(
            "SAE whose codes are the largest by size, negative ones too (signed is true)",
        );
    }
    let mut tensors = Arrays::load(&dir.join(WEIGHTS))?;
    let [d_sae, d] = matrix(&tensors, "encoder.weight")?;
    let said =
        cfg.num_latents.filter(|&n| n > 0).or_else(|| cfg.d_in.checked_mul(cfg.expansion_factor));
    if (said, cfg.d_in) != (Some(d_sae), d) {
        let what = format!("\"encoder.weight\" in {}", dir.join(WEIGHTS).display());
        return Err(Error::Shape {
            what,
            want: vec![said.unwrap_or(usize::MAX), cfg.d_in],
            got: vec![d_sae, d],
        });
    }
    let mut sae = bare(d, d_sae, Architecture::TopK, cfg.k);
    sae.config.unit_norm = cfg.normalize_decoder;
    sae.config.check()?;
    Ok(Sae {
        w_enc: tensors.take("encoder.weight", &[d_sae, d])?,
        b_enc: tensors.take("encoder.bias", &[d_sae])?,
        w_dec: tensors.take("W_dec", &[d_sae, d])?,
        b_dec: tensors.take("b_dec", &[d])?,
        origin: origin(dir),
        ..sae
    })
}

/// The model stands in the run's `config.json`, the hook in the folder's name.
fn origin(dir: &Path) -> Origin {
    let run: Value =
        dir.parent().and_then(|run| json(&run.join("config.json")).ok()).unwrap_or_default();
    Origin {
        model: run["model"].as_str().map(str::to_owned),
        hook: dir.file_name().and_then(|name| hook_of(&name.to_string_lossy())),
        n_ctx: run["ctx_len"].as_u64().map(|n| n as usize),
        ..Origin::default()
    }
}

/// Where a module's output is read: `layers.3`, `gpt_neox.layers.3.mlp`, `h.3.attn`.
fn hook_of(name: &str) -> Option<HookPoint> {
    let mut parts = name.split('.').skip_while(|part| part.parse::<usize>().is_err());
    let layer = parts.next()?.parse().ok()?;
    let site = match (parts.next(), parts.next()) {
        (None, _) => Site::ResidPost,
        (Some("mlp"), None) => Site::MlpOut,
        (Some("attn" | "attention" | "self_attn"), None) => Site::AttnOut,
        _ => return None,
    };
    Some(HookPoint { layer, site })
}

/// Writes a plain TopK SAE.
pub(super) fn save(sae: &Sae, dir: &Path, notes: &mut Vec<String>) -> Result<()> {
    if sae.config.architecture != Architecture::TopK {
        let why = format!(
            "sparsify has TopK SAEs only, and this one is {}: choose another library",
            sae.config.architecture.name()
        );
        return Err(Error::config("format", why));
    }
    let (d, d_sae) = (sae.d_model(), sae.d_sae());
    if let Some(hook) = sae.origin.hook {
        let module = match hook.site {
            Site::ResidPre if hook.layer > 0 => Some(format!("layers.{}", hook.layer - 1)),
            Site::ResidPost => Some(format!("layers.{}", hook.layer)),
            Site::MlpOut => Some(format!("layers.{}.mlp", hook.layer)),
            _ => None,
        };
        notes.push(match module {
            Some(module) => {
                format!("sparsify takes the module from the folder's name: {hook} is the output of \"{module}\"")
            }
            None => format!("sparsify reads outputs of modules, and {hook} is not one"),
        });
    }
    let tensors = [
        ("encoder.weight", vec![d_sae, d], &sae.w_enc[..]),
        ("encoder.bias", vec![d_sae], &sae.b_enc[..]),
        ("W_dec", vec![d_sae, d], &sae.w_dec[..]),
        ("b_dec", vec![d], &sae.b_dec[..]),
    ];
    files::create_folder(dir)?;
    arrays::save(&dir.join(WEIGHTS), &tensors, "{}")?;
    let cfg = Cfg {
        activation: topk(),
        expansion_factor: d_sae.div_ceil(d),
        normalize_decoder: sae.config.unit_norm,
        num_latents: Some(d_sae),
        k: sae.config.k,
        multi_topk: false,
        skip_connection: false,
        transcode: false,
        signed: false,
        d_in: d,
    };
    let text = serde_json::to_vec_pretty(&cfg).map_err(Error::json(CFG))?;
    files::write_atomic(&dir.join(CFG), |out| out.write_all(&text))
}

#[cfg(test)]
mod tests {
    use super::hook_of;

    #[test]
    fn a_module_is_the_hook_of_its_output() {
        let told = |name: &str| hook_of(name).map(|hook| hook.to_string());
        assert_eq!(told("layers.3").as_deref(), Some("blocks.3.hook_resid_post"));
        assert_eq!(told("gpt_neox.layers.11.mlp").as_deref(), Some("blocks.11.hook_mlp_out"));
        assert_eq!(told("h.0.attn").as_deref(), Some("blocks.0.hook_attn_out"));
        for other in ["", "seed1", "layers.3.mlp.act", "embed_tokens", "layers.x"] {
            assert_eq!(told(other), None, "{other}");
        }
    }
}
