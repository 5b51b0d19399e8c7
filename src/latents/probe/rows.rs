//! The one pass over the activations: the rows that probes ask for, and what each SAE makes of
//! them.

use rayon::prelude::*;

use super::interrupted;
use super::task::Vocabulary;
use crate::activations::{Batch, Shuffle};
use crate::base::error::{Error, Result};
use crate::display::{Progress, interrupt};
use crate::eval::check_width;
use crate::latents::source::Reader;
use crate::model::tokens::Tokens;
use crate::sae::{Codes, Keys, Sae};

/// Rows that are read at once.
const ROWS_AT_ONCE: usize = 4096;

/// The part of a source that is asked about.
pub(in crate::latents) struct Text<'a> {
    reader: &'a Reader<'a>,
    /// Which sequences of the source it is, in order.
    sequences: Vec<usize>,
    pub tokens: Tokens,
    pub vocabulary: Vocabulary,
}

impl<'a> Text<'a> {
    /// Sequences chosen at random, of so many tokens at most, on which these SAEs are to be measured;
    /// a stop that was asked for before is not meant for that.
    pub fn of(
        reader: &'a Reader<'a>,
        saes: &[(&str, &Sae)],
        tokens: usize,
        seed: u64,
    ) -> Result<Text<'a>> {
        check(reader, saes)?;
        interrupt::watch();
        interrupt::clear();
        // An error for a model that has none: without the text of tokens nothing can be asked.
        reader.model.tokenizer()?;
        let all = reader.tokens()?;
        all.check(reader.model.config().d_vocab)?;
        let n_seq = reader.n_seq.min(tokens.div_ceil(reader.n_ctx));
        let chosen = Shuffle::new(reader.n_seq as u64, seed).fill(0, n_seq);
        let mut sequences: Vec<usize> = chosen.into_iter().map(|it| it as usize).collect();
        sequences.sort_unstable();
        let ids = sequences.iter().flat_map(|&it| all.row(it)).copied().collect();
        let tokens = Tokens::new(ids, reader.n_ctx)?;
        let vocabulary = Vocabulary::of(reader.model, &tokens);
        Ok(Text { reader, sequences, tokens, vocabulary })
    }

    /// Reads the rows at some positions of [`tokens`](Text::tokens), and encodes them.
    pub fn rows(&self, saes: &[(&str, &Sae)], mut positions: Vec<usize>) -> Result<Rows> {
        let n_ctx = self.reader.n_ctx;
        positions.sort_unstable();
        positions.dedup();
        let mut rows = Rows {
            d: self.reader.model.config().d_model,
            x: Vec::new(),
            saes: saes.iter().map(|_| Encoded::default()).collect(),
            positions,
        };
        let mut progress =
            Progress::new("read activations", rows.positions.len() as u64, "positions");
        let mut sequences: Vec<usize> = rows.positions.iter().map(|it| it / n_ctx).collect();
        sequences.dedup();
        let (mut batch, mut done) = (Batch::default(), 0);
        for some in sequences.chunks((ROWS_AT_ONCE / n_ctx).max(1)) {
            if interrupt::requested() {
                return Err(interrupted("reading activations"));
            }
            let of_source: Vec<usize> = some.iter().map(|&it| self.sequences[it]).collect();
            self.reader.read(&of_source, &mut batch)?;
            let from = done;
            let mut wanted = Vec::new(); // rows of the batch
            for (at, &sequence) in some.iter().enumerate() {
                while rows.positions.get(done).is_some_and(|it| it / n_ctx == sequence) {
                    wanted.push(at * n_ctx + rows.positions[done] % n_ctx);
                    done += 1;
                }
            }
            wanted.iter().for_each(|&row| rows.x.extend(&batch.x[row * rows.d..][..rows.d]));
            let text = Tokens::new(batch.tokens.clone(), n_ctx)?;
            for ((_, sae), encoded) in saes.iter().zip(&mut rows.saes) {
                encoded.add(
                    sae,
                    sae.keys(self.reader.model, &text)?,
                    &wanted,
                    &rows.x[from * rows.d..],
                )?;
            }
            progress.set(done as u64);
        }
        progress.finish();
        Ok(rows)
    }
}

/// Checks that there are SAEs and that they fit the model.
fn check(reader: &Reader<'_>, saes: &[(&str, &Sae)]) -> Result<()> {
    if saes.is_empty() {
        return Err(Error::config("saes", "there is no SAE to measure"));
    }
    saes.iter().try_for_each(|(name, sae)| {
        check_width(reader.model, &format!("the SAE \"{name}\""), sae.d_model())
    })
}

/// Rows of activations at some positions.
pub(in crate::latents) struct Rows {
    positions: Vec<usize>, // [n], ascending
    pub d: usize,
    pub x: Vec<f32>, // [n, d]
    pub saes: Vec<Encoded>,
}

impl Rows {
    /// Where the rows of some positions are, all of which were asked for.
    pub fn at(&self, positions: &[usize]) -> Vec<usize> {
        let row = |position| self.positions.partition_point(|it| it < position);
        positions.iter().map(row).collect()
    }

    pub fn x(&self, row: usize) -> &[f32] {
        &self.x[row * self.d..][..self.d]
    }

    /// Some rows, one after another.
    pub fn gather(&self, rows: &[usize]) -> Vec<f32> {
        rows.iter().flat_map(|&row| self.x(row)).copied().collect()
    }
}

/// What one SAE makes of rows.
#[derive(Default)]
pub(in crate::latents) struct Encoded {
    pub codes: Codes,
    /// Which rows of the table each has, and how much of each; none without a table.
    pub keys: Codes,
}

impl Encoded {
    /// Adds those rows of a batch that are wanted, `x` `[wanted, d]`.
    fn add(&mut self, sae: &Sae, all: Keys<'_>, wanted: &[usize], x: &[f32]) -> Result<()> {
        let mut keys = Codes::default();
        for &row in wanted {
            let (rows, weights) = all.row(row);
            keys.push_some(rows, weights, |_, _| true);
        }
        let codes = match sae.subtract {
            true => sae.encode_on(x, Keys::from(keys.clone()))?,
            false => sae.encode(x)?,
        };
        self.codes.append(&codes);
        if sae.lookup.is_some() {
            self.keys.append(&keys);
        }
        Ok(())
    }

    /// The means of all latents over those rows that are of a class, less those over the others.
    pub fn differences(&self, rows: &[usize], labels: &[bool], d_sae: usize) -> Vec<f64> {
        let positives = labels.iter().filter(|it| **it).count();
        let shares = [-1.0 / (rows.len() - positives) as f64, 1.0 / positives as f64];
        let mut differences = vec![0.0; d_sae];
        for (&row, &label) in rows.iter().zip(labels) {
            let (latents, values) = self.codes.row(row);
            for (&latent, &value) in latents.iter().zip(values) {
                differences[latent as usize] += shares[usize::from(label)] * f64::from(value);
            }
        }
        differences
    }

    /// The values of some latents on some rows `[rows, latents]`.
    pub fn gather(&self, rows: &[usize], latents: &[usize]) -> Vec<f32> {
        let mut out = Vec::with_capacity(rows.len() * latents.len());
        for &row in rows {
            let (active, values) = self.codes.row(row);
            out.extend(latents.iter().map(|&latent| {
                active.binary_search(&(latent as u32)).map_or(0.0, |at| values[at])
            }));
        }
        out
    }

    /// What the table adds to the reconstruction of a row `[d]`, or nothing without one.
    pub fn of_table(&self, sae: &Sae, row: usize) -> Option<Vec<f32>> {
        let (table, d) = (sae.lookup.as_ref()?, sae.d_model());
        let (keys, weights) = self.keys.row(row);
        let scale = self.codes.scale(row);
        let mut out = vec![0.0; d];
        for (&key, &weight) in keys.iter().zip(weights) {
            let part = &table[key as usize * d..][..d];
            out.iter_mut().zip(part).for_each(|(out, part)| *out += scale * weight * part);
        }
        Some(out)
    }
}

/// The first `k` of some numbers in falling order; of equals the one that stands first.
pub(in crate::latents) fn largest(numbers: &[f64], k: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..numbers.len()).collect();
    let k = k.min(order.len());
    let falling = |&a: &usize, &b: &usize| numbers[b].total_cmp(&numbers[a]).then(a.cmp(&b));
    if k < order.len() {
        order.select_nth_unstable_by(k, falling);
        order.truncate(k);
    }
    order.sort_unstable_by(falling);
    order
}

/// Does a list of jobs on all threads, with a bar; the order of results is that of the jobs.
pub(in crate::latents) fn in_parallel<J: Sync, T: Send>(
    what: &'static str,
    jobs: &[J],
    work: impl Fn(&J) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let mut progress = Progress::new(what, jobs.len() as u64, "probes");
    let mut done = Vec::with_capacity(jobs.len());
    for some in jobs.chunks(rayon::current_num_threads()) {
        if interrupt::requested() {
            return Err(interrupted(what));
        }
        done.extend(some.par_iter().map(&work).collect::<Result<Vec<T>>>()?);
        progress.set(done.len() as u64);
    }
    progress.finish();
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latents_are_chosen_as_by_dense_means() {
        let mut codes = Codes::default();
        let dense = [[0.0, 2.0, 0.0, -1.0], [1.0, 4.0, 0.0, 0.0], [3.0, 0.0, 0.5, 0.0f32]];
        for row in &dense {
            codes.push_some(&[0, 1, 2, 3], row, |_, value| value != 0.0);
        }
        let encoded = Encoded { codes, ..Encoded::default() };
        let (rows, labels) = ([0, 1, 2], [true, false, true]);
        let got = encoded.differences(&rows, &labels, 4);
        let mean = |latent: usize, of: bool| {
            let values: Vec<f64> =
                (0..3).filter(|&i| labels[i] == of).map(|i| f64::from(dense[i][latent])).collect();
            values.iter().sum::<f64>() / values.len() as f64
        };
        assert_eq!(got.len(), 4);
        for (latent, got) in got.iter().enumerate() {
            assert!((got - mean(latent, true) + mean(latent, false)).abs() < 1e-12);
        }
        assert_eq!(encoded.gather(&[2, 0], &[3, 0]), [0.0, 3.0, -1.0, 0.0]);
    }

    #[test]
    fn of_equals_the_first_is_the_larger_one() {
        assert_eq!(largest(&[1.0, 3.0, 3.0, -4.0, 2.0], 3), [1, 2, 4]);
        assert_eq!(largest(&[1.0, 2.0], 5), [1, 0]);
        assert!(largest(&[], 2).is_empty());
    }
}
