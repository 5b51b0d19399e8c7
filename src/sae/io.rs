//! An SAE as a folder: `cfg.json` and `sae_weights.safetensors`, with SAELens' names and shapes, and `W_lookup` beside them.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Architecture, AuxK, Grams, Index, Lookup, Origin, Sae, SaeConfig};
use crate::arrays::{self, Arrays};
use crate::error::{Error, Result};
use crate::files;

const CFG: &str = "cfg.json";
const WEIGHTS: &str = "sae_weights.safetensors";

/// What the name of an architecture begins with if there is a token table, so that a reader that knows no tables does not leave it out in silence.
const TOKENIZED: &str = "tokenized_";

/// `cfg.json`: SAELens' keys; what is ours stands in `metadata`, which SAELens leaves open.
#[derive(Serialize, Deserialize)]
struct Cfg {
    architecture: String,
    d_in: usize,
    d_sae: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    k: Option<usize>,
    dtype: String,
    device: String,
    apply_b_dec_to_input: bool,
    normalize_activations: String,
    reshape_activations: String,
    #[serde(default)]
    rescale_acts_by_decoder_norm: bool,
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Metadata {
    #[serde(skip_serializing_if = "Option::is_none")]
    model_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hook_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context_size: Option<usize>,
    prepend_bos: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokenized_sae: Option<Ours>,
}

/// What this crate knows of an SAE and SAELens has no key for.
#[derive(Serialize, Deserialize)]
struct Ours {
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
    lookup: Option<TableAbout>,
}

/// SAELens' word for an architecture. Outside of training a BatchTopK SAE is a JumpReLU one with equal thresholds, and SAELens saves it as such.
fn saelens_name(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::TopK => "topk",
        Architecture::Relu { .. } => "standard",
        Architecture::Gated { .. } => "gated",
        Architecture::JumpRelu { .. } | Architecture::BatchTopK => "jumprelu",
    }
}

/// The architecture of SAELens' name, as far as it can be told from it.
fn of_saelens(name: &str) -> Option<Architecture> {
    match name {
        "topk" => Some(Architecture::TopK),
        "standard" => Some(Architecture::Relu { l1: 0.0 }),
        "gated" => Some(Architecture::Gated { l1: 0.0 }),
        "jumprelu" => Some(Architecture::jump_relu(0.0)),
        _ => None,
    }
}

#[derive(Serialize, Deserialize)]
struct TableAbout {
    balance: f32,
    learned: bool,
    #[serde(default)]
    subtracted: bool,
    #[serde(default)]
    index: IndexName,
}

/// What the rows of a table stand for. N-grams stand in the tensor [`GRAMS`], a preceding SAE in the folder [`PRECEDING`].
#[derive(Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum IndexName {
    #[default]
    Token,
    Grams,
    Latents,
}

/// The tokens of the n-grams `[n, longest]`, ended by −1 where they are shorter.
const GRAMS: &str = "W_lookup.grams";

/// Beside the files of an SAE, the one whose latents index its table.
const PRECEDING: &str = "preceding";

impl TableAbout {
    /// Directions T with α·T the table as it is now: a new SAE of the loaded settings starts from there.
    fn start(&self, table: &[f32], d: usize, index: &Index) -> Result<Lookup> {
        let unscaled = if self.balance > 0.0 { 1.0 / self.balance } else { 1.0 };
        let start = Lookup::from_table(table.iter().map(|w| w * unscaled).collect(), d)?.with_balance(self.balance)?;
        let start = start.indexed_by(index.clone())?;
        let start = if self.learned { start } else { start.frozen() };
        Ok(if self.subtracted { start.subtracted() } else { start })
    }
}

impl Sae {
    /// Writes `dir/cfg.json` and `dir/sae_weights.safetensors`, each in one atomic step, the weights first.
    ///
    /// Tensors: `W_enc [d_in, d_sae]`, `b_enc [d_sae]`, `W_dec [d_sae, d_in]`, `b_dec [d_in]`; in a JumpReLU or BatchTopK SAE `threshold [d_sae]`; in a Gated one
    /// `b_gate`, `b_mag` and `r_mag` `[d_sae]` instead of `b_enc`; and in a TSAE `W_lookup [d_vocab, d_in]`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<()> {
        let dir = dir.as_ref();
        files::create_folder(dir)?;
        let (d, d_sae) = (self.d_model(), self.d_sae());
        let w_enc = transpose(&self.w_enc, d_sae, d);
        let is_gated = !self.r_mag.is_empty();
        let mut tensors = vec![
            ("W_enc", vec![d, d_sae], &w_enc[..]),
            ("W_dec", vec![d_sae, d], &self.w_dec[..]),
            (if is_gated { "b_gate" } else { "b_enc" }, vec![d_sae], &self.b_enc[..]),
            ("b_dec", vec![d], &self.b_dec[..]),
        ];
        if is_gated {
            tensors.push(("b_mag", vec![d_sae], &self.b_mag[..]));
            tensors.push(("r_mag", vec![d_sae], &self.r_mag[..]));
        }
        let threshold = if self.threshold.len() == 1 { self.threshold.repeat(d_sae) } else { self.threshold.clone() };
        if !threshold.is_empty() {
            tensors.push(("threshold", vec![d_sae], &threshold[..]));
        }
        let grams = match &self.index {
            Index::Grams(grams) => Some((vec![grams.len(), grams.longest()], gram_numbers(grams))),
            _ => None,
        };
        if let Some(table) = &self.lookup {
            tensors.push(("W_lookup", vec![table.len() / d, d], &table[..]));
            if let Some((shape, grams)) = &grams {
                tensors.push((GRAMS, shape.clone(), &grams[..]));
            }
            if let Index::Latents(sae) = &self.index {
                sae.save(dir.join(PRECEDING))?;
            }
        }
        arrays::save(&dir.join(WEIGHTS), &tensors, "{}")?;
        let text = serde_json::to_vec_pretty(&self.cfg()).map_err(Error::json("cfg.json"))?;
        files::write_atomic(&dir.join(CFG), |out| out.write_all(&text))
    }

    /// Reads a folder that [`save`](Sae::save) wrote, or a topk, standard, gated or jumprelu SAE of SAELens.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Format`] for files that are missing, damaged or of another kind; [`Error::MissingTensor`],
    /// [`Error::Shape`] or [`Error::NotFinite`] naming the tensor.
    pub fn load(dir: impl AsRef<Path>) -> Result<Sae> {
        let (cfg_path, weights_path) = (dir.as_ref().join(CFG), dir.as_ref().join(WEIGHTS));
        let text = std::fs::read(&cfg_path).map_err(Error::io("read", &cfg_path))?;
        let cfg: Cfg = serde_json::from_slice(&text).map_err(Error::json(cfg_path.display()))?;
        let (architecture, is_tokenized) = cfg.check(&cfg_path)?;

        let mut tensors = Arrays::load(&weights_path)?;
        let (d, d_sae) = (cfg.d_in, cfg.d_sae);
        let w_enc = transpose(&tensors.take("W_enc", &[d, d_sae])?, d, d_sae);
        let ours = cfg.metadata.tokenized_sae.as_ref();
        let d_vocab = ours.map_or(1, |ours| ours.d_vocab);
        let about = ours.and_then(|ours| ours.lookup.as_ref());
        let index = match about.map_or(IndexName::Token, |about| about.index) {
            IndexName::Token => Index::Token,
            IndexName::Grams => Index::Grams(Arc::new(read_grams(&mut tensors, d_vocab, &weights_path)?)),
            IndexName::Latents => Index::Latents(Arc::new(Sae::load(dir.as_ref().join(PRECEDING))?)),
        };
        let rows = match &index {
            Index::Token => d_vocab,
            Index::Grams(grams) => grams.rows(),
            Index::Latents(sae) => sae.d_sae(),
        };
        let lookup = match is_tokenized {
            true => Some(tensors.take("W_lookup", &[rows, d])?),
            _ if tensors.has("W_lookup") => {
                return Err(Error::format(&weights_path, format!("holds W_lookup, but {CFG} says \"{}\"", cfg.architecture)));
            }
            _ => None,
        };
        let config = SaeConfig {
            expansion: d_sae / d,
            k: cfg.k.unwrap_or(1),
            architecture,
            prefixes: ours.map_or(Vec::new(), |ours| ours.prefixes.clone()),
            aux: ours.and_then(|ours| ours.aux),
            unit_norm: ours.is_some_and(|ours| ours.unit_norm),
            relu: ours.is_none_or(|ours| ours.relu), // SAELens clamps at 0
            lr: ours.and_then(|ours| ours.lr),
            seed: ours.map_or(0, |ours| ours.seed),
            lookup: match (&lookup, about) {
                (Some(table), Some(about)) => Some(about.start(table, d, &index)?),
                _ => None,
            },
            ..SaeConfig::new(d, d_vocab)
        };
        config.check()?;
        let hook = cfg.metadata.hook_name.as_deref().map(str::parse).transpose()?;
        let is_gated = matches!(architecture, Architecture::Gated { .. });
        let threshold = match architecture {
            Architecture::JumpRelu { .. } => tensors.take("threshold", &[d_sae])?,
            Architecture::BatchTopK => tensors.take("threshold", &[d_sae])?[..1].to_vec(),
            _ => Vec::new(),
        };
        let mut magnitude = |name| if is_gated { tensors.take(name, &[d_sae]) } else { Ok(Vec::new()) };
        let (r_mag, b_mag) = (magnitude("r_mag")?, magnitude("b_mag")?);
        Ok(Sae {
            w_enc,
            b_enc: tensors.take(if is_gated { "b_gate" } else { "b_enc" }, &[d_sae])?,
            w_dec: tensors.take("W_dec", &[d_sae, d])?,
            b_dec: tensors.take("b_dec", &[d])?,
            threshold,
            r_mag,
            b_mag,
            lookup,
            index,
            subtract: about.is_some_and(|about| about.subtracted),
            origin: Origin {
                model: cfg.metadata.model_name.clone(),
                revision: ours.and_then(|ours| ours.revision.clone()),
                hook,
                processing: ours.and_then(|ours| ours.processing.clone()),
                n_ctx: cfg.metadata.context_size,
            },
            config,
        })
    }

    fn cfg(&self) -> Cfg {
        let index = match &self.index {
            Index::Token => IndexName::Token,
            Index::Grams(_) => IndexName::Grams,
            Index::Latents(_) => IndexName::Latents,
        };
        let about = |start: &Lookup| TableAbout { balance: start.balance(), learned: start.is_learned(), subtracted: self.subtract, index };
        let table = self.config.lookup.as_ref().map(about);
        Cfg {
            architecture: if self.lookup.is_some() { TOKENIZED } else { "" }.to_owned() + saelens_name(self.config.architecture),
            d_in: self.d_model(),
            d_sae: self.d_sae(),
            k: self.config.architecture.uses_k().then_some(self.config.k),
            dtype: "float32".to_owned(),
            device: "cpu".to_owned(),
            apply_b_dec_to_input: true,
            normalize_activations: "none".to_owned(),
            reshape_activations: "none".to_owned(),
            rescale_acts_by_decoder_norm: false,
            metadata: Metadata {
                model_name: self.origin.model.clone(),
                hook_name: self.origin.hook.map(|hook| hook.to_string()),
                context_size: self.origin.n_ctx,
                prepend_bos: Some(true),
                tokenized_sae: Some(Ours {
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                    revision: self.origin.revision.clone(),
                    processing: self.origin.processing.clone(),
                    d_vocab: self.config.d_vocab,
                    relu: self.config.relu,
                    architecture: self.config.architecture,
                    prefixes: self.config.prefixes.clone(),
                    aux: self.config.aux,
                    unit_norm: self.config.unit_norm,
                    seed: self.config.seed,
                    lr: self.config.lr,
                    lookup: table,
                }),
            },
        }
    }
}

impl Cfg {
    /// Refuses whatever this crate would compute otherwise than its maker did.
    ///
    /// Returns the architecture, and whether there is a table.
    fn check(&self, path: &Path) -> Result<(Architecture, bool)> {
        let refuse = |why: String| Err(Error::format(path, why));
        let ours = self.metadata.tokenized_sae.as_ref();
        let (is_tokenized, name) = match self.architecture.strip_prefix(TOKENIZED) {
            Some(name) => (true, name),
            None => (false, self.architecture.as_str()),
        };
        let Some(named) = of_saelens(name) else {
            let known = format!("topk, standard, gated and jumprelu are understood, and {TOKENIZED}topk and so on");
            return refuse(format!("architecture \"{}\"; {known}", self.architecture));
        };
        let architecture = ours.map_or(named, |ours| ours.architecture);
        if saelens_name(architecture) != name {
            return refuse(format!("architecture \"{}\", but metadata.tokenized_sae says {}", self.architecture, architecture.name()));
        }
        if architecture.uses_k() && self.k.is_none() {
            return refuse(format!("a {} SAE needs k", architecture.name()));
        }
        if self.d_in == 0 || self.d_sae == 0 || !self.d_sae.is_multiple_of(self.d_in) {
            return refuse(format!("d_sae = {} is no multiple of d_in = {}", self.d_sae, self.d_in));
        }
        if self.normalize_activations != "none" || self.reshape_activations != "none" || !self.apply_b_dec_to_input {
            return refuse(
                "normalize_activations, reshape_activations and apply_b_dec_to_input must be \"none\", \"none\" and true".to_owned(),
            );
        }
        if self.rescale_acts_by_decoder_norm {
            return refuse("rescale_acts_by_decoder_norm is true; fold the norms into the weights first".to_owned());
        }
        if is_tokenized && ours.is_none_or(|ours| ours.lookup.is_none()) {
            return refuse(format!("a {} needs metadata.tokenized_sae.lookup", self.architecture));
        }
        Ok((architecture, is_tokenized))
    }
}

/// The tokens of n-grams as f32, which holds every number below 2²⁴.
fn gram_numbers(grams: &Grams) -> Vec<f32> {
    let padded = |gram: Vec<u32>| {
        let ended = grams.longest() - gram.len();
        gram.into_iter().map(|token| token as f32).chain(std::iter::repeat_n(-1.0, ended)).collect::<Vec<f32>>()
    };
    grams.grams().into_iter().flat_map(padded).collect()
}

fn read_grams(tensors: &mut Arrays, d_vocab: usize, path: &Path) -> Result<Grams> {
    let (shape, numbers) = tensors.take_any(GRAMS)?;
    let wrong =
        || Error::format(path, format!("tensor \"{GRAMS}\" of shape {shape:?} does not hold n-grams of 2 or 3 tokens below {d_vocab}"));
    let [n, longest] = shape[..] else { return Err(wrong()) };
    let token = |&number: &f32| (number >= 0.0 && number.fract() == 0.0).then_some(number as u32);
    let grams: Vec<Vec<u32>> = numbers.chunks(longest.max(1)).map(|gram| gram.iter().map_while(token).collect()).collect();
    let read = Grams::new(&grams, d_vocab).map_err(|_| wrong())?;
    // Rows of the table are in the order of the n-grams.
    if read.len() == n && read.grams() == grams { Ok(read) } else { Err(wrong()) }
}

/// `[rows, columns]` to `[columns, rows]`, in tiles that stay in cache.
fn transpose(a: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    const TILE: usize = 32;
    let mut out = vec![0.0; a.len()];
    for row in (0..rows).step_by(TILE) {
        for column in (0..columns).step_by(TILE) {
            for i in row..(row + TILE).min(rows) {
                for j in column..(column + TILE).min(columns) {
                    out[j * rows + i] = a[i * columns + j];
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(with_table: bool) -> Sae {
        let config = SaeConfig { expansion: 3, k: 4, seed: 5, ..SaeConfig::new(10, 7) };
        let table = (0..70).map(|i| (i as f32).sin()).collect();
        let config = if with_table { config.with_lookup(Lookup::from_table(table, 10).unwrap()) } else { config };
        let mut sae = Sae::new(config).unwrap();
        sae.b_enc.iter_mut().enumerate().for_each(|(i, b)| *b = i as f32);
        sae.origin = Origin {
            model: Some("tiny".into()),
            revision: Some("0123abcd".into()),
            hook: Some("blocks.1.hook_resid_post".parse().unwrap()),
            processing: Some("Raw".into()),
            n_ctx: Some(64),
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
            assert_eq!((&read.w_enc, &read.b_enc, &read.w_dec, &read.b_dec), (&sae.w_enc, &sae.b_enc, &sae.w_dec, &sae.b_dec));
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
                assert_eq!((&read.b_enc, &read.threshold, &read.r_mag, &read.b_mag), (&sae.b_enc, &sae.threshold, &sae.r_mag, &sae.b_mag));
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

        let cfg = std::fs::read_to_string(dir.path().join(CFG)).unwrap();
        std::fs::write(dir.path().join(CFG), cfg.replace("tokenized_topk", "tokenized_transcoder")).unwrap();
        assert!(told(dir.path()).contains("transcoder"), "{}", told(dir.path()));
    }
}
