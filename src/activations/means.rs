//! Mean activations by token, from which a table may start.

use std::sync::Arc;

use rayon::prelude::*;

use super::{ActivationStore, Batch};
use crate::base::error::{Error, Result};
use crate::display::{Progress, interrupt};
use crate::model::HookPoint;
use crate::sae::{Index, Lookup, Ngrams, Start};

/// Rows that are read at a time.
const READ: usize = 8192;

/// Sums that are kept at a time: a gibibyte of them.
const ROOM: usize = 1 << 27;

impl Lookup {
    /// A table whose row `t` starts at the mean activation of `hook` on token `t`, over the whole
    /// store; at the mean over all tokens where `t` does not occur. First positions and outliers that
    /// training leaves out by default ([`TrainConfig`](crate::train::TrainConfig)) are no part of the
    /// mean over all, and outliers of no mean.
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

/// The mean activation over the rows of each key `[n_keys, d_model]`; the mean over all where a key
/// has no row.
fn means(acts: &ActivationStore, hook: HookPoint, keys: &[u32], n_keys: usize) -> Result<Vec<f32>> {
    let ByKey { mut means, counts, .. } = ByKey::of(acts, hook, keys, n_keys)?;
    if counts.contains(&0) {
        // Where a first position is like no other, it is no part of what tokens have in common.
        let all = acts.mean_of(hook, acts.skip_first(), acts.longest(hook, None)?)?;
        let rows = means.chunks_exact_mut(acts.d_model()).zip(&counts);
        rows.filter(|(_, n)| **n == 0).for_each(|(mean, _)| mean.copy_from_slice(&all));
    }
    Ok(means)
}

/// What the rows of each key have in common.
pub(super) struct ByKey {
    /// Their mean `[n_keys, d_model]`; 0 where there is none.
    pub means: Vec<f32>,
    /// How many they are.
    pub counts: Vec<u64>,
    /// The sum of their squares ‖x‖².
    pub squares: Vec<f64>,
}

impl ByKey {
    /// Summed in f64 in the order of the store, which is read once, and again for each further [`ROOM`]
    /// of sums.
    pub(super) fn of(
        acts: &ActivationStore,
        hook: HookPoint,
        keys: &[u32],
        n_keys: usize,
    ) -> Result<ByKey> {
        let d = acts.d_model();
        let at_once = (ROOM / d).max(1);
        let passes = n_keys.div_ceil(at_once);
        let mut out = vec![0.0f32; n_keys * d];
        let longest = acts.longest(hook, None)?;
        let (mut counts, mut squares) = (vec![0u64; n_keys], vec![0.0f64; n_keys]);
        interrupt::watch();
        let mut progress = Progress::new("mean activations", (passes * keys.len()) as u64, "rows");
        let mut batch = Batch::default();
        for (pass, out) in out.chunks_mut(at_once * d).enumerate() {
            let first = pass * at_once;
            let mut sums = vec![0.0f64; out.len()];
            for start in (0..keys.len()).step_by(READ) {
                if interrupt::requested() {
                    interrupt::clear();
                    let remedy = "run the same call again".to_owned();
                    return Err(Error::Interrupted {
                        what: "the mean of activations by token",
                        remedy,
                    });
                }
                let end = keys.len().min(start + READ);
                let mut rows: Vec<u64> = (start as u64..end as u64).collect();
                acts.gather(hook, &rows, &mut batch)?;
                batch.retain_up_to(longest, &mut rows);
                let keys_here: Vec<u32> = rows.iter().map(|&row| keys[row as usize]).collect();
                add_up(&batch.x, &keys_here, first, d, &mut sums);
                if pass == 0 {
                    for (&key, x) in keys_here.iter().zip(batch.x.chunks_exact(d)) {
                        counts[key as usize] += 1;
                        squares[key as usize] +=
                            x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>();
                    }
                }
                progress.set((pass * keys.len() + end) as u64);
            }
            let means =
                out.par_chunks_exact_mut(d).zip(sums.par_chunks_exact(d)).zip(&counts[first..]);
            means.for_each(|((mean, sum), &n)| {
                mean.iter_mut()
                    .zip(sum)
                    .for_each(|(mean, sum)| *mean = (sum / n.max(1) as f64) as f32);
            });
        }
        progress.finish();
        Ok(ByKey { means: out, counts, squares })
    }
}

/// Adds rows `x` `[n, d]` to the sums `[_, d]` of their keys, of which `sums` holds those from
/// `first` on; each key's in the order of the rows, whatever the number of threads.
fn add_up(x: &[f32], keys: &[u32], first: usize, d: usize, sums: &mut [f64]) {
    /// Keys that a thread takes at a time.
    const KEYS: usize = 64;
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_by_key(|&row| keys[row]); // stable
    sums.par_chunks_mut(KEYS * d).enumerate().for_each(|(i, sums)| {
        let from = first + i * KEYS;
        let to = from + sums.len() / d;
        let begin = order.partition_point(|&row| (keys[row] as usize) < from);
        for &row in order[begin..].iter().take_while(|&&row| (keys[row] as usize) < to) {
            let at = (keys[row] as usize - from) * d;
            let sum = &mut sums[at..][..d];
            sum.iter_mut().zip(&x[row * d..][..d]).for_each(|(sum, &x)| *sum += f64::from(x));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_some_keys_are_those_of_a_plain_loop() {
        let (n, d, n_keys) = (500, 3, 200);
        let keys: Vec<u32> = (0..n).map(|row| (row * row % 197) as u32).collect();
        let x: Vec<f32> = (0..n * d).map(|i| (i as f32 * 0.37).sin()).collect();
        for (first, to) in [(0, n_keys), (0, 70), (70, 135), (135, n_keys)] {
            let mut want = vec![0.0f64; (to - first) * d];
            for (row, &key) in
                keys.iter().enumerate().filter(|(_, key)| (first..to).contains(&(**key as usize)))
            {
                for i in 0..d {
                    want[(key as usize - first) * d + i] += f64::from(x[row * d + i]);
                }
            }
            let mut got = vec![0.0f64; want.len()];
            add_up(&x, &keys, first, d, &mut got);
            assert_eq!(got, want, "{first}..{to}");
            assert!(want.iter().any(|sum| *sum != 0.0));
        }
    }
}
