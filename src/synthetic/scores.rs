//! How much of a synthetic model an SAE has found.

mod tally;

use serde::Serialize;

use super::model::SyntheticModel;
use super::rows::SyntheticBatch;
use crate::base::error::{Error, Result};
use crate::base::number;
use crate::display::{Progress, interrupt};
use crate::sae::{Index, Keys, Sae};
use tally::Tally;

/// Rows that are scored at a time.
const BATCH: u64 = 1_024;

/// The scores of an SAE on rows whose features are known, by the definitions of SAELens'
/// `eval_sae_on_synthetic_data`.
///
/// `precision`, `recall`, `f1` and `accuracy` are means over latents, each taken as a detector of the
/// feature whose direction is **nearest** to its decoder row (the greatest |cosine|); 0 where they are
/// not defined, as of a latent that never fires.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Scores {
    /// Rows that were scored.
    pub rows: u64,
    /// Mean number of features that are active on a row.
    pub true_l0: f64,
    /// Mean number of latents that are.
    pub l0: f64,
    /// Latents that never fired.
    pub dead: usize,
    /// Mean of ‖x̂‖ / ‖x‖: 1 is none.
    #[serde(with = "number")]
    pub shrinkage: f64,
    /// 1 − Σ‖x − x̂‖² / Σ‖x − x̄‖².
    #[serde(with = "number")]
    pub explained_variance: f64,
    /// Mean |cosine| of decoder rows and directions, paired one to one so that it is greatest.
    #[serde(with = "number")]
    pub mcc: f64,
    /// Features that are nearest to some latent, over latents.
    pub uniqueness: f64,
    /// TP / (TP + FP).
    pub precision: f64,
    /// TP / (TP + FN).
    pub recall: f64,
    /// The harmonic mean of the two.
    pub f1: f64,
    /// (TP + TN) / rows.
    pub accuracy: f64,
    /// The features of each kind apart, in a model with tokens.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<KindScores>,
}

/// How the features of one [`Kind`](super::Kind) fare. A feature's latent is the one that it is paired
/// with, one to one, by the greatest sum of |cosines|.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct KindScores {
    /// `context`, `shared`, `token` or `pair`.
    pub kind: &'static str,
    /// Features of this kind that fired on the rows.
    pub features: usize,
    /// How many of them have a latent of their own that detects them with an F1 of at least 0.5.
    pub recovered: usize,
    /// Mean over features of that F1; 0 for one without a latent.
    pub f1: f64,
    /// Mean |cosine| with their latents, of those that have one.
    #[serde(with = "number")]
    pub mcc: f64,
    /// Of all their firings, the share at which their latents fired too.
    #[serde(with = "number")]
    pub recall: f64,
    /// The same on rows of the feature's own token; NaN where features have none.
    #[serde(with = "number")]
    pub recall_on_token: f64,
    /// The same on all other rows.
    #[serde(with = "number")]
    pub recall_elsewhere: f64,
}

impl SyntheticModel {
    /// The seed of the stream on which SAEs are scored; no training takes it.
    pub const SCORED: u64 = u64::MAX;

    /// Scores an SAE on `rows` rows that no training sees.
    ///
    /// SAELens' own trainer scores a BatchTopK SAE with the k of a batch, here and after its export
    /// it is the threshold.
    ///
    /// # Errors
    /// [`Error::Shape`] if the SAE is of another width; [`Error::Config`] for 0 rows or a table of a
    /// preceding SAE; [`Error::Memory`]; [`Error::Interrupted`].
    pub fn score(&self, sae: &Sae, rows: u64) -> Result<Scores> {
        Error::at_least_1("rows", rows)?;
        self.check_width(sae)?;
        interrupt::watch();
        let mut tally = Tally::new(self, sae)?;
        let mut batch = SyntheticBatch::default();
        let mut progress = Progress::new("score", rows, "rows");
        for first in (0..rows).step_by(BATCH as usize) {
            if interrupt::requested() {
                interrupt::clear();
                let remedy = "run the same call again".to_owned();
                return Err(Error::Interrupted { what: "scoring", remedy });
            }
            let end = (first + BATCH).min(rows);
            self.fill(SyntheticModel::SCORED, first..end, &mut batch);
            tally.add(self, sae, &batch)?;
            progress.set(end);
        }
        progress.finish_if_long();
        Ok(tally.scores(self))
    }

    fn check_width(&self, sae: &Sae) -> Result<()> {
        if sae.d_model() == self.d_model() {
            return Ok(());
        }
        let (want, got) = (vec![self.d_model()], vec![sae.d_model()]);
        Err(Error::Shape { what: "the SAE's d_model".to_owned(), want, got })
    }

    /// What a table is indexed by, for rows with these tokens.
    ///
    /// # Errors
    /// [`Error::Config`] for a table of a preceding SAE, of which there is none here.
    pub(crate) fn keys(
        &self,
        index: &Index,
        tokens: &[u32],
        before: &[u32],
    ) -> Result<Keys<'static>> {
        match index {
            Index::Token => Ok(tokens.to_vec().into()),
            Index::Ngrams(grams) => {
                let gram = |(&before, &token): (&u32, &u32)| match grams.longest() {
                    0 | 1 => token,
                    _ => grams.row(&[before, token]),
                };
                Ok(before.iter().zip(tokens).map(gram).collect::<Vec<u32>>().into())
            }
            Index::Latents(_) => {
                let why = "synthetic rows have one hook: a table of a preceding SAE's latents has nothing to read";
                Err(Error::config("lookup", why))
            }
        }
    }
}

#[cfg(test)]
mod tests;
