//! `manifest.json` as a file: read, checked and written.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::layout::Layout;
use super::manifest::{FORMAT, IDS, Manifest, NAME, ShardId, VERSION};
use super::{plan, sidecar};
use crate::base::error::{Error, Result};
use crate::base::files::{sha256, write_atomic};
use crate::model::{Compute, HookPoint};

/// Bounds that no real store comes near, so that sizes computed from a damaged manifest cannot
/// overflow or exhaust memory.
const MAX_DIMENSION: usize = 1 << 30;

/// What the file holds: the manifest, and its own checksum.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    sha256: String,
    store: Manifest,
}

impl Manifest {
    /// Where the manifest of the store in `dir` is.
    pub fn path(dir: &Path) -> PathBuf {
        dir.join(NAME)
    }

    /// Reads and checks the manifest of the store in `dir`.
    ///
    /// # Errors
    /// [`Error::Format`] if it is missing, not a manifest, or of a newer version;
    /// [`Error::Checksum`] if it was changed by anything but a harvest.
    pub fn read(dir: &Path) -> Result<Manifest> {
        Manifest::read_if_there(dir)?.ok_or_else(|| {
            let why = match plan::path(dir).exists() {
                true => "holds a harvest that many processes share and whose shards are not collected yet (tsae harvest --collect)".to_owned(),
                false => format!(
                    "holds no activations (there is no {NAME}): give the folder of a harvest, or harvest into it first"
                ),
            };
            Error::format(dir, why)
        })
    }

    /// As [`read`](Manifest::read), or `None` if there is no manifest.
    pub fn read_if_there(dir: &Path) -> Result<Option<Manifest>> {
        let path = Manifest::path(dir);
        let mut manifest = match fs::read(&path) {
            Ok(bytes) => Manifest::parse(&path, &bytes)?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io("read", &path)(e)),
        };
        // Of a harvest that goes on, or was killed, the last shards are listed beside themselves.
        while !manifest.complete && manifest.shards.len() < manifest.all_shards() {
            match sidecar::read(dir, &manifest, manifest.shards.len())? {
                Some(shard) => manifest.shards.push(shard),
                None => break,
            }
        }
        Ok(Some(manifest))
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<Manifest> {
        let damaged = |why: String| {
            Error::format(path, format!("is not the manifest of an activation store: {why}"))
        };
        let json: serde_json::Value =
            serde_json::from_slice(bytes).map_err(|e| damaged(e.to_string()))?;
        let version = json.pointer("/store/version").and_then(serde_json::Value::as_u64);
        if let Some(newer) = version.filter(|&version| version > VERSION) {
            let why = format!(
                "has version {newer}, and this program reads up to {VERSION}: use a newer one"
            );
            return Err(Error::format(path, why));
        }
        let signed: Signed = serde_json::from_value(json).map_err(|e| damaged(e.to_string()))?;
        let got = signed.store.checksum()?;
        if got != signed.sha256 {
            let remedy = "restore it from a copy, or harvest into another folder".to_owned();
            let (path, want) = (path.to_owned(), signed.sha256);
            return Err(Error::Checksum { path, want, got, remedy });
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

    /// Whether everything fits together, so that nothing computed from it can overflow or lie
    /// outside a file.
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        let want = |right: bool, what: &str| if right { Ok(()) } else { Err(what.to_owned()) };
        want(self.format == FORMAT, "the format has another name")?;
        want(self.version == self.corpus.version(), "the version is unknown")?;
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
        let mut shards = self.shards.iter().enumerate();
        shards.try_for_each(|(index, shard)| self.check_shard(index, shard)).map_err(str::to_owned)
    }

    /// Whether an entry can be that of shard `index`.
    pub fn check_shard(
        &self,
        index: usize,
        shard: &ShardId,
    ) -> std::result::Result<(), &'static str> {
        let layout = Layout::new(self, index).ok_or("a shard is impossibly large")?;
        if shard.file != Manifest::shard_name(index)
            || shard.rows != self.rows_of(index)
            || shard.bytes != layout.bytes()
        {
            return Err("a shard has the wrong name or size");
        }
        if shard.after.is_some() != self.corpus.stream.is_some() {
            return Err(
                "a shard does not say how far the text was read, or a shard that was not streamed does",
            );
        }
        let first = self.shards.first().unwrap_or(shard);
        if shard.bits != first.bits
            || (self.compute == Compute::F32 && !shard.bits.are_processors())
        {
            return Err("a shard has the bits of a card, and others those of a processor");
        }
        let mut sections = self.hooks.iter().map(HookPoint::to_string).chain([IDS.to_owned()]);
        let known = shard.sha256.len() == self.hooks.len() + 1
            && sections.all(|section| shard.sha256.contains_key(&section));
        if known { Ok(()) } else { Err("a shard lacks a checksum") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activations::manifest::CorpusId;
    use crate::activations::{HarvestConfig, Source};
    use crate::model::gpu::Bits;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn manifest() -> Manifest {
        let model = Source {
            name: "toy".into(),
            revision: None,
            fingerprint: "ab".repeat(32),
            processing: "Raw".into(),
            d_model: 4,
            d_vocab: 50,
            skip_first: 0,
        };
        let corpus = CorpusId { fingerprint: "cd".repeat(32), n_seq: 5, n_ctx: 8, stream: None };
        let config = HarvestConfig { shard_tokens: 16, ..HarvestConfig::default() };
        let mut manifest = Manifest::new(model, corpus, vec![HookPoint::resid_pre(1)], &config);
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
                ..ShardId::default()
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
        let changes: [fn(&mut Manifest); 19] = [
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
            |m| m.shards[1].bits = Bits::Card,
            |m| m.shards.iter_mut().for_each(|shard| shard.bits = Bits::Card),
            |m| (m.compute, m.shards[0].bits) = (Compute::Bf16, Bits::Card),
        ];
        assert!(parse_signed(&manifest()).is_ok());
        let mut on_card = Manifest { compute: Compute::Bf16, ..manifest() };
        let on_processor = on_card.fingerprint();
        on_card.shards.iter_mut().for_each(|shard| shard.bits = Bits::Card);
        assert_eq!(parse_signed(&on_card).unwrap(), on_card);
        assert!(![manifest().fingerprint(), on_processor].contains(&on_card.fingerprint()));
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
