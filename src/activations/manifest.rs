//! `manifest.json`: what a store was made from, and which shards it has.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::after::After;
use super::source::Source;
use super::{Dtype, HarvestConfig};
use crate::base::error::{Error, Result};
use crate::base::files::sha256;
use crate::model::gpu::Bits;
use crate::model::{Compute, HookPoint};

/// The file's name.
pub const NAME: &str = "manifest.json";
pub const FORMAT: &str = "tokenized-sae activations";
/// The newest version: that of a store made from a stream. One made from tokens in memory has
/// version 1, as ever.
pub const VERSION: u64 = 2;

/// What a shard's tensors `tokens` and `positions` are called among its checksums.
pub const IDS: &str = "tokens, positions";

/// The content of `manifest.json`. Holds no date and no path, so that the same harvest always
/// writes the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub format: String,
    pub version: u64,
    pub model: Source,
    pub corpus: CorpusId,
    /// In the order of the model, each once.
    pub hooks: Vec<HookPoint>,
    pub dtype: Dtype,
    /// Left out where it is f32, as it was before there was a choice.
    #[serde(default, skip_serializing_if = "is_f32")]
    pub compute: Compute,
    /// Rows of every shard but the last: whole sequences.
    pub shard_rows: usize,
    /// Whether every shard has been made.
    pub complete: bool,
    /// The shards made so far, the first ones of all.
    pub shards: Vec<ShardId>,
}

fn is_f32(compute: &Compute) -> bool {
    *compute == Compute::F32
}

/// The tokens that were run through it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorpusId {
    pub fingerprint: String,
    /// Of a stream, the most there may be, until its end is known.
    pub n_seq: usize,
    pub n_ctx: usize,
    /// All that decides what comes of a stream, by name; left out of tokens in memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<BTreeMap<String, String>>,
}

/// One file of activations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardId {
    pub file: String,
    pub rows: usize,
    pub bytes: u64,
    /// The SHA-256 of every hook's rows, and of the ids under [`IDS`]. (The header is compared byte
    /// for byte.)
    pub sha256: BTreeMap<String, String>,
    /// How far a stream has been read when the shard is full; left out of tokens in memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<After>,
    /// Whose bits its rows have; left out where they are a processor's.
    #[serde(default, skip_serializing_if = "Bits::are_processors")]
    pub bits: Bits,
}

impl CorpusId {
    /// The version of a manifest of such a corpus.
    pub fn version(&self) -> u64 {
        if self.stream.is_some() { VERSION } else { 1 }
    }
}

impl Manifest {
    /// The manifest of a store that is still empty.
    pub fn new(
        model: Source,
        corpus: CorpusId,
        hooks: Vec<HookPoint>,
        config: &HarvestConfig,
    ) -> Manifest {
        Manifest {
            format: FORMAT.into(),
            version: corpus.version(),
            model,
            hooks,
            dtype: config.dtype,
            compute: config.compute,
            shard_rows: (config.shard_tokens / corpus.n_ctx).max(1) * corpus.n_ctx,
            corpus,
            complete: false,
            shards: Vec::new(),
        }
    }

    /// The text gives this many rows, not as many as were requested.
    pub fn end_at(&mut self, rows: usize) {
        self.corpus.n_seq = rows / self.corpus.n_ctx;
    }

    /// How many rows the whole corpus gives.
    pub fn all_rows(&self) -> usize {
        self.corpus.n_seq * self.corpus.n_ctx
    }

    /// How many shards the whole corpus gives.
    pub fn all_shards(&self) -> usize {
        self.all_rows().div_ceil(self.shard_rows)
    }

    /// How many rows shard `index` has.
    pub fn rows_of(&self, index: usize) -> usize {
        self.shard_rows.min(self.all_rows() - index * self.shard_rows)
    }

    /// The name of the file of shard `index`.
    pub fn shard_name(index: usize) -> String {
        format!("shard-{index:05}.safetensors")
    }

    /// The names of all hooks.
    pub fn hook_names(&self, between: &str) -> String {
        self.hooks.iter().map(HookPoint::to_string).collect::<Vec<_>>().join(between)
    }

    /// Whose bits the rows of all shards have, if there are any.
    pub fn bits(&self) -> Option<Bits> {
        self.shards.first().map(|shard| shard.bits)
    }

    /// The bits that the store in `dir` goes on with, and where they are put down.
    pub fn begun(&self, dir: &Path) -> Option<(PathBuf, Bits)> {
        self.bits().map(|bits| (dir.to_owned(), bits))
    }

    /// What decides the value and order of every row of activations.
    pub fn fingerprint(&self) -> String {
        let hooks = self.hook_names(" ");
        let rows: usize = self.shards.iter().map(|shard| shard.rows).sum();
        let (model, corpus) = (&self.model, &self.corpus);
        let compute = match (self.compute, self.bits()) {
            (Compute::F32, _) => String::new(),
            (compute, Some(Bits::Card)) => format!("\n{compute} on a card"),
            (compute, _) => format!("\n{compute}"),
        };
        sha256(
            format!(
                "{}\n{}\n{}\n{hooks}\n{}\n{rows}{compute}",
                model.fingerprint, model.processing, corpus.fingerprint, self.dtype
            )
            .as_bytes(),
        )
    }

    /// What decides what the store holds, as a checksum: the same from the first shard to the last.
    pub fn identity(&self) -> String {
        let facts: Vec<String> = self.facts().into_iter().map(|fact| fact.decisive).collect();
        sha256(facts.join("\n").as_bytes())
    }

    /// Checks that a store made from `self` is what a harvest of `now` would make.
    ///
    /// # Errors
    /// [`Error::Changed`] with the first thing that differs.
    pub fn same_as(&self, now: &Manifest, dir: &Path) -> Result<()> {
        let facts = self.facts().into_iter().zip(now.facts());
        let mut differing = facts.filter(|(stored, now)| stored.decisive != now.decisive);
        let Some((mut stored, mut present)) = differing.next() else { return Ok(()) };
        // Of two streams, it is said what differs in what they are made of.
        if let ("corpus", Some(a), Some(b)) = (stored.what, &self.corpus.stream, &now.corpus.stream)
        {
            let name = a.keys().chain(b.keys()).find(|name| a.get(*name) != b.get(*name));
            let of = |map: &BTreeMap<String, String>| {
                let name = name.map_or("", String::as_str);
                format!("a stream with {name}: {}", map.get(name).map_or("none", String::as_str))
            };
            (stored.shown, present.shown) = (of(a), of(b));
        }
        Err(Error::Changed {
            path: dir.to_owned(),
            what: stored.what,
            stored: stored.shown,
            now: present.shown,
            remedy: "harvest into another folder, or delete this one if its activations are no longer needed".to_owned(),
        })
    }

    /// What must not differ in the store that a harvest goes on with.
    fn facts(&self) -> [Fact; 8] {
        let Manifest { model, corpus, .. } = self;
        let plain = |what, shown: String| Fact { what, decisive: shown.clone(), shown };
        let CorpusId { fingerprint, n_seq, n_ctx, stream } = corpus;
        // How many sequences a stream has given is not part of what it is.
        let length = if stream.is_some() { 0 } else { *n_seq };
        [
            // The processing is part of a model's fingerprint: it goes first, so as to be named
            // when it is all that differs.
            plain("processing", model.processing.clone()),
            Fact {
                what: "model",
                decisive: model.fingerprint.clone(),
                shown: format!("{} ({})", model.name, short(&model.fingerprint)),
            },
            plain(
                "shape of the model",
                format!("d_model {}, d_vocab {}", model.d_model, model.d_vocab),
            ),
            Fact {
                what: "corpus",
                decisive: format!("{fingerprint} {length} {n_ctx} {stream:?}"),
                shown: format!("{n_seq} sequences of {n_ctx} tokens ({})", short(fingerprint)),
            },
            plain("set of hooks", self.hook_names(", ")),
            plain("dtype", self.dtype.to_string()),
            plain("compute", self.compute.to_string()),
            plain("shard size", format!("{} rows", self.shard_rows)),
        ]
    }
}

/// Something that decides what a store holds.
struct Fact {
    what: &'static str,
    /// In full.
    decisive: String,
    /// For people.
    shown: String,
}

/// Whether `name` is that of a shard.
pub fn is_shard(name: &str) -> bool {
    let number = name.strip_prefix("shard-").and_then(|rest| rest.strip_suffix(".safetensors"));
    number.is_some_and(|n| n.len() >= 5 && n.bytes().all(|b| b.is_ascii_digit()))
}

/// The first characters of a fingerprint, enough to tell two apart by eye.
pub fn short(fingerprint: &str) -> &str {
    fingerprint.get(..12).unwrap_or(fingerprint)
}
