//! An SAE as a folder: `cfg.json` and `sae_weights.safetensors`, with SAELens' names and shapes, and `W_lookup` beside them.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Lookup, Origin, Sae, SaeConfig};
use crate::arrays::{self, Arrays};
use crate::error::{Error, Result};
use crate::files;

const CFG: &str = "cfg.json";
const WEIGHTS: &str = "sae_weights.safetensors";
const TOPK: &str = "topk";
const TOKENIZED_TOPK: &str = "tokenized_topk";

/// `cfg.json`: SAELens' keys for a TopK SAE; what is ours stands in `metadata`, which SAELens leaves open.
#[derive(Serialize, Deserialize)]
struct Cfg {
    architecture: String,
    d_in: usize,
    d_sae: usize,
    k: usize,
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
    processing: Option<String>,
    d_vocab: usize,
    relu: bool,
    seed: u64,
    lr: Option<f64>,
    lookup: Option<TableAbout>,
}

#[derive(Serialize, Deserialize)]
struct TableAbout {
    balance: f32,
    learned: bool,
}

impl TableAbout {
    /// Directions T with α·T the table as it is now: a new SAE of the loaded settings starts from there.
    fn start(&self, table: &[f32], d: usize) -> Result<Lookup> {
        let unscaled = if self.balance > 0.0 { 1.0 / self.balance } else { 1.0 };
        let start = Lookup::from_table(table.iter().map(|w| w * unscaled).collect(), d)?.with_balance(self.balance)?;
        Ok(if self.learned { start } else { start.frozen() })
    }
}

impl Sae {
    /// Writes `dir/cfg.json` and `dir/sae_weights.safetensors`, each in one atomic step, the weights first.
    ///
    /// Tensors: `W_enc [d_in, d_sae]`, `b_enc [d_sae]`, `W_dec [d_sae, d_in]`, `b_dec [d_in]`, and in a TSAE `W_lookup [d_vocab, d_in]`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<()> {
        let dir = dir.as_ref();
        files::create_folder(dir)?;
        let (d, d_sae) = (self.d_model(), self.d_sae());
        let w_enc = transpose(&self.w_enc, d_sae, d);
        let mut tensors = vec![
            ("W_enc", vec![d, d_sae], &w_enc[..]),
            ("W_dec", vec![d_sae, d], &self.w_dec[..]),
            ("b_enc", vec![d_sae], &self.b_enc[..]),
            ("b_dec", vec![d], &self.b_dec[..]),
        ];
        if let Some(table) = &self.lookup {
            tensors.push(("W_lookup", vec![table.len() / d, d], &table[..]));
        }
        arrays::save(&dir.join(WEIGHTS), &tensors, "{}")?;
        let text = serde_json::to_vec_pretty(&self.cfg()).map_err(Error::json("cfg.json"))?;
        files::write_atomic(&dir.join(CFG), |out| out.write_all(&text))
    }

    /// Reads a folder that [`save`](Sae::save) wrote, or a TopK SAE of SAELens.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Format`] for files that are missing, damaged or of another kind; [`Error::MissingTensor`],
    /// [`Error::Shape`] or [`Error::NotFinite`] naming the tensor.
    pub fn load(dir: impl AsRef<Path>) -> Result<Sae> {
        let (cfg_path, weights_path) = (dir.as_ref().join(CFG), dir.as_ref().join(WEIGHTS));
        let text = std::fs::read(&cfg_path).map_err(Error::io("read", &cfg_path))?;
        let cfg: Cfg = serde_json::from_slice(&text).map_err(Error::json(cfg_path.display()))?;
        cfg.check(&cfg_path)?;

        let mut tensors = Arrays::load(&weights_path)?;
        let (d, d_sae) = (cfg.d_in, cfg.d_sae);
        let w_enc = transpose(&tensors.take("W_enc", &[d, d_sae])?, d, d_sae);
        let ours = cfg.metadata.tokenized_sae.as_ref();
        let d_vocab = ours.map_or(1, |ours| ours.d_vocab);
        let lookup = match cfg.architecture.as_str() {
            TOKENIZED_TOPK => Some(tensors.take("W_lookup", &[d_vocab, d])?),
            _ if tensors.has("W_lookup") => {
                return Err(Error::format(&weights_path, format!("holds W_lookup, but {CFG} says \"{}\"", cfg.architecture)));
            }
            _ => None,
        };
        let config = SaeConfig {
            expansion: d_sae / d,
            k: cfg.k,
            relu: ours.is_none_or(|ours| ours.relu), // SAELens clamps at 0
            lr: ours.and_then(|ours| ours.lr),
            seed: ours.map_or(0, |ours| ours.seed),
            lookup: match (&lookup, ours.and_then(|ours| ours.lookup.as_ref())) {
                (Some(table), Some(about)) => Some(about.start(table, d)?),
                _ => None,
            },
            ..SaeConfig::new(d, d_vocab)
        };
        config.check()?;
        let hook = cfg.metadata.hook_name.as_deref().map(str::parse).transpose()?;
        Ok(Sae {
            w_enc,
            b_enc: tensors.take("b_enc", &[d_sae])?,
            w_dec: tensors.take("W_dec", &[d_sae, d])?,
            b_dec: tensors.take("b_dec", &[d])?,
            lookup,
            origin: Origin {
                model: cfg.metadata.model_name.clone(),
                hook,
                processing: ours.and_then(|ours| ours.processing.clone()),
                n_ctx: cfg.metadata.context_size,
            },
            config,
        })
    }

    fn cfg(&self) -> Cfg {
        let table = self.config.lookup.as_ref().map(|start| TableAbout { balance: start.balance(), learned: start.is_learned() });
        Cfg {
            architecture: if self.lookup.is_some() { TOKENIZED_TOPK } else { TOPK }.to_owned(),
            d_in: self.d_model(),
            d_sae: self.d_sae(),
            k: self.config.k,
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
                    processing: self.origin.processing.clone(),
                    d_vocab: self.config.d_vocab,
                    relu: self.config.relu,
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
    fn check(&self, path: &Path) -> Result<()> {
        let refuse = |why: String| Err(Error::format(path, why));
        if self.architecture != TOPK && self.architecture != TOKENIZED_TOPK {
            return refuse(format!("architecture \"{}\"; {TOPK} and {TOKENIZED_TOPK} are understood", self.architecture));
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
        if self.architecture == TOKENIZED_TOPK && self.metadata.tokenized_sae.as_ref().is_none_or(|ours| ours.lookup.is_none()) {
            return refuse("a tokenized_topk needs metadata.tokenized_sae.lookup".to_owned());
        }
        Ok(())
    }
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
        std::fs::write(dir.path().join(CFG), cfg.replace("tokenized_topk", "jumprelu")).unwrap();
        assert!(told(dir.path()).contains("jumprelu"), "{}", told(dir.path()));
    }
}
