//! Mean activations by token, from which a table may start.

use std::sync::Arc;

use rayon::prelude::*;

use super::{ActivationStore, Batch};
use crate::base::error::{Error, Result};
use crate::display::{Progress, interrupt};
use crate::model::HookPoint;
use crate::sae::{Index, Lookup, Ngrams, Start};

/// Rows of the table that are computed between two looks at the stop button.
const ABREAST: usize = 256;

/// Activations that are read at a time for one row of the table.
const READ: usize = 4096;

impl Lookup {
    /// A table whose row `t` starts at the mean activation of `hook` on token `t`, over the whole
    /// store; at the mean over all tokens where `t` does not occur.
    ///
    /// # Errors
    /// As [`ActivationStore::gather`]; [`Error::Interrupted`] if it is stopped.
    pub fn means(acts: &ActivationStore, hook: HookPoint) -> Result<Lookup> {
        let tokens = acts.tokens()?;
        let lookup =
            Lookup::from_table(means(acts, hook, tokens.ids(), acts.d_vocab())?, acts.d_model())?;
        Ok(lookup.started(Start::Means(hook, acts.fingerprint().to_owned())))
    }

    /// A table with a row for every token and for every n-gram of [`Ngrams`], each starting at the
    /// mean activation over the positions that take it.
    ///
    /// # Errors
    /// As [`Lookup::means`], and [`Error::Shape`] if the n-grams are of another vocabulary.
    pub fn ngram_means(acts: &ActivationStore, hook: HookPoint, grams: Ngrams) -> Result<Lookup> {
        let (want, got) = (vec![acts.d_vocab() + grams.len()], vec![grams.rows()]);
        if want != got {
            return Err(Error::Shape { what: "rows of tokens and n-grams".to_owned(), want, got });
        }
        let keys = grams.rows_of(&acts.tokens()?);
        let lookup = Lookup::from_table(means(acts, hook, &keys, grams.rows())?, acts.d_model())?;
        lookup
            .started(Start::Means(hook, acts.fingerprint().to_owned()))
            .indexed_by(Index::Ngrams(Arc::new(grams)))
    }
}

/// The mean activation over the rows of each key, summed in f64 in the order of the store:
/// `[n_keys, d_model]`.
fn means(acts: &ActivationStore, hook: HookPoint, keys: &[u32], n_keys: usize) -> Result<Vec<f32>> {
    let d = acts.d_model();
    let (starts, rows) = by_key(keys, n_keys);
    let mut out = vec![0.0f32; n_keys * d];
    interrupt::watch();
    let mut progress = Progress::new("mean activations", n_keys as u64, "rows");
    for (turn, out) in out.chunks_mut(ABREAST * d).enumerate() {
        if interrupt::requested() {
            interrupt::clear();
            let remedy = "run the same call again".to_owned();
            return Err(Error::Interrupted { what: "the mean of activations by token", remedy });
        }
        out.par_chunks_mut(d).enumerate().try_for_each(|(i, mean)| {
            let key = turn * ABREAST + i;
            let rows = &rows[starts[key]..starts[key + 1]];
            let mut sum = vec![0.0f64; d];
            let mut batch = Batch::default();
            for rows in rows.chunks(READ) {
                acts.gather(hook, rows, &mut batch)?;
                batch
                    .x
                    .chunks_exact(d)
                    .for_each(|x| sum.iter_mut().zip(x).for_each(|(sum, &x)| *sum += f64::from(x)));
            }
            mean.iter_mut()
                .zip(sum)
                .for_each(|(mean, sum)| *mean = (sum / rows.len().max(1) as f64) as f32);
            Ok::<(), Error>(())
        })?;
        progress.set(((turn + 1) * ABREAST).min(n_keys) as u64);
    }
    progress.finish();
    let all = acts.mean(hook)?;
    for (key, mean) in out.chunks_exact_mut(d).enumerate() {
        if starts[key] == starts[key + 1] {
            mean.copy_from_slice(&all);
        }
    }
    Ok(out)
}

/// Where each key's rows begin, and the rows by key.
fn by_key(keys: &[u32], n_keys: usize) -> (Vec<usize>, Vec<u64>) {
    let mut starts = vec![0usize; n_keys + 1];
    keys.iter().for_each(|&key| starts[key as usize + 1] += 1);
    for key in 0..n_keys {
        starts[key + 1] += starts[key];
    }
    let (mut next, mut rows) = (starts.clone(), vec![0u64; keys.len()]);
    for (row, &key) in keys.iter().enumerate() {
        rows[next[key as usize]] = row as u64;
        next[key as usize] += 1;
    }
    (starts, rows)
}
