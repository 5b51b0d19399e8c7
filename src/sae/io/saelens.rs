//! An SAE as a folder: `cfg.json` and `sae_weights.safetensors`, with SAELens' names and shapes,
//! and `W_lookup` beside them.

mod cfg;
mod harmless;

use std::path::Path;

use super::weights::{Matrix, Names};
use super::{Architecture, Given, Library, Sae, bare, from_0, table, write_json};
use crate::base::error::{Error, Result};
use crate::base::files;
use crate::formats::arrays::{self, Arrays};
use crate::formats::settings::Settings;
use cfg::{Cfg, Said};

const CFG: &str = "cfg.json";
const WEIGHTS: &str = "sae_weights.safetensors";

/// In a checkpoint of a training on scaled activations, the file that says by how much.
const SCALER: &str = "activation_scaler.json";

pub(super) const LIBRARY: Library = Library { read, harmless: harmless::HARMLESS };

/// The names of an SAE's weights; a Gated one has its gate's bias instead of the encoder's.
fn names(is_gated: bool) -> Names {
    Names {
        w_enc: Matrix::Columns("W_enc"),
        b_enc: if is_gated { "b_gate" } else { "b_enc" },
        w_dec: Matrix::Rows("W_dec"),
        b_dec: "b_dec",
    }
}

impl Sae {
    /// Writes `dir/cfg.json` and `dir/sae_weights.safetensors`, each in one atomic step, the
    /// weights first.
    ///
    /// Tensors: `W_enc [d_in, d_sae]`, `b_enc [d_sae]`, `W_dec [d_sae, d_in]`, `b_dec [d_in]`; in a
    /// JumpReLU or BatchTopK SAE `threshold [d_sae]`; in a Gated one `b_gate`, `b_mag` and `r_mag`
    /// `[d_sae]` instead of `b_enc`; and in a TSAE `W_lookup [d_vocab, d_in]`. SAELens loads the
    /// folder of an SAE without a table as its own; for one with a table, and for other libraries,
    /// there is [`export`](Sae::export).
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<()> {
        let dir = dir.as_ref();
        files::create_folder(dir)?;
        let d_sae = self.d_sae();
        let names = names(!self.r_mag.is_empty());
        let (laid_out, threshold) = (names.laid_out(self), self.thresholds());
        let mut tensors = names.arrays(self, &laid_out);
        let more = [("b_mag", &self.b_mag), ("r_mag", &self.r_mag), ("threshold", &threshold)];
        let more = more.into_iter().filter(|(_, numbers)| !numbers.is_empty());
        tensors.extend(more.map(|(name, numbers)| (name, vec![d_sae], &numbers[..])));
        let grams = table::grams(self);
        tensors.extend(table::tensors(self, &grams, dir)?);
        arrays::save(&dir.join(WEIGHTS), &tensors, "{}")?;
        write_json(&dir.join(CFG), &Cfg::of(self))
    }
}

/// Reads a folder that [`Sae::save`] or SAELens wrote.
fn read(Given { dir, tensors, settings, k }: &mut Given) -> Result<Sae> {
    let said = Said::read(settings, *k)?;
    let d_sae = said.d_sae;
    let mut sae = bare(said.d_in, d_sae, said.architecture, said.k);
    sae.config = said.config(sae.config);
    let about = said.ours.as_ref().and_then(|ours| ours.lookup.as_ref());
    if let Some(about) = about.filter(|_| said.is_tokenized()) {
        about.read(tensors, dir, &mut sae)?;
    } else if tensors.has(table::ROWS) {
        let why = format!("holds W_lookup, but {CFG} says \"{}\"", said.named);
        return Err(Error::format(tensors.path(), why));
    }
    sae.config.check()?;
    said.row_norm.check(said.d_in)?;
    let factors = finetuning(tensors, said.is_finetuned, d_sae)?;
    let is_gated = matches!(said.architecture, Architecture::Gated { .. });
    sae.threshold = match said.architecture {
        Architecture::JumpRelu { .. } if tensors.has("log_threshold") => tensors
            .take("log_threshold", &[d_sae])?
            .into_iter()
            .map(|log| log.exp().min(f32::MAX))
            .collect(),
        Architecture::JumpRelu { .. } => from_0(tensors.take("threshold", &[d_sae])?),
        // A checkpoint has the one number, a finished SAE as many as latents, all equal.
        Architecture::BatchTopK if tensors.has("topk_threshold") => {
            from_0(tensors.take("topk_threshold", &[])?)
        }
        Architecture::BatchTopK => from_0(tensors.take("threshold", &[d_sae])?[..1].to_vec()),
        _ => Vec::new(),
    };
    if is_gated {
        sae.r_mag = tensors.take("r_mag", &[d_sae])?;
        sae.b_mag = tensors.take("b_mag", &[d_sae])?;
    }
    (sae.row_norm, sae.origin) = (said.row_norm, said.origin);
    let mut sae = names(is_gated).take(tensors, sae)?;
    for (row, factor) in sae.w_dec.chunks_exact_mut(said.d_in).zip(factors) {
        row.iter_mut().for_each(|w| *w *= factor);
    }
    if !said.applies_b_dec_to_input {
        sae.read_without_b_dec(1.0);
    }
    if said.is_scaled {
        let scale = scale(dir)?;
        sae.unscale_input(scale);
        if said.rescales_by_decoder_norm {
            // Their threshold is in units of pre-activations times the decoder's length, which has
            // just become shorter.
            sae.threshold.iter_mut().for_each(|threshold| *threshold /= scale);
        }
    }
    if said.rescales_by_decoder_norm {
        sae.fold_decoder_norms();
    }
    Ok(sae)
}

/// What each code is multiplied by before it is decoded, in SAELens before version 6; nothing where
/// that is 1. It may be folded into the decoder: codes stay as they are.
fn finetuning(tensors: &mut Arrays, is_finetuned: bool, d_sae: usize) -> Result<Vec<f32>> {
    const FACTORS: &str = "finetuning_scaling_factor";
    // As versions before 3 call it, which have it in every file: most are 1.
    let name = if tensors.has("scaling_factor") { "scaling_factor" } else { FACTORS };
    if !tensors.has(name) && !is_finetuned {
        return Ok(Vec::new());
    }
    let factors = tensors.take(name, &[d_sae])?;
    if !is_finetuned && factors.iter().any(|factor| (factor - 1.0).abs() >= 1e-5) {
        let why = format!(
            "has a {name} that is not 1, but {CFG} says that {FACTORS} is false: SAELens refuses this too; set it to true if codes are to be multiplied by it"
        );
        return Err(Error::format(tensors.path(), why));
    }
    Ok(if is_finetuned { factors } else { Vec::new() })
}

/// What activations were multiplied by before the SAE read them.
fn scale(dir: &Path) -> Result<f32> {
    let path = dir.join(SCALER);
    if !path.is_file() {
        let why = format!(
            "normalize_activations is \"{}\", and {SCALER}, which says by how much activations were scaled, is missing: save the SAE with SAELens' \
             save_inference_model, or set it to \"none\" if the factor is in the weights already",
            cfg::SCALED
        );
        return Err(Error::format(dir.join(CFG), why));
    }
    let mut settings = Settings::read(&path)?;
    let scale: Option<f64> = settings.get("scaling_factor")?;
    settings.finish(&[])?;
    match scale.map(|scale| scale as f32) {
        None => Ok(1.0),
        Some(scale) if scale > 0.0 && scale.is_finite() => Ok(scale),
        Some(scale) => {
            Err(settings.wrong(format!("scaling_factor is {scale}; it must be above 0")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sae::{AuxK, Lookup, Origin, SaeConfig};

    fn sample(with_table: bool) -> Sae {
        let config = SaeConfig { expansion: 3, k: 4, seed: 5, ..SaeConfig::new(10, 7) };
        let table = (0..70).map(|i| (i as f32).sin()).collect();
        let config = if with_table {
            config.with_lookup(Lookup::from_table(table, 10).unwrap())
        } else {
            config
        };
        let mut sae = Sae::new(config).unwrap();
        sae.b_enc.iter_mut().enumerate().for_each(|(i, b)| *b = i as f32);
        sae.origin = Origin {
            model: Some("tiny".into()),
            hook: Some("blocks.1.hook_resid_post".parse().unwrap()),
            revision: Some("0123abcd".into()),
            processing: Some("Raw".into()),
            n_ctx: Some(64),
            place: None,
        };
        sae
    }

    #[test]
    fn what_is_saved_is_loaded() {
        for with_table in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let sae = sample(with_table);
            sae.save(dir.path()).unwrap();
            let read = Sae::load(dir.path()).unwrap();
            assert_eq!(
                (&read.w_enc, &read.b_enc, &read.w_dec, &read.b_dec),
                (&sae.w_enc, &sae.b_enc, &sae.w_dec, &sae.b_dec)
            );
            assert_eq!((&read.lookup, &read.origin), (&sae.lookup, &sae.origin));
            assert_eq!((read.config.k, read.config.seed, read.config.relu), (4, 5, false));
        }
    }

    #[test]
    fn every_architecture_is_loaded_as_it_was_saved() {
        for architecture in [
            Architecture::BatchTopK,
            Architecture::Relu { l1: 0.5 },
            Architecture::Gated { l1: 0.25 },
            Architecture::JumpRelu { l0: 0.125, bandwidth: 0.5, threshold: 0.75 },
        ] {
            for with_table in [false, true] {
                let dir = tempfile::tempdir().unwrap();
                let mut config = sample(with_table).config;
                config.architecture = architecture;
                if architecture.uses_k() {
                    config = config.with_prefixes(&[3, 10]).with_aux(AuxK::default());
                }
                let mut sae = Sae::new(config).unwrap();
                for values in [&mut sae.b_enc, &mut sae.threshold, &mut sae.r_mag, &mut sae.b_mag] {
                    values.iter_mut().enumerate().for_each(|(i, value)| *value = 1.0 + i as f32);
                }
                sae.save(dir.path()).unwrap();
                let read = Sae::load(dir.path()).unwrap();
                assert_eq!(
                    (&read.b_enc, &read.threshold, &read.r_mag, &read.b_mag),
                    (&sae.b_enc, &sae.threshold, &sae.r_mag, &sae.b_mag)
                );
                assert_eq!((&read.lookup, &read.w_dec), (&sae.lookup, &sae.w_dec));
                assert_eq!(serde_json::to_value(&read.config).unwrap(), {
                    let mut want = serde_json::to_value(&sae.config).unwrap();
                    if !architecture.uses_k() {
                        want["k"] = 1.into();
                    }
                    want
                });
            }
        }
    }

    #[test]
    fn the_encoder_is_stored_as_saelens_stores_it() {
        let dir = tempfile::tempdir().unwrap();
        let sae = sample(false);
        sae.save(dir.path()).unwrap();
        let mut file = Arrays::load(&dir.path().join(WEIGHTS)).unwrap();
        let w_enc = file.take("W_enc", &[10, 30]).unwrap();
        assert_eq!(w_enc[3 * 30 + 17], sae.w_enc[17 * 10 + 3]);
    }

    #[test]
    fn settings_that_cannot_be_are_reported_with_the_folder() {
        for (from, to, told) in [
            ("\"k\": 4", "\"k\": 40", "k = 40"),
            ("\"balance\": 0.5", "\"balance\": 1.5", "balance = 1.5"),
            ("\"balance\": 0.5", "\"balance\": 1e-42", "not finite"),
            ("\"d_sae\": 30", "\"d_sae\": 9223372036854775807", "9223372036854775807"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            sample(true).save(dir.path()).unwrap();
            let cfg = std::fs::read_to_string(dir.path().join(CFG)).unwrap();
            assert!(cfg.contains(from), "{cfg}");
            std::fs::write(dir.path().join(CFG), cfg.replace(from, to)).unwrap();
            let error = Sae::load(dir.path()).err().unwrap().to_string();
            assert!(
                error.contains(told) && error.contains(&dir.path().display().to_string()),
                "{error}"
            );
        }
    }

    #[test]
    fn damage_is_reported_with_the_file_and_the_tensor() {
        let dir = tempfile::tempdir().unwrap();
        let weights = dir.path().join(WEIGHTS);
        let mut sae = sample(true);
        sae.w_dec[12] = f32::NAN;
        sae.save(dir.path()).unwrap();
        let told = |dir: &Path| Sae::load(dir).err().unwrap().to_string();
        assert!(told(dir.path()).contains("\"W_dec\""), "{}", told(dir.path()));

        let bytes = std::fs::read(&weights).unwrap();
        std::fs::write(&weights, &bytes[..bytes.len() - 5]).unwrap();
        assert!(told(dir.path()).contains("sae_weights.safetensors"), "{}", told(dir.path()));
        std::fs::write(&weights, &bytes).unwrap();

        let cfg = std::fs::read_to_string(dir.path().join(CFG)).unwrap();
        std::fs::write(dir.path().join(CFG), cfg.replace("tokenized_topk", "tokenized_transcoder"))
            .unwrap();
        assert!(told(dir.path()).contains("transcoder"), "{}", told(dir.path()));
    }
}
