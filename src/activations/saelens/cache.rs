//! A cache, open for reading.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use half::f16;
use half::slice::HalfFloatSliceExt;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::TOKEN_IDS;
use crate::base::error::{Error, Result};
use crate::formats::arrow::{Number, Stream};
use crate::model::HookPoint;
use crate::model::tokens::Tokens;

/// `state.json`, as far as it matters.
#[derive(Deserialize)]
struct State {
    #[serde(rename = "_data_files")]
    data_files: Vec<DataFile>,
    /// A permutation of the rows that a program of before 2022 may have left beside them.
    #[serde(rename = "_indices_data_files", default)]
    indices: Option<Vec<DataFile>>,
}

#[derive(Deserialize)]
struct DataFile {
    filename: String,
}

/// `dataset_info.json`, as far as it matters.
#[derive(Deserialize)]
struct Info {
    features: BTreeMap<String, Feature>,
}

#[derive(Deserialize)]
struct Feature {
    #[serde(rename = "_type", default)]
    kind: String,
    #[serde(default)]
    shape: Vec<usize>,
}

/// A folder of SAELens' activations.
pub(super) struct Cache {
    hooks: Vec<HookPoint>,
    tokens: Tokens,
    d_model: usize,
    pieces: RefCell<Vec<Piece>>,
}

/// A file of a cache.
struct Piece {
    stream: Stream,
    batches: Vec<Batch>,
}

/// Some sequences, in one piece for each hook.
struct Batch {
    sequences: Range<usize>,
    /// Where the numbers lie, and what they are.
    hooks: Vec<(Number, Range<u64>)>,
}

impl Cache {
    /// Opens the cache in `dir`, checks its shapes, and reads its tokens.
    ///
    /// # Errors
    /// [`Error::Format`], [`Error::UnknownHook`], [`Error::Shape`] or [`Error::Io`].
    pub fn open(dir: &Path, d_model: usize) -> Result<Cache> {
        let files = data_files(dir)?;
        let (columns, n_ctx) = columns(dir, d_model)?;
        let (hooks, names): (Vec<HookPoint>, Vec<String>) = columns.into_iter().unzip();
        let (mut pieces, mut ids) = (Vec::new(), Vec::new());
        for path in files {
            let mut stream = Stream::open(&path)?;
            let mut numbers = |name: &str, shape: &[usize]| {
                let at = column(&stream, &path, name)?;
                Ok((stream.columns()[at].number, stream.numbers(at, shape)?))
            };
            let of_hooks = names.iter().map(|name| numbers(name, &[n_ctx, d_model]));
            let of_hooks = of_hooks.collect::<Result<Vec<_>>>()?;
            let (kind, of_ids) = numbers(TOKEN_IDS, &[n_ctx])?;
            let is_integer =
                |(number, _): &(Number, _)| !matches!(number, Number::F16 | Number::F32);
            if let Some(i) = of_hooks.iter().position(is_integer) {
                let why = format!("column \"{}\" holds integers, not activations", names[i]);
                return Err(Error::format(&path, why));
            }
            let mut batches = Vec::with_capacity(of_ids.len());
            for (i, (rows, at)) in of_ids.into_iter().enumerate() {
                let first = ids.len() / n_ctx;
                ids.extend(token_ids(kind, &stream.read(at)?).map_err(|id| {
                    Error::format(&path, format!("has {id}, not a token id, among its token_ids"))
                })?);
                let hooks =
                    of_hooks.iter().map(|(number, of)| (*number, of[i].1.clone())).collect();
                batches.push(Batch { sequences: first..first + rows, hooks });
            }
            pieces.push(Piece { stream, batches });
        }
        if ids.is_empty() {
            return Err(Error::format(dir, "is an empty cache: it has no rows"));
        }
        Ok(Cache { hooks, tokens: Tokens::new(ids, n_ctx)?, d_model, pieces: RefCell::new(pieces) })
    }

    pub fn hooks(&self) -> &[HookPoint] {
        &self.hooks
    }

    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// The activations of a hook for some sequences.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Format`] if a file has become shorter.
    pub fn read(&self, hook: HookPoint, sequences: Range<usize>) -> Result<Vec<f32>> {
        let place = self.hooks.iter().position(|&known| known == hook).unwrap_or(0);
        let row = self.tokens.n_ctx() * self.d_model;
        let mut out = Vec::with_capacity(sequences.len() * row);
        for piece in self.pieces.borrow_mut().iter_mut() {
            for batch in &piece.batches {
                let Range { start, end } = batch.sequences;
                let (from, to) = (sequences.start.max(start), sequences.end.min(end));
                if from < to {
                    let (number, at) = &batch.hooks[place];
                    let byte =
                        |row_of: usize| at.start + ((row_of - start) * row * number.bytes()) as u64;
                    widen(*number, &piece.stream.read(byte(from)..byte(to))?, &mut out);
                }
            }
        }
        Ok(out)
    }
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read(path).map_err(Error::io("read", path))?;
    serde_json::from_slice(&text).map_err(Error::json(path.display()))
}

/// The files of a data set, in the order of its rows.
fn data_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let path = dir.join("state.json");
    if !path.is_file() {
        let why = if dir.join("dataset_dict.json").is_file() {
            "holds several data sets (dataset_dict.json): name the folder of one, such as train"
        } else {
            "holds no data set saved by Hugging Face datasets (there is no state.json): give the folder that SAELens' CacheActivationsRunner wrote \
             (new_cached_activations_path); for one on the hub, load_dataset(…).save_to_disk(…) makes such a folder"
        };
        return Err(Error::format(dir, why));
    }
    let state: State = json(&path)?;
    if state.indices.is_some_and(|files| !files.is_empty()) {
        let why = "its rows are not in the order of its files: flatten_indices() and save it again";
        return Err(Error::format(&path, why));
    }
    let is_plain = |file: &str| Path::new(file).file_name().is_some_and(|name| name == file);
    let file = |DataFile { filename }: DataFile| match is_plain(&filename) {
        true => Ok(dir.join(&filename)),
        false => Err(Error::format(&path, format!("names a file elsewhere: {filename}"))),
    };
    state.data_files.into_iter().map(file).collect()
}

/// The hooks of a data set with the names of their columns, in the order of the model, and the
/// length of its sequences.
fn columns(dir: &Path, d_model: usize) -> Result<(Vec<(HookPoint, String)>, usize)> {
    let path = dir.join("dataset_info.json");
    let info: Info = json(&path)?;
    let arrays: Vec<(&String, &Feature)> =
        info.features.iter().filter(|(_, feature)| feature.kind == "Array2D").collect();
    let there = || info.features.keys().cloned().collect::<Vec<_>>().join(", ");
    let n_ctx = arrays.first().and_then(|(_, feature)| feature.shape.first().copied());
    let Some(n_ctx) = n_ctx.filter(|&n_ctx| n_ctx > 0) else {
        let why = format!(
            "has no column of activations, an Array2D named after its hook; its columns are: {}",
            there()
        );
        return Err(Error::format(&path, why));
    };
    if !info.features.contains_key(TOKEN_IDS) {
        let why = format!(
            "has no {TOKEN_IDS}, only {}: a store keeps the token of every row, and a table cannot be trained without it. Cache them again with SAELens 6, \
             which writes them, or harvest them here",
            there()
        );
        return Err(Error::format(&path, why));
    }
    let mut columns = Vec::with_capacity(arrays.len());
    for (name, feature) in arrays {
        if feature.shape != [n_ctx, d_model] {
            return Err(Error::Shape {
                what: format!("column \"{name}\" of {}", path.display()),
                want: vec![n_ctx, d_model],
                got: feature.shape.clone(),
            });
        }
        columns.push((name.parse::<HookPoint>()?, name.clone()));
    }
    columns.sort();
    Ok((columns, n_ctx))
}

/// The place of a column in a file.
fn column(stream: &Stream, path: &Path, name: &str) -> Result<usize> {
    let place = stream.columns().iter().position(|column| column.name == name);
    place.ok_or_else(|| {
        Error::format(path, format!("has no column \"{name}\", which dataset_info.json names"))
    })
}

/// The tokens that integers stand for, or the first integer that stands for none.
fn token_ids(kind: Number, bytes: &[u8]) -> std::result::Result<Vec<u32>, i64> {
    let id = |number: i64| u32::try_from(number).map_err(|_| number);
    let (fours, eights) = (bytes.as_chunks().0.iter(), bytes.as_chunks().0.iter());
    match kind {
        Number::I32 => fours.map(|bytes| id(i32::from_le_bytes(*bytes).into())).collect(),
        Number::I64 => eights.map(|bytes| id(i64::from_le_bytes(*bytes))).collect(),
        Number::F16 | Number::F32 => Err(-1),
    }
}

fn widen(number: Number, bytes: &[u8], out: &mut Vec<f32>) {
    match number {
        Number::F16 => {
            let halves: Vec<f16> =
                bytes.as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes)).collect();
            out.extend(halves.to_f32_vec());
        }
        _ => out.extend(bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes))),
    }
}
