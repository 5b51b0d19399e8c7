//! Mean rows by token, from which a table may start.

use std::sync::Arc;

use super::model::SyntheticModel;
use super::rows::SyntheticBatch;
use crate::base::error::{Error, Result};
use crate::sae::{Index, Lookup, Ngrams};

/// Rows that are made at a time.
const BATCH: u64 = 4_096;

impl SyntheticModel {
    /// The seed of the stream of which means are taken.
    pub const MEANS: u64 = SyntheticModel::SCORED - 1;

    /// A table whose row `t` starts at the mean of the rows with token `t`, of `rows` rows that
    /// nothing else sees; at the mean of all where there is none.
    ///
    /// # Errors
    /// [`Error::Config`] for 0 rows.
    pub fn token_means(&self, rows: u64) -> Result<Lookup> {
        Lookup::from_table(self.means(&Index::Token, self.d_vocab(), rows)?, self.d_model())
    }

    /// A table with a row for every token, and for every pair of tokens on which a
    /// [feature](super::Kind::Pair) fires; each starts at the mean of the rows that take it.
    ///
    /// # Errors
    /// [`Error::Config`] for 0 rows.
    pub fn pair_means(&self, rows: u64) -> Result<Lookup> {
        let pairs = self.inner.ties.as_ref().map(|ties| ties.pairs()).unwrap_or_default();
        let grams = Ngrams::new(&pairs, self.d_vocab())?;
        let n = grams.rows();
        let index = Index::Ngrams(Arc::new(grams));
        Lookup::from_table(self.means(&index, n, rows)?, self.d_model())?.indexed_by(index)
    }

    /// `[n_keys, d_model]`
    fn means(&self, index: &Index, n_keys: usize, rows: u64) -> Result<Vec<f32>> {
        Error::at_least_1("rows", rows)?;
        let d = self.d_model();
        let (mut sums, mut counts) = (vec![0.0f64; (n_keys + 1) * d], vec![0u64; n_keys + 1]);
        let mut batch = SyntheticBatch::default();
        for first in (0..rows).step_by(BATCH as usize) {
            self.fill(SyntheticModel::MEANS, first..(first + BATCH).min(rows), &mut batch);
            let keys = self.keys(index, &batch.tokens, &batch.before)?;
            for (x, &key) in batch.x.chunks_exact(d).zip(keys.all()) {
                // The last row is that of all.
                for key in [key as usize, n_keys] {
                    counts[key] += 1;
                    let sums = &mut sums[key * d..][..d];
                    sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += f64::from(*x));
                }
            }
        }
        let mean = |key: usize| {
            let key = if counts[key] == 0 { n_keys } else { key };
            let sums = &sums[key * d..][..d];
            sums.iter().map(|sum| (sum / counts[key] as f64) as f32).collect::<Vec<f32>>()
        };
        Ok((0..n_keys).flat_map(mean).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::SyntheticConfig;
    use super::*;
    use crate::cpu::simd::dot;

    #[test]
    fn a_tokens_mean_holds_its_own_features_and_a_pairs_also_its() {
        let config = SyntheticConfig { orthogonalize: None, ..SyntheticConfig::tokens() };
        let model = SyntheticModel::new(config).unwrap();
        let (d, tokens) = (model.d_model(), model.token_means(20_000).unwrap());
        let pairs = model.pair_means(20_000).unwrap();
        assert_eq!((tokens.rows(), pairs.rows()), (512, 512 + 128));
        let mean = &tokens.table()[..d];
        let own = (0..model.n_features()).filter(|&feature| {
            model.token_of(feature) == Some(0)
                && model.kind(feature) == crate::synthetic::Kind::Token
        });
        for feature in own {
            // 0.9 of a magnitude of 4 or more, and some noise.
            let along = dot(mean, &model.directions()[feature * d..][..d]);
            assert!(along > 2.0, "{along}");
        }
        let Index::Ngrams(grams) = pairs.index() else { panic!("no n-grams") };
        let row = grams.row(&[0, 0]) as usize;
        let apart: Vec<f32> =
            pairs.table()[row * d..][..d].iter().zip(mean).map(|(a, b)| a - b).collect();
        let of_pair = 1_024 + 2 * 512;
        assert!(dot(&apart, &model.directions()[of_pair * d..][..d]) > 2.0);
    }
}
