//! `plan.json` and `plan.ids`: a harvest that many processes share, before its shards are collected.
//!
//! The plan has all that is decided once: which model, which hooks, how numbers are stored, which
//! tokens go into which shard. The ids lie in one file, in the order of the store, so that whoever
//! makes a shard reads its 4 bytes a token and none of the text.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::after::After;
use super::manifest::Manifest;
use super::products::Products;
use super::sequences::Sequences;
use crate::base::error::{Error, Result};
use crate::base::files::{AtomicFile, sha256, write_atomic};
use crate::corpus::Chunk;
use crate::display::{Progress, interrupt};
use crate::model::tokens::Tokens;

const NAME: &str = "plan.json";
const IDS: &str = "plan.ids";
const FORMAT: &str = "tokenized-sae harvest plan";
const VERSION: u32 = 1;

/// The content of `plan.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    pub format: String,
    pub version: u32,
    /// The manifest, with no shard yet.
    pub store: Manifest,
    /// Sequences in a pass of the model.
    pub batch: usize,
    /// What the products of the model that made the plan give.
    pub products: Products,
    /// What each shard is made from.
    pub parts: Vec<Part>,
}

/// What a shard is made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// The SHA-256 of its ids.
    pub sha256: String,
    /// How far the stream has been read then; left out of tokens in memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<After>,
}

/// What the file holds: the plan, and its own checksum.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    sha256: String,
    plan: Plan,
}

/// Where the plan of the harvest in `dir` is.
pub fn path(dir: &Path) -> PathBuf {
    dir.join(NAME)
}

/// Whether `name` is that of a plan's file.
pub fn is_of_plan(name: &str) -> bool {
    name == NAME || name == IDS
}

/// Refuses to harvest alone where many share it: two manifests would come of it.
///
/// # Errors
/// [`Error::Format`] if there is a plan.
pub fn refuse(dir: &Path) -> Result<()> {
    match path(dir).exists() {
        true => Err(Error::format(
            path(dir),
            "is the plan of a harvest that many processes share: do what is missing of it by shares (tsae harvest --only 1/1) and collect it (--collect), or choose another folder",
        )),
        false => Ok(()),
    }
}

impl Plan {
    /// The plan in `dir`, if there is one.
    ///
    /// # Errors
    /// [`Error::Format`] or [`Error::Checksum`] if it is none, damaged, or of a newer version.
    pub fn read(dir: &Path) -> Result<Option<Plan>> {
        let path = path(dir);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io("read", &path)(e)),
        };
        let damaged =
            |why: String| Error::format(&path, format!("is not the plan of a harvest: {why}"));
        let json: serde_json::Value =
            serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
        let version = json.pointer("/plan/version").and_then(serde_json::Value::as_u64);
        if version.is_some_and(|version| version != u64::from(VERSION)) {
            return Err(damaged(format!("this program reads version {VERSION}")));
        }
        let Signed { sha256, plan } =
            serde_json::from_value(json).map_err(|e| damaged(e.to_string()))?;
        let got = plan.checksum()?;
        if got != sha256 {
            let remedy = "restore it from a copy, or plan the harvest in another folder".to_owned();
            return Err(Error::Checksum { path, want: sha256, got, remedy });
        }
        plan.store.check().map_err(&damaged)?;
        if plan.format != FORMAT || plan.batch == 0 || plan.parts.len() != plan.store.all_shards() {
            return Err(damaged("it does not fit together".to_owned()));
        }
        Ok(Some(plan))
    }

    fn checksum(&self) -> Result<String> {
        Ok(sha256(&serde_json::to_vec(self).map_err(Error::json(NAME))?))
    }

    /// Writes the ids of `sequences`, and then the plan, into the locked folder `dir`.
    ///
    /// # Errors
    /// What reading the text says; [`Error::EmptyCorpus`]; [`Error::Interrupted`], with nothing kept.
    pub fn make(
        dir: &Path,
        mut store: Manifest,
        batch: usize,
        sequences: Sequences<'_>,
        products: impl FnOnce(&Tokens) -> Result<Products>,
    ) -> Result<Plan> {
        let mut progress = Progress::new("plan", store.all_rows() as u64, "tokens");
        let mut ids = AtomicFile::create(&dir.join(IDS))?;
        let (mut parts, mut rows, mut first) = (Vec::new(), 0, None);
        let mut add = |chunk: &Chunk, after: Option<After>| {
            let bytes: &[u8] = bytemuck::cast_slice(chunk.tokens.ids());
            ids.write_at(4 * rows as u64, bytes)?;
            parts.push(Part { sha256: sha256(bytes), after });
            first.get_or_insert_with(|| chunk.tokens.rows(0, batch));
            rows += chunk.tokens.len();
            progress.set(rows as u64);
            Ok::<(), Error>(())
        };
        let per_shard = store.shard_rows / store.corpus.n_ctx;
        match sequences {
            Sequences::InMemory(tokens) => {
                for from in (0..tokens.n_seq()).step_by(per_shard) {
                    add(&Chunk::of(tokens.rows(from, from + per_shard)), None)?;
                }
            }
            Sequences::Stream(stream) => {
                let most = (per_shard, store.corpus.n_seq);
                let mut chunks = stream.chunks(stream.start(), most, &interrupt::requested)?;
                let mut index = 0;
                while let Some(chunk) = chunks.next()? {
                    add(&chunk, Some(After::write(dir, index, &chunk)?))?;
                    index += 1;
                }
                store.end_at(rows);
            }
        }
        if interrupt::requested() {
            interrupt::clear();
            let remedy = "nothing of it is kept, and the same call begins again".to_owned();
            return Err(Error::Interrupted { what: "planning the harvest", remedy });
        }
        let Some(first) = first else {
            let why = "the training text does not fill a single sequence: give more text, or a shorter context";
            return Err(Error::EmptyCorpus { why: why.into() });
        };
        ids.commit()?;
        let plan = Plan {
            format: FORMAT.to_owned(),
            version: VERSION,
            store,
            batch,
            products: products(&first)?,
            parts,
        };
        plan.write(dir)?;
        progress.finish();
        Ok(plan)
    }

    pub fn write(&self, dir: &Path) -> Result<()> {
        let signed = Signed { sha256: self.checksum()?, plan: self.clone() };
        write_atomic(&path(dir), |out| Ok(serde_json::to_writer(out, &signed)?))
    }

    /// The tokens that shard `index` is made from.
    ///
    /// # Errors
    /// [`Error::Checksum`] or [`Error::Io`] if the ids are damaged or gone.
    pub fn tokens(&self, dir: &Path, index: usize) -> Result<Tokens> {
        let path = dir.join(IDS);
        let remedy = "restore it from a copy, or plan the harvest in another folder";
        let mut file = File::open(&path).map_err(Error::io("read", &path))?;
        let there = file.metadata().map_err(Error::io("read", &path))?.len();
        // Before room is made for it: a plan may say anything.
        if u128::from(there) != 4 * self.store.all_rows() as u128 {
            let why = format!(
                "has {there} bytes, and the plan beside it speaks of {} ids: {remedy}",
                self.store.all_rows()
            );
            return Err(Error::format(path, why));
        }
        let mut bytes = vec![0; 4 * self.store.rows_of(index)];
        let at = 4 * (index * self.store.shard_rows) as u64;
        let read = file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(&mut bytes));
        read.map_err(Error::io("read", &path))?;
        let (got, want) = (sha256(&bytes), &self.parts[index].sha256);
        if got != *want {
            let remedy = remedy.to_owned();
            return Err(Error::Checksum { path, want: want.clone(), got, remedy });
        }
        let ids = bytes.as_chunks().0.iter().map(|id| u32::from_le_bytes(*id)).collect();
        Tokens::new(ids, self.store.corpus.n_ctx)
    }

    /// The tokens of the first pass of the model.
    ///
    /// # Errors
    /// As [`tokens`](Plan::tokens).
    pub fn first_pass(&self, dir: &Path) -> Result<Tokens> {
        Ok(self.tokens(dir, 0)?.rows(0, self.batch))
    }

    /// Removes the plan from the folder, itself last.
    pub fn remove(dir: &Path) -> Result<()> {
        for path in [dir.join(IDS), path(dir)] {
            match fs::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("remove", &path)(e));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
