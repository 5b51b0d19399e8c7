//! `manifest.json`: what a store was made from, and which shards it has.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Dtype;
use super::sequences::{After, is_marks};
use super::shard::Layout;
use crate::base::error::{Error, Result};
use crate::base::files::{sha256, write_atomic};
use crate::model::{Compute, HookPoint};

const NAME: &str = "manifest.json";
const FORMAT: &str = "tokenized-sae activations";
/// The newest version: that of a store made from a stream. One made from tokens in memory has
/// version 1, as ever.
const VERSION: u64 = 2;
/// Bounds that no real store comes near, so that sizes computed from a damaged manifest cannot
/// overflow or exhaust memory.
const MAX_DIMENSION: usize = 1 << 30;

/// What a shard's tensors `tokens` and `positions` are called among its checksums.
pub const IDS: &str = "tokens, positions";

/// The content of `manifest.json`. Holds no date and no path, so that the same harvest always
/// writes the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub format: String,
    pub version: u64,
    pub model: ModelId,
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

fn version_of(corpus: &CorpusId) -> u64 {
    if corpus.stream.is_some() { VERSION } else { 1 }
}

fn is_f32(compute: &Compute) -> bool {
    *compute == Compute::F32
}

/// The model whose activations these are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelId {
    pub name: String,
    /// Left out of a model that did not come from the hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    pub fingerprint: String,
    pub processing: String,
    pub d_model: usize,
    pub d_vocab: usize,
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
}

/// What the file holds: the manifest, and its own checksum.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    sha256: String,
    store: Manifest,
}

impl Manifest {
    /// The manifest of a store that is still empty.
    pub fn new(
        model: ModelId,
        corpus: CorpusId,
        hooks: Vec<HookPoint>,
        (dtype, compute): (Dtype, Compute),
        shard_rows: usize,
    ) -> Manifest {
        let (format, shards) = (FORMAT.into(), Vec::new());
        let version = version_of(&corpus);
        Manifest {
            format,
            version,
            model,
            corpus,
            hooks,
            dtype,
            compute,
            shard_rows,
            complete: false,
            shards,
        }
    }

    /// Where the manifest of the store in `dir` is.
    pub fn path(dir: &Path) -> PathBuf {
        dir.join(NAME)
    }

    /// Whether a temporary file for `target` is one that a harvest leaves when it is killed.
    pub fn writes(target: &str) -> bool {
        target == NAME || is_shard(target) || is_marks(target)
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

    /// Reads and checks the manifest of the store in `dir`.
    ///
    /// # Errors
    /// [`Error::Format`] if it is missing, not a manifest, or of a newer version;
    /// [`Error::Checksum`] if it was changed by anything but a harvest.
    pub fn read(dir: &Path) -> Result<Manifest> {
        let path = Manifest::path(dir);
        match fs::read(&path) {
            Ok(bytes) => Manifest::parse(&path, &bytes),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(Error::format(
                dir,
                format!(
                    "holds no activations (there is no {NAME}): give the folder of a harvest, or harvest into it first"
                ),
            )),
            Err(e) => Err(Error::io("read", &path)(e)),
        }
    }

    /// As [`read`](Manifest::read), or `None` if there is no manifest.
    pub fn read_if_there(dir: &Path) -> Result<Option<Manifest>> {
        if Manifest::path(dir).exists() { Manifest::read(dir).map(Some) } else { Ok(None) }
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<Manifest> {
        let damaged = |why: String| {
            Error::format(path, format!("is not the manifest of an activation store: {why}"))
        };
        let json: serde_json::Value =
            serde_json::from_slice(bytes).map_err(|e| damaged(e.to_string()))?;
        let version = json.pointer("/store/version").and_then(serde_json::Value::as_u64);
        if let Some(newer) = version.filter(|&version| version > VERSION) {
            return Err(Error::format(
                path,
                format!(
                    "has version {newer}, and this program reads up to {VERSION}: use a newer one"
                ),
            ));
        }
        let signed: Signed = serde_json::from_value(json).map_err(|e| damaged(e.to_string()))?;
        let got = signed.store.checksum()?;
        if got != signed.sha256 {
            let remedy = "restore it from a copy, or harvest into another folder".to_owned();
            return Err(Error::Checksum {
                path: path.to_owned(),
                want: signed.sha256,
                got,
                remedy,
            });
        }
        signed.store.check().map_err(damaged)?;
        Ok(signed.store)
    }

    /// Writes the manifest of the store in `dir`, in place of the one before.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let signed = Signed { sha256: self.checksum()?, store: self.clone() };
        write_atomic(&Manifest::path(dir), |out| {
            serde_json::to_writer_pretty(&mut *out, &signed)?;
            out.write_all(b"\n")
        })
    }

    fn checksum(&self) -> Result<String> {
        Ok(sha256(&serde_json::to_vec(self).map_err(Error::json(NAME))?))
    }

    /// What decides the value and order of every row of activations.
    pub fn fingerprint(&self) -> String {
        let hooks = self.hooks.iter().map(HookPoint::to_string).collect::<Vec<_>>().join(" ");
        let rows: usize = self.shards.iter().map(|shard| shard.rows).sum();
        let (model, corpus) = (&self.model, &self.corpus);
        let compute =
            if is_f32(&self.compute) { String::new() } else { format!("\n{}", self.compute) };
        sha256(
            format!(
                "{}\n{}\n{}\n{hooks}\n{}\n{rows}{compute}",
                model.fingerprint, model.processing, corpus.fingerprint, self.dtype
            )
            .as_bytes(),
        )
    }

    /// Whether everything fits together, so that nothing computed from it can overflow or lie
    /// outside a file.
    fn check(&self) -> std::result::Result<(), String> {
        let want = |right: bool, what: &str| if right { Ok(()) } else { Err(what.to_owned()) };
        want(self.format == FORMAT, "the format has another name")?;
        want(self.version == version_of(&self.corpus), "the version is unknown")?;
        let sized = |n: usize| (1..=MAX_DIMENSION).contains(&n);
        want(
            sized(self.model.d_model) && sized(self.model.d_vocab) && sized(self.corpus.n_ctx),
            "a dimension is 0 or impossibly large",
        )?;
        want(
            self.corpus.n_seq > 0 && self.corpus.n_seq.checked_mul(self.corpus.n_ctx).is_some(),
            "the number of sequences is impossible",
        )?;
        want(
            self.shard_rows > 0 && self.shard_rows.is_multiple_of(self.corpus.n_ctx),
            "shards do not hold whole sequences",
        )?;
        want(
            !self.hooks.is_empty() && self.hooks.is_sorted_by(|a, b| a < b),
            "the hooks are not sorted",
        )?;
        want(self.shards.len() <= self.all_shards(), "there are more shards than rows for them")?;
        want(
            self.complete == (self.shards.len() == self.all_shards()),
            "it is marked complete but lacks shards, or the reverse",
        )?;
        for (index, shard) in self.shards.iter().enumerate() {
            let layout = Layout::new(self, index).ok_or("a shard is impossibly large")?;
            let known = shard.file == Manifest::shard_name(index)
                && shard.rows == self.rows_of(index)
                && shard.bytes == layout.bytes();
            want(known, "a shard has the wrong name or size")?;
            want(
                shard.after.is_some() == self.corpus.stream.is_some(),
                "a shard does not say how far the text was read, or a shard that was not streamed does",
            )?;
            let sections = self.hooks.iter().map(HookPoint::to_string).chain([IDS.to_owned()]);
            want(
                shard.sha256.len() == self.hooks.len() + 1
                    && sections.into_iter().all(|s| shard.sha256.contains_key(&s)),
                "a shard lacks a checksum",
            )?;
        }
        Ok(())
    }

    /// Checks that a store made from `self` is what a harvest of `now` would make.
    ///
    /// # Errors
    /// [`Error::Changed`] with the first thing that differs.
    pub fn same_as(&self, now: &Manifest, dir: &Path) -> Result<()> {
        let named = |model: &ModelId| format!("{} ({})", model.name, short(&model.fingerprint));
        let text = |corpus: &CorpusId| {
            format!(
                "{} sequences of {} tokens ({})",
                corpus.n_seq,
                corpus.n_ctx,
                short(&corpus.fingerprint)
            )
        };
        let hooks =
            |m: &Manifest| m.hooks.iter().map(HookPoint::to_string).collect::<Vec<_>>().join(", ");
        let size = |m: &Manifest| format!("{} rows", m.shard_rows);
        let shape =
            |m: &Manifest| format!("d_model {}, d_vocab {}", m.model.d_model, m.model.d_vocab);
        let (a, b) = (self, now);
        // Of two streams, it is said what differs in what they are made of.
        let (stored_text, text_now) = match (&a.corpus.stream, &b.corpus.stream) {
            (Some(stored), Some(now)) => a_difference(stored, now),
            _ => (text(&a.corpus), text(&b.corpus)),
        };
        // The processing is part of a model's fingerprint: it goes first, so as to be named when it
        // is all that differs.
        let differences: [(&'static str, bool, String, String); 8] = [
            (
                "processing",
                a.model.processing != b.model.processing,
                a.model.processing.clone(),
                b.model.processing.clone(),
            ),
            ("model", a.model.fingerprint != b.model.fingerprint, named(&a.model), named(&b.model)),
            ("shape of the model", shape(a) != shape(b), shape(a), shape(b)),
            ("corpus", a.corpus.differs(&b.corpus), stored_text, text_now),
            ("set of hooks", a.hooks != b.hooks, hooks(a), hooks(b)),
            ("dtype", a.dtype != b.dtype, a.dtype.to_string(), b.dtype.to_string()),
            ("compute", a.compute != b.compute, a.compute.to_string(), b.compute.to_string()),
            ("shard size", a.shard_rows != b.shard_rows, size(a), size(b)),
        ];
        match differences.into_iter().find(|difference| difference.1) {
            None => Ok(()),
            Some((what, _, stored, now)) => {
                let remedy = "harvest into another folder, or delete this one if its activations are no longer needed".to_owned();
                Err(Error::Changed { path: dir.to_owned(), what, stored, now, remedy })
            }
        }
    }
}

impl CorpusId {
    /// Whether another would give other rows. How many sequences a stream has given is not part of
    /// what it is.
    fn differs(&self, other: &CorpusId) -> bool {
        match (&self.stream, &other.stream) {
            (Some(a), Some(b)) => {
                a != b || self.fingerprint != other.fingerprint || self.n_ctx != other.n_ctx
            }
            _ => self != other,
        }
    }
}

/// The first thing of two descriptions that differs.
fn a_difference(a: &BTreeMap<String, String>, b: &BTreeMap<String, String>) -> (String, String) {
    let of = |map: &BTreeMap<String, String>, name: &str| {
        format!("a stream with {name}: {}", map.get(name).map_or("none", String::as_str))
    };
    let name = a.keys().chain(b.keys()).find(|name| a.get(*name) != b.get(*name));
    name.map_or_else(Default::default, |name| (of(a, name), of(b, name)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn manifest() -> Manifest {
        let model = ModelId {
            name: "toy".into(),
            revision: None,
            fingerprint: "ab".repeat(32),
            processing: "Raw".into(),
            d_model: 4,
            d_vocab: 50,
        };
        let corpus = CorpusId { fingerprint: "cd".repeat(32), n_seq: 5, n_ctx: 8, stream: None };
        let mut manifest = Manifest::new(
            model,
            corpus,
            vec![HookPoint::resid_pre(1)],
            (Dtype::F16, Compute::F32),
            16,
        );
        for index in 0..2 {
            let bytes = Layout::new(&manifest, index).unwrap().bytes();
            let sha256 = [
                (IDS.to_owned(), "0".repeat(64)),
                ("blocks.1.hook_resid_pre".to_owned(), "1".repeat(64)),
            ]
            .into();
            manifest.shards.push(ShardId {
                file: Manifest::shard_name(index),
                rows: 16,
                bytes,
                sha256,
                after: None,
            });
        }
        manifest
    }

    fn written() -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        manifest().write(dir.path()).unwrap();
        fs::read(Manifest::path(dir.path())).unwrap()
    }

    #[test]
    fn reads_back_what_it_wrote() {
        assert_eq!(Manifest::parse(Path::new("m"), &written()).unwrap(), manifest());
    }

    #[test]
    fn a_newer_version_says_so() {
        let newer =
            String::from_utf8(written()).unwrap().replace("\"version\": 1", "\"version\": 3");
        let told = Manifest::parse(Path::new("m"), newer.as_bytes()).unwrap_err().to_string();
        assert!(told.contains("version 3"), "{told}");
    }

    #[test]
    fn a_changed_value_is_noticed_even_if_it_is_still_sensible() {
        let text =
            String::from_utf8(written()).unwrap().replace("\"d_vocab\": 50", "\"d_vocab\": 51");
        assert!(matches!(
            Manifest::parse(Path::new("m"), text.as_bytes()),
            Err(Error::Checksum { .. })
        ));
    }

    /// Signs whatever it is given: `check` has to catch what a checksum cannot.
    fn parse_signed(store: &Manifest) -> Result<Manifest> {
        let signed = Signed { sha256: store.checksum().unwrap(), store: store.clone() };
        Manifest::parse(Path::new("m"), &serde_json::to_vec(&signed).unwrap())
    }

    #[test]
    fn what_cannot_be_is_refused_without_a_panic() {
        let changes: [fn(&mut Manifest); 16] = [
            |m| m.version = 2,
            |m| m.corpus.stream = Some(BTreeMap::new()),
            |m| m.model.d_model = 0,
            |m| m.model.d_model = usize::MAX,
            |m| m.corpus.n_seq = usize::MAX,
            |m| m.corpus.n_seq = 0,
            |m| m.corpus.n_ctx = 0,
            |m| m.shard_rows = 0,
            |m| m.shard_rows = 15,
            |m| m.hooks.clear(),
            |m| m.hooks.push(HookPoint::resid_pre(0)),
            |m| m.complete = true,
            |m| m.shards[0].file = "../elsewhere".into(),
            |m| m.shards[1].rows = 17,
            |m| m.shards[1].bytes += 1,
            |m| m.shards[0].sha256.clear(),
        ];
        assert!(parse_signed(&manifest()).is_ok());
        for (i, change) in changes.into_iter().enumerate() {
            let mut wrong = manifest();
            change(&mut wrong);
            assert!(matches!(parse_signed(&wrong), Err(Error::Format { .. })), "change {i}");
        }
        let mut vast = manifest();
        (vast.model.d_model, vast.corpus.n_ctx, vast.corpus.n_seq, vast.shard_rows) =
            (1 << 30, 1 << 30, 1 << 33, 1 << 63);
        assert!(parse_signed(&vast).is_err());
    }

    proptest! {
        #[test]
        fn a_damaged_manifest_is_an_error_and_never_a_panic(at in 0usize..4000, flip in 1u8..=255, cut in 0usize..4000, mode in 0..3) {
            let mut bytes = written();
            let len = bytes.len();
            match mode {
                0 => bytes[at % len] ^= flip,
                1 => bytes.truncate(cut % len),
                _ => { bytes.splice(at % len..at % len, [flip; 7]); }
            }
            // Only white space may change without meaning anything.
            if let Ok(read) = Manifest::parse(Path::new("m"), &bytes) {
                prop_assert_eq!(read, manifest());
            }
        }
    }
}
