//! Rows that training leaves out because they are far longer than the others; see
//! `model/outliers.rs`.

use super::{ActivationStore, Batch};
use crate::base::error::{Error, Result};
use crate::base::format;
use crate::display::{Column, Progress, Row, Table, interrupt};
use crate::model::HookPoint;
use crate::model::outliers::{OUTLIER, max_norm_multiple, median, norms};

/// Rows of which medians are taken.
const SAMPLED: usize = 8192;

impl ActivationStore {
    /// The median length ‖x‖ of the activations of `hook`, of up to 8,192 tokens without the first
    /// of their sequences.
    ///
    /// # Errors
    /// As [`gather`](ActivationStore::gather); [`Error::EmptyCorpus`] if there are only first tokens.
    pub fn median_norm(&self, hook: HookPoint) -> Result<f32> {
        let x = self.sample(hook)?;
        Ok(median(norms(&x, self.d_model())))
    }

    /// How long the activations of each hook are: the median ‖x‖, and how many are over ten medians
    /// long and what share of all squares ‖x‖² they hold, without the first of their sequences. Reads
    /// all of the store.
    ///
    /// # Errors
    /// As [`median_norm`](ActivationStore::median_norm); [`Error::Interrupted`].
    pub fn norms_table(&self) -> Result<Table> {
        let columns = [
            Column::text("hook"),
            Column::number("median ‖x‖").defined("of 8,192 tokens"),
            Column::number("outliers").defined("rows over ten medians long"),
            Column::number("of squares").defined("what outliers hold of Σ‖x‖² over all rows"),
        ];
        let mut table = Table::new("How long activations are", &columns);
        let n_rows = self.n_rows() as u64;
        interrupt::watch();
        let total = n_rows * self.hooks().len() as u64;
        let mut progress = Progress::new("lengths", total, "rows");
        let (mut batch, mut read) = (Batch::default(), 0);
        for &hook in self.hooks() {
            let median = f64::from(self.median_norm(hook)?);
            let (mut outliers, mut squares, mut of_outliers) = (0, 0.0, 0.0);
            for start in (0..n_rows).step_by(SAMPLED) {
                if interrupt::requested() {
                    interrupt::clear();
                    let remedy = "run the same call again".to_owned();
                    return Err(Error::Interrupted { what: "the lengths of activations", remedy });
                }
                let rows: Vec<u64> = (start..n_rows.min(start + SAMPLED as u64)).collect();
                self.gather(hook, &rows, &mut batch)?;
                let norms = norms(&batch.x, self.d_model()).into_iter().zip(&batch.positions);
                for norm in norms.filter(|(_, at)| **at > 0).map(|(norm, _)| f64::from(norm)) {
                    squares += norm * norm;
                    if norm > OUTLIER * median {
                        outliers += 1;
                        of_outliers += norm * norm;
                    }
                }
                read += rows.len() as u64;
                progress.set(read);
            }
            let row = Row::new(&hook.to_string()).number(median).count(outliers);
            table.push(row.percent(of_outliers / squares));
        }
        progress.finish_if_long();
        let n = format::count((self.n_rows() - self.n_rows() / self.n_ctx()) as u64);
        Ok(table.caption(&format!("{}: {n} rows, position 0 left out.", self.model_name())))
    }

    /// How long an activation of `hook` may be that is no outlier: `multiple` medians, or as many as
    /// suit the model's family ([`TrainConfig::max_norm_multiple`]).
    ///
    /// [`TrainConfig::max_norm_multiple`]: crate::train::TrainConfig::max_norm_multiple
    pub(crate) fn longest(&self, hook: HookPoint, multiple: Option<f64>) -> Result<f32> {
        let multiple = multiple.unwrap_or_else(|| self.max_norm_multiple());
        if multiple.is_infinite() {
            return Ok(f32::INFINITY);
        }
        Ok((multiple * f64::from(self.median_norm(hook)?)) as f32)
    }

    /// How many medians long an activation may be that training does not leave out by default.
    pub(crate) fn max_norm_multiple(&self) -> f64 {
        max_norm_multiple(self.skip_first())
    }

    /// Which of these rows training leaves out by default because they are too long, ascending.
    pub(crate) fn outliers(
        &self,
        hook: HookPoint,
        rows: impl Iterator<Item = u64>,
    ) -> Result<Vec<u64>> {
        let longest = self.longest(hook, None)?;
        let (mut found, mut batch) = (Vec::new(), Batch::default());
        if longest.is_infinite() {
            return Ok(found);
        }
        let mut rows: Vec<u64> = rows.collect();
        rows.sort_unstable();
        for rows in rows.chunks(SAMPLED) {
            self.gather(hook, rows, &mut batch)?;
            let norms = norms(&batch.x, self.d_model());
            found.extend(
                rows.iter().zip(norms).filter(|(_, norm)| *norm > longest).map(|(row, _)| row),
            );
        }
        Ok(found)
    }

    /// Some activations of `hook` `[n, d_model]` from everywhere in the store, none of a first
    /// position.
    pub(super) fn sample(&self, hook: HookPoint) -> Result<Vec<f32>> {
        let rows = self.shuffle(0).fill(0, SAMPLED.min(self.n_rows()));
        let mut batch = Batch::default();
        self.gather(hook, &rows, &mut batch)?;
        let rows = batch.x.chunks_exact(self.d_model()).zip(&batch.positions);
        let counted: Vec<f32> =
            rows.filter(|(_, position)| **position > 0).flat_map(|(x, _)| x).copied().collect();
        if counted.is_empty() {
            let why =
                "the store holds nothing but first tokens: harvest longer sequences".to_owned();
            return Err(Error::EmptyCorpus { why });
        }
        Ok(counted)
    }
}

impl Batch {
    /// Takes out, of the batch and of the list of its `rows`, what is longer than `longest`.
    pub(crate) fn retain_up_to(&mut self, longest: f32, rows: &mut Vec<u64>) {
        if longest.is_infinite() || self.is_empty() {
            return;
        }
        let d = self.x.len() / self.len();
        let norms = norms(&self.x, d);
        if norms.iter().all(|norm| *norm <= longest) {
            return;
        }
        let kept: Vec<usize> = (0..norms.len()).filter(|&i| norms[i] <= longest).collect();
        for (to, &from) in kept.iter().enumerate() {
            self.x.copy_within(from * d..(from + 1) * d, to * d);
            self.tokens[to] = self.tokens[from];
            self.positions[to] = self.positions[from];
            rows[to] = rows[from];
        }
        self.x.truncate(kept.len() * d);
        self.tokens.truncate(kept.len());
        self.positions.truncate(kept.len());
        rows.truncate(kept.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_longer_goes_with_its_token_its_position_and_its_row() {
        let mut batch = Batch {
            x: vec![3.0, 4.0, 6.0, 8.0, 0.0, 5.0, 0.0, 5.1],
            tokens: vec![1, 2, 3, 4],
            positions: vec![9, 8, 7, 6],
        };
        let mut rows = vec![10, 20, 30, 40];
        batch.retain_up_to(5.0, &mut rows);
        assert_eq!(batch.x, [3.0, 4.0, 0.0, 5.0]);
        assert_eq!((batch.tokens, batch.positions, rows), (vec![1, 3], vec![9, 7], vec![10, 30]));
    }

    #[test]
    fn without_a_limit_nothing_goes() {
        let all = Batch { x: vec![1e30, 1e30], tokens: vec![1, 2], positions: vec![0, 1] };
        let (mut batch, mut rows) = (all.clone(), vec![0, 1]);
        batch.retain_up_to(f32::INFINITY, &mut rows);
        assert_eq!((batch, rows), (all, vec![0, 1]));
    }
}
