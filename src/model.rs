//! Language models: GPT-2, Pythia and the Llama family, read from Hugging Face checkpoints, with activations at
//! every hook.
//!
//! ```
//! use tokenized_sae::prelude::*;
//! let model = Model::load("tiny-gpt2")?;
//! let ids = model.encode("Once upon a time")?;
//! let tokens = Tokens::new(ids.clone(), ids.len())?;
//! let hook: HookPoint = "blocks.2.hook_resid_pre".parse()?;
//! let acts = model.run_to(&tokens, hook)?; // [1, n_ctx, d_model]; block 2 and what follows are not computed
//! assert_eq!(acts.dims(), &[1, ids.len(), model.config().d_model]);
//! # Ok::<(), Error>(())
//! ```

mod attention;
pub(crate) mod block;
mod blocks;
mod bos;
mod checkpoint;
mod config;
mod config_json;
mod continuation;
mod directions;
mod draw;
mod elementwise;
mod embed;
mod family;
mod forecast;
mod gpt2;
pub(crate) mod gpu;
mod hook;
mod llama;
mod loss;
mod neox;
mod norm;
pub(crate) mod ops;
pub(crate) mod outliers;
mod predict;
mod processing;
mod rotary;
mod run;
mod sample;
mod show;
mod shuffled;
mod source;
mod synthetic;
pub(crate) mod tensor;
pub mod tokens;
mod transformer;
mod view;
pub(crate) mod vocabulary;
mod weights;

use std::fmt;
use std::sync::Arc;

use tokenizers::Tokenizer;

/// candle's tensor, in which activations and logits come and go: f32, on the CPU.
pub use candle_core::Tensor;

pub use crate::cpu::matmul::Compute;
pub(crate) use config::Family;
pub use config::ModelConfig;
pub(crate) use continuation::Added;
pub use hook::{HookPoint, Site};
pub use predict::{Candidate, Prediction};
pub use processing::Processing;
pub(crate) use run::Paused;
pub(crate) use sample::Author;
pub(crate) use view::{mark, visible};

use crate::base::error::{Error, Result};
use crate::cpu::memory;
use crate::display::{Progress, interrupt};
use crate::hub::{Hub, Snapshot};
use shuffled::{Order, Shuffled};
use source::Source;
use transformer::Transformer;
use weights::{ModelWeights, digests, fingerprint};

/// A language model, ready to run on the CPU, in f32 unless set
/// [otherwise](Model::computing).
///
/// Cloning is cheap: clones share the weights, which never change.
#[derive(Clone)]
pub struct Model {
    inner: Arc<Inner>,
    compute: Compute,
}

struct Inner {
    name: String,
    revision: Option<String>,
    config: ModelConfig,
    processing: Processing,
    fingerprint: String,
    n_params: usize,
    tokenizer: Option<Tokenizer>,
    transformer: Transformer,
}

impl Model {
    /// Loads a model with the processing that the published numbers were made with,
    /// [`Processing::TransformerLens`].
    ///
    /// `name_or_folder` is looked for in this order:
    /// 1. the built-in models, `"tiny-gpt2"` and `"tiny-pythia"`;
    /// 2. a folder with `config.json`, `model.safetensors` (or `model.safetensors.index.json` and
    ///    its shards, or the same as `pytorch_model.bin`) and `tokenizer.json`, without which the
    ///    model still reads token ids;
    /// 3. the local Hugging Face cache, by a name such as `"gpt2"`, `"EleutherAI/pythia-1.4b"` or
    ///    `"EleutherAI/pythia-70m@step3000"`, or by TransformerLens' short ones, `"gpt2-small"` or
    ///    `"pythia-1.4b"`: see [`Repo::model`](crate::hub::Repo::model);
    /// 4. the Hugging Face hub, by the same names, from where it is fetched into that cache: see
    ///    [`hub`](crate::hub).
    ///
    /// `"shuffled:NAME"` is that model with the numbers of every tensor in random order, always the
    /// same, and `"shuffled-blocks:NAME"` with those of its blocks: controls, which have the shape
    /// and the sizes of the model and nothing of what it has learned.
    ///
    /// What is in the cache is used without asking the hub whether there is something newer; `tsae
    /// download NAME` does ask.
    ///
    /// ```
    /// use tokenized_sae::prelude::*;
    /// let model = Model::load("tiny-pythia")?;
    /// assert_eq!(model.bos(), 0);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::UnknownModel`] if it is nowhere; [`Error::Hub`] if it cannot be downloaded;
    /// [`Error::Interrupted`] if the download was stopped; [`Error::Io`] or [`Error::Format`] if a
    /// file cannot be read or is not what it should be; [`Error::MissingTensor`], [`Error::Shape`]
    /// or [`Error::NotFinite`] for a tensor that is absent, of the wrong shape, or holds a NaN or
    /// infinity; [`Error::Memory`] if there is not enough memory, before any of it is read.
    pub fn load(name_or_folder: &str) -> Result<Model> {
        Model::load_with(name_or_folder, Processing::default())
    }

    /// Loads a model as [`Model::load`] does, with the processing of your choice.
    ///
    /// # Errors
    /// Those of [`Model::load`].
    pub fn load_with(name_or_folder: &str, processing: Processing) -> Result<Model> {
        Model::load_from(&Hub::from_env(), name_or_folder, processing)
    }

    /// Loads a model as [`Model::load_with`] does, from a hub or cache of your choice.
    ///
    /// ```no_run
    /// use tokenized_sae::{hub::Hub, prelude::*};
    /// let hub = Hub { cache: Some("/scratch/models".into()), ..Hub::from_env() };
    /// let model = Model::load_from(&hub, "gpt2", Processing::TransformerLens)?;
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`Model::load`].
    pub fn load_from(hub: &Hub, name_or_folder: &str, processing: Processing) -> Result<Model> {
        let (order, name_or_folder) = Order::of(name_or_folder);
        let source = Source::find(name_or_folder, hub)?;
        let mut config = ModelConfig::parse(&source.config.bytes, &source.config.path)?;
        let tokenizer =
            source.tokenizer.map(|part| vocabulary::read(&part, &config)).transpose()?;
        config.settle_bos(tokenizer.as_ref());
        let root = checkpoint::open(&source.weights)?;
        forecast::check(&source.name, &root, &config, processing)?;
        let weights = family::of(root, &config);
        let whence = (order.named(source.name), source.revision);
        let weights = Shuffled { weights: &*weights, order, tied: config.tied };
        Model::assemble(whence, config.clone(), &weights, processing, tokenizer)
    }

    /// Fetches the model `name` from the hub into the local Hugging Face cache, or what is new of
    /// it, and returns its folder there.
    ///
    /// # Errors
    /// [`Error::UnknownModel`], [`Error::Hub`], [`Error::Io`] or [`Error::Interrupted`].
    pub fn download(hub: &Hub, name: &str) -> Result<Snapshot> {
        source::download(hub, name)
    }

    fn assemble(
        (name, revision): (String, Option<String>),
        config: ModelConfig,
        weights: &dyn ModelWeights,
        processing: Processing,
        tokenizer: Option<Tokenizer>,
    ) -> Result<Model> {
        interrupt::watch();
        interrupt::clear();
        let mut progress = Progress::new("load", config.n_layers as u64, "blocks");
        let mut ends = weights.ends()?;
        let (mut all, last) = (digests(&ends.first())?, digests(&ends.last())?);
        let numbers =
            |tensors: Vec<&Tensor>| tensors.into_iter().map(Tensor::elem_count).sum::<usize>();
        let mut n_params = numbers(ends.first()) + numbers(ends.last());
        if config.tied {
            n_params -= ends.unembed.weight.elem_count();
        }
        processing.ends(&mut ends)?;
        let mut transformer = Transformer::new(config.clone(), ends)?;
        for layer in 0..config.n_layers {
            if interrupt::requested() {
                interrupt::clear();
                return Err(Error::Interrupted {
                    what: "loading the model",
                    remedy: "the same call starts again".into(),
                });
            }
            let mut block = weights.block(layer)?;
            if layer == 0 {
                weights.finish()?;
            }
            all.extend(digests(&block.tensors())?);
            n_params += numbers(block.tensors());
            processing.block(&mut block)?;
            transformer.push(block)?;
            progress.set(layer as u64 + 1);
        }
        progress.finish_if_long();
        all.extend(last);
        let fingerprint = fingerprint(&config, &processing.to_string(), &all)?;
        memory::trim_heap(); // the tensors of blocks, which are packed now
        Ok(Model {
            inner: Arc::new(Inner {
                name,
                revision,
                config,
                processing,
                fingerprint,
                n_params,
                tokenizer,
                transformer,
            }),
            compute: Compute::F32,
        })
    }

    /// The same model, its weights shared, with its products formed in `compute`.
    ///
    /// The first pass in [`Compute::Bf16`] makes a copy of the matrices that it uses, rounded to
    /// bf16, which stays with the model.
    ///
    /// ```
    /// use tokenized_sae::prelude::*;
    /// let model = Model::load("tiny-gpt2")?;
    /// let quick = model.computing(Compute::Bf16);
    /// let tokens = Tokens::new(vec![model.bos(), 300, 301, 302], 4)?;
    /// assert!((quick.loss(&tokens)? - model.loss(&tokens)?).abs() < 0.05);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn computing(&self, compute: Compute) -> Model {
        Model { inner: self.inner.clone(), compute }
    }

    /// The number format of its products.
    pub fn compute(&self) -> Compute {
        self.compute
    }

    /// The name it was loaded by; of a folder, the folder's own name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The commit of its repository on the hub, if it came from there or from the Hugging Face
    /// cache.
    pub fn revision(&self) -> Option<&str> {
        self.inner.revision.as_deref()
    }

    /// Its shape and settings.
    pub fn config(&self) -> &ModelConfig {
        &self.inner.config
    }

    /// What was done to its weights when it was loaded.
    pub fn processing(&self) -> Processing {
        self.inner.processing
    }

    /// The SHA-256, in hexadecimal, of configuration, weights and processing: two models with the
    /// same have the same activations.
    pub fn fingerprint(&self) -> &str {
        &self.inner.fingerprint
    }

    /// How many weights the checkpoint has, a tied unembedding not counted.
    pub fn n_params(&self) -> usize {
        self.inner.n_params
    }

    /// Every hook, in the order in which a pass comes by them.
    pub fn hooks(&self) -> Vec<HookPoint> {
        let config = self.config();
        let has = |site: &Site| !(config.parallel && *site == Site::ResidMid);
        (0..config.n_layers)
            .flat_map(|layer| {
                Site::ALL.into_iter().filter(has).map(move |site| HookPoint { layer, site })
            })
            .collect()
    }

    /// Checks that the model has a hook.
    ///
    /// # Errors
    /// [`Error::UnknownHook`] if it does not, with the reason.
    pub fn check_hook(&self, hook: HookPoint) -> Result<()> {
        let config = self.config();
        let why = if hook.layer >= config.n_layers {
            format!("{} has {} blocks, 0 to {}", self.name(), config.n_layers, config.n_layers - 1)
        } else if config.parallel && hook.site == Site::ResidMid {
            format!(
                "in {} attention and MLP run in parallel, so there is no residual stream between them: take hook_resid_pre or hook_resid_post",
                self.name()
            )
        } else {
            return Ok(());
        };
        Err(Error::UnknownHook { hook: hook.to_string(), why })
    }

    /// The token that stands at position 0 of every sequence; 0 is an id like any other.
    pub fn bos(&self) -> u32 {
        self.inner.config.bos
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// [`Error::NoTokenizer`] if the checkpoint has none.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.inner
            .tokenizer
            .as_ref()
            .ok_or_else(|| Error::NoTokenizer { model: self.name().to_owned() })
    }

    /// The token ids of a text, without BOS.
    ///
    /// # Errors
    /// [`Error::NoTokenizer`] if the checkpoint has none; [`Error::Tokenizer`] if it refuses the
    /// text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let tokenizer = self.tokenizer()?;
        let ids = vocabulary::encode(tokenizer, text)?;
        match ids.iter().find(|&&id| id as usize >= self.config().d_vocab) {
            None => Ok(ids),
            Some(&id) => Err(Error::Tokenizer(format!(
                "the text has the token {:?} (id {id}), which was added to the tokenizer, and {} has no embedding for it: take it out of the text",
                self.token_str(id),
                self.name()
            ))),
        }
    }

    /// The text of token ids, special tokens such as BOS included.
    ///
    /// # Errors
    /// [`Error::NoTokenizer`] if the checkpoint has none; [`Error::Tokenizer`] if it refuses the
    /// ids.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        vocabulary::decode(self.tokenizer()?, ids)
    }

    /// One token as text, leading space included; a token that is part of a character as the
    /// vocabulary spells it, and one that the tokenizer lacks as `#123`. Cannot fail.
    pub fn token_str(&self, id: u32) -> String {
        vocabulary::token_str(self.inner.tokenizer.as_ref(), id)
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = self.config();
        write!(
            f,
            "{} ({}, {} blocks of width {}, {} tokens)",
            self.name(),
            c.family,
            c.n_layers,
            c.d_model,
            c.d_vocab
        )
    }
}
