//! Activations on disk: computed once, read in any order as often as wanted, each row beside its
//! token.
//!
//! A store is a folder:
//!
//! | file | holds |
//! | --- | --- |
//! | `manifest.json` | what the rows were made from (model, processing, tokens, hooks), and each shard's size and checksums |
//! | `shard-00000.safetensors` … | for each hook a tensor `[rows, d_model]` named by the hook, `tokens [rows]` and `positions [rows]` |
//! | `shard-00000.ranges` … | checksums of a few rows each, of shards of more than 256 KiB; may be deleted |
//! | `documents-00000.bin` … | only beside shards made from a stream: 8 bytes of the SHA-256 of each document that begins in the shard |
//! | `text.json` | only of a stream of files, and of a harvest that a description or `tsae harvest` made: each file's size, time and checksum |
//! | `shard-00000.json` … | only until the harvest ends: what the manifest will say of a shard |
//! | `plan.json`, `plan.ids` | only of a harvest that many processes [share](ActivationStore::plan), until it is collected |
//! | `.lock` | held by the process that is writing |
//!
//! Rows are in the order of the tokens, sequence after sequence; no shard cuts a sequence. Every
//! file appears whole or not at all, and nothing in it depends on when or in how many goes it was
//! made, so a harvest killed at any moment and started again ends with the same bytes as one that
//! was left alone.
//!
//! **A store may be larger than memory, and have more shards than a process may map.** A shard is
//! mapped when a row of it is read; beyond 16,384 of them, the oldest map makes room. In which order
//! a training reads the rows is [`RowOrder`]'s to say.
//!
//! **Damage is noticed before it is used.** Opening a store checks the manifest's own checksum, and
//! every shard's length and header. A number is checked against a SHA-256 before it is first read,
//! with the rows beside it, 256 KiB in all, and only those of the hook that is read (about 1.5 GB/s
//! a core, once for each process).

mod after;
mod by_many;
mod bypass;
mod config;
mod feed;
mod filling;
mod forecast;
mod harvest;
mod int8;
mod keys;
mod layout;
mod manifest;
mod manifest_file;
mod map;
mod maps;
mod means;
mod outliers;
mod own_files;
mod plan;
mod products;
mod ranges;
mod read;
mod saelens;
mod sequences;
mod shard;
mod shard_writer;
mod shrunk_means;
mod shuffle;
mod sidecar;
mod source;
mod statistics;
mod verify;
mod view;

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use by_many::HarvestPlan;
pub use config::HarvestConfig;
pub(crate) use harvest::is_whole;
pub(crate) use plan::refuse as refuse_plan;
pub use sequences::Sequences;
pub use source::Source;

use crate::base::error::{Error, Result};
use crate::model::tokens::Tokens;
use crate::model::{Compute, HookPoint, Model};
use manifest::Manifest;
use maps::Maps;
use shard::Shard;
pub use shuffle::RowOrder;
pub(crate) use shuffle::Shuffle;
pub(crate) use statistics::scale_of;
pub(crate) use verify::Waiting;
use verify::{Part, verify};

/// How the numbers of an activation are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 16 bits: half the space, a relative error of at most 2⁻¹¹, nothing beyond ±65,504.
    #[default]
    F16,
    /// 32 bits: exactly what the model computed.
    F32,
    /// 8 bits, and a scale for every 32 numbers (8.5 bits each; GGUF's `Q8_0`): a number is off by at
    /// most 1/254 of the largest of its 32. What that costs an SAE is measured in docs/data.md.
    Int8,
}

impl Dtype {
    /// Bytes of a row of `d_model` numbers.
    pub fn row_bytes(self, d_model: usize) -> usize {
        match self {
            Dtype::F16 => d_model.saturating_mul(2),
            Dtype::F32 => d_model.saturating_mul(4),
            Dtype::Int8 => int8::row_bytes(d_model),
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dtype::F16 => "f16",
            Dtype::F32 => "f32",
            Dtype::Int8 => "int8",
        })
    }
}

/// Rows of activations with their tokens, as [`ActivationStore::gather`] fills
/// it; keep one and use it again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Activations `[n, d_model]`.
    pub x: Vec<f32>,
    /// Token ids `[n]`.
    pub tokens: Vec<u32>,
    /// Position of each token in its sequence `[n]`; 0 is BOS.
    pub positions: Vec<u32>,
}

impl Batch {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }
}

/// A folder of activations, open for reading. Cheap to clone; memory-mapped as it is read, so it may
/// be far larger than memory.
#[derive(Clone)]
pub struct ActivationStore {
    inner: Arc<Inner>,
}

struct Inner {
    dir: PathBuf,
    manifest: Manifest,
    fingerprint: String,
    n_rows: usize,
    maps: Arc<Maps>,
    shards: Vec<Shard>,
}

impl ActivationStore {
    /// Opens the store in `dir`, complete or not.
    ///
    /// # Errors
    /// [`Error::Format`] if there is no store, no complete shard in it yet, or a shard is missing
    /// or cut short; [`Error::Checksum`] if the manifest or the header of a shard is damaged.
    pub fn open(dir: impl AsRef<Path>) -> Result<ActivationStore> {
        ActivationStore::open_with(dir.as_ref(), Maps::default())
    }

    fn open_with(dir: &Path, maps: Maps) -> Result<ActivationStore> {
        let maps = Arc::new(maps);
        let manifest = Manifest::read(dir)?;
        if manifest.shards.is_empty() {
            let why = "holds no complete shard yet: harvest into it again, which continues where it stopped";
            return Err(Error::format(dir, why));
        }
        let shards = (0..manifest.shards.len())
            .map(|index| Shard::open(dir, &manifest, index, &maps))
            .collect::<Result<Vec<_>>>()?;
        let n_rows = manifest.shards.iter().map(|shard| shard.rows).sum();
        let inner = Inner {
            dir: dir.to_owned(),
            fingerprint: manifest.fingerprint(),
            n_rows,
            maps,
            shards,
            manifest,
        };
        Ok(ActivationStore { inner: Arc::new(inner) })
    }

    /// How many rows can be read: one for each token of each complete shard.
    pub fn n_rows(&self) -> usize {
        self.inner.n_rows
    }

    /// Tokens in a sequence.
    pub fn n_ctx(&self) -> usize {
        self.inner.manifest.corpus.n_ctx
    }

    /// Numbers in an activation.
    pub fn d_model(&self) -> usize {
        self.inner.manifest.model.d_model
    }

    /// Number of token ids of the model.
    pub fn d_vocab(&self) -> usize {
        self.inner.manifest.model.d_vocab
    }

    /// Checks that it holds the activations of this model, processed alike; `remedy` says what to do
    /// if not.
    ///
    /// # Errors
    /// [`Error::Changed`].
    pub(crate) fn check_model(&self, model: &Model, remedy: &str) -> Result<()> {
        if self.model_fingerprint() == model.fingerprint() {
            return Ok(());
        }
        Err(Error::Changed {
            path: self.dir().to_owned(),
            what: "the model of the activations",
            stored: format!(
                "{} ({}, {})",
                self.model_fingerprint(),
                self.model_name(),
                self.processing()
            ),
            now: format!("{} ({}, {})", model.fingerprint(), model.name(), model.processing()),
            remedy: remedy.to_owned(),
        })
    }

    /// How many positions at the start of each sequence training leaves out by default.
    pub(crate) fn skip_first(&self) -> usize {
        self.inner.manifest.model.skip_first
    }

    /// The hooks whose activations it holds, in the order of the model.
    pub fn hooks(&self) -> &[HookPoint] {
        &self.inner.manifest.hooks
    }

    /// The number format of the model's products; see [`Compute`].
    pub fn compute(&self) -> Compute {
        self.inner.manifest.compute
    }

    /// How numbers are stored.
    pub fn dtype(&self) -> Dtype {
        self.inner.manifest.dtype
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// The name of the model.
    pub fn model_name(&self) -> &str {
        &self.inner.manifest.model.name
    }

    /// The commit of the model's repository on the hub, if it came from there.
    pub fn model_revision(&self) -> Option<&str> {
        self.inner.manifest.model.revision.as_deref()
    }

    /// The fingerprint of the model, weights and processing.
    pub fn model_fingerprint(&self) -> &str {
        &self.inner.manifest.model.fingerprint
    }

    /// What was done to the model's weights.
    pub fn processing(&self) -> &str {
        &self.inner.manifest.model.processing
    }

    /// The fingerprint of the tokens that were run; see [`Tokens::fingerprint`].
    pub fn corpus_fingerprint(&self) -> &str {
        &self.inner.manifest.corpus.fingerprint
    }

    /// What tells these rows from any others: a checksum of the model, its processing, the tokens,
    /// the hooks, the dtype and the number of rows. The size of the shards has no part in it,
    /// because it does not change a row.
    pub fn fingerprint(&self) -> &str {
        &self.inner.fingerprint
    }

    /// Whether every row of the corpus is there; if not, the same harvest again continues it.
    pub fn is_complete(&self) -> bool {
        self.inner.manifest.complete
    }

    /// Size of the shards in bytes.
    pub fn bytes(&self) -> u64 {
        self.inner.manifest.shards.iter().map(|shard| shard.bytes).sum()
    }

    /// Checks that the store has `hook`.
    ///
    /// # Errors
    /// [`Error::UnknownHook`] with the hooks that it has.
    pub fn check_hook(&self, hook: HookPoint) -> Result<()> {
        self.place(hook).map(|_| ())
    }

    fn place(&self, hook: HookPoint) -> Result<usize> {
        self.hooks().iter().position(|&known| known == hook).ok_or_else(|| {
            let why = format!(
                "the store in {} has only {}; harvest it into a folder of its own",
                self.dir().display(),
                self.inner.manifest.hook_names(", ")
            );
            Error::UnknownHook { hook: hook.to_string(), why }
        })
    }

    /// The rows at some positions of a seeded order of all rows. Positions count on over the
    /// epochs: each `n_rows` of them visit every row once, in each epoch in another order. The order
    /// takes no memory.
    pub fn shuffled(&self, seed: u64, positions: Range<u64>) -> Vec<u64> {
        let n = positions.end.saturating_sub(positions.start) as usize;
        self.shuffle(seed).fill(positions.start, n)
    }

    pub(crate) fn shuffle(&self, seed: u64) -> Shuffle {
        Shuffle::new(self.n_rows() as u64, seed)
    }

    /// Checks every byte of every shard against its checksum, if that has not been done since the
    /// store was opened.
    ///
    /// # Errors
    /// [`Error::Checksum`] with the damaged file.
    pub fn verify(&self) -> Result<()> {
        self.verify_all(&(0..self.hooks().len()).collect::<Vec<_>>())
    }

    fn verify_all(&self, hooks: &[usize]) -> Result<()> {
        verify(self.inner.shards.iter().map(Part::Whole).collect(), hooks, Waiting::Cell)
    }

    /// The tokens of all rows `[n_rows / n_ctx, n_ctx]`.
    ///
    /// # Errors
    /// [`Error::Checksum`] if a shard was damaged since it was written.
    pub fn tokens(&self) -> Result<Tokens> {
        self.verify_all(&[])?;
        let mut ids = Vec::with_capacity(self.n_rows());
        for shard in &self.inner.shards {
            ids.extend_from_slice(shard.map()?.tokens());
        }
        Tokens::new(ids, self.n_ctx())
    }
}
