//! EleutherAI's sparsify: `cfg.json` and `sae.safetensors` in a folder named after the module whose
//! output the SAE reads, `layers.10`.

use std::path::Path;

use serde::Serialize;

use super::weights::{Matrix, Names};
use super::{Architecture, Given, Library, Origin, Sae, bare, write_json};
use crate::base::error::{Error, Result};
use crate::base::files;
use crate::formats::arrays;
use crate::formats::settings::Settings;
use crate::model::Site;

const CFG: &str = "cfg.json";
const WEIGHTS: &str = "sae.safetensors";

const NAMES: Names = Names {
    w_enc: Matrix::Rows("encoder.weight"),
    b_enc: "encoder.bias",
    w_dec: Matrix::Rows("W_dec"),
    b_dec: "b_dec",
};

pub(super) const LIBRARY: Library =
    Library { read, harmless: &[("a loss of training", "multi_topk")] };

/// What is written.
#[derive(Serialize)]
struct Cfg {
    activation: &'static str,
    expansion_factor: usize,
    normalize_decoder: bool,
    num_latents: usize,
    k: usize,
    multi_topk: bool,
    skip_connection: bool,
    transcode: bool,
    d_in: usize,
}

fn read(Given { dir, tensors, settings, .. }: &mut Given) -> Result<Sae> {
    let refuse = |settings: &Settings, what: &str| {
        Err(settings.wrong(format!("is a sparsify {what}, which this crate does not compute")))
    };
    let activation = settings.get("activation")?.unwrap_or_else(|| "topk".to_owned());
    if activation != "topk" {
        return refuse(settings, &format!("SAE with activation \"{activation}\""));
    }
    let signed = "SAE whose codes are the largest by size, negative ones too (signed is true)";
    for (key, what) in [
        ("transcode", "transcoder (transcode is true)"),
        ("skip_connection", "SAE with a skip connection"),
        ("signed", signed),
    ] {
        if settings.get(key)?.unwrap_or(false) {
            return refuse(settings, what);
        }
    }
    let (d_in, factor): (usize, usize) =
        (settings.need(&["d_in"])?, settings.get("expansion_factor")?.unwrap_or(32));
    let said = settings.get("num_latents")?.filter(|&n| n > 0).or(d_in.checked_mul(factor));
    let [d_sae, d] = NAMES.sizes(tensors)?;
    if (said, d_in) != (Some(d_sae), d) {
        let what = format!("\"encoder.weight\" in {}", tensors.path().display());
        let (want, got) = (vec![said.unwrap_or(usize::MAX), d_in], vec![d_sae, d]);
        return Err(Error::Shape { what, want, got });
    }
    let mut sae = bare(d, d_sae, Architecture::TopK, settings.get("k")?.unwrap_or(32));
    sae.config.unit_norm = settings.get("normalize_decoder")?.unwrap_or(true);
    sae.config.check()?;
    sae.origin = origin(dir);
    NAMES.take(tensors, sae)
}

/// The model stands in the run's `config.json`, the hook in the folder's name; with several seeds
/// in that of the folder above.
fn origin(dir: &Path) -> Origin {
    let is_seed = dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with("seed"));
    let dir = dir.parent().filter(|_| is_seed).unwrap_or(dir);
    let run = dir.parent().and_then(|run| Settings::read(&run.join("config.json")).ok());
    let mut run = run.unwrap_or_else(|| Settings::none(dir));
    Origin {
        model: run.get("model").ok().flatten(),
        hook: dir.file_name().and_then(|name| name.to_string_lossy().parse().ok()),
        n_ctx: run.get("ctx_len").ok().flatten(),
        ..Origin::default()
    }
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
    files::create_folder(dir)?;
    arrays::save(&dir.join(WEIGHTS), &NAMES.arrays(sae, &NAMES.laid_out(sae)), "{}")?;
    let cfg = Cfg {
        activation: "topk",
        expansion_factor: d_sae.div_ceil(d),
        normalize_decoder: sae.config.unit_norm,
        num_latents: d_sae,
        k: sae.config.k,
        multi_topk: false,
        skip_connection: false,
        transcode: false,
        d_in: d,
    };
    write_json(&dir.join(CFG), &cfg)
}
