//! SAEs as files: ours, and those of other libraries, which are known by what is in them.
//!
//! Ours is a folder of SAELens' layout, with `W_lookup` beside the weights: see [`Sae::save`].

mod authors;
mod dictionary_learning;
mod export;
mod find;
mod llamascopium;
mod named;
mod openai;
mod saelens;
mod sparsify;
mod table;
#[cfg(test)]
mod tests;
mod weights;

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Architecture, Index, Origin, RowNorm, Sae, SaeConfig};
use crate::base::error::{Error, Result};
use crate::base::files;
use crate::formats::arrays::Arrays;
use crate::formats::settings::{Harmless, Settings};
use crate::hub::Hub;
use find::{Found, Kind};

pub use export::{SaeFormat, TableExport};

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
    /// Where there is no such file or folder, it may be the name of a published SAE, by SAELens'
    /// name of its release ([`Sae::releases`] lists them), or `hf://` and any place on the Hugging
    /// Face hub. Such a one is fetched into the Hugging Face cache, as models are, and found there
    /// again.
    ///
    /// ```no_run
    /// # use tokenized_sae::prelude::*;
    /// let bloom = Sae::load("gpt2-small-res-jb/blocks.8.hook_resid_pre")?;
    /// let eleuther = Sae::load("hf://EleutherAI/sae-llama-3-8b-32x/layers.10")?;
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Format`] for files that are missing, damaged, of another kind or
    /// beyond what can be folded; [`Error::MissingTensor`], [`Error::Shape`] or
    /// [`Error::NotFinite`] naming the tensor; [`Error::Config`] for a name that a release does not
    /// have; [`Error::Hub`] or [`Error::Interrupted`] from the download.
    pub fn load(path: impl AsRef<Path>) -> Result<Sae> {
        load(path.as_ref(), None, &Hub::from_env())
    }

    /// Reads an SAE as [`Sae::load`] does, from a hub or cache of your choice.
    ///
    /// # Errors
    /// Those of [`Sae::load`].
    pub fn load_from(hub: &Hub, path: impl AsRef<Path>) -> Result<Sae> {
        load(path.as_ref(), None, hub)
    }

    /// The published SAEs that [`Sae::load`] knows by name: each line the names, the repository and
    /// what they are. `blocks.{0..11}.hook_resid_pre` stands for twelve.
    ///
    /// ```
    /// use tokenized_sae::prelude::*;
    /// assert_eq!(Sae::releases()[0][0], "gpt2-small-res-jb/blocks.{0..11}.hook_resid_pre");
    /// ```
    pub fn releases() -> Vec<[String; 3]> {
        named::releases()
    }

    /// Reads a TopK SAE whose files do not say how many latents are active. See [`Sae::load`].
    ///
    /// # Errors
    /// Those of [`Sae::load`], and [`Error::Config`] if they do say it, and it is not this.
    pub fn load_with_k(path: impl AsRef<Path>, k: usize) -> Result<Sae> {
        load(path.as_ref(), Some(k), &Hub::from_env())
    }
}

fn load(path: &Path, k: Option<usize>, hub: &Hub) -> Result<Sae> {
    let fetched = match path.to_str() {
        Some(name) if !path.exists() => named::fetch(name, hub)?,
        _ => None,
    };
    let path = fetched.as_deref().unwrap_or(path);
    if !path.exists() {
        let why = "is not there: there is no such file or folder, nor a published SAE of this name (tsae convert --list)";
        return Err(Error::format(path, why));
    }
    let sae = read(path, k).map_err(|error| error.read_from(path))?;
    match k {
        Some(k) if sae.config.architecture.uses_k() && sae.config.k != k => Err(Error::config(
            "k",
            format!("k = {k}, but {} says {}", path.display(), sae.config.k),
        )),
        _ => Ok(sae),
    }
}

/// The files of an SAE, as the reader of a library gets them.
struct Given {
    /// The folder, where more may stand.
    dir: PathBuf,
    tensors: Arrays,
    settings: Settings,
    /// How many latents are active, as the caller says.
    k: Option<usize>,
}

/// A library whose files are read.
struct Library {
    read: fn(&mut Given) -> Result<Sae>,
    /// Tensors and settings that change nothing of what its SAEs compute.
    harmless: Harmless,
}

impl Library {
    /// Reads an SAE, and sees to it that every tensor and every setting has been accounted for.
    fn load(&self, mut given: Given) -> Result<Sae> {
        let sae = (self.read)(&mut given)?;
        given.settings.finish(self.harmless)?;
        given.tensors.finish(self.harmless)?;
        if sae.lookup.is_some() { Ok(sae) } else { table::attach(sae, &given.dir) }
    }
}

fn read(path: &Path, k: Option<usize>) -> Result<Sae> {
    let Found { kind, weights, settings } = find::find(path)?;
    let mut tensors = match kind {
        Kind::Torch => Arrays::load_torch(&weights)?,
        _ => Arrays::load(&weights)?,
    }
    .unwrapped();
    let has = |names: [&str; 2]| names.iter().all(|name| tensors.has(name));
    let (library, has_settings) = match kind {
        Kind::SaeLens => (saelens::LIBRARY, true),
        Kind::Sparsify => (sparsify::LIBRARY, true),
        Kind::Llamascopium => (llamascopium::LIBRARY, true),
        Kind::Torch if has(["pre_bias", "latent_bias"]) => (openai::LIBRARY, false),
        Kind::Torch if authors::is_theirs(&tensors) => (authors::LIBRARY, false),
        Kind::Torch if has(["sae.W_E", "sae.W_D"]) => {
            let inside = tensors.within("sae.");
            let around = std::mem::replace(&mut tensors, inside);
            around.finish(&[("which version wrote it", "version")])?;
            (llamascopium::LIBRARY, true)
        }
        Kind::Torch => (dictionary_learning::LIBRARY, true),
    };
    let settings = match settings.filter(|_| has_settings) {
        Some(path) => Settings::read(&path)?,
        None => Settings::none(&weights),
    };
    let dir = weights.parent().unwrap_or(Path::new(".")).to_owned();
    library.load(Given { dir, tensors, settings, k })
}

/// An SAE of these shapes that has no weights yet, and clamps at 0 as all libraries but the
/// authors' code do.
fn bare(d_model: usize, d_sae: usize, architecture: Architecture, k: usize) -> Sae {
    let config =
        SaeConfig { k, relu: true, architecture, ..SaeConfig::new(d_model, 1).with_latents(d_sae) };
    let [w_enc, b_enc, w_dec, b_dec, threshold, r_mag, b_mag] = [const { Vec::new() }; 7];
    Sae {
        config,
        w_enc,
        b_enc,
        w_dec,
        b_dec,
        threshold,
        r_mag,
        b_mag,
        lookup: None,
        index: Index::Token,
        subtract: false,
        row_norm: RowNorm::None,
        origin: Origin::default(),
    }
}

/// A latent below 0 is never active in other libraries, however low its threshold.
fn from_0(threshold: Vec<f32>) -> Vec<f32> {
    threshold.into_iter().map(|threshold| threshold.max(0.0)).collect()
}

/// Writes a JSON file.
fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_vec_pretty(value).map_err(Error::json(path.display()))?;
    files::write_atomic(path, |out| out.write_all(&text))
}
