//! SAEs as files: ours, and those of other libraries, which are known by what is in them.
//!
//! Ours is a folder of SAELens' layout, with `W_lookup` beside the weights: see [`Sae::save`].

mod authors;
mod dictionary_learning;
mod export;
mod find;
mod llamascopium;
mod openai;
mod saelens;
mod sparsify;
mod table;

use std::path::Path;

use serde::de::DeserializeOwned;

use super::{Architecture, Origin, RowNorm, Sae, SaeConfig};
use crate::base::error::{Error, Result};
use crate::formats::arrays::Arrays;

pub use export::{Exported, SaeFormat, TableExport};

impl Sae {
    /// Reads an SAE that this crate or another library wrote: a folder, or the file of weights in
    /// it. Its format is recognised by its files.
    ///
    /// | written by | what is read |
    /// | --- | --- |
    /// | [`Sae::save`] and SAELens 6 | `cfg.json`, `sae_weights.safetensors`: standard, topk, jumprelu, gated, batchtopk; training checkpoints too |
    /// | SAELens before 6 | the same files, `cfg.json` flat |
    /// | sparsify | `cfg.json`, `sae.safetensors`: topk |
    /// | dictionary_learning | `ae.pt` (also one that a running training left), `config.json`: every class |
    /// | Llamascopium | `config.json`, `sae_weights.safetensors`: relu, topk, jumprelu |
    /// | openai/sparse_autoencoder | a `.pt` file: ReLU, TopK |
    /// | the authors of tokenized SAEs | a `.pt` file, with a table if it has `lookup.W_lookup.weight` |
    ///
    /// A `.pt` file is a program; it is not run. What other libraries do before and after their
    /// encoder and decoder is folded into the weights, so that codes and reconstructions are
    /// theirs: an encoder that does not subtract `b_dec`, activations that were scaled by one known
    /// number, codes in units of the decoder's length. Rows that are scaled one by one (OpenAI's
    /// TopK, SAELens' `layer_norm` and `constant_norm_rescale`, Llamascopium's `token-wise`) are so
    /// here too: see [`Sae::row_norm`]. The rest is refused by name: transcoders,
    /// skip connections.
    ///
    /// ```no_run
    /// # use tokenized_sae::prelude::*;
    /// let theirs = Sae::load("sae_ckpts/layers.10")?;
    /// let authors = Sae::load_with_k("gpt2_resid_pre_8.pt", 30)?; // a file that does not say how many latents are active
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Format`] for files that are missing, damaged, of another kind or
    /// beyond what can be folded; [`Error::MissingTensor`], [`Error::Shape`] or
    /// [`Error::NotFinite`] naming the tensor.
    pub fn load(path: impl AsRef<Path>) -> Result<Sae> {
        load(path.as_ref(), None)
    }

    /// Reads a TopK SAE whose files do not say how many latents are active. See [`Sae::load`].
    ///
    /// # Errors
    /// Those of [`Sae::load`], and [`Error::Config`] if they do say it, and it is not this.
    pub fn load_with_k(path: impl AsRef<Path>, k: usize) -> Result<Sae> {
        load(path.as_ref(), Some(k))
    }
}

fn load(path: &Path, k: Option<usize>) -> Result<Sae> {
    let sae = read(path, k).map_err(|error| error.read_from(path))?;
    match k {
        Some(k) if sae.config.architecture.uses_k() && sae.config.k != k => Err(Error::config(
            "k",
            format!("k = {k}, but {} says {}", path.display(), sae.config.k),
        )),
        _ => Ok(sae),
    }
}

fn read(path: &Path, k: Option<usize>) -> Result<Sae> {
    Ok(match find::find(path)? {
        find::Found::SaeLens(dir) => saelens::load(&dir)?,
        find::Found::Sparsify(dir) => table::attach(sparsify::load(&dir)?, &dir)?,
        find::Found::Llamascopium { dir, weights } => {
            table::attach(llamascopium::load(&dir, &weights)?, &dir)?
        }
        find::Found::Torch { weights, config } => {
            let tensors = Arrays::load_torch(&weights)?;
            let has = |names: &[&str]| names.iter().all(|name| tensors.has(name));
            let dir = weights.parent().unwrap_or(Path::new(".")).to_owned();
            if has(&["pre_bias", "latent_bias"]) {
                openai::read(tensors)?
            } else if has(&["sae.W_E", "sae.W_D"]) {
                table::attach(llamascopium::read(&dir, tensors.within("sae."))?, &dir)?
            } else if has(&["lookup.W_lookup.weight"]) || authors::is_baseline(&tensors) {
                authors::read(tensors, k)?
            } else {
                table::attach(dictionary_learning::read(tensors, config.as_deref(), k)?, &dir)?
            }
        }
    })
}

/// An SAE of these shapes that has no weights yet, and clamps at 0 as all libraries but the
/// authors' code do.
fn bare(d_model: usize, d_sae: usize, architecture: Architecture, k: usize) -> Sae {
    let config =
        SaeConfig { k, relu: true, architecture, ..SaeConfig::new(d_model, 1).with_latents(d_sae) };
    let nothing = Vec::new;
    Sae {
        config,
        w_enc: nothing(),
        b_enc: nothing(),
        w_dec: nothing(),
        b_dec: nothing(),
        threshold: nothing(),
        r_mag: nothing(),
        b_mag: nothing(),
        lookup: None,
        index: super::Index::Token,
        subtract: false,
        row_norm: RowNorm::None,
        origin: Origin::default(),
    }
}

/// A latent below 0 is never active in other libraries, however low its threshold.
fn from_0(threshold: Vec<f32>) -> Vec<f32> {
    threshold.into_iter().map(|threshold| threshold.max(0.0)).collect()
}

/// Reads a JSON file.
fn json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read(path).map_err(Error::io("read", path))?;
    serde_json::from_slice(&text).map_err(Error::json(path.display()))
}

/// The shape of a matrix, both of whose sides are at least 1.
fn matrix(tensors: &Arrays, name: &str) -> Result<[usize; 2]> {
    match *tensors.shape(name)? {
        [rows, columns] if rows > 0 && columns > 0 => Ok([rows, columns]),
        ref shape => Err(Error::format(
            tensors.path(),
            format!("\"{name}\" has shape {shape:?}; a matrix is needed"),
        )),
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
